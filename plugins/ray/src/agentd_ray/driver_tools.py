"""Tools that stay on the driver: code on a host calls them, and they run where the fleet was opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec

__all__ = ["DriverSource", "described", "split_tools"]


@attrs.define(eq=False)
class DriverSource:
    """The host's end: a tool source whose calls go to the driver. Implements `agentd.protocols.ToolSource`.

    :param specs: as the driver's functions are described.
    :param ask: has the driver make a call and returns its result; raises `ToolError`.
    """

    _specs: Sequence[ToolSpec]
    _ask: Callable[[str, dict[str, object]], Awaitable[object]]
    name: str = attrs.field(default="driver", init=False)

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        return [attrs.evolve(spec, source=self.name) for spec in self._specs]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        return await self._ask(name, dict(arguments))

    async def aclose(self) -> None:
        """Nothing of it is open."""


def described(functions: Sequence[Any]) -> tuple[ToolSpec, ...]:
    """Return how functions are described to the model. Raises `ConfigError` for one that cannot be a tool."""
    from agentd_tools.toolset import ToolSet

    return ToolSet(functions).specs() if functions else ()


def split_tools(tools: Sequence[Any] | None) -> tuple[list[Any], list[Any]]:
    """Return which tools travel and which stay here; None for all functions that are marked with `@tool`."""
    from agentd_tools.decorator import decorated_tools, options_of

    given = list(decorated_tools() if tools is None else tools)
    here = [tool for tool in given if callable(tool) and options_of(tool).where == "driver"]
    return [tool for tool in given if not any(tool is one for one in here)], here
