"""What code may ask of models and of agents, as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
from agentd.types import Budgets

if TYPE_CHECKING:
    from agentd.registry.options import PluginSpec

__all__ = ["NestingSettings"]


@attrs.frozen(kw_only=True)
class NestingSettings:
    """What code may ask of models and agents; see `models_from_code`.

    :ivar choices: the models that code may name, with what opens each; None stands for the run's own.
    :ivar default: which of them is asked if code names none; empty for the run's own.
    """

    default: str = ""
    choices: Mapping[str, PluginSpec] = attrs.field(factory=dict)
    depth: int = 1
    width: int = 8
    parallel: int = 32
    timeout_s: float = 300.0
    budgets: Budgets = attrs.field(factory=Budgets)
    executor: PluginSpec | None = None
    executor_options: Mapping[str, Any] | None = None
    copy_mib: int = 1024
    instructions: str = ""
