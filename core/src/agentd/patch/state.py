"""What the patched methods of a client, and of its copies, share."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agentd.budgets import Budgets
from agentd.threads import PortalLease
from agentd.workbench import Workbench

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from agentd.protocols import EventSink, Parser

__all__ = ["PatchState", "SyncTask"]

T = TypeVar("T")
STOP_S = 15.0
CLOSE_S = 3.0


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


class PatchState:
    """One conversation environment: workbench, parsers, budgets, sinks, and the event loop of sync calls.

    Starts nothing before the first call. `close` ends everything; the next call starts anew. It is closed
    when the last client that shares it is gone, at the latest when the interpreter ends.
    """

    def __init__(
        self,
        workbench: Workbench,
        *,
        budgets: Budgets | None,
        parsers: Sequence[str] | None,
        sinks: Sequence[str | EventSink],
    ) -> None:
        self.workbench = workbench
        self.budgets = budgets or Budgets()
        self._parsers = parsers
        self._sinks_wanted = sinks
        self._sinks: list[EventSink] | None = None
        self._factories: list[Callable[[], Parser]] | None = None
        self._lease: PortalLease | None = None
        self._lock = threading.Lock()
        self.tasks: weakref.WeakSet[Stoppable] = weakref.WeakSet()
        """The runs under way."""

    def portal(self) -> BlockingPortal:
        """Return the portal of sync calls, started if it does not run."""
        with self._lock:
            if self._lease is None:
                closing = weakref.WeakMethod(self.close)
                self._lease = PortalLease(lambda: (closing() or (lambda: None))())
            return self._lease.portal

    def factories(self) -> list[Callable[[], Parser]]:
        """Return the parser factories."""
        if self._factories is None:
            self._factories = self.workbench.registry().create_parser_factories(self._parsers)
        return self._factories

    def sinks(self) -> list[EventSink]:
        """Return the event sinks, made with the first run."""
        with self._lock:
            if self._sinks is None:
                registry = self.workbench.registry
                self._sinks = [
                    registry().create_event_sink(s) if isinstance(s, str) else s for s in self._sinks_wanted
                ]
            return self._sinks

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
            sinks, self._sinks = self._sinks or [], None
        for sink in sinks:
            sink.close()
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
