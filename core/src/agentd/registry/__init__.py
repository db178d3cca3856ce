"""Finds plugins, says what is installed, and loads each one by itself when it is asked for."""

from __future__ import annotations

from agentd.registry.record import PluginRecord, PluginState
from agentd.registry.registry import Registry

__all__ = ["PluginRecord", "PluginState", "Registry"]
