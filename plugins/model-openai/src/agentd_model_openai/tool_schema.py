"""Schemas of tools in the form that OpenAI's servers, and those that follow them, insist on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["with_items"]

_DATA: Final = ("default", "examples", "enum", "const")
_BY_NAME: Final = ("properties", "$defs", "definitions")


def with_items(schema: Any) -> Any:
    """Return a schema in which each array says what is in it, if only that it may be anything: providers insist."""
    if isinstance(schema, list):
        return [with_items(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for key, part in schema.items():
        if key in _BY_NAME and isinstance(part, Mapping):  # where any key is a name, and none a keyword
            made[key] = {name: with_items(inner) for name, inner in part.items()}
        else:
            made[key] = part if key in _DATA else with_items(part)
    kind = made.get("type")
    if (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "prefixItems" not in made:
        made.setdefault("items", {})
    return made
