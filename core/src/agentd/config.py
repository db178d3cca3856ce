"""Settings as values, and the strict reading of them: no coercion, no unknown key, all errors at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args, get_origin

import attrs

from agentd.errors import ConfigError, suggest

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["ALLOW_VARIABLE", "BLOCK_VARIABLE", "PluginConfig", "make_converter", "normalize", "structure"]

ALLOW_VARIABLE: Final = "AGENTD_PLUGINS_ALLOW"
BLOCK_VARIABLE: Final = "AGENTD_PLUGINS_BLOCK"

T = TypeVar("T")


def normalize(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares them: `Agentd_Foo` is `agentd-foo`."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@attrs.frozen(kw_only=True)
class PluginConfig:
    """Which installed plugins may be loaded.

    An entry is a plugin's name (`srt`), a kind and a name (`executor:srt`) or a distribution
    (`agentd-executor-srt`), each also with the wildcards of `fnmatch` (`agentd-*`). `allow=None` allows
    every plugin, an empty `allow` none. `block` wins over `allow`. What belongs to core itself
    (`agentd-core`) needs no allowing, but can be blocked.
    """

    allow: tuple[str, ...] | None = None
    block: tuple[str, ...] = ()

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> PluginConfig:
        """Read `AGENTD_PLUGINS_ALLOW` and `AGENTD_PLUGINS_BLOCK` (separated by commas; empty means unset)."""
        return cls(
            allow=_split(environ.get(ALLOW_VARIABLE, "")) or None,
            block=_split(environ.get(BLOCK_VARIABLE, "")),
        )

    def objection(self, kind: str, name: str, distribution: str, *, where: str = "the configuration") -> str:
        """Return why this plugin may not be loaded, or an empty string if it may."""
        for entry in self.block:
            if _matches(entry, kind, name, distribution):
                return f"the block list of {where} has {entry!r}"
        if self.allow is None or normalize(distribution) == "agentd-core":
            return ""
        if any(_matches(entry, kind, name, distribution) for entry in self.allow):
            return ""
        return f"the allow list of {where} has neither {name!r} nor {distribution!r}"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _matches(entry: str, kind: str, name: str, distribution: str) -> bool:
    return (
        fnmatchcase(name, entry)
        or fnmatchcase(f"{kind}:{name}", entry)
        or fnmatchcase(normalize(distribution), normalize(entry))
    )


# --- strict reading ----------------------------------------------------------------------------


def structure(data: object, cls: type[T], *, where: str = "") -> T:
    """Turn plain data (what YAML or JSON gave) into `cls`, an attrs class.

    `where` is put before each path in the errors, a file's name say.

    Raises `ConfigError` with one line for every error, each with its path: `plugins.allow[1]: must be
    a string, got 7`.
    """
    from cattrs.errors import BaseValidationError

    try:
        return make_converter().structure(data, cls)
    except (BaseValidationError, ValueError) as error:
        raise ConfigError("\n".join(_lines(error, "", where))) from error


def make_converter() -> Converter:
    """Return a new cattrs converter without coercion (`7` is no string), with detailed errors.

    Sequences in the attrs classes are annotated as `tuple[X, ...]`.
    """
    from cattrs import Converter

    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    for scalar, words in ((str, "a string"), (int, "a whole number"), (bool, "true or false")):
        converter.register_structure_hook(scalar, _exactly(scalar, words))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_factory(attrs.has, lambda cls: _from_mapping(cls, converter))
    converter.register_structure_hook_factory(_is_tuple, lambda cls: _from_list(cls, converter))
    return converter


def _is_tuple(target: Any) -> bool:
    origin: object = get_origin(target)
    return origin is tuple


def _from_mapping(cls: type, converter: Converter) -> Any:
    from cattrs.gen import make_dict_structure_fn

    from_dict: Any = make_dict_structure_fn(
        cls, converter, _cattrs_forbid_extra_keys=True, _cattrs_detailed_validation=True
    )

    def hook(value: object, target: object) -> object:
        if not isinstance(value, Mapping):
            raise ValueError(f"must be a mapping, got {value!r}")
        return from_dict(value, target)

    return hook


def _from_list(cls: Any, converter: Converter) -> Any:
    from cattrs.errors import IterableValidationError, IterableValidationNote

    item = get_args(cls)[0]

    def hook(value: object, _: object) -> object:
        if not isinstance(value, (list, tuple)):  # a string is a sequence too: "-y" is not ("-", "y")
            raise ValueError(f"must be a list, got {value!r}")
        items: list[object] = []
        errors: list[Exception] = []
        for index, element in enumerate(value):
            try:
                items.append(converter.structure(element, item))
            except Exception as error:
                error.add_note(IterableValidationNote("", index, item))
                errors.append(error)
        if errors:
            raise IterableValidationError("", errors, cls)
        return tuple(items)

    return hook


def _exactly(scalar: type, words: str) -> Any:
    def hook(value: object, _: object) -> object:
        if type(value) is not scalar:
            raise ValueError(f"must be {words}, got {value!r}")
        return value

    return hook


def _number(value: object, _: object) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"must be a number, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def _prefix(where: str, path: str) -> str:
    return "".join(f"{part}: " for part in (where, path) if part)


def _lines(error: BaseException, path: str, where: str) -> Iterable[str]:
    from cattrs.errors import (
        ClassValidationError,
        ForbiddenExtraKeysError,
        IterableValidationError,
    )

    if isinstance(error, ClassValidationError):
        noted, plain = error.group_exceptions()
        for inner, note in noted:
            yield from _lines(inner, f"{path}.{note.name}" if path else note.name, where)
        for other in plain:
            yield from _lines(other, path, where)
    elif isinstance(error, IterableValidationError):
        items, plain = error.group_exceptions()
        for inner, index in items:
            yield from _lines(inner, f"{path}[{index.index}]", where)
        for other in plain:
            yield from _lines(other, path, where)
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [attribute.alias for attribute in attrs.fields(error.cl)]
        for key in sorted(map(str, error.extra_fields)):
            full = f"{path}.{key}" if path else key
            yield f"{_prefix(where, full)}unknown key; allowed: {', '.join(known)}{suggest(key, known)}"
    elif isinstance(error, KeyError):
        yield f"{_prefix(where, path)}is missing"
    else:
        yield f"{_prefix(where, path)}{error}"
