"""A host as the driver sees it: its actor, what it streams, and whether it lives."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Final

import anyio
import attrs
from agentd._concurrency.channel import Channel
from agentd.events import Event
from agentd_store.holder import HolderGone

from agentd_ray.carrying import pack, pack_error, unpack, unpack_error
from agentd_ray.connecting import RayNode
from agentd_ray.errors import HostLostError
from agentd_ray.wire import (
    ApproverAsked,
    HostBeat,
    OpenedReport,
    RunDone,
    RunEvents,
    RunFailed,
    RunOrder,
    ToolAsked,
)

__all__ = ["HostHandle"]

ACKNOWLEDGE: Final = 512
END_S: Final = 15.0
"""How long a run that was cancelled may take to end its code."""
ENDED: Final = "worker process has died"
"""In what Ray says if the node's daemon has seen the process end. Of a node that is lost, or an actor that was ended by
a call, it says something else: such a process may live on."""
_runs: Final = itertools.count(1)


class HostHandle:
    """One host. In the driver's event loop alone.

    :param actor: Ray's handle.
    :param on_asked: called with what the host wants an answer to.
    :param on_lost: called once, when it is lost.
    :ivar holder: the id under which its process shows the store that it lives; empty before its first session.
    :ivar gone: what is known of that one's end, once the host is lost: its sessions can be taken over at once.
    :ivar has_ended: its process is known to have ended, and its node lives.
    """

    def __init__(
        self,
        actor: Any,
        node: RayNode,
        *,
        name: str,
        on_asked: Callable[[HostHandle, ToolAsked | ApproverAsked], None],
        on_lost: Callable[[HostHandle], None],
    ) -> None:
        self.actor = actor
        self.node = node
        self.name = name
        self.holder = ""
        self.gone: HolderGone | None = None
        self.has_ended = False
        self.is_draining = False
        self.lost: HostLostError | None = None
        self.sessions: set[str] = set()
        self.used: dict[str, float] = {}
        self.beat = HostBeat(sessions=0, running=0, free_mib=1 << 20)
        self._on_asked, self._on_lost = on_asked, on_lost
        self._loop = asyncio.get_running_loop()
        self.heard = self._loop.time()
        self._runs: dict[int, asyncio.Queue[Any]] = {}
        self._calls: set[asyncio.Future[Any]] = set()

    def __str__(self) -> str:
        return str(self.node)

    # --- calls

    async def call(self, method: str, *args: Any) -> Any:
        """Call a method of the host and return its value.

        :raises HostLostError: if it is lost meanwhile; else what the method raises.
        """
        ok, data = await self.ask(method, *args)
        if ok:
            return unpack(data)
        raise unpack_error(data)

    async def ask(self, method: str, *args: Any) -> Any:
        """The same, of a method that returns its value plainly."""
        if self.lost is not None:
            raise self.lost
        future = self._loop.create_future()
        self._calls.add(future)
        reference = getattr(self.actor, method).remote(*args)

        def settle(done: Any) -> None:
            error = done.exception()
            told = None if error is None else self._as_lost(error)  # which may have ended it
            if future.done():
                return
            if told is None:
                future.set_result(done.result())
            else:
                future.set_exception(told)

        reference.future().add_done_callback(lambda done: self._loop.call_soon_threadsafe(settle, done))
        try:
            answer = await future
        finally:
            self._calls.discard(future)
        self.heard = self._loop.time()  # a host that was slow to start is not silent
        return answer

    def tell(self, method: str, *args: Any) -> None:
        """Call a method of the host, and do not wait."""
        if self.lost is None:
            getattr(self.actor, method).remote(*args)

    def _as_lost(self, error: BaseException) -> BaseException:
        """Return what an error of Ray's means: nothing of ours raises through an actor."""
        import ray

        if isinstance(error, ray.exceptions.RayActorError | ray.exceptions.GetTimeoutError):
            self._fail(error)
            return self.lost or error
        return error

    # --- runs

    async def run(
        self,
        order: RunOrder,
        take: Callable[[list[Event]], None],
        channel: Channel[Event] | None,
        reported: Callable[[OpenedReport], None],
    ) -> RunDone:
        """Have a run of a session done and return its end.

        :param take: gets its events.
        :param reported: hears where the conversation is after a run that was cancelled here.
        :raises HostLostError: if the host is lost; else the run's error, with a note `report`.
        """
        number = next(_runs)
        items = self._runs[number] = asyncio.Queue()
        if self.lost is not None:
            raise self.lost
        try:
            start = asyncio.ensure_future(self.call("start", attrs.evolve(order, run=number)))
            start.add_done_callback(lambda done: _tell_failure(done, items))
            return await self._follow(number, items, take, channel)
        except asyncio.CancelledError:
            self.tell("cancel", number)
            with anyio.CancelScope(shield=True):  # anyio cancels again and again
                await self._wait_end(items, reported)
            raise
        finally:
            del self._runs[number]

    async def _follow(
        self,
        number: int,
        items: asyncio.Queue[Any],
        take: Callable[[list[Event]], None],
        channel: Channel[Event] | None,
    ) -> RunDone:
        unread = 0
        while True:
            item = await items.get()
            if isinstance(item, RunEvents):
                take(item.events)
                if channel is not None:
                    await channel.flow()
                unread += len(item.events)
                if unread >= ACKNOWLEDGE:
                    self.tell("taken", number, unread)
                    unread = 0
            elif isinstance(item, RunDone):
                return item
            elif isinstance(item, RunFailed):
                raise RemoteRunError(item)
            else:
                raise item

    async def _wait_end(self, items: asyncio.Queue[Any], reported: Callable[[OpenedReport], None]) -> None:
        try:
            async with asyncio.timeout(END_S):
                while isinstance(item := await items.get(), RunEvents):
                    pass
                if isinstance(item, RunDone | RunFailed):
                    reported(item.report)
        except TimeoutError:
            pass  # it ends by itself; the next run of the session waits for it there

    # --- what it streams

    async def follow(self) -> None:
        """Read what the host streams until it is lost."""
        try:
            stream = self.actor.pull.options(
                num_returns="streaming", _generator_backpressure_num_objects=64
            ).remote()
            async for reference in stream:
                batch = await reference
                self.heard = self._loop.time()
                for item in batch:
                    self._take(item)
            self.lose("its stream has ended")
        except Exception as error:  # Ray's own errors, of which there are dozens
            self._fail(error)

    def _take(self, item: Any) -> None:
        if isinstance(item, HostBeat):
            self.beat, self.holder = item, item.holder or self.holder
        elif isinstance(item, ToolAsked | ApproverAsked):
            self._on_asked(self, item)
        elif (items := self._runs.get(item.run)) is not None:
            items.put_nowait(item)

    def answer(self, number: int, value: Any = None, error: BaseException | None = None) -> None:
        """Answer what the host has asked."""
        if error is None:
            try:
                self.tell("answer", number, True, pack(value))
                return
            except Exception as failed:  # the value does not pickle
                error = failed
        self.tell("answer", number, False, pack_error(error))

    # --- the end

    @property
    def silent_s(self) -> float:
        """For how many seconds it has said nothing."""
        return self._loop.time() - self.heard

    def _fail(self, error: BaseException) -> None:
        """Take an error of Ray's as the host's end."""
        import ray

        if self.lost is None and isinstance(error, ray.exceptions.ActorDiedError) and ENDED in str(error):
            self.has_ended = True
        self.lose(_why(error), HolderGone(self.holder) if self.has_ended and self.holder else None)

    def lose(self, why: str, gone: HolderGone | None = None) -> None:
        """Take it for lost: everything that waits for it hears so. May be called again.

        :param gone: what is known of its process's end; None if nothing is: the lease has to run out then.
        """
        if self.lost is not None:
            return
        self.gone = gone
        self.lost = HostLostError(self.node.id, why)
        for future in list(self._calls):
            if not future.done():
                future.set_exception(self.lost)
        for items in self._runs.values():
            items.put_nowait(self.lost)
        self._on_lost(self)


class RemoteRunError(Exception):
    """A run has ended with an error on its host; never seen outside."""

    def __init__(self, failed: RunFailed) -> None:
        super().__init__("a run has failed")
        self.error = unpack_error(failed.error)
        self.report: OpenedReport = failed.report
        self.end = failed.end


def _tell_failure(done: asyncio.Future[Any], items: asyncio.Queue[Any]) -> None:
    if not done.cancelled() and (error := done.exception()) is not None:
        items.put_nowait(error)


def _why(error: BaseException) -> str:
    """Return the sentence of Ray's text that says why, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "because" in line), lines[0]).partition(". ")[0][:300]
