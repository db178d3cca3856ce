"""Reads a tool's docstring: what the tool does, and a line for each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection
from typing import Final

import attrs

__all__ = ["Documentation", "read_docstring"]

_PARAMETER: Final = re.compile(
    r"^\s*(?::param\s+(?:[\w\[\], |.]+\s)?)?\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$"
)
_HEADING: Final = re.compile(
    r"^\s*(args|arguments|parameters|params|returns?|yields?|raises|examples?|notes?)\s*:\s*$", re.IGNORECASE
)
_PARAMETER_HEADINGS: Final = frozenset({"args", "arguments", "parameters", "params"})


@attrs.frozen
class Documentation:
    """A docstring taken apart: the description and the text of each parameter that it mentions."""

    description: str = ""
    parameters: dict[str, str] = attrs.field(factory=dict)


def read_docstring(text: str | None, names: Collection[str]) -> Documentation:
    """Take a docstring apart. Only lines that start with one of `names` and a colon describe a parameter.

    Understands bare lines `name: text`, Google's `Args:` section with `name (type): text`, and `:param
    name: text`. Indented lines that follow belong to the parameter above them.
    """
    kept: list[str] = []
    found: dict[str, str] = {}
    current: str | None = None
    indent = 0
    for line in inspect.cleandoc(text or "").splitlines():
        heading = _HEADING.match(line)
        match = None if heading else _PARAMETER.match(line)
        if match and match[1] in names and match[1] not in found:
            current, indent = match[1], _indent(line)
            found[current] = match[2].strip()
        elif current and line.strip() and _indent(line) > indent:
            found[current] = f"{found[current]} {line.strip()}".strip()
        else:
            current = None
            if not (heading and heading[1].lower() in _PARAMETER_HEADINGS):
                kept.append(line)
    return Documentation(re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), found)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
