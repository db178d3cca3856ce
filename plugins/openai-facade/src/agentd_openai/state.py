"""What the patched methods of a client, and of its copies, share."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agentd._concurrency.portal import PortalLease
from agentd.session.acting import Acting
from agentd.session.resources import SessionResources
from agentd.turn.observer import SinkGroup

if TYPE_CHECKING:
    from agentd.protocols import EventSink
    from agentd.registry.options import PluginSpec
    from agentd.registry.registry import ClientService
    from anyio.from_thread import BlockingPortal

__all__ = ["Mode", "PatchState", "SyncTask"]

T = TypeVar("T")
STOP_S = 15.0
CLOSE_S = 3.0
PENDING = 256
"""How many responses and conversations are remembered that still lack outputs of our tools."""
ENDS = 16_384
"""How many streamed responses are remembered whose last round has an id of its own."""
NAMES = 1024
"""How many names of models are remembered that the client itself serves."""


class Stoppable(Protocol):
    """A run under way."""

    def stop(self) -> None: ...

    def join(self, timeout_s: float = ...) -> None: ...


class SyncTask:
    """A coroutine in the portal's thread, with the means to end it and to wait until it is gone.

    In a forked child that thread is not there: the task is the parent's to end.
    """

    def __init__(self, portal: BlockingPortal, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._pid = os.getpid()
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

    @property
    def is_ours(self) -> bool:
        """Whether this process has begun it, and not the one that it was forked from."""
        return self._pid == os.getpid()

    def stop(self) -> None:
        """Cancel it. Does not wait."""
        if self.is_ours:
            self.future.cancel()

    def join(self, timeout_s: float = STOP_S) -> None:
        """Wait until its code is gone, within reason."""
        if threading.current_thread() is not self._thread and self.is_ours:
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
    """How the calls of a client are served: the way in which its models act, and who hears of it."""

    def __init__(
        self,
        resources: Callable[[], SessionResources],
        acting: Acting,
        sinks: Sequence[PluginSpec | EventSink] = (),
        prices: Mapping[str, tuple[float, ...]] | None = None,
        history: object = None,
    ) -> None:
        self.acting = acting
        self.prices = prices
        self.history = history
        self._resources = resources
        self._sinks = SinkGroup(sinks)
        self._lock = threading.Lock()

    def sinks(self) -> SinkGroup:
        """Return the event sinks, made with the first run."""
        with self._lock:
            self._sinks.open(self._resources().registry)
            return self._sinks

    def forget_parent(self) -> None:
        """Begin anew in a forked child, where a thread of the parent may hold the lock for ever."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the sinks; the next run makes new ones."""
        with self._lock:
            self._sinks.close()


class PatchState:
    """What a client and its copies share: resources, modes, and the event loop of sync calls.

    Starts nothing before the first call. `close` ends everything; the next call starts anew. It is closed
    when the last client that shares it is gone, at the latest when the interpreter ends.
    """

    def __init__(self, resources: SessionResources) -> None:
        self.resources = resources
        self.ptc: Mode | None = None
        self.tools: Mode | None = None
        self._lease: PortalLease | None = None
        self._lock = threading.Lock()
        self._pending: OrderedDict[str, list[Any]] = OrderedDict()
        self._ends: OrderedDict[str, str] = OrderedDict()
        self._served_here: set[tuple[str, str, str]] = set()
        self.summaries: dict[str, str] = {}
        """Of the older parts of conversations, for callers that send them again; see `History.memory`."""
        self.tasks: weakref.WeakSet[Stoppable] = weakref.WeakSet()
        """The runs under way."""
        _states.add(self)

    def forget_parent(self) -> None:
        """Begin anew in a forked child: runs, threads and whoever holds a lock are the parent's."""
        self._lock = threading.Lock()
        self._lease = None
        self.tasks = weakref.WeakSet()
        self.resources.forget_parent()
        for mode in (self.ptc, self.tools):
            if mode is not None:
                mode.forget_parent()

    def current(self) -> SessionResources:
        """Return the resources; a bound method, so that modes do not hold old ones."""
        return self.resources

    def use(self, resources: SessionResources) -> None:
        """Work with these resources from now on, and with the tools of those before."""
        resources.take_over(self.resources)
        self.resources = resources
        self._served_here.clear()  # these may have another registry

    def service(
        self,
        name: str,
        base_url: str,
        api: str,
        arguments: Mapping[str, Any],
        prices: Mapping[str, tuple[float, ...]] | None = None,
    ) -> ClientService | None:
        """Return what serves a model in the client's place, or None.

        The provider plugins are asked once for each name that they leave to the client.

        :param arguments, prices: the caller's, for a provider's conversation.
        :raises MissingPluginError: if LiteLLM is needed and not installed.
        """
        key = (name, base_url, api)
        if key in self._served_here:
            return None
        from agentd_model_openai.routing import needs_litellm, require_litellm

        from agentd_openai.provided_arguments import options_for_provider

        options = options_for_provider(arguments, base_url)
        options |= {} if prices is None else {"prices": prices}
        service = self.resources.registry().serve_client(name, base_url, api, options)
        if service is not None:
            return service
        if needs_litellm(name, base_url):
            require_litellm(name)
        if len(self._served_here) >= NAMES:
            self._served_here.clear()
        self._served_here.add(key)
        return None

    def keep_pending(self, key: str, outputs: list[Any]) -> None:
        """Remember outputs of our tools that the provider has not got, for the response or conversation `key`."""
        with self._lock:
            self._pending[key] = outputs
            while len(self._pending) > PENDING:
                self._pending.popitem(last=False)

    def pending(self, key: str) -> list[Any]:
        """Return what is remembered so. It stays: a caller may go on from there more than once."""
        return list(self._pending.get(key, ()))

    def keep_end(self, first: str, last: str) -> None:
        """Remember that the streamed response `first` ended with the provider's response `last`."""
        if first != last:
            with self._lock:
                self._ends[first] = last
                while len(self._ends) > ENDS:
                    self._ends.popitem(last=False)

    def goes_on_from(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return a request's arguments with the provider's id of the response that they go on from."""
        end = self._ends.get(str(arguments.get("previous_response_id") or ""))
        return {**arguments, "previous_response_id": end} if end else arguments

    def portal(self) -> BlockingPortal:
        """Return the portal of sync calls, started if it does not run."""
        with self._lock:
            if self._lease is None or not self._lease.is_open:  # it may be of the parent of this process
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
        self.resources.close()
        with self._lock:
            lease, self._lease = self._lease, None
        for mode in (self.ptc, self.tools):
            if mode is not None:
                mode.close()
        if lease is not None:
            lease.close()


_states: weakref.WeakSet[PatchState] = weakref.WeakSet()


def _forget_in_child() -> None:
    for state in list(_states):
        state.forget_parent()


os.register_at_fork(after_in_child=_forget_in_child)


class Holder:
    """What keeps a `PatchState` open: every client that shares the state has it, and the last one closes
    it."""

    def __init__(self, state: PatchState) -> None:
        self.state = state
        self.clients: weakref.WeakSet[Any] = weakref.WeakSet()
        self.finalizer = weakref.finalize(self, state.close)
        self.finalizer.atexit = (
            False  # by then the exit watcher of the portal has done it; processes end with us
        )

    def is_unused(self) -> bool:
        """Whether the clients that share the state are all closed."""
        return all(client.is_closed() for client in list(self.clients))
