"""The host: one actor for each node, which has hundreds of sessions in its one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from importlib import import_module
from importlib.metadata import version
from typing import Any, Concatenate, Final, ParamSpec
from weakref import WeakValueDictionary

import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError
from agentd.events import RunEnd
from agentd_store import LeaseLostError
from agentd_store.holder import HolderGone, take_as_gone

from agentd_ray.carrying import pack, pack_error, unpack
from agentd_ray.errors import SessionLeftError
from agentd_ray.host_counters import HostCounters
from agentd_ray.host_folder import HostFolder
from agentd_ray.hosted import HostedSession
from agentd_ray.opening import HostedSessionMaker, executor_fault
from agentd_ray.outbox import HostOutbox
from agentd_ray.priority import have_children_give_way
from agentd_ray.status import DriverStatus, HostStatus, tree_mib
from agentd_ray.wire import (
    HostBeat,
    HostSettings,
    OpenedReport,
    RunDone,
    RunEvents,
    RunFailed,
    RunOrder,
    SessionOrder,
)

__all__ = ["CREDIT", "FleetHost"]

log = logging.getLogger("agentd.fleet")

P = ParamSpec("P")
CREDIT: Final = 2048
"""Events of one run that are on their way to a driver who has not said that it has taken them."""
PARENT_S: Final = 0.25
RETURN_S: Final = 5.0
"""For how long a run waits, at most, until the sessions of a lost host are open here."""
END_S: Final = 5.0
"""How long runs and calls may take to end when the fleet is closed."""
OPENINGS: Final = 16
"""Sessions that are opened at once: those that are open here need threads, too."""
WARM: Final = (
    "agentd_policy.policy",
    "agentd_skills.plugin",
    "agentd_snapshots.timeline",
    "agentd_store.snapshots",
    "agentd_tools.toolset",
)
METHODS: Final = (
    "checkpoint",
    "continue_from",
    "delete_checkpoint",
    "ended",
    "forget_last",
    "prepare",
    "rewind",
    "tools",
)


def _answering(
    method: Callable[Concatenate[FleetHost, P], Awaitable[object]],
) -> Callable[Concatenate[FleetHost, P], Coroutine[Any, Any, tuple[bool, bytes]]]:
    """Have a method return its value or its error as bytes: Ray would wrap an error and lose its class."""

    @wraps(method)
    async def answer(self: FleetHost, *args: P.args, **kwargs: P.kwargs) -> tuple[bool, bytes]:
        try:
            return True, pack(await method(self, *args, **kwargs))
        except Exception as error:  # whatever a session raises goes to whoever asked
            return False, pack_error(error)

    return answer  # type: ignore[return-value]  # wraps() loses that it can be bound


class _HostedRun:
    """A run under way: its task, and how many events the driver has not taken yet."""

    def __init__(self, order: RunOrder) -> None:
        self.order = order
        self.task: asyncio.Task[None] | None = None
        self.unread = 0
        self.room = asyncio.Event()
        self.end: RunEnd | None = None


class FleetHost:
    """An asyncio actor. Its methods return at once or soon; what runs tell goes by `pull`."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self._folder = HostFolder(
            settings.folder, fleet=settings.fleet, node=settings.node, name=settings.name
        )
        self._folder.make()
        self._opening = asyncio.Semaphore(OPENINGS)
        self._has_opened = False
        self._returning = 0
        self._are_back = asyncio.Event()
        self._are_back.set()
        self._sessions: dict[str, HostedSession] = {}
        self._orders: dict[str, SessionOrder] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._runs: dict[int, _HostedRun] = {}
        self._calls: set[asyncio.Task[Any]] = set()
        self._outbox: HostOutbox | None = None
        self._counters = HostCounters(settings.fleet)
        self._driver: DriverStatus | None = None
        self._heard = 0.0
        self._lag_s = 0.0
        self._maker: HostedSessionMaker | None = None
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        threading.Thread(target=self._folder.clear, args=(settings.stale,), daemon=True).start()

    @property
    def _out(self) -> HostOutbox:
        """The outbox, made in the event loop."""
        if self._outbox is None:
            self._outbox = HostOutbox(self._beat, self._settings.beat_s)
            self._maker = HostedSessionMaker(self._settings, self._outbox, self._folder.path)
        return self._outbox

    async def about(self) -> dict[str, Any]:
        """Say what this host is, once it can be used."""
        _ = self._out
        await call_in_thread(_warm_up)  # imports would stop the loop when the first session is opened
        trial = self._folder.path / "trial"
        fault = await call_in_thread(partial(executor_fault, self._settings.executor, trial))
        return {
            "pid": os.getpid(),
            "node": self._settings.node,
            "agentd": version("agentd-core"),
            "fault": fault,
        }

    async def status(self) -> HostStatus:
        """Return how this host is; of this very class, as it may be asked by any program of the cluster."""
        now = {name: session.report() for name, session in self._sessions.items()}
        states = self._states()
        counted, usage = self._counters, self._counters.usage
        memory_mib = await call_in_thread(partial(tree_mib, os.getpid()))
        return HostStatus(
            fleet=self._settings.fleet,
            node=self._settings.node,
            name=socket.gethostname(),
            pid=os.getpid(),
            version=version("agentd-core"),
            up_s=time.monotonic() - counted.began,
            memory_mib=memory_mib,
            free_mib=_free_mib(),
            loop_lag_s=self._lag_s,
            runs=counted.runs,
            failed=counted.failed,
            turns=counted.turns,
            tokens=usage.total_tokens,
            cost_usd=usage.cost_usd,
            sessions=counted.states(
                {name: (states[name], one.answers, one.usage) for name, one in now.items()}
            ),
            driver=self._driver and attrs.evolve(self._driver, age_s=time.monotonic() - self._heard),
            is_spare=self._settings.is_spare and not self._has_opened,
        )

    async def hear(self, driver: DriverStatus) -> None:
        """Keep what the driver says, for whoever asks `status`."""
        self._driver, self._heard = driver, time.monotonic()

    def _states(self) -> dict[str, str]:
        running = {run.order.conversation for run in self._runs.values()}
        return {
            name: "leaving" if session.is_leaving else "running" if name in running else "idle"
            for name, session in self._sessions.items()
        }

    async def pull(self) -> AsyncIterator[list[Any]]:
        """Stream what runs tell, in batches; for ever."""
        async for batch in self._out.batches():
            yield batch

    def _beat(self, lag_s: float) -> HostBeat:
        self._lag_s = lag_s
        have_children_give_way()  # servers of tools; what runs code has that priority from its start
        self._counters.see(states := self._states())
        self._counters.publish(Counter(states.values()), loop_lag_s=lag_s)
        return HostBeat(
            sessions=len(self._sessions),
            running=len(self._runs),
            free_mib=_free_mib(),
            loop_lag_s=lag_s,
            holder="" if self._maker is None else self._maker.holder_id,
        )

    # --- sessions

    @_answering
    async def open(self, order: SessionOrder) -> OpenedReport:
        """Open a conversation."""
        async with self._alone(order.conversation):
            if order.conversation in self._sessions:
                await self._close(order.conversation)
            return await self._open(order)

    async def _open(self, order: SessionOrder) -> OpenedReport:
        _, self._has_opened = self._out, True
        assert self._maker is not None
        for gone in order.gone:
            take_as_gone(gone)
        await self._maker.hold()
        with self._returns() if order.is_again else contextlib.nullcontext():
            async with self._opening:
                session = await self._maker.open(order)
        self._sessions[order.conversation], self._orders[order.conversation] = session, order
        return session.report()

    @contextmanager
    def _returns(self) -> Iterator[None]:
        """Have runs wait a moment: one that begins takes the processor from sessions that are to come back."""
        self._returning += 1
        self._are_back.clear()
        try:
            yield
        finally:
            self._returning -= 1
            if not self._returning:
                self._are_back.set()

    @_answering
    async def close(self, conversation: str, forget: bool = False) -> None:
        """Close a conversation, and remove its workspace here if it is to be forgotten. One that is being opened is
        closed then: whoever wanted it has gone."""
        async with self._alone(conversation):
            await self._close(conversation, forget)

    def _alone(self, conversation: str) -> asyncio.Lock:
        """Have a conversation opened or closed once at a time."""
        return self._locks.setdefault(conversation, asyncio.Lock())

    async def _close(self, conversation: str, forget: bool = False) -> None:
        session = self._sessions.pop(conversation, None)
        self._orders.pop(conversation, None)
        if session is not None:
            await session.keep_changes()
            await session.aclose()
        if forget and self._maker is not None:
            await self._maker.forget(conversation)

    @_answering
    async def call(self, conversation: str, method: str, arguments: bytes) -> object:
        """Call a method of a session; see `METHODS`."""
        session, task = self._session(conversation), asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        try:
            return await self._called(session, conversation, method, unpack(arguments))
        finally:
            self._calls.discard(task)

    async def _called(
        self, session: HostedSession, conversation: str, method: str, given: dict[str, Any]
    ) -> object:
        if method == "checkpoints":
            return session.checkpoints()
        if method == "transcript":
            return session.transcript.as_dict()
        if method == "fork":
            assert self._maker is not None
            return await self._maker.fork(session, self._orders[conversation], **given)
        if method not in METHODS:
            raise ConfigError(f"{method}: a session of a fleet has no such method")
        value = await getattr(session, method)(**given)
        if method in ("rewind", "forget_last", "continue_from"):
            await session.keep_changes(always=True)
            return value, session.report()
        return value

    @_answering
    async def watch(self, holder: str) -> HolderGone | None:
        """Return what the store knows of another host's end; None if that shows within its lease that it lives."""
        _ = self._out
        assert self._maker is not None
        return await call_in_thread(partial(self._maker.watch, holder))

    @_answering
    async def leave(self, conversation: str) -> None:
        """Have a session end its run at the next turn's border."""
        if (session := self._sessions.get(conversation)) is not None:
            session.is_leaving = True

    def _session(self, conversation: str) -> HostedSession:
        if conversation not in self._sessions:
            raise ConfigError(f"the conversation {conversation!r} is not open on this host")
        return self._sessions[conversation]

    # --- runs

    @_answering
    async def start(self, order: RunOrder) -> None:
        """Begin a run; what it tells goes by `pull`."""
        session = self._session(order.conversation)
        run = self._runs[order.run] = _HostedRun(order)
        run.task = asyncio.create_task(self._drive(session, run))

    async def cancel(self, number: int) -> None:
        """End a run. Its end is told as every one is."""
        run = self._runs.get(number)
        if run is not None and run.task is not None:
            run.task.cancel()

    async def taken(self, number: int, events: int) -> None:
        """Hear that the driver has taken events of a run."""
        if (run := self._runs.get(number)) is not None:
            run.unread -= events
            run.room.set()

    async def answer(self, number: int, ok: bool, data: bytes) -> None:
        """Hear what a function of the driver's has returned."""
        self._out.answer(number, ok, data)

    async def _drive(self, session: HostedSession, run: _HostedRun) -> None:
        number, before = run.order.run, session.report()
        failed = True
        try:
            value = await self._run(session, run)
            await session.settle_kept()
            await session.keep_end(run.order.key, run.end or value)
            self._out.put(RunDone(number, pack(value), session.report()))
            failed = False
        except (Exception, asyncio.CancelledError) as error:
            await _kept_after(session, error)
            self._out.put(RunFailed(number, pack_error(error), session.report(), run.end))
        finally:
            del self._runs[number]
            now = session.report()
            self._counters.ended(now.answers - before.answers, before.usage, now.usage, failed=failed)

    async def _run(self, session: HostedSession, run: _HostedRun) -> object:
        order = run.order
        output = None if order.output is None else unpack(order.output)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETURN_S):
                await self._are_back.wait()
        with session.going_on(order.spent) as end:
            if end is not None:
                run.end = session.end_run(end, output)
                return run.end
            if not order.wants_events:
                return await session.ask(order.task, output=output)
            return await self._tell(session, run, output)

    async def _tell(self, session: HostedSession, run: _HostedRun, output: Any) -> RunEnd | None:
        """Have a run done, and tell its events."""
        order = run.order
        async with session.run(order.task, output=output) as events:
            while batch := await events.batch():
                if isinstance(
                    end := batch[-1], RunEnd
                ):  # told with what ended the run: it may go on elsewhere
                    run.end = end
                    batch.pop()
                if batch:
                    self._out.put(RunEvents(order.run, batch))
                run.unread += len(batch)
                while run.unread >= CREDIT:
                    run.room.clear()
                    await run.room.wait()
        return run.end

    # --- the end

    async def stop(self, stale: Sequence[str] = ()) -> None:
        """Close all sessions and remove what lies here, and what lost actors have left."""
        runs = [run.task for run in self._runs.values() if run.task is not None]
        for task in runs:
            task.cancel()
        if under_way := [*runs, *self._calls]:  # they keep what they did, before their sessions let go
            await asyncio.wait(under_way, timeout=END_S)
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.aclose() for session in sessions), return_exceptions=True)
        if self._maker is not None:
            await call_in_thread(self._maker.end)
        await call_in_thread(partial(self._folder.clear, stale))
        await call_in_thread(self._folder.remove)


def _warm_up() -> None:
    for name in WARM:
        import_module(name)


async def _kept_after(session: HostedSession, error: BaseException) -> None:
    """Keep what a run did that an error has ended, if this host may still do so."""
    if isinstance(error, LeaseLostError | SessionLeftError):
        return
    try:
        await session.keep_changes()
    except Exception as failed:  # the run's own error is what is told
        log.warning("what the run did could not be kept: %s", failed)


def _end_with_parent(parent: int) -> None:
    """End this process when the node's daemon is gone: Ray's own look takes a raylet that nobody has waited for to be
    alive, and a host that lives on keeps its sessions from all others."""
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os._exit(1)


def _free_mib() -> int:
    """Return how much memory the machine has left."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) // 1024
    except (OSError, ValueError, IndexError):
        pass
    return 1 << 20  # a machine that does not say
