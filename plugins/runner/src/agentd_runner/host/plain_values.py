"""Plain data, from a file or the command line, as an attrs class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, get_type_hints

import attrs
from agentd.errors import ConfigError, suggest
from agentd.registry.options import objection, shown

__all__ = ["read_values"]

T = TypeVar("T")


def read_values(data: object, cls: type[T], *, where: str) -> T:
    """Turn a mapping of plain data into `cls`, an attrs class.

    Its fields have the types that `agentd.registry.options.check_options` knows.

    :raises ConfigError: with a line for each fault: `limits.memory_mib: must be a whole number, got '1'`.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: must be a mapping, got {shown(data)}")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in attrs.fields(cls)}  # type: ignore[arg-type]
    faults = []
    for name, value in data.items():
        if name not in fields:
            faults.append(f"{name}: unknown key; allowed: {', '.join(fields)}{suggest(str(name), fields)}")
        elif wrong := objection(value, hints[name]):
            faults.append(f"{name}: {wrong}")
    faults += [
        f"{name}: is missing"
        for name, field in fields.items()
        if field.default is attrs.NOTHING and name not in data
    ]
    if faults:
        raise ConfigError("\n".join(f"{where}: {fault}" for fault in faults))
    return cls(**data)
