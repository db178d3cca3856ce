"""What the patched methods of a client, and of its copies, share."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from agentd.budgets import Budgets
from agentd.threads import PortalLease
from agentd.workbench import Workbench

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from agentd.protocols import EventSink, Parser

__all__ = ["Mode", "PatchState", "SyncTask"]

T = TypeVar("T")
STOP_S = 15.0
CLOSE_S = 3.0
PENDING = 256
"""How many responses and conversations are remembered that still lack outputs of our tools."""


class Stoppable(Protocol):
    """A run under way."""

    def stop(self) -> None: ...

    def join(self, timeout_s: float = ...) -> None: ...


class SyncTask:
    """A coroutine in the portal's thread, with the means to end it and to wait until it is gone."""

    def __init__(self, portal: BlockingPortal, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._gone = threading.Event()
        self._thread: threading.Thread | None = None
        gone = self._gone

        async def work() -> T:
            self._thread = threading.current_thread()
            try:
                return await function()
            finally:
                gone.set()

        self.future: Future[Any] = portal.start_task_soon(work)

    def stop(self) -> None:
        """Cancel it. Does not wait."""
        self.future.cancel()

    def join(self, timeout_s: float = STOP_S) -> None:
        """Wait until its code is gone, within reason."""
        if threading.current_thread() is not self._thread:
            self._gone.wait(timeout_s)

    def result(self) -> Any:
        """Wait for the result. Interrupted (Ctrl-C), it ends the run first."""
        try:
            return self.future.result()
        except BaseException:
            if not self.future.done():
                self.stop()
                self.join()
            raise


class Mode:
    """How the calls of a client are served: `ptc` or `tools`, and the settings of the patch that said so."""

    def __init__(
        self,
        kind: Literal["ptc", "tools"],
        workbench: Callable[[], Workbench],
        *,
        budgets: Budgets | None = None,
        parsers: Sequence[str] | None = None,
        sinks: Sequence[str | EventSink] = (),
        bash_tool: bool = False,
    ) -> None:
        self.kind = kind
        self.budgets = budgets or Budgets()
        self.bash_tool = bash_tool
        self._workbench = workbench
        self._parsers = parsers
        self._sinks_wanted = sinks
        self._sinks: list[EventSink] | None = None
        self._factories: list[Callable[[], Parser]] | None = None
        self._lock = threading.Lock()

    def factories(self) -> list[Callable[[], Parser]]:
        """Return the parser factories; none where the model writes no blocks."""
        if self.kind == "tools" or self.bash_tool:
            return []
        if self._factories is None:
            self._factories = self._workbench().registry().create_parser_factories(self._parsers)
        return self._factories

    def sinks(self) -> list[EventSink]:
        """Return the event sinks, made with the first run."""
        with self._lock:
            if self._sinks is None:
                registry = self._workbench().registry
                self._sinks = [
                    registry().create_event_sink(s) if isinstance(s, str) else s for s in self._sinks_wanted
                ]
            return self._sinks

    def close(self) -> None:
        """Close the sinks; the next run makes new ones."""
        with self._lock:
            sinks, self._sinks = self._sinks or [], None
        for sink in sinks:
            sink.close()


class PatchState:
    """One environment of a client: workbench, modes, and the event loop of sync calls.

    Starts nothing before the first call. `close` ends everything; the next call starts anew. It is closed
    when the last client that shares it is gone, at the latest when the interpreter ends.
    """

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.ptc: Mode | None = None
        self.tools: Mode | None = None
        self._lease: PortalLease | None = None
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, list[Any]] = OrderedDict()
        self.tasks: weakref.WeakSet[Stoppable] = weakref.WeakSet()
        """The runs under way."""

    def use(self, workbench: Workbench) -> None:
        """Work with this workbench from now on, and with the tools of the one before."""
        workbench.take_over(self.workbench)
        self.workbench = workbench

    def keep_pending(self, key: str, outputs: list[Any]) -> None:
        """Remember outputs of our tools that the provider has not got, for the response or conversation `key`."""
        with self._lock:
            self._pending[key] = outputs
            while len(self._pending) > PENDING:
                self._pending.popitem(last=False)

    def pending(self, key: str) -> list[Any]:
        """Return what is remembered so. It stays: a caller may go on from there more than once."""
        return list(self._pending.get(key, ()))

    def portal(self) -> BlockingPortal:
        """Return the portal of sync calls, started if it does not run."""
        with self._lock:
            if self._lease is None:
                closing = weakref.WeakMethod(self.close)
                self._lease = PortalLease(lambda: (closing() or (lambda: None))())
            return self._lease.portal

    def close(self) -> None:
        """End all runs and the executor. From any thread; may be called again."""
        tasks = list(self.tasks)
        for task in tasks:
            task.stop()
        for task in tasks:  # each ends its code itself; what does not is ended with the executor
            task.join(CLOSE_S)
        self.workbench.close()
        with self._lock:
            lease, self._lease = self._lease, None
        for mode in (self.ptc, self.tools):
            if mode is not None:
                mode.close()
        if lease is not None:
            lease.close()


class Holder:
    """What keeps a `PatchState` open: every client that shares the state has it, and the last one closes
    it."""

    def __init__(self, state: PatchState) -> None:
        self.state = state
        self.finalizer = weakref.finalize(self, state.close)
        self.finalizer.atexit = (
            False  # by then the exit watcher of the portal has done it; processes end with us
        )
