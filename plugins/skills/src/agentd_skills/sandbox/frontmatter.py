"""The YAML in front of a skill's document, read as its author meant it. Standard library only.

What AgentSkills documents hold is read: plain, quoted and block scalars, over several lines, with comments.
Written by agentd; changes are overwritten.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["document_name", "field", "frontmatter", "is_hidden"]


def document_name(names: Iterable[str]) -> str:
    """Return which of the names in a folder is its document, SKILL.md in any case; empty if none is."""
    fitting = [name for name in names if name.lower() == "skill.md"]
    return "SKILL.md" if "SKILL.md" in fitting else min(fitting, default="")


def frontmatter(text: str) -> str:
    """Return the lines between the first two `---`; a BOM and blank lines may stand in front."""
    match = re.match(r"\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", text, re.DOTALL | re.MULTILINE)
    return match[1].replace("\r\n", "\n").rstrip() if match else ""


def is_hidden(text: str) -> bool:
    """Tell whether the author wants the skill shown to people only."""
    return field(text, "disable-model-invocation").lower() in ("true", "yes", "on")


def field(text: str, name: str) -> str:
    """Return one top-level value of a document's frontmatter; empty if it is not there."""
    lines = frontmatter(text).split("\n")
    for number, line in enumerate(lines):
        match = re.match(rf"{re.escape(name)}[ \t]*:(?:[ \t]+(.*)|$)", line)
        if match:
            below = lines[number + 1 :]
            end = next((n for n, other in enumerate(below) if other[:1] not in ("", " ", "\t")), len(below))
            return _value((match[1] or "").strip(), below[:end])
    return ""


def _value(first: str, more: list[str]) -> str:
    block = re.fullmatch(r"([|>])[+-]?[1-9]?[+-]?(?:[ \t]+#.*)?", first)
    if block:
        return _block(more, folded=block[1] == ">")
    if first[:1] in ("'", '"'):
        return _quoted("\n".join([first, *more]))
    plain = [re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip() for line in [first, *more]]
    return _folded(plain)


def _block(lines: list[str], *, folded: bool) -> str:
    filled = [line for line in lines if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in filled), default=0)
    texts = [line[indent:].rstrip() for line in lines]
    return _folded(texts) if folded else "\n".join(texts).strip("\n")


def _folded(lines: list[str]) -> str:
    """Join lines by blanks; a blank line is the end of a line."""
    paragraphs = re.split(r"\n{2,}", "\n".join(lines).strip())
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "0": "\0",
    "e": "\x1b",
    "a": "\a",
    "b": "\b",
    "N": "\x85",
    "_": "\xa0",
}


def _quoted(text: str) -> str:
    if text[0] == "'":
        match = re.match(r"'((?:[^']|'')*)", text)
        inside = match[1].replace("''", "'") if match else ""
        return _folded([line.strip() for line in inside.split("\n")])
    match = re.match(r'"((?:[^"\\]|\\.)*)', text, re.DOTALL)
    inside = _folded([line.strip() for line in (match[1] if match else "").split("\n")])
    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", _unescaped, inside)


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if len(escape) > 1:
        number = int(escape[1:], 16)
        # a lone surrogate can be written nowhere
        return "\ufffd" if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF else chr(number)
    return _ESCAPES.get(escape, escape)


def names_in(folder: str) -> list[str]:
    """Return the names in a folder; none if it cannot be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []
