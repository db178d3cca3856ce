"""The inside of a call: its parameters, where it ends, and what of it is the code.

    <invoke name="bash:execute"><parameter name="command">ls -la</parameter></invoke>

Models write code into parameters as it is, with bare `&&` and `<`; so this is no XML parser. A parameter
ends at the first `</parameter>` that is followed by the next `<parameter ...>` or by `</invoke>`. A whole
call inside of it (`<invoke name="...">` up to its `</invoke>`) is content, and so is everything in a CDATA
section that the value starts with.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from agentd.types import Block

__all__ = ["NAMESPACE", "CallReader", "attribute_name"]

NAMESPACE: Final = r"(?:[A-Za-z_][A-Za-z0-9_.-]{0,39}:)?"
"""An optional namespace prefix in front of a tag's name."""

_TOKEN: Final = re.compile(
    rf"<(?P<close>/?){NAMESPACE}(?P<tag>invoke|parameter)(?P<attributes>(?:\s[^<>]*)?)>"
    r"|(?P<cdata><!\[CDATA\[)|(?P<end>\]\]>)"
)
_NAME: Final = re.compile(r"""(?:^|\s)name\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""")
_ENTITY: Final = re.compile(r"&(lt|gt|amp|quot|apos);")
_BARE: Final = re.compile(r"<|&(?!(?:lt|gt|amp|quot|apos);)")
_ENTITIES: Final = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_CDATA, _CDATA_END = "<![CDATA[", "]]>"

_CODE_NAMES: Final = ("command", "code", "script", "source", "cmd", "input")
_CONTENT_NAMES: Final = ("content", "contents", "file_text", "text", "body", "data", "code", "source")
_PATH_NAMES: Final = ("path", "file_path", "filename", "file", "name")


def attribute_name(attributes: str) -> str:
    """Return the value of the attribute `name` in the text of a tag's attributes, entities decoded."""
    match = _NAME.search(attributes)
    if match is None:
        return ""
    return _decode(match[1] or match[2] or match[3] or "").strip()


class CallReader:
    """Reads one call from behind its opening tag, in pieces, and makes its block.

    Positions count from the first character behind the opening tag.
    """

    __slots__ = (
        "_base",
        "_blank_from",
        "_candidate",
        "_depth",
        "_in_cdata",
        "_open",
        "_parameters",
        "_pieces",
        "_rest",
        "_seen",
        "header",
        "hold",
    )

    def __init__(self, header: tuple[str, str]) -> None:
        self.header = header
        self._pieces: list[str] = []  # all of it
        self._seen = 0  # so many pieces were looked at ...
        self._rest = ""  # ... up to this end of the last of them ...
        self._base = 0  # ... which has this position
        self._parameters: list[tuple[str, int, int]] = []  # name, start and end of the value
        self._open: tuple[str, int] | None = None  # the parameter that is being read
        self._blank_from = 0  # a CDATA section may start while only blanks came since
        self._in_cdata = False
        self._depth = 0  # of calls inside the parameter
        self._candidate: tuple[int, int] | None = None  # a `</parameter>` that may be the closing one
        self.hold: Callable[[str], None] = self._pieces.append
        """Take text without a `>`, which cannot end anything. Called for most of the deltas."""

    def read(self, text: str) -> int:
        """Take text; return how much of it belongs to the call if the call ends in it, else -1."""
        self._pieces.append(text)
        chunk = self._rest + "".join(self._pieces[self._seen :])
        stop = chunk.rfind(">") + 1  # behind it, no token can be complete that counts already
        for token in _TOKEN.finditer(chunk, 0, stop):
            if self._see(token, chunk):
                self._pieces[-1] = text[: len(text) - (len(chunk) - token.end())]
                return len(self._pieces[-1])
        self._base += stop
        self._seen, self._rest = len(self._pieces), chunk[stop:]
        if self._candidate is not None and self._candidate[1] != self._base:
            self._candidate = None  # something else that ends in `>` came behind it
        return -1

    def _see(self, token: re.Match[str], chunk: str) -> bool:
        """Go on by one token; return True if it is the end of the call."""
        start, end = self._base + token.start(), self._base + token.end()
        if self._in_cdata:
            if token["end"]:
                self._in_cdata = False
                self._blank_from = end
            return False
        if token["tag"] is None:
            if token["cdata"] and self._open and self._is_blank(self._blank_from, token, chunk):
                self._in_cdata = True
            return False
        opens = not token["close"]
        if self._open is None:
            if opens and token["tag"] == "parameter":
                self._begin(attribute_name(token["attributes"]), end)
            return not opens and token["tag"] == "invoke"
        return self._see_in_parameter(token, chunk, start, end)

    def _see_in_parameter(self, token: re.Match[str], chunk: str, start: int, end: int) -> bool:
        opens, is_call = not token["close"], token["tag"] == "invoke"
        if self._depth or (is_call and opens):
            if is_call:
                self._depth += 1 if opens else -1
            self._candidate = None
            return False
        if not opens and not is_call:
            self._candidate = (start, end)
            return False
        candidate, self._candidate = self._candidate, None
        if candidate is None or not self._is_blank(candidate[1], token, chunk) or self._open is None:
            return False
        self._parameters.append((*self._open, candidate[0]))
        self._open = None
        if opens:
            self._begin(attribute_name(token["attributes"]), end)
        return not opens

    def _begin(self, name: str, start: int) -> None:
        self._open = (name, start)
        self._blank_from = start

    def _is_blank(self, position: int, token: re.Match[str], chunk: str) -> bool:
        """True if only blanks lie between `position` and the token."""
        return position >= self._base and not chunk[position - self._base : token.start()].strip()

    @property
    def code_start(self) -> int | None:
        """Where the parameter begins that is being read, if it holds the code by its name."""
        if self._open is None or self._open[0].lower() in _PATH_NAMES:
            return None
        return self._open[1]

    @property
    def text(self) -> str:
        """All that was read of the call."""
        return "".join(self._pieces)

    def block(self, *, complete: bool) -> Block:
        """Return the block of what was read."""
        text = self.text
        target, action = self.header
        if not complete:
            source = text[self._open[1] :] if self._open else ""
            return Block.of(target, action, _code_of(source), complete=False)
        if not self._parameters:
            inside = text[: text.rindex("<")].strip()
            return Block.of(target, action, _code_of(inside))
        _, start, end = self._chosen(action)
        return Block.of(target, action, _code_of(text[start:end]))

    def _chosen(self, action: str) -> tuple[str, int, int]:
        """The parameter that holds the code: by its name, else the first that is not the path."""
        by_name = {name.lower(): (name, start, end) for name, start, end in reversed(self._parameters)}
        for name in _CONTENT_NAMES if action == "create" else _CODE_NAMES:
            if name in by_name:
                return by_name[name]
        others = [parameter for parameter in self._parameters if parameter[0].lower() not in _PATH_NAMES]
        return (others or self._parameters)[0]


def _code_of(value: str) -> str:
    """Return the code that a parameter's value stands for.

    CDATA sections are unwrapped if the value is nothing else. The five XML entities are decoded only if
    the value holds no bare `<` or `&`, which means that its writer escaped. Line ends become LF, and one
    line end directly behind the tag is dropped.
    """
    code = _cdata_of(value)
    if code is None:
        code = value if _BARE.search(value) else _decode(value)
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    return code.removeprefix("\n")


def _decode(text: str) -> str:
    return _ENTITY.sub(lambda match: _ENTITIES[match[1]], text)


def _cdata_of(value: str) -> str | None:
    """Return what one or more CDATA sections hold, or None if there is anything else in the value."""
    value = value.strip()
    parts: list[str] = []
    index = 0
    while value.startswith(_CDATA, index):
        end = value.find(_CDATA_END, index)
        if end < 0:
            return None
        parts.append(value[index + len(_CDATA) : end])
        index = end + len(_CDATA_END)
    return "".join(parts) if parts and index == len(value) else None
