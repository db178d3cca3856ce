"""Python annotations from JSON Schemas.

A writer works on one schema document and resolves `$ref` inside it. Objects with named properties become
TypedDicts (collected in `declarations`), or, in the inline form for prompts, `{name: str, size?: int}`.
Whatever cannot be said is `Any`; no schema is an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from agentd_tools.naming import identifier

from agentd_skills.references import References

__all__ = ["AnnotationWriter", "Scope", "literal", "merged", "names_in"]

_SIMPLE: Final = {
    "string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None",
}  # fmt: skip
_MAX_DEPTH: Final = 12
_MAX_INLINE_DEPTH: Final = 3
_MAX_MEMBERS: Final = 40
_MAX_CHARS: Final = 2000
_MORE_THAN_A_TYPE: Final = frozenset(
    {"$ref", "$dynamicRef", "$recursiveRef", "const", "enum", "allOf", "anyOf", "oneOf", "nullable"}
)
_OF_ANNOTATIONS: Final = frozenset({*_SIMPLE.values(), "list", "dict"})


class Scope:
    """The names of one generated module: those in use, and the TypedDict made for each definition."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken)
        self.types: dict[str, str] = {}


class AnnotationWriter:
    """Turns the schemas of one document into annotations.

    :param document: the schema that `#/...` references mean.
    :param name: the stem of the TypedDicts' names.
    :param scope: the module that the TypedDicts go to; documents with the same definitions share them.
    :param inline: write objects out instead of declaring TypedDicts.
    """

    def __init__(self, document: object, name: str, scope: Scope, *, inline: bool = False) -> None:
        self.declarations: list[str] = []
        self._references = References(document)
        self._name = name
        self._scope = scope
        self._inline = inline
        self._by_reference: dict[str, str] = {}

    def annotation(self, schema: object, hint: str = "", depth: int = 0) -> str:
        """Return the annotation for a schema. `hint` names the place, for the TypedDict's name."""
        if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
            return "Any"
        if _MORE_THAN_A_TYPE.isdisjoint(schema):  # as most are
            return self._typed(schema, hint, depth)
        text = self._main_part(schema, hint, depth)
        return _union([text, "None"]) if schema.get("nullable") is True else text

    def _main_part(self, schema: Mapping[str, Any], hint: str, depth: int) -> str:
        if (reference := References.of(schema)) is not None:
            return self._reference(reference, hint, depth)
        if "const" in schema:
            return _literals([schema["const"]])
        if isinstance(values := schema.get("enum"), list) and values:
            return _literals(values)
        if isinstance(parts := schema.get("allOf"), list) and parts:
            return self._all_of(schema, parts, hint, depth)
        for key in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(key), list) and options:
                text = self._choice(schema, options, hint, depth)
                if text != "Any":
                    return text
        return self._typed(schema, hint, depth)  # choices that only constrain leave the type beside them

    def _choice(self, schema: Mapping[str, Any], options: list[Any], hint: str, depth: int) -> str:
        if _has_properties(schema):  # what all the alternatives have in common stands beside them
            resolved = [self.resolve(o) for o in options]
            if not all(_has_properties(o) for o in resolved):
                return "Any"
            options = [merged([schema, o]) for o in resolved]
        constants = [o["const"] for o in options if isinstance(o, Mapping) and "const" in o]
        if len(constants) == len(options):
            return _literals(constants)
        return _union([self.annotation(o, f"{hint}{n or ''}", depth + 1) for n, o in enumerate(options)])

    def resolve(self, schema: object) -> Mapping[str, Any]:
        """Follow references to the schema that they end at; an empty one if they lead nowhere."""
        return self._references.resolve(schema)

    def _reference(self, reference: str, hint: str, depth: int) -> str:
        if reference in self._by_reference:
            return self._by_reference[reference]
        # While its own body is written, a reference to itself has only the name that it will have.
        target = self._references.resolve({"$ref": reference})
        stem = unquote(reference.rpartition("/")[2]).strip("#") or self._name
        if not self._inline and _has_properties(target):
            key = self._references.meaning(reference)
            name = self._by_reference[reference] = self._scope.types.get(key) or self._new_name(stem)
            if key in self._scope.types:
                return name
            self._scope.types[key] = name
            self._declare(name, target, stem, depth)
            return name
        self._by_reference[reference] = "Any"
        text = self.annotation(target, stem, depth + 1)
        self._by_reference[reference] = text
        return text

    def _typed(self, schema: Mapping[str, Any], hint: str, depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            return (
                _union([self._typed({**schema, "type": k}, hint, depth + 1) for k in kind]) if kind else "Any"
            )
        if isinstance(kind, str) and kind in _SIMPLE:
            return _SIMPLE[kind]
        if kind == "array":
            return self._array(schema, hint, depth)
        if kind == "object" or (kind is None and _has_properties(schema)):
            return self._object(schema, hint, depth)
        return "Any"

    def _array(self, schema: Mapping[str, Any], hint: str, depth: int) -> str:
        items = schema.get("items")
        members = schema.get("prefixItems", items)
        if isinstance(members, list) and members:
            inner = _union([self.annotation(m, hint, depth + 1) for m in members])
        else:
            inner = self.annotation(items, f"{hint}_item", depth + 1)
        return "list" if inner == "Any" else f"list[{inner}]"

    def _object(self, schema: Mapping[str, Any], hint: str, depth: int) -> str:
        if _has_properties(schema):
            if self._inline:
                return self._written_out(schema, hint, depth)
            name = self._new_name(f"{self._name}_{hint}")
            if schema is self._references.document:  # a result that holds itself
                self._by_reference["#"] = name
            self._declare(name, schema, hint, depth)
            return name
        values = schema.get("additionalProperties")
        inner = self.annotation(values, f"{hint}_value", depth + 1) if isinstance(values, Mapping) else "Any"
        return "dict" if inner == "Any" else f"dict[str, {inner}]"

    def _all_of(self, schema: Mapping[str, Any], parts: list[Any], hint: str, depth: int) -> str:
        """Merge the parts if they are objects; otherwise the first that says something counts."""
        resolved = [self.resolve(p) for p in parts] + [{k: v for k, v in schema.items() if k != "allOf"}]
        objects = [r for r in resolved if _has_properties(r)]
        if not objects:
            texts = [self.annotation(p, hint, depth + 1) for p in parts]
            return next((t for t in texts if t != "Any"), None) or self._typed(schema, hint, depth)
        if len(parts) == 1 and len(objects) == 1 and isinstance(parts[0], Mapping):
            return self.annotation(parts[0], hint, depth + 1)
        return self._object(merged(objects), hint, depth + 1)

    def _declare(self, name: str, schema: Mapping[str, Any], hint: str, depth: int) -> None:
        required = names_in(schema.get("required"))
        fields = []
        for key, value in schema["properties"].items():
            text = self.annotation(value, f"{hint}_{key}", depth + 1)
            fields.append((key, text if key in required else f"NotRequired[{text}]"))
        self.declarations.append(_typed_dict(name, fields))

    def _written_out(self, schema: Mapping[str, Any], hint: str, depth: int) -> str:
        properties = schema["properties"]
        if depth >= _MAX_INLINE_DEPTH or len(properties) > 12:
            return "dict"
        required = names_in(schema.get("required"))
        parts = [
            f"{key if key.isidentifier() else literal(key)}{'' if key in required else '?'}: "
            f"{self.annotation(value, hint, depth + 1)}"
            for key, value in properties.items()
        ]
        return "{" + ", ".join(parts) + "}"

    def _new_name(self, stem: str) -> str:
        words = identifier(stem, fallback="Type").split("_")
        name = base = identifier("".join(w[:1].upper() + w[1:] for w in words), fallback="Type")
        number = 1
        while name in self._scope.taken:
            number += 1
            name = f"{base}{number}"
        self._scope.taken.add(name)
        return name


def merged(objects: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one object schema with the properties of all."""
    result: dict[str, Any] = {"type": "object", "properties": {}, "required": []}
    for schema in objects:
        result["properties"].update(schema["properties"])
        result["required"] += sorted(names_in(schema.get("required")))
        if "additionalProperties" in schema:
            result["additionalProperties"] = schema["additionalProperties"]
    return result


def names_in(value: object) -> set[str]:
    """Return the strings of a list like `required`; anything else counts as none."""
    return {v for v in value if isinstance(v, str)} if isinstance(value, list) else set()


def literal(value: object, limit: int = 200) -> str:
    """Return a JSON value as Python source, or an empty string if that is too long or impossible."""
    if isinstance(value, str) and len(value) > limit:
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; a value that holds itself
        return ""
    return text if len(text) <= limit else ""


def _literals(values: list[Any]) -> str:
    texts = [literal(v) for v in values if v is None or isinstance(v, str | int | bool)]
    if len(texts) < len(values) or not all(texts) or len(texts) > _MAX_MEMBERS:
        kinds = {type(v).__name__ for v in values}
        plain = kinds <= {"str", "int", "float", "bool"}
        return " | ".join(sorted(kinds)) if plain else "Any"
    if texts == ["None"]:
        return "None"
    return f"Literal[{', '.join(dict.fromkeys(texts))}]"


def _union(texts: list[str]) -> str:
    unique = list(dict.fromkeys(texts))
    if "Any" in unique or len(unique) > _MAX_MEMBERS:
        return "Any"
    if len(unique) > 1 and any(t == "None" or t.endswith(" | None") for t in unique):
        # None last and once, as people write it
        unique = [*dict.fromkeys(t.removesuffix(" | None") for t in unique if t != "None"), "None"]
    text = " | ".join(unique)
    return text if len(text) <= _MAX_CHARS else "Any"


def _has_properties(schema: Mapping[str, Any]) -> bool:
    properties = schema.get("properties")
    return (
        isinstance(properties, Mapping) and bool(properties) and all(isinstance(k, str) for k in properties)
    )


def _may_be_a_field(key: str) -> bool:
    """Tell whether a key can stand in a class body, where it hides a type of its name from the others."""
    plain = key.isidentifier() and identifier(key) == key and not key[:1].isupper()
    return plain and key not in _OF_ANNOTATIONS


def _typed_dict(name: str, fields: list[tuple[str, str]]) -> str:
    if all(_may_be_a_field(key) for key, _ in fields):
        body = "\n".join(f"    {key}: {text}" for key, text in fields)
        return f"class {name}(TypedDict):\n{body}"
    body = ", ".join(f"{key!r}: {text!r}" for key, text in fields)
    return f"{name} = TypedDict({name!r}, {{{body}}})"
