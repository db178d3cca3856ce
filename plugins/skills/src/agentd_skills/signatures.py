"""A tool as a Python function: its parameters in an order Python takes, its types, its text."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import attrs
from agentd_tools.naming import Binding, identifier

from agentd_skills.annotations import AnnotationWriter, Scope, literal, merged, names_in
from agentd_skills.references import References

__all__ = ["OMITTED", "Parameter", "Signature", "ToolView", "argument_schema", "signature_of"]

OMITTED: Final = "..."
"""The default that every optional parameter of a binding has: nothing is sent for it, and the tool uses its own."""

_TAKEN: Final = frozenset({"_call", "_call_given", "__debug__"})


@attrs.frozen(kw_only=True)
class Parameter:
    """One parameter: `name` in Python, `wire` in the tool's schema, `default` as source or None if required.

    The default is what the tool does if nothing is sent. It is shown, and never sent.
    """

    name: str
    wire: str
    annotation: str
    default: str | None
    text: str


@attrs.frozen(kw_only=True)
class Signature:
    """A function's signature. `keyword_from` is the index of the first parameter that only goes by keyword;
    `extra` the annotation of `**` arguments, with the name `extra_name`, or None."""

    name: str
    parameters: tuple[Parameter, ...]
    keyword_from: int | None
    extra: str | None
    extra_name: str
    returns: str
    declarations: tuple[str, ...]

    def source(self) -> str:
        """Return `name(a: int, b: str = 'x') -> int`."""
        return f"{self._head()} -> {self.returns}"

    def binding(self) -> str:
        """Return the same for the function itself, whose optional parameters are all `= ...`: a binding that sent a
        schema's default would send what nobody has given, which may not be what the tool does without it."""
        return f"{self._head(shows_defaults=False)} -> {self.returns}"

    def short(self) -> str:
        """The same for a list: a result that may be anything is not mentioned."""
        return self._head() if self.returns == "Any" else self.source()

    def _head(self, *, shows_defaults: bool = True) -> str:
        parts = [
            f"{p.name}: {p.annotation}"
            + ("" if p.default is None else f" = {p.default if shows_defaults else OMITTED}")
            for p in self.parameters
        ]
        if self.keyword_from is not None:
            parts.insert(self.keyword_from, "*")
        if self.extra is not None:
            parts.append(f"**{self.extra_name}: {self.extra}")
        return f"{self.name}({', '.join(parts)})"


class ToolView:
    """A tool as documents show it. Its signature, with types written out, is worked out once, when needed."""

    def __init__(self, binding: Binding) -> None:
        self.binding = binding
        self.name = binding.python_name
        self.spec = binding.spec

    @cached_property
    def signature(self) -> Signature:
        return signature_of(self.binding, Scope(), inline=True)


def signature_of(binding: Binding, scope: Scope, *, inline: bool = False) -> Signature:
    """Work out the signature of a tool from its schemas; any schema gives one.

    Required parameters come first, in the schema's order. If an optional one stood before a required one,
    the optional ones go by keyword only, so that no position means something else than in the schema.
    """
    spec, name = binding.spec, binding.python_name
    document = spec.input_schema if isinstance(spec.input_schema, Mapping) else {}
    writer = AnnotationWriter(document, name, scope, inline=inline)
    schema = argument_schema(writer, document)
    properties: Mapping[str, Any] = schema.get("properties") or {}
    required = names_in(schema.get("required")) | {
        wire
        for wire, value in properties.items()
        if isinstance(value, Mapping) and value.get("required") is True
    }  # the latter is draft 3's way
    names = _parameter_names(list(properties))
    parameters = [
        _parameter(writer, wire, properties[wire], names[wire], wire in required) for wire in properties
    ]
    ordered = sorted(parameters, key=lambda p: p.default is not None)  # stable
    extra = _extra(writer, schema, bool(properties), bool(document))
    outputs = AnnotationWriter(spec.output_schema, name, scope, inline=inline)
    returns = "Any" if spec.output_schema is None else outputs.annotation(spec.output_schema, "result")
    return Signature(
        name=name,
        parameters=tuple(ordered),
        keyword_from=None if ordered == parameters else sum(p.default is None for p in ordered),
        extra=extra,
        extra_name=_free_name("arguments", set(names.values())),
        returns=returns,
        declarations=(*writer.declarations, *outputs.declarations),
    )


def argument_schema(writer: AnnotationWriter, schema: object, depth: int = 0) -> Mapping[str, Any]:
    """Find the arguments in a schema that may be a reference, a merge or a choice of objects."""
    found = writer.resolve(schema)
    properties = found.get("properties")
    if isinstance(properties, Mapping) and properties:
        return {**found, "properties": {k: v for k, v in properties.items() if isinstance(k, str)}}
    for key in ("allOf", "anyOf", "oneOf"):
        options = found.get(key)
        if isinstance(options, list) and depth < 4:
            objects = [argument_schema(writer, o, depth + 1) for o in options]
            objects = [o for o in objects if o.get("properties")]
            if objects:
                return _chosen(objects) if key != "allOf" else merged(objects)
    return {k: v for k, v in found.items() if k != "properties"}


def _chosen(objects: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge alternatives: required is only what all of them require, and a parameter may be what any says."""
    result = merged(objects)
    for name in result["properties"]:
        said = [o["properties"][name] for o in objects if name in o["properties"]]
        if any(_differ(other, said[0]) for other in said):
            result["properties"][name] = {"anyOf": said}
    result["required"] = sorted(set.intersection(*(names_in(o.get("required")) for o in objects)))
    return result


def _differ(one: object, other: object) -> bool:
    try:
        return one != other
    except RecursionError:  # nested too deep to compare
        return one is not other


def _parameter(writer: AnnotationWriter, wire: str, schema: Any, name: str, required: bool) -> Parameter:
    found = writer.resolve(schema)
    own = schema if isinstance(schema, Mapping) else {}
    text = own.get("description") or found.get("description") or ""
    default = OMITTED
    if "default" in (holder := own if "default" in own else found):
        default = _default(writer, own, holder["default"])
    return Parameter(
        name=name,
        wire=wire,
        annotation=writer.annotation(schema, wire),
        default=None if required else default,
        text=text if isinstance(text, str) else "",
    )


def _default(writer: AnnotationWriter, schema: Mapping[str, Any], default: object) -> str:
    """Return a default as source, if it is short and the schema itself would take it."""
    if isinstance(default, list | dict) and default:
        return OMITTED
    if not _accepts(writer, schema, default):
        return OMITTED
    return literal(default, 80) or OMITTED


def _accepts(writer: AnnotationWriter, schema: object, value: object, depth: int = 0) -> bool:
    """Tell whether a schema takes a simple value, by type, choice and range; patterns are not looked at."""
    if not isinstance(schema, Mapping) or depth > 8:
        return schema is not False
    if value is None and schema.get("nullable") is True:
        return True
    if References.of(schema) is not None and not _accepts(writer, writer.resolve(schema), value, depth + 1):
        return False
    for key, enough in (("anyOf", any), ("oneOf", any), ("allOf", all)):
        options = schema.get(key)
        if isinstance(options, list) and not enough(_accepts(writer, o, value, depth + 1) for o in options):
            return False
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(choices, list) and not any(type(c) is type(value) and c == value for c in choices):
        return False
    return _has_type(schema.get("type"), value) and _in_range(schema, value)


def _has_type(kind: object, value: object) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    if not isinstance(kind, str | list):
        return True
    found = _json_type(value)
    return found in kinds or (found == "integer" and "number" in kinds)


def _in_range(schema: Mapping[str, Any], value: object) -> bool:
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        return True
    words = ("minLength", "maxLength") if isinstance(value, str) else ("minimum", "maximum")
    size = len(value) if isinstance(value, str) else value
    least, most = (v if isinstance(v := schema.get(w), int | float) else None for w in words)
    return (least is None or size >= least) and (most is None or size <= most)


def _json_type(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    kinds = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return kinds.get(type(value), "null")


def _extra(writer: AnnotationWriter, schema: Mapping[str, Any], named: bool, described: bool) -> str | None:
    """Tell whether arguments without a name in the schema are wanted, and of what type."""
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        return writer.annotation(values, "arguments") if values else "Any"
    if values is True or not (described or named):
        return "Any"
    return None


def _parameter_names(wires: list[str]) -> dict[str, str]:
    """Give every property a parameter name; one that is a fit identifier keeps it, whatever the others are."""
    names = {w: w for w in wires if _fits(w)}
    taken = set(names.values())
    for wire in wires:
        if wire not in names:
            names[wire] = _free_name(identifier(wire, fallback="arg"), taken)
            taken.add(names[wire])
    return names


def _fits(name: str) -> bool:
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and name not in _TAKEN
        and len(name) < 200
        and unicodedata.normalize("NFKC", name) == name  # Python reads names in this form
    )


def _free_name(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate
