"""Foreign text made safe for the place it goes to: a docstring, a line of a list, a YAML value, Markdown.

Names and descriptions come from tool servers; nothing in them may end the construct that they stand in.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

from agentd.text import valid_text

__all__ = ["docstring", "first_sentence", "markdown", "one_line", "slug", "yaml_value"]

# control, format (bidi overrides, zero width), surrogate, private and unassigned characters, separators
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_SENTENCE: Final = re.compile(r"[.!?](?= [A-Z`\"'(*\[])|[。！？]")


def visible(text: str, *, keep: str = "") -> str:
    """Replace every invisible character by a blank, except those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _INVISIBLE else " " for c in text)


def one_line(text: str, limit: int) -> str:
    """Return the text in one line of at most `limit` characters, without code fences or rules."""
    line = " ".join(visible(text[: limit * 8]).split()).replace("```", "'''")
    line = re.sub(r"-{3,}", "—", line)
    return line if len(line) <= limit else f"{line[: limit - 3].rstrip()}..."


def first_sentence(text: str, limit: int) -> str:
    """Return the beginning of a text in one line: its first sentence, or `limit` characters of it."""
    line = one_line(text[: limit * 8].strip().split("\n\n")[0], limit * 8)
    end = _SENTENCE.search(line, 15)  # not "e.g. " or "No. " at the start
    return one_line(line[: end.start() + 1] if end else line, limit)


def docstring(text: str, indent: str = "    ") -> str:
    """Return the text as a triple-quoted literal that always compiles and shows the text as it was, but for single
    surrogates: CPython 3.13 compiles no docstring that has one, however it is written."""
    lines = [_escaped(line.rstrip()) for line in re.split(r"\r\n|\r|\n", valid_text(text).strip())]
    if len(lines) == 1:
        return f'"""{lines[0]}"""'
    body = "\n".join(f"{indent}{line}" if line else "" for line in lines[1:])
    return f'"""{lines[0]}\n{body}\n{indent}"""'


def _escaped(line: str) -> str:
    line = line.replace("\\", "\\\\")
    # every second quote of a run, and one at the end, could join the closing three
    line = re.sub(r'""|"$', lambda m: '\\"' * len(m[0]), line)
    if line.isascii() and line.isprintable():
        return line
    return "".join(_escaped_character(c) if unicodedata.category(c) in _INVISIBLE else c for c in line)


def _escaped_character(character: str) -> str:
    if character == "\t":
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def yaml_value(text: str) -> str:
    """Return the text as a double-quoted YAML scalar in one line, for strict readers too.

    AgentSkills readers split a file at `---`, so a value must not hold it.
    """
    return json.dumps(one_line(text, 1000), ensure_ascii=False)


def markdown(text: str, limit: int = 20_000) -> str:
    """Return the text as a Markdown block quote: what stands in it cannot end it or open a fence outside."""
    lines = visible(text[:limit], keep="\n\t").replace("---", "—").strip().split("\n")
    return "\n".join(f"> {line.rstrip()}".rstrip() for line in lines)


def slug(text: str) -> str:
    """Return a skill name by the AgentSkills rules: lower-case letters, digits and single hyphens, at most 64."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:56].strip("-") or "tools"
