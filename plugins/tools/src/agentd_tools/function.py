"""A Python function as a tool: its description, and the conversion of a call's arguments."""

from __future__ import annotations

import functools
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Final, Literal, Optional

import attrs
from agentd.errors import ConfigError, ToolInputError, suggest
from agentd.types import ToolSpec

from agentd_tools.decorator import ToolOptions, options_of, own_name, parameters_of, plain_function, tool_name
from agentd_tools.docstrings import read_docstring
from agentd_tools.results import load_object
from agentd_tools.schema import Schema, convert, decode_hook, describe_types, encode_hook, prepare

__all__ = ["FunctionTool", "Kind", "describe_function", "described"]

Kind = Literal["sync", "async", "generator", "async_generator"]

_YIELDING: Final = frozenset(
    {"Iterator", "Iterable", "Generator", "AsyncIterator", "AsyncIterable", "AsyncGenerator"}
)
_DESCRIBED: Final = "__agentd_described__"
_ABSENT: Final = inspect.Parameter.empty


@attrs.frozen(kw_only=True)
class _Parameter:
    name: str
    type: Any
    required: bool
    positional_only: bool
    default: Any


@attrs.frozen(kw_only=True)
class FunctionTool:
    """A function, what it is called for the model, and how a call's JSON becomes its arguments."""

    spec: ToolSpec
    function: Callable[..., Any]
    kind: Kind
    parameters: tuple[_Parameter, ...]
    options: ToolOptions
    extra_type: Any = _ABSENT
    decode: Callable[[bytes], dict[str, Any]] | None = None
    """Reads all arguments at once, if they are right; None where more than the parameters may come."""
    positional: tuple[_Parameter, ...] = attrs.field(init=False)

    @positional.default
    def _(self) -> tuple[_Parameter, ...]:
        return tuple(p for p in self.parameters if p.positional_only)

    def arguments(self, data: bytes, name: str = "") -> tuple[Sequence[Any], dict[str, Any]]:
        """Return positional and keyword arguments from a JSON object. `name` is the tool's for messages.

        :raises ToolInputError: naming every argument that is missing, unknown or of a wrong type.
        """
        try:
            named = self._explain(data, name) if self.decode is None else self.decode(data)
        except (ValueError, RecursionError):  # msgspec's are ValueErrors
            named = self._explain(data, name)
        return [named.pop(p.name, p.default) for p in self.positional] if self.positional else (), named

    def _explain(self, data: bytes, name: str) -> dict[str, Any]:
        """Convert argument by argument: slower, and precise about what is wrong."""
        name = name or self.spec.name
        given = load_object(name, data)
        known = {p.name: p for p in self.parameters}
        problems = [f"argument {n!r} is missing" for n, p in known.items() if p.required and n not in given]
        converted: dict[str, Any] = {}
        for key, value in given.items():
            type_ = known[key].type if key in known else self.extra_type
            if type_ is _ABSENT:
                problems.append(f"unknown argument {key!r}{suggest(key, known)}")
                continue
            try:
                converted[key] = convert(value, type_)
            except (ValueError, TypeError, RecursionError) as error:  # msgspec's are ValueErrors
                problems.append(_problem(key, str(error)))
        if problems:
            raise ToolInputError(f"{name}(): {'; '.join(problems)}")
        return converted


def describe_function(function: Callable[..., Any], *, source: str = "local") -> FunctionTool:
    """Describe a function as a tool.

    :raises ConfigError: naming function and parameter, if a parameter cannot come from JSON.
    """
    if inspect.isclass(function) or not callable(function):
        raise ConfigError(f"a tool must be a function, a method or a callable object, got {function!r}")
    options = options_of(function)
    plain = plain_function(function)
    name = options.name or own_name(function, plain)
    called = tool_name(function, name)
    signature = _signature(function, called)
    documentation = read_docstring(inspect.getdoc(plain), list(signature.parameters))
    resolve = functools.partial(_resolve, plain=plain, options=options)

    parameters, extra = [], _ABSENT
    for parameter in signature.parameters.values():
        type_ = _parameter_type(called, parameter, resolve)
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            extra = type_
        else:
            parameters.append(_parameter(parameter, type_))

    kind = _kind_of(plain)
    schema = _input_schema(name, parameters, extra, documentation.parameters)
    spec = ToolSpec(
        name=name,
        description=documentation.description if options.description is None else options.description,
        input_schema=schema,
        output_schema=_output_schema(signature.return_annotation, kind, resolve),
        source=source,
        timeout_s=options.timeout_s,
        annotations=dict(options.annotations),
    )
    return FunctionTool(
        spec=spec,
        function=function,
        kind=kind,
        parameters=tuple(parameters),
        options=options,
        extra_type=extra,
        decode=_decoder(parameters) if extra is _ABSENT else None,
    )


def described(function: Callable[..., Any]) -> FunctionTool:
    """Like `describe_function`, remembered on plain functions: sessions come often, functions stay."""
    known = function.__dict__.get(_DESCRIBED) if inspect.isfunction(function) else None
    if (
        isinstance(known, FunctionTool)
        and known.function is function
        and known.options is options_of(function)
    ):
        return known
    found = describe_function(function)
    if inspect.isfunction(function):
        function.__dict__[_DESCRIBED] = found
    return found


# --- what kind of function it is -----------------------------------------------------------------


def _signature(function: Callable[..., Any], called: str) -> inspect.Signature:
    signature, problems = parameters_of(function)
    if problems:
        raise ConfigError("\n".join(f"{called}: {problem}" for problem in problems))
    return signature


def _kind_of(plain: Any) -> Kind:
    if inspect.isasyncgenfunction(plain):
        return "async_generator"
    if inspect.iscoroutinefunction(plain):
        return "async"
    return "generator" if inspect.isgeneratorfunction(plain) else "sync"


# --- types -------------------------------------------------------------------------------------


def _resolve(annotation: Any, *, plain: Any, options: ToolOptions) -> Any:
    """Turn an annotation, perhaps a string, into the type that it means where the function was written."""
    closure = getattr(plain, "__closure__", None) or ()
    names = getattr(getattr(plain, "__code__", None), "co_freevars", ())
    local: dict[str, Any] = dict(options.local_names)
    for name, cell in zip(names, closure, strict=False):
        try:
            local[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    holder = SimpleNamespace(__annotations__={"it": annotation})
    space = getattr(plain, "__globals__", {})
    return typing.get_type_hints(holder, space, local, include_extras=True)["it"]


def _parameter_type(called: str, parameter: inspect.Parameter, resolve: Callable[[Any], Any]) -> Any:
    if parameter.annotation is _ABSENT:
        return Any
    try:
        type_ = prepare(resolve(parameter.annotation))
        if parameter.default is None:  # `n: int = None` means an optional n
            type_ = prepare(Optional[type_])  # noqa: UP045  (only known at run time)
        describe_types([type_])
        _decoder_for(type_)
    except (TypeError, ValueError, NameError, AttributeError, SyntaxError, RecursionError) as error:
        text = parameter.annotation
        shown = text if isinstance(text, str) else inspect.formatannotation(text)
        raise ConfigError(
            f"{called}: parameter {parameter.name!r}: the type {shown} cannot come from JSON ({error}); "
            "use standard types, dataclasses, TypedDict, enums, attrs or pydantic models"
        ) from error
    return type_


def _parameter(parameter: inspect.Parameter, type_: Any) -> _Parameter:
    return _Parameter(
        name=parameter.name,
        type=type_,
        required=parameter.default is _ABSENT,
        positional_only=parameter.kind is inspect.Parameter.POSITIONAL_ONLY,
        default=parameter.default,
    )


def _decoder_for(type_: Any) -> Any:
    import msgspec

    return msgspec.json.Decoder(type_, strict=True, dec_hook=decode_hook)


def _decoder(parameters: list[_Parameter]) -> Callable[[bytes], dict[str, Any]]:
    """Make one decoder for the whole argument object: the fast path of a call."""
    import msgspec

    order, unset = [p.name for p in parameters], msgspec.UNSET
    # Names of our own, where one may be that of a method of Struct.
    plain = not any(name.startswith("_") or hasattr(msgspec.Struct, name) for name in order)
    names = {name if plain else f"p{index}": name for index, name in enumerate(order)}
    fields: list[Any] = [
        (field, parameter.type, *(() if parameter.required else (unset,)))
        for field, parameter in zip(names, parameters, strict=True)
    ]
    struct = msgspec.defstruct("Arguments", fields, rename=names, forbid_unknown_fields=True, kw_only=True)
    decode, tuple_of = _decoder_for(struct).decode, msgspec.structs.astuple

    def named(values: Any) -> dict[str, Any]:
        return dict(zip(order, tuple_of(values), strict=True))

    given: Callable[[Any], dict[str, Any]] = msgspec.structs.asdict if plain else named

    def required(data: bytes) -> dict[str, Any]:
        return given(decode(data))

    def some(data: bytes) -> dict[str, Any]:
        return {name: value for name, value in given(decode(data)).items() if value is not unset}

    return required if all(p.required for p in parameters) else some


# --- schemas -----------------------------------------------------------------------------------


def _input_schema(name: str, parameters: list[_Parameter], extra: Any, texts: Mapping[str, str]) -> Schema:
    types = [p.type for p in parameters] + ([] if extra is _ABSENT else [extra])
    schemas, definitions = describe_types(types)
    properties: Schema = {}
    for parameter, schema in zip(parameters, schemas, strict=False):
        if parameter.name in texts:
            schema["description"] = texts[parameter.name]
        if not parameter.required:
            schema.update(_default(parameter))
        properties[parameter.name] = schema
    result: Schema = {"type": "object", "properties": properties}
    if required := [p.name for p in parameters if p.required]:
        result["required"] = required
    result["additionalProperties"] = False if extra is _ABSENT else schemas[-1]
    if definitions:
        result["$defs"] = definitions
    return result


def _default(parameter: _Parameter) -> Schema:
    """Return the default for the schema, if sending its JSON means the same as leaving the argument out."""
    import msgspec

    try:
        plain = msgspec.to_builtins(parameter.default, enc_hook=encode_hook, str_keys=True)
        json.dumps(plain, allow_nan=False)
        back = convert(plain, parameter.type)
        same = type(back) is type(parameter.default) and bool(back == parameter.default)
    except (TypeError, ValueError, RecursionError):
        return {}
    return {"default": plain} if same else {}


def _output_schema(annotation: Any, kind: Kind, resolve: Callable[[Any], Any]) -> Schema | None:
    """Return the schema of the result, or None where the annotation says nothing that JSON knows."""
    if annotation is _ABSENT:
        return None
    try:
        type_ = resolve(annotation)
        if kind.endswith("generator"):
            type_ = _collected(type_)
        (schema,), definitions = describe_types([prepare(type_)])
    except Exception:  # any type may stand there; the result itself is checked when it comes
        return None
    found: Schema = _without_bytes({**schema, "$defs": definitions} if definitions else schema)
    return found or None


def _without_bytes(schema: Any) -> Any:
    """Return a schema of results with anything in place of bytes: they arrive as bytes, for which JSON has no type."""
    if isinstance(schema, list):
        return [_without_bytes(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("contentEncoding") == "base64":
        return {}
    return {key: _without_bytes(item) for key, item in schema.items()}


def _collected(type_: Any) -> Any:
    """Return `list[T]` for an iterator over T: what a generator yields arrives as a list."""
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if getattr(origin, "__name__", "") in _YIELDING and args:
        return list[args[0]]  # type: ignore[valid-type]
    return list[Any]


# --- arguments ---------------------------------------------------------------------------------


def _problem(name: str, text: str) -> str:
    """`Expected `int`, got `str` - at `$.x`` of msgspec in our words: `argument 'n.x': expected int, ...`."""
    text, _, path = text.partition(" - at `$")
    text = text.replace("`", "")
    return f"argument {name + path.rstrip('`')!r}: {text[:1].lower()}{text[1:]}"
