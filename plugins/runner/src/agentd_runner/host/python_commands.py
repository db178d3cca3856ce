"""Commands that do nothing but start a Python on a text: they can be Python blocks, forked from a warm interpreter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

import attrs

__all__ = ["PythonCommand", "python_command"]

Errors = Literal["apart", "joined", "dropped"]

PROGRAMS: Final = ("python3", "python")
REDIRECTIONS: Final[dict[str, Errors]] = {"2>&1": "joined", "2>/dev/null": "dropped"}

# What stands for itself in every shell: nothing is expanded in it.
_PART: Final = re.compile(
    r"""(?P<plain>[\w@%+=:,./-]+)|'(?P<single>[^']*)'|"(?P<double>(?:[^"$`\\]|\\.)*)\"""", re.S
)
_REDIRECTION: Final = re.compile(r"2>&1|2>/dev/null")
_DOCUMENT: Final = re.compile(r"<<[ \t]*(?P<quote>['\"]?)(?P<word>\w+)(?P=quote)(?=\s)")
_CODING: Final = re.compile(rb"(?:[^\n]*\n)?[^\n]*coding[:=]")
"""Of a text that says how it is encoded: Python heeds that in a file and in its standard input."""
_BLANK: Final = " \t\n"  # to bash; to str.strip() there are more
_ESCAPE: Final = re.compile(r'\\([$`"\\]|\n)')


@attrs.frozen
class PythonCommand:
    """A Python's text, and what goes in and out beside it.

    :ivar program: the name that it was called by.
    :ivar stdin: its standard input; None for the command's own.
    :ivar errors: where its standard error goes.
    """

    program: str
    code: str
    stdin: bytes | None = None
    errors: Errors = "apart"


def python_command(argv: Sequence[str], stdin: bytes = b"") -> PythonCommand | None:
    """Return what such a command means; None for every other one.

    Understood are `python3 -c CODE`, `python3 -` and `python3` with its standard input, and the same as a line of bash
    with a here-document, `2>&1` or `2>/dev/null`, if nothing in it is left for the shell to expand.
    """
    if len(argv) == 3 and list(argv[:2]) == ["bash", "-c"]:
        return _in_bash(argv[2], stdin)
    return _meant(list(argv), "apart", None, stdin)


def _in_bash(line: str, given: bytes) -> PythonCommand | None:
    words, errors, at = [], "apart", _blanks(line, 0)
    tag = ""
    while at < len(line) and line[at] != "\n":
        if found := _REDIRECTION.match(line, at):
            if errors != "apart":
                return None
            errors = REDIRECTIONS[found[0]]
            at = found.end()
        elif found := _DOCUMENT.match(line, at):
            if tag:
                return None
            tag, quoted = found["word"], bool(found["quote"])
            at = found.end()
        else:
            word, at = _word(line, at)
            if word is None:
                return None
            words.append(word)
        if at < len(line) and line[at] not in " \t\n":
            return None
        at = _blanks(line, at)
    rest = line[at + 1 :]
    if not tag:
        return None if rest.strip(_BLANK) else _meant(words, errors, None, given)
    body, end, after = (
        rest.partition(f"\n{tag}\n") if not rest.startswith(f"{tag}\n") else ("", "\n", rest[len(tag) :])
    )
    if not end and rest.endswith(f"\n{tag}"):
        body, end, after = rest[: -len(tag) - 1], "\n", ""
    if not end or after.strip(_BLANK) or (not quoted and re.search(r"[$`\\]", body)):
        return None
    document = f"{body}\n" if body else ""
    return _meant(words, errors, document.encode("utf-8", "surrogateescape"), b"")


def _meant(words: list[str], errors: str, document: bytes | None, given: bytes) -> PythonCommand | None:
    if not words or words[0] not in PROGRAMS:
        return None
    where: Errors = errors  # type: ignore[assignment]
    if len(words) == 3 and words[1] == "-c":
        return PythonCommand(words[0], words[2], document, where)
    text = given if document is None else document
    if words[1:] not in ([], ["-"]) or not text or text.startswith(b"\xef\xbb\xbf") or _CODING.match(text):
        return None
    try:
        return PythonCommand(words[0], text.decode(), b"", where)
    except UnicodeDecodeError:
        return None


def _word(line: str, at: int) -> tuple[str | None, int]:
    """Return the word that begins here as the shell reads it, and where it ends; no word if it expands something."""
    parts, start = [], at
    while found := _PART.match(line, at):
        if found["plain"] is not None:
            parts.append(found["plain"])
        elif found["single"] is not None:
            parts.append(found["single"])
        else:
            parts.append(_ESCAPE.sub(lambda one: one[1].replace("\n", ""), found["double"]))
        at = found.end()
    return ("".join(parts), at) if at > start else (None, at)


def _blanks(line: str, at: int) -> int:
    while at < len(line) and line[at] in " \t":
        at += 1
    return at
