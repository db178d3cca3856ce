"""Arguments of a tool in a URI, which are texts, as the values that the tool's JSON Schema asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from agentd.errors import ConfigError, suggest

from agentd_daemon.uris import safe_uri

__all__ = ["typed_arguments"]

Texts = str | list[str]
TYPES: Final[dict[str, Any]] = {
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "object": dict,
}


def typed_arguments(uri: str, texts: Mapping[str, Texts], schema: Mapping[str, object]) -> dict[str, object]:
    """Convert the arguments of a `tool://` URI.

    A text stays one where the schema admits texts or says nothing. Else it must be JSON of an admitted type; an
    argument that is an array is given once for each item.

    :param uri: for messages, which never show a value.
    :param texts: see `agentd_daemon.uris.parse_tool_uri`.
    :param schema: the tool's input schema.
    :raises ConfigError: if one does not fit, is missing or unknown.
    """
    properties = schema.get("properties")
    known: Mapping[str, object] = properties if isinstance(properties, Mapping) else {}
    if known and schema.get("additionalProperties", False) is False and "patternProperties" not in schema:
        for name in texts:
            if name not in known:
                listed = ", ".join(map(repr, known))
                _refuse(uri, name, f"is none of the tool's, which are: {listed}{suggest(name, known)}")
    required = schema.get("required")
    for name in required if isinstance(required, list) else ():
        if name not in texts:
            _refuse(uri, name, f"is missing, and the tool needs it; write ?{name}=VALUE")
    return {name: _value(uri, name, text, known.get(name)) for name, text in texts.items()}


def _refuse(uri: str, name: str, problem: str) -> NoReturn:
    raise ConfigError(f"{safe_uri(uri)}: the argument {name!r} {problem}")


def _value(uri: str, name: str, text: Texts, schema: object) -> object:
    kinds = _kinds(schema)
    if "array" in kinds and (isinstance(text, list) or "string" not in kinds):
        items = _items(schema)
        return [_value(uri, name, item, items) for item in ([text] if isinstance(text, str) else text)]
    if not isinstance(text, str):
        _refuse(uri, name, "is given several times, and the tool takes one value; leave one")
    if not kinds or "string" in kinds:
        return text
    try:
        value = json.loads(text, parse_constant=str)  # NaN and the infinities are no JSON
    except ValueError:
        value = text
    if not any(_fits(value, kind) for kind in kinds):
        _refuse(uri, name, f"must be of the type {' or '.join(sorted(kinds))}, written as in JSON")
    return value


def _kinds(schema: object) -> set[str]:
    """The JSON types that a schema admits; empty if it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    kind = schema.get("type")
    kinds = {kind} if isinstance(kind, str) else set(kind) if isinstance(kind, list) else set()
    for choice in _choices(schema):
        kinds |= _kinds(choice)
    values = schema.get("enum")
    if not kinds and isinstance(values, list):
        kinds = {kind for value in values for kind in ("string", *TYPES) if _fits(value, kind)}
    return kinds


def _choices(schema: Mapping[str, object]) -> list[object]:
    found = [schema.get(key) for key in ("anyOf", "oneOf")]
    return [choice for choices in found if isinstance(choices, list) for choice in choices]


def _items(schema: object) -> object:
    """The schema of an array's items, also of an array that is one choice of several."""
    if not isinstance(schema, Mapping):
        return None
    if "items" in schema:
        return schema["items"]
    return next((items for choice in _choices(schema) if (items := _items(choice)) is not None), None)


def _fits(value: object, kind: str) -> bool:
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, TYPES.get(kind, ())) and (kind == "boolean" or not isinstance(value, bool))
