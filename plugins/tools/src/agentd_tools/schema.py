"""JSON Schema from Python types, and strict conversion of JSON into them, both by msgspec.

msgspec covers the standard types, dataclasses, attrs, TypedDict, NamedTuple, enums, dates and constraints.
Added here: pydantic models (described and validated by pydantic itself, which is never imported here),
paths, and unions that msgspec cannot tell apart (their members are tried in order).
"""

from __future__ import annotations

import pathlib
import types
import typing
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final, Union, cast

__all__ = [
    "Schema",
    "convert",
    "decode_hook",
    "describe_types",
    "encode_hook",
    "is_pydantic",
    "prepare",
    "pydantic_problems",
    "validate_pydantic",
]

Schema = dict[str, object]

_CONSTRAINTS: Final = (
    "gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length",
)  # fmt: skip
_MAPS_OF_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "dependentSchemas"})
_PLAIN_VALUES: Final = frozenset({"default", "const", "enum", "examples"})


class _AnyInstance(type):
    """msgspec checks what the hook made against the stand-in, which has no instances of its own."""

    def __instancecheck__(cls, instance: object) -> bool:
        return True


class _Choice(metaclass=_AnyInstance):
    """Base of the stand-ins for a union that msgspec refuses; `members` are tried in order."""

    members: tuple[Any, ...] = ()


# --- Python types ------------------------------------------------------------------------------


def prepare(annotation: Any) -> Any:
    """Turn an annotation into one that msgspec takes.

    `Annotated[T, "text"]` becomes a description; constraints of other libraries (objects with `ge`,
    `max_length`, `description` and so on) become msgspec's; unions are replaced where they must be.
    """
    if annotation is object:
        return Any
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        base, *extras = typing.get_args(annotation)
        return _annotated(prepare(base), extras)
    if origin in (Union, types.UnionType):
        return _union(tuple(prepare(a) for a in typing.get_args(annotation)))
    if origin is None or origin is typing.Literal:
        return annotation
    args = tuple(a if a is Ellipsis else prepare(a) for a in typing.get_args(annotation))
    try:
        return origin[args] if args else annotation
    except TypeError:  # a special form that takes no parameters back
        return annotation


def _annotated(base: Any, extras: Sequence[object]) -> Any:
    import msgspec

    for extra in extras:
        if isinstance(extra, msgspec.Meta):
            base = Annotated[base, extra]
        elif isinstance(extra, str):
            base = Annotated[base, msgspec.Meta(description=extra)]
        elif found := _foreign_meta(extra):
            base = Annotated[base, msgspec.Meta(**found)]
    return base


def _foreign_meta(extra: object) -> dict[str, Any]:
    """Read the constraints of annotated-types or of a pydantic Field without importing either."""
    found = {}
    for source in (extra, *(getattr(extra, "metadata", None) or ())):
        for name in (*_CONSTRAINTS, "description"):
            value = getattr(source, name, None)
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                found[name] = value
    return found


def _union(members: tuple[Any, ...]) -> Any:
    import msgspec

    union: Any = Union.__getitem__(members)  # written out, because the members are only known at run time
    try:
        msgspec.json.Decoder(union)
    except TypeError:
        rest = tuple(m for m in members if m is not type(None))
        if len(rest) < 2:
            return union  # not the union is the trouble; its member will say so
        choice = _AnyInstance("Choice", (_Choice,), {"members": rest})
        return choice if len(rest) == len(members) else Union.__getitem__((choice, None))
    return union


def is_pydantic(type_: object) -> bool:
    """Tell whether a type is a pydantic model."""
    return (
        isinstance(type_, type)
        and callable(getattr(type_, "model_json_schema", None))
        and callable(getattr(type_, "model_validate_json", None))
    )


# --- JSON Schema -------------------------------------------------------------------------------


def describe_types(
    annotations: Sequence[Any], others: Mapping[type, Schema] | None = None
) -> tuple[list[Schema], Schema]:
    """Return a schema for each (prepared) annotation, and the definitions that they refer to.

    :param others: the schemas of types that msgspec does not know.
    :raises TypeError: if one has no JSON form; the message names the type.
    """
    import msgspec

    hook = partial(_schema_hook, others or {})
    schemas, components = msgspec.json.schema_components(annotations, schema_hook=hook)
    definitions: Schema = dict(components)
    for name in list(definitions):
        definitions[name] = _hoist(definitions[name], definitions)
    return [cast(Schema, _hoist(s, definitions)) for s in schemas], definitions


def _schema_hook(others: Mapping[type, Schema], type_: Any) -> Schema:
    import msgspec

    if type_ in others:
        return dict(others[type_])
    if isinstance(type_, type) and issubclass(type_, _Choice):
        hook = partial(_schema_hook, others)
        return {"anyOf": [msgspec.json.schema(m, schema_hook=hook) for m in type_.members]}
    if is_pydantic(type_):
        return cast(Schema, type_.model_json_schema())
    if isinstance(type_, type) and issubclass(type_, pathlib.PurePath):
        return {"type": "string", "format": "path"}
    raise TypeError(f"{_type_name(type_)} has no JSON form")


def _hoist(node: Any, definitions: Schema) -> Any:
    """Return a copy of a schema whose inner `$defs` have moved to `definitions`, references adapted."""
    if isinstance(node, list):
        return [_hoist(n, definitions) for n in node]
    if not isinstance(node, dict):
        return node
    inner = node.get("$defs")
    if isinstance(inner, dict):
        node = {k: v for k, v in node.items() if k != "$defs"}
        renames = {name: _free(name, body, definitions) for name, body in inner.items()}
        references = {f"#/$defs/{old}": f"#/$defs/{new}" for old, new in renames.items()}
        for name in inner:
            definitions.setdefault(renames[name], {})  # holds the name while its body is worked on
        for name, body in inner.items():
            definitions[renames[name]] = _hoist(_redirect(body, references), definitions)
        node = _redirect(node, references)
    return {k: _hoist_member(k, v, definitions) for k, v in node.items()}


def _hoist_member(key: str, value: Any, definitions: Schema) -> Any:
    if key in _PLAIN_VALUES:
        return value
    if key in _MAPS_OF_SCHEMAS and isinstance(value, dict):
        return {k: _hoist(v, definitions) for k, v in value.items()}
    return _hoist(value, definitions)


def _free(name: str, body: object, definitions: Schema) -> str:
    """Return `name`, or with a number behind it if another definition has that name already."""
    candidate, number = name, 1
    while candidate in definitions and definitions[candidate] != body:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def _redirect(node: Any, references: Mapping[str, str]) -> Any:
    if isinstance(node, list):
        return [_redirect(n, references) for n in node]
    if not isinstance(node, dict):
        return node
    return {
        k: references.get(v, v) if k == "$ref" and isinstance(v, str) else _redirect(v, references)
        for k, v in node.items()
    }


# --- values ------------------------------------------------------------------------------------


def convert(value: object, type_: Any) -> Any:
    """Convert decoded JSON into a (prepared) type without coercion; raises `msgspec.ValidationError`."""
    import msgspec

    return msgspec.convert(value, type_, strict=True, dec_hook=decode_hook)


def decode_hook(type_: Any, value: Any) -> Any:
    """Make a value of a type that msgspec does not know. For msgspec's `dec_hook`."""
    import msgspec

    if issubclass(type_, _Choice):
        return _first_that_fits(type_.members, value)
    if isinstance(value, type_):
        return value
    if is_pydantic(type_):
        return validate_pydantic(type_, msgspec.json.encode(value), strict=True)
    if issubclass(type_, pathlib.PurePath):
        if not isinstance(value, str):
            raise ValueError(f"expected str, got {type(value).__name__}")
        return type_(value)
    raise ValueError(f"{_type_name(type_)} cannot be made from JSON")


def _first_that_fits(members: tuple[Any, ...], value: object) -> object:
    import msgspec

    reasons = []
    for member in members:
        try:
            return convert(value, member)
        except msgspec.ValidationError as error:
            reasons.append(f"{_type_name(member)}: {error}")
    raise ValueError(f"fits none of the types ({'; '.join(reasons)})")


def validate_pydantic(type_: Any, data: bytes, *, strict: bool = False) -> object:
    """Make a pydantic model of JSON. Raises `ValueError`."""
    try:
        return type_.model_validate_json(data, strict=strict or None)
    except ValueError as error:
        raise ValueError(pydantic_problems(error, type_.__name__)) from None


def pydantic_problems(error: Any, whole: str) -> str:
    """Return what a `ValidationError` of pydantic says in one line; `whole` is the name of the value itself."""
    problems = getattr(error, "errors", None)
    if not callable(problems):  # of a validator's own
        return str(error)
    return "; ".join(f"{'.'.join(map(str, p['loc'])) or whole}: {p['msg']}" for p in problems())


def encode_hook(value: Any) -> Any:
    """Turn a value that msgspec does not know into one that it does. For msgspec's `enc_hook`."""
    base: Any
    for base in (str, int, float, list, tuple, dict):
        if type(value) is base:  # msgspec takes these, so something about this one is wrong
            raise TypeError(
                f"{base.__name__} with other keys than str or numbers" if base is dict else base.__name__
            )
        if isinstance(value, base):  # a subclass: msgspec wants the type itself
            return base(value)
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump(mode="json")
    if isinstance(value, pathlib.PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):  # a deque has no Sequence base; a range has
        return list(value)
    if callable(getattr(value, "tolist", None)):  # numpy's scalars and arrays
        return value.tolist()
    raise TypeError(_type_name(type(value)))


def _type_name(type_: object) -> str:
    module = getattr(type_, "__module__", "")
    name = getattr(type_, "__qualname__", None) or str(type_)
    return name if module in ("builtins", "") else f"{module}.{name}"
