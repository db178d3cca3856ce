"""The servers whose tools the code of a sandbox has. One that does not answer takes nothing from the others."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
from agentd.errors import ToolError

if TYPE_CHECKING:
    from agentd.protocols import ToolSource
    from agentd.session.resources import SessionResources
    from agentd_mcp_bridge.passing import ServedClient
    from agentd_mcp_bridge.source import McpSource
    from mcp_types import LoggingLevel

__all__ = ["Upstream"]

_log = logging.getLogger("agentd.mcp")


class Upstream:
    """The tool sources of one sandbox.

    :param resources: those of its session; a source that has answered once belongs to them.
    :param servers: what `Registry.create_tool_sources` takes.
    :param client: on whose behalf MCP servers are used.
    :param for_code: the sandbox's code has the tools; else the sources belong to this object.
    """

    def __init__(
        self,
        resources: SessionResources,
        servers: Sequence[object],
        client: ServedClient | None = None,
        *,
        for_code: bool = True,
    ) -> None:
        self._resources = resources
        self._for_code = for_code
        self._waiting = [
            source for one in servers for source in resources.registry().create_tool_sources(one)
        ]
        self._all = tuple(self._waiting)
        self._connecting = anyio.Lock()
        if client is not None and self._all:
            from agentd_mcp_bridge.source import McpSource

            for source in self._all:
                if isinstance(source, McpSource):
                    source.serve(client)
        self.has_asked = False
        """True once all were asked: then those that have not answered are not waited for as long again."""
        self.problems: dict[str, str] = {}
        """Why those that have not answered yet have not, by name."""

    def __len__(self) -> int:
        return len(self._all)

    def servers(self) -> dict[int, McpSource]:
        """Return the MCP servers that have answered, by number: the same one in each `Upstream` of the same servers."""
        from agentd_mcp_bridge.source import McpSource

        return {
            number: source
            for number, source in enumerate(self._all)
            if isinstance(source, McpSource) and source not in self._waiting
        }

    def keep_log_level(self, level: LoggingLevel) -> None:
        """Have the MCP servers begin with this level of log messages from their next connection on."""
        from agentd_mcp_bridge.source import McpSource

        for source in self._all:
            if isinstance(source, McpSource):
                source.keep_log_level(level)

    async def connect(self) -> None:
        """Ask all that have not answered yet, side by side, and take those that do."""
        async with self._connecting:  # or who comes second would take those under way for connected
            if self._waiting:
                await self._connect()

    async def _connect(self) -> None:
        answering: list[ToolSource] = []
        asked, self._waiting = self._waiting, []

        async def ask(source: ToolSource) -> None:
            try:
                await source.list_tools()
            except ToolError as error:
                if self.problems.get(source.name) != str(error):
                    _log.warning("%s", error)
                self.problems[source.name] = str(error)
                self._waiting.append(source)
            else:
                self.problems.pop(source.name, None)
                answering.append(source)

        try:
            async with anyio.create_task_group() as group:
                for source in asked:
                    group.start_soon(ask, source)
        except BaseException:
            self._waiting = asked
            raise
        self.has_asked = True
        if self._for_code:
            await self._resources.prepare([source for source in asked if source in answering])

    async def aclose(self) -> None:
        """Close those that nobody else does."""
        waiting = self._waiting if self._for_code else self._all
        self._waiting, self._all = [], ()
        for source in waiting:
            await source.aclose()
