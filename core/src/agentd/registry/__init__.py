"""Finds plugins, says what is installed, and loads each one by itself when it is asked for.

The names are imported when they are asked for: the way to a public name of `agentd` leads through this package, and
needs neither the hooks nor their protocols.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentd.registry.record import PluginRecord, PluginState
    from agentd.registry.registry import Registry

__all__ = ["PluginRecord", "PluginState", "Registry"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'registry' if name == 'Registry' else 'record'}"), name)
