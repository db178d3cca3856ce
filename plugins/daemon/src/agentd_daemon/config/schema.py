"""JSON Schema of the configuration files (draft 2020-12), made from the classes and their docstrings.

It says what one file may have. What it refuses, the loader refuses; the loader also refuses what no schema
can say: keys that do not go together, names given twice, references that lead nowhere.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs
from agentd.registry.config import PluginConfig

from agentd_daemon.config.structuring import Bounds
from agentd_daemon.config.values import (
    AgentConfig,
    AgentDefaults,
    AgentServerConfig,
    BudgetsConfig,
    DaemonConfig,
    HistoryConfig,
    OnErrorConfig,
    Secret,
    SubscriptionConfig,
    ToolFilterConfig,
    TriggerConfig,
)

__all__ = ["DIALECT", "make_schema"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_CLASSES: Final = (
    DaemonConfig,
    AgentDefaults,
    AgentConfig,
    AgentServerConfig,
    ToolFilterConfig,
    SubscriptionConfig,
    TriggerConfig,
    BudgetsConfig,
    HistoryConfig,
    OnErrorConfig,
    PluginConfig,
)
_SCALARS: Final[dict[Any, str]] = {
    str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"
}  # fmt: skip
_FIELD: Final = re.compile(r"^:ivar (\w+): ", re.MULTILINE)
_SECRET: Final[dict[str, object]] = {"type": "string", "minLength": 1}
_REFERENCES: Final = {
    "Reference": {
        "title": "Reference",
        "description": "${NAME}, ${NAME:-default} or ${file:path}, and nothing else.",
        "type": "string",
        "pattern": r"^\$\{[^}\n]+\}$",
    },
    "TextWithReference": {
        "title": "TextWithReference",
        "description": "A text with ${NAME}, ${NAME:-default} or ${file:path} in it.",
        "type": "string",
        "pattern": r"\$\{[^}\n]+\}",
    },
}


def make_schema() -> dict[str, Any]:
    """Return the schema of one configuration file."""
    definitions = {cls.__name__: _describe(cls) for cls in _CLASSES}
    root = definitions.pop(DaemonConfig.__name__)
    # Anchors that several agents use have a place of their own.
    root["patternProperties"] = {"^x-": {"description": "Ignored: a place for YAML anchors."}}
    return {
        "$schema": DIALECT,
        "title": "agentd: agents",
        **{key: value for key, value in root.items() if key != "title"},
        "$defs": {**_REFERENCES, **definitions},
    }


def _describe(cls: type) -> dict[str, Any]:
    attrs.resolve_types(cls)
    # what a class adds to another comes first: an agent's name
    fields = sorted(attrs.fields(cls), key=lambda field: field.inherited)
    schemas = [schema_of(field.type) for field in fields]
    summary, texts = read_fields(cls)
    properties = {}
    for field, schema in zip(fields, schemas, strict=True):
        described = {"description": texts[field.name], **_with_references(schema)}
        if isinstance(field.default, (bool, int, float)) or (
            isinstance(field.default, str) and field.default
        ):
            described["default"] = field.default
        properties[field.name] = described
    required = [field.name for field in fields if field.default is attrs.NOTHING]
    return {
        "title": cls.__name__,
        "description": summary,
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
        "additionalProperties": False,
    }


def schema_of(target: Any) -> dict[str, Any]:
    """Return the schema of a type, of those that `agentd_daemon.config.structuring.make_converter` reads."""
    origin, arguments = get_origin(target), get_args(target)
    if target is Secret:
        return dict(_SECRET)
    if attrs.has(target):
        return {"$ref": f"#/$defs/{target.__name__}"}
    if target in _SCALARS:
        return {"type": _SCALARS[target]}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(member) for member in arguments]}
    if origin is Literal:
        return {"enum": sorted(arguments)}
    if origin is Annotated:
        return _bounded(
            schema_of(arguments[0]), [extra for extra in arguments[1:] if isinstance(extra, Bounds)]
        )
    if origin is dict:
        return {
            "type": "object",
            **({} if arguments[1] is Any else {"additionalProperties": schema_of(arguments[1])}),
        }
    if origin is tuple and arguments[1:] == (Ellipsis,):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is tuple:
        items = [_with_references(schema_of(argument)) for argument in arguments]
        return {
            "type": "array",
            "prefixItems": items,
            "items": False,
            "minItems": len(items),
            "maxItems": len(items),
        }
    raise TypeError(f"there is no schema for {target!r}")


def _bounded(schema: dict[str, Any], bounds: Iterable[Bounds]) -> dict[str, Any]:
    for bound in bounds:
        limits = {
            "exclusiveMinimum": bound.gt,
            "minimum": bound.ge,
            "maximum": bound.le,
            "pattern": bound.pattern,
            "minLength": bound.min_length,
            "maxLength": bound.max_length,
        }
        schema |= {name: limit for name, limit in limits.items() if limit is not None}
    return schema


def read_fields(cls: type) -> tuple[str, dict[str, str]]:
    """Return a class's docstring without the part about its fields, and the text of each of its fields."""
    texts: dict[str, str] = {}
    summary = ""
    for owner in reversed(cls.__mro__):
        document = inspect.cleandoc(owner.__doc__ or "") if attrs.has(owner) else ""
        head, *parts = _FIELD.split(document)
        summary = " ".join(head.split()) or summary
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            words = " ".join(text.split())
            texts[name] = words[:1].upper() + words[1:]
    return summary, texts


def _with_references(schema: Any) -> Any:
    """Let references stand where a number or a text of a certain form is asked for."""
    if not isinstance(schema, dict):
        return schema
    if "anyOf" in schema:
        members = [_with_references(member) for member in schema["anyOf"]]
        flat = [inner for member in members for inner in member.get("anyOf", [member])]
        return {**schema, "anyOf": flat}
    if schema.get("type") == "array" and "prefixItems" not in schema:
        return {**schema, "items": _with_references(schema["items"])}
    if schema.get("type") in ("integer", "number", "boolean") or "enum" in schema:
        return {"anyOf": [schema, {"$ref": "#/$defs/Reference"}]}
    if "pattern" in schema:
        return {"anyOf": [schema, {"$ref": "#/$defs/TextWithReference"}]}
    return schema
