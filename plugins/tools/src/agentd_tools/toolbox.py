"""`SessionToolbox`: all tools of one session or client, whatever they come from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import anyio
from agentd.protocols import StrictSchemas, Toolbox, ToolEvents, ToolSource, is_tool_source

from agentd_tools.answer_form import JsonForm, form_of
from agentd_tools.decorator import decorated_tools
from agentd_tools.functions import FunctionSource
from agentd_tools.offers import NativeOffers
from agentd_tools.refresher import Refresher
from agentd_tools.shelf import Shelf
from agentd_tools.toolset import ToolSet

__all__ = ["SessionToolbox"]


class SessionToolbox:
    """Holds functions and tool sources, and the tool set made of them. Implements `agentd.protocols.Toolbox`.

    :param tools: functions; None for those marked with `@tool`, whatever there is when tools are opened. Anything
        that is not a function goes to the tool source plugins.
    :param servers: descriptions of tool sources, and `ToolSource` objects.
    :param make_sources: turns a description into sources; they belong to the toolbox from then on.
    :param events: who is told of calls and changes.
    """

    def __init__(
        self,
        tools: Sequence[object] | None,
        servers: Sequence[object],
        make_sources: Callable[[object], Sequence[ToolSource]],
        events: ToolEvents,
    ) -> None:
        self._functions: list[Callable[..., Any]] | None = None
        self._servers: list[object] = list(servers)
        if tools is not None:
            self._functions = [tool for tool in tools if is_function(tool)]  # type: ignore[misc]
            self._servers += [tool for tool in tools if not is_function(tool)]
        self._make_sources = make_sources
        self._events = events
        self._refresher = Refresher(events.changed)
        self._lock = threading.Lock()
        self._shelf: Shelf | None = None
        self._bound: tuple[object, ...] | None = None
        self._toolset: ToolSet | None = None

    @property
    def tools(self) -> ToolSet | None:
        """The tool set, once `open` has made one."""
        return self._toolset

    @property
    def has_tools(self) -> bool:
        """True if there is a function or a source that tools may come from."""
        return bool(self._servers or self._wanted_functions() or (self._shelf and self._shelf.sources))

    def offers(
        self, *, tools: bool, bash: bool, taken: Iterable[str], strict: StrictSchemas | None
    ) -> NativeOffers:
        """Return what the model may call natively; see `agentd.protocols.Toolbox`."""
        return NativeOffers(self._toolset if tools else None, bash=bash, taken=taken, strict=strict)

    def answer_form(self, output: Any) -> JsonForm:
        """Return the form that a type or a JSON Schema gives an answer; see `agentd.protocols.Toolbox`."""
        return form_of(output)

    def take_over(self, other: Toolbox) -> None:
        """Have the functions and servers of another toolbox as well, and its open sources in its place."""
        assert isinstance(other, SessionToolbox)
        self._servers += [s for s in other._servers if not any(s is m for m in self._servers)]
        if self._shelf is None:
            with other._lock:
                self._shelf, other._shelf = other._shelf, None
        if other._functions is not None:
            own = self._functions or []
            self._functions = [*own, *(f for f in other._functions if f not in own)]

    async def open(self, servers: Sequence[object] = (), *, always: bool = False) -> ToolSet | None:
        """Bring functions and sources up to date; see `agentd.protocols.Toolbox`."""
        fresh: list[ToolSource] = []
        try:
            for server in (*self._servers, *servers):
                fresh += self._sources().take(server)
            every = () if self._shelf is None else self._shelf.sources
            sources = tuple(s for s in every if not isinstance(s, FunctionSource))
            functions = self._wanted_functions()
            grouped = [f for s in every if isinstance(s, FunctionSource) for f in s.functions]
            functions = (*functions, *(f for f in grouped if not any(f is known for known in functions)))
            wanted = (*functions, *sources)
            if wanted != (self._bound or ()) or (always and self._toolset is None):
                await self._bind(functions, sources)
                self._bound = wanted
        except BaseException:
            if fresh and self._shelf is not None:
                with anyio.CancelScope(shield=True):
                    await self._shelf.drop(fresh)
            raise
        return self._toolset

    def _wanted_functions(self) -> tuple[Callable[..., Any], ...]:
        return decorated_tools() if self._functions is None else tuple(self._functions)

    def _sources(self) -> Shelf:
        with self._lock:
            if self._shelf is None:
                self._shelf = Shelf(self._make_sources)
            return self._shelf

    async def _bind(self, functions: Sequence[Callable[..., Any]], sources: Sequence[ToolSource]) -> None:
        if self._toolset is not None:
            await self._toolset.replace(functions, sources)
            return
        toolset = ToolSet(
            functions,
            sources,
            on_call=self._events.tell,
            on_event=self._events.tell,
            policy=self._events.policy,
            pictures=self._events.pictures,
            session=self._events,
        )
        toolset.on_change = self._refresher.start
        await toolset.start()
        self._toolset = toolset

    # --- sources that change their tools -------------------------------------------------------------

    async def refresh(self) -> bool:
        """Ask the sources that said so for their tools; tell whether there is more to ask already."""
        toolset = self._toolset
        if toolset is None:
            return False
        await toolset.refresh(changed_only=True)
        for name, error in toolset.failures.items():
            text = f"its tools have changed but could not be listed, so the old ones stay: {error}"
            toolset.log(name, "error", text)
        return toolset.has_changes

    async def settled(self) -> None:
        """Wait, within reason, until no change is being looked at."""
        await self._refresher.wait()

    # --- the end -------------------------------------------------------------------------------------

    def give_up(self, run: str) -> None:
        """End the calls under way of a run: nobody waits for them any more."""
        if self._toolset is not None:
            self._toolset.give_up(run)

    async def aclose(self) -> None:
        """Close the tool set and every source; `open` starts anew."""
        toolset, shelf = self._forget()
        if toolset is not None:
            toolset.close()
        if shelf is not None:
            await shelf.aclose()

    def close(self) -> None:
        """The same without an event loop, from any thread."""
        toolset, shelf = self._forget()
        if toolset is not None:
            toolset.close()
        if shelf is not None:
            shelf.close()

    def _forget(self) -> tuple[ToolSet | None, Shelf | None]:
        with self._lock:
            toolset, self._toolset = self._toolset, None
            shelf, self._shelf = self._shelf, None
            self._bound = None
        return toolset, shelf


def is_function(tool: object) -> bool:
    """Tell whether this is a function to call, and not the description of a tool source."""
    return callable(tool) and not is_tool_source(tool)
