"""Options of plugins: which there are and of which type, checked before anything is made of them."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from agentd.errors import ConfigError, suggest

__all__ = ["PluginSpec", "check_options", "objection", "shown", "split_spec"]

PluginSpec = str | tuple[str, Mapping[str, Any]]
"""How a plugin is named wherever a name is taken: `"name"`, or `("name", {options})`."""

_SCALARS: dict[Any, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
    type(None): "nothing",
}


def split_spec(spec: object, *, where: str) -> tuple[str, dict[str, Any]]:
    """Return name and options of a plugin as it was named: `"name"` or `("name", {options})`.

    A list of two, as YAML and JSON have it, is taken like the tuple.

    :param where: the argument or setting, for the error.
    :raises ConfigError: for anything else.
    """
    if isinstance(spec, str):
        return spec, {}
    if isinstance(spec, tuple | list) and len(spec) == 2:
        name, options = spec
        if isinstance(options, Mapping) and all(isinstance(k, str) for k in (name, *options)):
            return name, dict(options)
    raise ConfigError(
        f"{where}: must be a plugin's name or a pair of a name and a mapping of options, got {shown(spec)}"
    )


def check_options(what: str, options: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuse options that a plugin does not have, and values of another type. All faults at once.

    :param what: whose options they are, `the executor 'subprocess'` say; empty for arguments of a function.
    :param known: the type by name: `str`, `int`, `float` (takes whole numbers too), `bool`, `list`, `dict`, a
        `Literal`, a union of those, or `object` for what the plugin checks itself.
    :raises ConfigError: with a line for each fault.
    """
    faults = []
    for name, value in options.items():
        if name not in known:
            there = f"there are: {', '.join(known)}" if known else "it has none"
            faults.append(f"unknown option {name!r} of {what}; {there}{suggest(name, known)}")
        elif wrong := objection(value, known[name]):
            faults.append(f"option {name!r} of {what}: {wrong}" if what else f"{name}: {wrong}")
    if faults:
        raise ConfigError("\n".join(faults))


def objection(value: object, wanted: Any) -> str:
    """Return what a value must be and is not, or an empty string. `wanted` is a type of `check_options`."""
    if _fits(value, wanted):
        return ""
    if wanted is float and isinstance(value, float):
        return f"must be a finite number, got {value!r}"
    choices = [str(word) for member in _members(wanted) if (word := _word(member))]
    hint = ""
    if isinstance(value, str):
        words = [c for member in _members(wanted) for c in get_args(member) if isinstance(c, str)]
        hint = f"; write [{shown(value)}]" if list in _members(wanted) else suggest(value, words)
    return f"must be {' or '.join(choices)}, got {shown(value)}{hint}"


def _fits(value: object, wanted: Any) -> bool:
    if get_origin(wanted) in (Union, types.UnionType):
        return any(_fits(value, member) for member in get_args(wanted))
    if get_origin(wanted) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(wanted))
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if get_origin(wanted) in (dict, list, tuple):
        wanted = list if get_origin(wanted) is tuple else get_origin(wanted)
    if wanted in (bool, int, str, type(None)):
        return type(value) is wanted
    if wanted is list:
        return isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if wanted is dict:
        return isinstance(value, Mapping)
    return isinstance(value, wanted) if isinstance(wanted, type) else True  # what else, the plugin knows


def _members(wanted: Any) -> tuple[Any, ...]:
    return get_args(wanted) if get_origin(wanted) in (Union, types.UnionType) else (wanted,)


def _word(member: Any) -> str:
    if member is type(None):
        return ""
    if get_origin(member) is Literal:
        return " or ".join(map(repr, get_args(member)))
    return _SCALARS.get(member) or f"a {getattr(member, '__name__', 'value')}"


def shown(value: object) -> str:
    """Name a value in an error, in a few words."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, tuple | list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-10:]}"
