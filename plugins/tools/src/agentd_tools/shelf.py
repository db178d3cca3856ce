"""The tool sources that are open for one client or session: one for each server, however often it is given.

Whoever opens a source must close it in its own time: the end of a session, a failed start, `close()` in any
thread, garbage collection, and the interpreter's end all come here.
"""

from __future__ import annotations

import atexit
import copy
import logging
import os
import threading
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

import anyio
import attrs
from agentd.protocols import ToolSource, is_tool_source

from agentd_tools.loops import TaskLoop, shared_loop

__all__ = ["CLOSE_S", "Shelf", "close_sources"]

CLOSE_S: Final = 15.0
"""How long closing waits for a source that does not come to an end."""

_NOTHING: Final = object()
_log: Final = logging.getLogger("agentd.tools")


@attrs.frozen(eq=False)
class _Server:
    """A server as it was given. `value` is a copy of what describes it, if that is data and no object."""

    given: object
    value: object
    sources: tuple[ToolSource, ...]

    def is_same(self, server: object) -> bool:
        """Tell whether `server` means this one."""
        if self.value is _NOTHING:
            return server is self.given
        try:
            return type(server) is type(self.given) and bool(server == self.value)
        except Exception:  # an object's own idea of equality
            return server is self.given


class Shelf:
    """Keeps tool sources. Not to be used by two tasks at once; closing may come from anywhere.

    :param make: what turns a server into its sources, see `Registry.create_tool_sources`.
    """

    def __init__(self, make: Callable[[object], Sequence[ToolSource]]) -> None:
        self._make = make
        self._servers: list[_Server] = []
        self._open = _OpenSource()
        weakref.finalize(self, self._open.close, wait=False).atexit = False

    @property
    def sources(self) -> tuple[ToolSource, ...]:
        """All sources in the order in which their servers were given."""
        return tuple(source for server in self._servers for source in server.sources)

    def take(self, server: object) -> tuple[ToolSource, ...]:
        """Make the sources of a server, unless they are here already; return those that are new.

        The same object is the same server; so is an equal text, path, dictionary or parameter object.
        """
        if any(known.is_same(server) for known in self._servers):
            return ()
        made = (server,) if is_tool_source(server) else tuple(self._make(server))
        self._servers.append(_Server(server, _value(server), made))
        self._open.add(made)
        return made

    async def drop(self, sources: Iterable[ToolSource]) -> None:
        """Close these sources and forget their servers."""
        dropped = tuple(sources)
        self._servers = [
            s for s in self._servers if not any(x in dropped for x in s.sources) or not s.sources
        ]
        await self._open.aclose(dropped)

    async def aclose(self) -> None:
        """Close all sources, each whatever the others do."""
        self._servers = []
        await self._open.aclose()

    def close(self) -> None:
        """The same without an event loop, from any thread: waits for at most `CLOSE_S`."""
        self._servers = []
        self._open.close()


class _OpenSource:
    """The sources that must be closed. Lives on when its shelf was dropped without a word."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._sources: list[ToolSource] = []

    def add(self, sources: Sequence[ToolSource]) -> None:
        if not sources:
            return
        with self._lock:
            self._sources += sources
        _at_exit.add(self)

    def _take(self, which: Iterable[ToolSource] | None) -> list[ToolSource]:
        with self._lock:
            wanted = list(self._sources if which is None else which)
            taken = [s for s in self._sources if any(s is w for w in wanted)]
            self._sources = [s for s in self._sources if not any(s is t for t in taken)]
        # A forked child has copies; what is behind them belongs to its parent.
        return taken if os.getpid() == self._pid else []

    async def aclose(self, which: Iterable[ToolSource] | None = None) -> None:
        await close_sources(self._take(which))

    def close(self, *, wait: bool = True) -> None:
        _close_together([self], wait=wait)


def _close_together(shelves: Iterable[_OpenSource], *, wait: bool = True) -> None:
    """Close the sources of some shelves, all at once: a server may take seconds to end."""
    taken = [source for shelf in shelves for source in shelf._take(None)]
    if not taken:
        return
    done = threading.Event()

    async def work() -> None:
        try:
            await close_sources(taken)
        finally:
            done.set()

    try:
        loop = shared_loop()
    except RuntimeError:  # the interpreter is ending: Python >= 3.12 starts no thread any more
        anyio.run(close_sources, taken)
        return
    loop.post(work, done.set)
    needed = [loop, *(getattr(source, "loop", None) for source in taken)]
    if any(isinstance(one, TaskLoop) and one.is_here() for one in needed):
        return  # waiting here would keep the loop from doing it
    if wait and not done.wait(CLOSE_S + 1.0):
        _log.warning("tool sources did not close within %g s: %s", CLOSE_S, ", ".join(s.name for s in taken))


async def close_sources(sources: Collection[ToolSource]) -> None:
    """Close sources side by side, each whatever the others do, for at most `CLOSE_S`. Every error is logged."""

    async def one(source: ToolSource) -> None:
        try:
            await source.aclose()
        except Exception:  # a plugin's boundary: the others want to be closed, too
            _log.exception("closing the tool source %r failed", source.name)

    with anyio.move_on_after(CLOSE_S) as patience:
        async with anyio.create_task_group() as group:
            for source in sources:
                group.start_soon(one, source)
    if patience.cancelled_caught:
        _log.warning(
            "tool sources did not close within %g s: %s", CLOSE_S, ", ".join(s.name for s in sources)
        )


def _value(server: object) -> object:
    """Return a copy of what describes a server, or `_NOTHING` if the object itself is what counts."""
    if isinstance(server, str | PurePath):
        return server
    if not isinstance(server, Mapping) and not callable(getattr(type(server), "model_dump", None)):
        return _NOTHING
    if is_tool_source(server):
        return _NOTHING
    try:
        value: Any = copy.deepcopy(server)  # it may be changed and given again
        return value if value == server else _NOTHING
    except Exception:  # it holds what cannot be copied or compared, so it is no data
        return _NOTHING


class _AtExit:
    """Closes what is still open when the interpreter ends. Registered with the first source."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[_OpenSource] = weakref.WeakSet()
        self._registered = False

    def add(self, opened: _OpenSource) -> None:
        self._open.add(opened)
        if not self._registered:
            self._registered = True
            atexit.register(self._close)

    def _close(self) -> None:
        _close_together(list(self._open))


_at_exit: Final = _AtExit()
