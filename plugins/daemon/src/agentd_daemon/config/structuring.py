"""Strict reading of plain data into attrs classes: no coercion, no unknown key, all errors at once."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import attrs
from agentd.errors import ConfigError, suggest

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = [
    "Bounds",
    "DataPath",
    "Fault",
    "UnfitError",
    "dotted",
    "find_faults",
    "make_converter",
    "one_of",
    "shown",
    "structure",
]

T = TypeVar("T")

DataPath = tuple[str | int, ...]
"""Where a value is: the keys and indices that lead to it."""


@attrs.frozen(kw_only=True)
class Bounds:
    """What a value must keep beside its type: `Annotated[float, Bounds(gt=0)]`.

    :ivar gt: numbers are above this.
    :ivar ge: numbers are this or above.
    :ivar le: numbers are this or below.
    :ivar min_length: characters, at least.
    :ivar max_length: characters, at most.
    :ivar pattern: a regular expression that is found in the text; `$` is the very end.
    :ivar words: what `pattern` asks for, for people: `must be WORDS`.
    """

    gt: float | None = None
    ge: float | None = None
    le: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: str | None = None
    words: str = ""

    def objection(self, value: Any) -> str:
        """Return what a value must be and is not, or an empty string."""
        if isinstance(value, str):
            return self._objection_to_text(value)
        if self.gt is not None and not value > self.gt:
            return f"must be above {self.gt:g}"
        if self.ge is not None and not value >= self.ge:
            return f"must be at least {self.ge:g}"
        if self.le is not None and not value <= self.le:
            return f"must be at most {self.le:g}"
        return ""

    def _objection_to_text(self, text: str) -> str:
        if self.min_length is not None and len(text) < self.min_length:
            return "must not be empty" if self.min_length == 1 else f"must have {self.min_length} characters"
        if self.max_length is not None and len(text) > self.max_length:
            return f"must have at most {self.max_length} characters"
        # `$` of Python also stands before a line break at the end; that of JSON Schema does not
        if self.pattern is not None and not re.search(re.sub(r"\$$", r"\\Z", self.pattern), text):
            return f"must be {self.words}" if self.words else f"must match {self.pattern}"
        return ""


class UnfitError(ValueError):
    """A value is not what it must be.

    Parameters: `must` says what it must be; `value` is what was got; `hint` follows it in the message.
    """

    def __init__(self, must: str, value: object, hint: str = "") -> None:
        self.must = must
        self.value = value
        self.hint = hint
        super().__init__(f"{must}, got {shown(value)}{hint}")


@attrs.frozen(kw_only=True)
class Fault:
    """One thing that is wrong with a piece of data, and where.

    :ivar path: the value's place. For a key that is unknown, the key's; for one that is missing, its own.
    :ivar message: what is wrong, with the value that was got.
    :ivar discreet: the same without the value, for places where secrets are.
    :ivar kind: `unknown` key, `missing` key, or the `value`.
    :ivar meant: the place of the key that an unknown one is probably meant to be; else empty.
    """

    path: DataPath
    message: str
    discreet: str
    kind: Literal["unknown", "missing", "value"] = "value"
    meant: DataPath = ()


def dotted(path: DataPath) -> str:
    """Return a path for people: `agents[0].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def shown(value: object) -> str:
    """Return a value for an error message: short, and never what is inside of a list or mapping."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-10:]}"


def structure(data: object, cls: type[T], *, where: str = "") -> T:
    """Turn plain data (what YAML or JSON gave) into `cls`, an attrs class.

    `where` is put before each path in the errors, a file's name say.

    Raises `ConfigError` with one line for every error, each with its path: `plugins.allow[1]: must be
    a string, got 7`.
    """
    value, faults = find_faults(data, cls)
    if value is None:
        parts = ((where, dotted(fault.path), fault.message) for fault in faults)
        raise ConfigError("\n".join(": ".join(filter(None, three)) for three in parts))
    return value


def find_faults(
    data: object, cls: type[T], converter: Converter | None = None
) -> tuple[T | None, tuple[Fault, ...]]:
    """Return what `data` becomes, or None and everything that is wrong with it.

    :param converter: one of `make_converter()`, with more hooks perhaps.
    """
    from cattrs.errors import BaseValidationError

    try:
        return (converter or make_converter()).structure(data, cls), ()
    except (BaseValidationError, ValueError) as error:
        return None, tuple(_faults(error, ()))


def make_converter() -> Converter:
    """Return a new cattrs converter without coercion (`7` is no string), with detailed errors.

    Sequences in the attrs classes are annotated as `tuple[X, ...]`, or `tuple[X, Y]` for those of a fixed length,
    mappings as `dict[str, X]`. A union is told apart by what YAML and JSON have: a text, a list, a mapping. `Bounds`
    in an `Annotated` hold.
    """
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for scalar, words in ((str, "a string"), (int, "a whole number"), (bool, "true or false")):
        converter.register_structure_hook(scalar, _exactly(scalar, words))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _from_mapping(cls, converter))
    converter.register_structure_hook_factory(_is(tuple), lambda cls: _from_list(cls, converter))
    converter.register_structure_hook_factory(_is(dict), lambda cls: _from_dict(cls, converter))
    converter.register_structure_hook_factory(_is(Literal), lambda cls: one_of(get_args(cls)))
    converter.register_structure_hook_factory(_is_choice, lambda cls: _from_choice(cls, converter))
    converter.register_structure_hook_factory(_is(Annotated), lambda cls: _bounded(cls, converter))
    return converter


def _is(wanted: object) -> Callable[[Any], bool]:
    return lambda target: get_origin(target) is wanted


def _members(target: Any) -> tuple[Any, ...]:
    return tuple(member for member in get_args(target) if member is not type(None))


def _is_choice(target: Any) -> bool:
    return get_origin(target) in (Union, types.UnionType) and len(_members(target)) > 1


def _from_mapping(cls: type, converter: Converter) -> Any:
    from cattrs.gen import make_dict_structure_fn

    from_dict: Any = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )

    def hook(value: object, target: object) -> object:
        if not isinstance(value, Mapping):
            raise UnfitError("must be a mapping", value)
        return from_dict(value, target)

    return hook


def _from_list(cls: Any, converter: Converter) -> Any:
    item, *others = get_args(cls)
    if others != [Ellipsis]:
        return _from_fixed_list((item, *others), converter)

    def hook(value: object, _: object) -> object:
        if not isinstance(value, (list, tuple)):  # a string is a sequence too: "-y" is not ("-", "y")
            raise UnfitError("must be a list", value)
        return tuple(made for _, made in _each(enumerate(value), item, converter))

    return hook


def _from_fixed_list(items: tuple[Any, ...], converter: Converter) -> Any:
    from cattrs.errors import IterableValidationError, IterableValidationNote

    def hook(value: object, _: object) -> object:
        if not isinstance(value, (list, tuple)) or len(value) != len(items):
            count = f" of {len(value)}" if isinstance(value, (list, tuple)) else ""
            raise UnfitError(f"must be a list of {len(items)}", value, count)
        made: list[object] = []
        errors: list[Exception] = []
        for index, (element, item) in enumerate(zip(value, items, strict=True)):
            try:
                made.append(converter.structure(element, item))
            except Exception as error:
                error.add_note(IterableValidationNote("", index, item))
                errors.append(error)
        if errors:
            raise IterableValidationError("", errors, tuple)
        return tuple(made)

    return hook


def _from_dict(cls: Any, converter: Converter) -> Any:
    item = get_args(cls)[1]

    def hook(value: object, _: object) -> object:
        if not isinstance(value, Mapping):
            raise UnfitError("must be a mapping", value)
        return dict(_each(value.items(), item, converter))

    return hook


def _each(items: Iterable[tuple[Any, object]], item: Any, converter: Converter) -> list[tuple[Any, object]]:
    from cattrs.errors import IterableValidationError, IterableValidationNote

    made: list[tuple[Any, object]] = []
    errors: list[Exception] = []
    for index, element in items:
        try:
            made.append((index, converter.structure(element, item)))
        except Exception as error:
            error.add_note(IterableValidationNote("", index, item))
            errors.append(error)
    if errors:
        raise IterableValidationError("", errors, item)
    return made


def one_of(allowed: tuple[Any, ...]) -> Any:
    """Return a hook that takes these values alone."""
    words = f"must be {', '.join(map(repr, allowed[:-1]))} or {allowed[-1]!r}"

    def hook(value: object, _: object) -> object:
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            raise UnfitError(words, value, suggest(value, allowed) if isinstance(value, str) else "")
        return value

    return hook


def _from_choice(cls: Any, converter: Converter) -> Any:
    members = {_form(member): member for member in _members(cls)}
    words = f"must be {' or '.join(members)}"

    def hook(value: object, _: object) -> object:
        if value is None and type(None) in get_args(cls):
            return None
        form = (
            "a mapping" if isinstance(value, Mapping) else "a list" if isinstance(value, list) else "a string"
        )
        if form not in members:
            raise UnfitError(words, value)
        return converter.structure(value, members[form])

    return hook


def _form(member: Any) -> str:
    """What a member of a union looks like in YAML."""
    origin = get_origin(member)
    if origin is Annotated:
        return _form(get_args(member)[0])
    return "a mapping" if attrs.has(member) or origin is dict else "a list" if origin is tuple else "a string"


def _bounded(cls: Any, converter: Converter) -> Any:
    base, *extras = get_args(cls)
    bounds = [extra for extra in extras if isinstance(extra, Bounds)]

    def hook(value: object, _: object) -> object:
        made = converter.structure(value, base)
        for bound in bounds:
            if objection := bound.objection(made):
                raise UnfitError(objection, value)
        return made

    return hook


def _exactly(scalar: type, words: str) -> Any:
    def hook(value: object, _: object) -> object:
        if type(value) is not scalar:
            raise UnfitError(f"must be {words}", value)
        return value

    return hook


def _number(value: object, _: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise UnfitError("must be a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UnfitError("must be a finite number", value)
    return number


def _faults(error: BaseException, path: DataPath) -> Iterator[Fault]:
    from cattrs.errors import (
        ClassValidationError,
        ForbiddenExtraKeysError,
        IterableValidationError,
    )

    if isinstance(error, ClassValidationError):
        noted, plain = error.group_exceptions()
        for inner, note in noted:
            yield from _faults(inner, (*path, note.name))
        for other in plain:
            yield from _faults(other, path)
    elif isinstance(error, IterableValidationError):
        items, plain = error.group_exceptions()
        for inner, index in items:
            yield from _faults(inner, (*path, index.index))
        for other in plain:
            yield from _faults(other, path)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.alias for attribute in attrs.fields(error.cl)]
        for key in sorted(map(str, error.extra_fields)):
            hint = suggest(key, known)
            text = f"unknown key; allowed: {', '.join(known)}{hint}"
            meant = next(((*path, name) for name in known if repr(name) in hint), ())
            yield Fault(path=(*path, key), message=text, discreet=text, kind="unknown", meant=meant)
    elif isinstance(error, KeyError):
        yield Fault(path=path, message="is missing", discreet="is missing", kind="missing")
    elif isinstance(error, UnfitError):
        yield Fault(path=path, message=str(error), discreet=f"{error.must}, got {_kind_of(error.value)}")
    else:
        yield Fault(path=path, message=str(error), discreet=str(error))


def _kind_of(value: object) -> str:
    words = {str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return words.get(type(value)) or (shown(value) if not isinstance(value, str) else "a text")
