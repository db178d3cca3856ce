"""The info string of a fence: whether the fence is to be run, and as what."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Final

from agentd.notation import read_header
from agentd.types import LANGUAGES

__all__ = ["bare_header_of", "header_of", "may_have_fences"]

# A word that names the language of what is shown; in front of `PATH:create` it is no part of the path.
_LANGUAGE_WORD: Final = re.compile(
    "bash|c|cpp|css|csv|diff|dockerfile|go|html|ini|java|javascript|js|json|jsx|makefile|markdown|md|plaintext"
    "|py|python|ruby|rust|sh|shell|sql|text|toml|ts|tsx|txt|typescript|xml|yaml|yml",
    re.IGNORECASE,
)
_DOCUMENT: Final = re.compile(
    r".*\.(?:md|mdx|markdown|mkd|qmd|rmd)|(?:.*/)?readme", re.IGNORECASE | re.DOTALL
)
_LAST_ACTION: Final = re.compile(r"(.*?)[ \t]*:[ \t]*(execute|create)", re.IGNORECASE)


def header_of(info: str) -> tuple[str, str] | None:
    """Return target and action of a fence's info string, or None if the fence is only shown.

    The first word counts if it is a header (see `agentd.notation.read_header`); what follows is ignored. What follows
    `bash:job` up to an attribute (`title=x`, `{...}`) is the name of the job, which is refused if it is more than one
    word. Otherwise the info string as a whole does if it ends in `: execute` or `: create`, with or without blanks
    around the colon: so a path may hold spaces (`my notes.txt:create`). A language word in front of such a path is
    dropped (`python my app.py:create`), quotes around a path as well. Nothing else is decoded: a backslash is a
    backslash.
    """
    info = info.strip(" \t")
    words = info.split(maxsplit=2)
    header = read_header(words[0]) if words else None
    if header is not None and header[1] == "job":
        header = read_header(" ".join(words[:2]))
        more = [] if header is None else list(takewhile(_is_no_attribute, words[2:] and words[2].split()))
        header = header and (header[0], " ".join([header[1], *more]))
    if header is None:
        match = _LAST_ACTION.fullmatch(info)
        if match is None:
            return None
        word, _, rest = match[1].partition(" ")
        named = bool(rest.strip()) and _LANGUAGE_WORD.fullmatch(word) is not None
        header = (rest.strip() if named else match[1]), match[2].lower()
    target, action = header
    if action == "create" and len(target) > 2 and target[0] == target[-1] and target[0] in "\"'":
        target = target[1:-1]
    return target, action


def _is_no_attribute(word: str) -> bool:
    return "=" not in word and not word.startswith("{")


def bare_header_of(info: str) -> tuple[str, str] | None:
    """Return what the header of a fence would be that names a language to run (`bash`, `python`) and nothing else."""
    language = LANGUAGES.get(info.strip(" \t").lower())
    return None if language is None else (language, "execute")


def may_have_fences(header: tuple[str, str]) -> bool:
    """True if a block writes a file in which fences are to be expected: Markdown."""
    return header[1] == "create" and _DOCUMENT.fullmatch(header[0]) is not None
