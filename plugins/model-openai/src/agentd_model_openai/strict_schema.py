"""Strict schemas: JSON Schemas in the form to which OpenAI holds a model exactly, where that is possible.

Source: OpenAI's guide "Structured outputs", supported schemas. Every object has `additionalProperties: false`
and requires all its properties; what was optional becomes nullable instead. So a null stands for "not given",
and `without_nulls` takes it away again before the tool is called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["OpenAIStrictSchemas", "strict_schema", "without_nulls"]

Schema = dict[str, Any]

_IMPOSSIBLE: Final = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "propertyNames", "unevaluatedProperties", "unevaluatedItems", "prefixItems", "contains",
)  # fmt: skip
_DROPPED: Final = ("default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly")
_MAX_DEPTH: Final = 10  # levels of nesting that the API takes
_MAX_PROPERTIES: Final = 5000
_TYPED: Final = ("type", "enum", "const", "anyOf", "$ref")


class _No(Exception):
    """This schema has no strict form."""


def strict_schema(schema: Mapping[str, object]) -> Schema | None:
    """Return the strict form of a tool's input schema, or None if it has none.

    It has none if an object takes any keys, if a value may be of any type, or if it uses a keyword that
    strict mode does not know. The schema itself is not changed.
    """
    try:
        made = _Maker().value(dict(schema), 0)
    except (_No, AttributeError, TypeError, ValueError):  # or it is no JSON Schema at all
        return None
    return made if made.get("type") == "object" and "anyOf" not in made else None


class _Maker:
    def __init__(self) -> None:
        self.properties = 0

    def value(self, schema: Any, depth: int) -> Schema:
        if not isinstance(schema, dict) or depth > _MAX_DEPTH or any(word in schema for word in _IMPOSSIBLE):
            raise _No
        if "$ref" in schema:
            return {"$ref": schema["$ref"]}  # beside it, nothing may stand
        made = {k: v for k, v in schema.items() if k not in _DROPPED}
        self._combine(made, depth)
        for name in ("$defs", "definitions"):
            if name in made:
                made[name] = {k: self.value(v, depth + 1) for k, v in made[name].items()}
        if not any(word in made for word in _TYPED):
            raise _No  # anything at all
        kinds = made.get("type")
        if kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
            self._object(made, depth)
        if kinds == "array" or (isinstance(kinds, list) and "array" in kinds):
            made["items"] = self.value(made.get("items"), depth + 1)
        return made

    def _combine(self, made: Schema, depth: int) -> None:
        alternatives = [*made.pop("anyOf", []), *made.pop("oneOf", [])]
        if alternatives:
            if "properties" in made:
                raise _No
            made["anyOf"] = [self.value(a, depth + 1) for a in alternatives]
        parts = made.pop("allOf", [])
        if len(parts) == 1 and isinstance(parts[0], dict) and not set(parts[0]) & set(made):
            made.update(self.value(parts[0], depth))
        elif parts:
            raise _No

    def _object(self, made: Schema, depth: int) -> None:
        if made.get("additionalProperties", False) is not False or not isinstance(
            made.get("properties", {}), dict
        ):
            raise _No
        given = made.get("properties", {})
        if not given and "additionalProperties" not in made and depth:
            raise _No  # an object of which nothing is said takes any keys
        self.properties += len(given)
        if self.properties > _MAX_PROPERTIES:
            raise _No
        required = made.get("required", [])
        made["properties"] = {
            name: self.value(part, depth + 1) if name in required else _nullable(self.value(part, depth + 1))
            for name, part in given.items()
        }
        made["required"] = list(given)
        made["additionalProperties"] = False


def _nullable(schema: Schema) -> Schema:
    if _takes_null(schema, {}):
        return schema
    kinds = schema.get("type")
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if kinds is None or "const" in schema or "enum" in schema:
        told: Schema = {k: schema.pop(k) for k in ("description", "title") if k in schema}
        return {**told, "anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]}


def _takes_null(schema: Any, root: Mapping[str, Any], depth: int = 0) -> bool:
    schema = _resolved(schema, root)
    if depth > _MAX_DEPTH:
        return False
    kinds = schema.get("type")
    if kinds == "null" or (isinstance(kinds, list) and "null" in kinds) or None in schema.get("enum", ()):
        return True
    return any(_takes_null(a, root, depth + 1) for a in [*schema.get("anyOf", ()), *schema.get("oneOf", ())])


def _resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow references within the schema; what cannot be followed says nothing."""
    for _ in range(8):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        schema = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            if step:
                key = step.replace("~1", "/").replace("~0", "~")
                schema = schema.get(key) if isinstance(schema, Mapping) else None
    return {}


def without_nulls(value: Any, schema: Mapping[str, Any]) -> Any:
    """Return arguments for the tool without the nulls that only say "not given".

    :param schema: the tool's own schema, not the strict one. A null that it allows stays.
    """
    return _pruned(value, schema, schema)


def _pruned(value: Any, schema: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(value, dict | list):
        return value
    schema = _fitting(value, _resolved(schema, root), root)
    if isinstance(value, list):
        return [_pruned(item, schema.get("items"), root) for item in value]
    known = schema.get("properties") or {}
    required = schema.get("required") or ()
    return {
        name: _pruned(item, known.get(name), root)
        for name, item in value.items()
        if item is not None or name not in known or name in required or _takes_null(known[name], root)
    }


def _fitting(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the alternative that is meant, as far as its shape tells."""
    for part in [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]:
        found = _resolved(part, root)
        if isinstance(value, list):
            fits = "items" in found
        else:
            given = {name for name, item in value.items() if item is not None}
            fits = given <= set(found.get("properties") or ()) and "properties" in found
        if fits:
            return found
    return schema


class OpenAIStrictSchemas:
    """OpenAI's strict schemas, for `agentd_tools.offers.NativeOffers`."""

    def make(self, schema: dict[str, Any]) -> dict[str, Any] | None:
        """Return the schema in strict form; None if it cannot be had."""
        return strict_schema(schema)

    def restore(self, arguments: str, schema: Mapping[str, Any]) -> str:
        """Take out the nulls that stand for parameters left out."""
        try:
            return json.dumps(without_nulls(json.loads(arguments), schema), ensure_ascii=False)
        except (ValueError, RecursionError, AttributeError, TypeError):
            return arguments  # no JSON, or no schema: the tool set says what is wrong with it
