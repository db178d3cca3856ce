"""The kit for authors of plugins: contracts to subclass, fake distributions, hypothesis strategies, escape cases.

`pip install agentd-testing`. Names are resolved when first used, so that `agentd_testing.escapes`, which the
command line uses, needs neither pytest nor hypothesis.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentd_testing.commands import CommandContract
    from agentd_testing.distributions import PLUGIN_SOURCES, FakeDistribution, fake_distribution
    from agentd_testing.executors import ExecutorContract
    from agentd_testing.models import ModelContract
    from agentd_testing.parsers import ParserContract
    from agentd_testing.renderers import SkillRendererContract
    from agentd_testing.sinks import EventSinkContract
    from agentd_testing.sources import ToolSourceContract
    from agentd_testing.stores import SnapshotStoreContract
    from agentd_testing.subscriptions import SubscriptionSourceContract
    from agentd_testing.triggers import TriggerContract

__all__ = [
    "PLUGIN_SOURCES",
    "CommandContract",
    "EventSinkContract",
    "ExecutorContract",
    "FakeDistribution",
    "ModelContract",
    "ParserContract",
    "SkillRendererContract",
    "SnapshotStoreContract",
    "SubscriptionSourceContract",
    "ToolSourceContract",
    "TriggerContract",
    "fake_distribution",
]

_HOMES = {
    "PLUGIN_SOURCES": "distributions",
    "CommandContract": "commands",
    "EventSinkContract": "sinks",
    "ExecutorContract": "executors",
    "FakeDistribution": "distributions",
    "ModelContract": "models",
    "ParserContract": "parsers",
    "SkillRendererContract": "renderers",
    "SnapshotStoreContract": "stores",
    "SubscriptionSourceContract": "subscriptions",
    "ToolSourceContract": "sources",
    "TriggerContract": "triggers",
    "fake_distribution": "distributions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = f"{__name__}.{_HOMES[name]}"
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
