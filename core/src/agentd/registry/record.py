"""What is known of one plugin, and which of several that share a name is the one in use."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import attrs

from agentd.hookspecs import GROUPS
from agentd.registry.config import PluginConfig
from agentd.registry.official import normalize, official_distribution
from agentd.registry.scan import Found

__all__ = ["PluginRecord", "PluginState", "make_records"]

PluginState = Literal["available", "loaded", "blocked", "failed", "incompatible"]

_KINDS = {group: kind for kind, group in GROUPS.items()}


@attrs.frozen(kw_only=True)
class PluginRecord:
    """One installed plugin.

    `state`: `available` (not imported yet), `loaded`, `blocked` (by an allow or block list, never
    imported), `failed`, or `incompatible` (made for another `AGENTD_API`). `error` says why, in full.
    """

    name: str
    kind: str
    group: str
    value: str
    distribution: str
    version: str
    state: PluginState = "available"
    error: str = ""


@lru_cache(maxsize=8)  # a thousand sessions share their records
def make_records(
    found: tuple[Found, ...], config: PluginConfig, environment: PluginConfig
) -> tuple[dict[tuple[str, str], PluginRecord], tuple[PluginRecord, ...]]:
    """Return the plugin in use for each `(kind, name)` (do not change it), and the records of those that share a name.

    Of several usable plugins with one name, agentd's own distribution is taken, else the first by the
    distribution's name. What is blocked or half removed is in use only if nothing else is there.
    """
    named: dict[tuple[str, str], list[PluginRecord]] = {}
    for entry in found:
        if entry.group in _KINDS:
            record = _record(entry, config, environment)
            named.setdefault((record.kind, record.name), []).append(record)
    chosen: dict[tuple[str, str], PluginRecord] = {}
    others: list[PluginRecord] = []
    for key, records in named.items():
        first, *rest = sorted(records, key=_precedence)
        chosen[key] = first
        others += [_duplicate(record, first) for record in rest]
    return chosen, tuple(others)


def _record(entry: Found, config: PluginConfig, environment: PluginConfig) -> PluginRecord:
    kind = _KINDS[entry.group]
    plugin = (kind, entry.name, entry.distribution)
    blocked = config.objection(*plugin) or environment.objection(*plugin, where="the environment")
    return PluginRecord(
        name=entry.name,
        kind=kind,
        group=entry.group,
        value=entry.value,
        distribution=entry.distribution,
        version=entry.version,
        state="blocked" if blocked else "failed" if entry.problem else "available",
        error=blocked or entry.problem,
    )


def _precedence(record: PluginRecord) -> tuple[bool, bool, str]:
    # A third-party distribution must not take the place of an official sandbox by sorting first.
    official = official_distribution(record.kind, record.name) == normalize(record.distribution)
    return record.state != "available", not official, record.distribution


def _duplicate(record: PluginRecord, first: PluginRecord) -> PluginRecord:
    if record.state != "available":
        return record
    reason = (
        f"{first.distribution} and {record.distribution} both have the {record.kind} {record.name!r}; "
        f"the one of {first.distribution} is used; uninstall or block one of the two"
    )
    return attrs.evolve(record, state="failed", error=reason)
