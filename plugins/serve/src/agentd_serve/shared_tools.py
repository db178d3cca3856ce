"""The tools of a server: each source is opened once, however many sandboxes work with it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agentd._concurrency.waiting import CrossLock
from agentd.protocols import OnProgress, SourceHost, ToolSource
from agentd.registry import Registry
from agentd.types import ToolSpec
from agentd_tools.functions import FunctionSource
from agentd_tools.sources import DirectSource, ResourceSource

__all__ = ["SharedTools"]

_log: Final = logging.getLogger("agentd.serve")


class SharedTools:
    """Functions, and sources of tools. `aclose` ends the sources.

    :param specs: what tool source plugins take.
    :raises ConfigError: for what none takes; `PluginError`.
    """

    def __init__(self, registry: Registry, specs: Sequence[object]) -> None:
        self._sources: list[_SharedSource] = []
        self.functions: list[Callable[..., Any]] = []
        for spec in specs:
            for source in registry.create_tool_sources(spec):
                if isinstance(source, FunctionSource):
                    self.functions += source.functions
                else:
                    self._sources.append(_SharedSource(source))

    def shares(self) -> list[_ToolShare]:
        """Return sources for one sandbox, over those that all share."""
        return [
            (_ResourceShare if isinstance(shared.source, ResourceSource) else _ToolShare)(shared)
            for shared in self._sources
        ]

    async def open(self) -> None:
        """Start the sources: what is wrong with one is told before the first request. Raises what they raise."""
        for shared in self._sources:
            await shared.list_tools()

    async def aclose(self) -> None:
        """End all, each whatever the others do."""
        for shared in self._sources:
            try:
                await shared.source.aclose()
            except Exception:  # a plugin's boundary: the others want to be closed, too
                _log.exception("closing the tools of %r failed", shared.source.name)


class _SharedSource:
    """A source, what it has, and the sandboxes that are to hear of it. Is its `SourceHost`."""

    def __init__(self, source: ToolSource) -> None:
        self.source = source
        self.hosts: dict[int, SourceHost] = {}
        self._listed: Sequence[ToolSpec] | None = None
        self._changes = 0
        self._listing = CrossLock()  # whoever hears of a change asks in another loop

    async def list_tools(self) -> Sequence[ToolSpec]:
        """Return the tools; the source is asked once for as long as it says nothing of a change."""
        async with self._listing:
            found = self._listed
            if found is None:
                before = self._changes
                found = tuple(await self.source.list_tools(self))
                self._listed = found if before == self._changes else None
            return found

    def changed(self) -> None:
        self._changes += 1
        self._listed = None
        for host in list(self.hosts.values()):
            host.changed()

    def log(self, level: str, text: str) -> None:
        for host in list(self.hosts.values()):
            host.log(level, text)


class _ToolShare:
    """One sandbox's share of a source: a `ToolSource`. Its end is not the source's."""

    def __init__(self, shared: _SharedSource) -> None:
        self._shared = shared
        self.name = shared.source.name

    @property
    def instructions(self) -> str:
        return getattr(self._shared.source, "instructions", "")

    @property
    def loop(self) -> Any:
        return getattr(self._shared.source, "loop", None)

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        if host is not None:
            self._shared.hosts[id(self)] = host
        return await self._shared.list_tools()

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        return await self._shared.source.call(name, arguments, on_progress)

    def begin(
        self,
        name: str,
        arguments: Mapping[str, object],
        done: Callable[[object, BaseException | None], None],
        on_progress: OnProgress | None = None,
    ) -> Callable[[], None] | None:
        source = self._shared.source
        return source.begin(name, arguments, done, on_progress) if isinstance(source, DirectSource) else None

    async def aclose(self) -> None:
        self._shared.hosts.pop(id(self), None)


class _ResourceShare(_ToolShare):
    """The same of a source with resources and prompts."""

    @property
    def _source(self) -> ResourceSource:
        source = self._shared.source
        assert isinstance(source, ResourceSource)
        return source

    async def list_resources(self) -> Sequence[Mapping[str, object]]:
        return await self._source.list_resources()

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]:
        return await self._source.list_resource_templates()

    async def read_resource(self, uri: str) -> object:
        return await self._source.read_resource(uri)

    async def list_prompts(self) -> Sequence[Mapping[str, object]]:
        return await self._source.list_prompts()

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> object:
        return await self._source.get_prompt(name, arguments)
