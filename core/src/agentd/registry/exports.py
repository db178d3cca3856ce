"""The public names that plugins add to `agentd`, by entry points of the group `agentd.exports`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agentd.registry.scan import Found

__all__ = ["EXPORTS_GROUP", "core_version", "installed_names", "resolve"]

EXPORTS_GROUP: Final = "agentd.exports"


def resolve(name: str, core: Iterable[str]) -> Any:
    """Return the object behind a name of `agentd` that is not one of the core's own, whose names are `core`.

    Raises `MissingPluginError` (an `ImportError`) for an official name whose plugin is not installed,
    `BlockedPluginError`, `PluginLoadError`, and `AttributeError` for any other name.
    """
    if name == "__version__":
        return core_version()
    if name.startswith("_"):  # what inspect, pickle and doctest ask every module for
        raise AttributeError(f"module 'agentd' has no attribute {name!r}")
    return _resolve_plugin_name(name, core)


def installed_names() -> set[str]:
    """Return the names that the installed plugins add."""
    from agentd.registry.scan import scan

    return {found.name for found in scan() if found.group == EXPORTS_GROUP and not found.problem}


def core_version() -> str:
    from importlib.metadata import distributions

    return next((d.version for d in distributions(name="agentd-core")), "0+unknown")  # a source tree's


def _resolve_plugin_name(name: str, core: Iterable[str]) -> Any:
    from importlib.util import find_spec

    from agentd.errors import MissingPluginError, PluginLoadError, suggest
    from agentd.registry.official import OFFICIAL_EXPORTS

    owner = OFFICIAL_EXPORTS.get(name, "")
    if not owner and find_spec(f"agentd.{name}") is not None:  # `from agentd import MODULE` asks for it first
        raise AttributeError(f"module 'agentd' has no attribute {name!r}")
    found = _find(name, owner)
    if found is None and owner:
        raise MissingPluginError(name, owner)
    if found is None:
        hint = suggest(name, {*core, *installed_names(), *OFFICIAL_EXPORTS})
        # `from agentd import NAME` has a message of its own in place of an AttributeError's.
        if hint and sys._getframe(3).f_code.co_name == "_handle_fromlist":
            raise ImportError(f"cannot import name {name!r} from 'agentd'{hint}", name="agentd")
        raise AttributeError(f"module 'agentd' has no attribute {name!r}{hint}")
    _refuse_blocked(found)
    if found.problem:
        raise PluginLoadError("export", name, found.distribution, found.problem)
    from agentd.registry.scan import import_object

    try:
        return import_object(found.value)
    except (Exception, SystemExit) as error:  # a plugin's boundary
        from agentd.registry.loading import describe

        raise PluginLoadError("export", name, found.distribution, describe(error)) from error


def _find(name: str, owner: str) -> Found | None:
    """Return the entry point of this export; an official name is taken from its distribution, `owner`, only:
    that one is read, and no other."""
    from agentd.registry.official import normalize
    from agentd.registry.scan import scan

    candidates = [
        found
        for found in scan(only=owner)
        if (found.group, found.name) == (EXPORTS_GROUP, name)
        and owner in ("", normalize(found.distribution))  # its folder may say what its metadata does not
    ]
    return min(candidates, key=lambda found: bool(found.problem), default=None)


def _refuse_blocked(found: Found) -> None:
    """An export goes round the registry: hold it, too, against the lists of the environment."""
    if not any(name.startswith("AGENTD_PLUGINS_") for name in os.environ):
        return
    from agentd.errors import BlockedPluginError
    from agentd.registry import Registry

    siblings = [r for r in Registry().records() if r.distribution == found.distribution]
    blocked = [record for record in siblings if record.state == "blocked"]
    if blocked and len(blocked) == len(siblings):
        raise BlockedPluginError("export", found.name, blocked[0].error)
