"""A session of a fleet: `Session`'s methods, whichever host it is on."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

import anyio
import attrs
from agentd._concurrency.channel import Channel
from agentd.errors import ConfigError, MissingPluginError, SandboxUnavailableError, SessionBusyError
from agentd.events import Event, RunEnd, SourceLog
from agentd.protocols import Checkpoint
from agentd.selectors import Selector
from agentd.session.run import Run
from agentd.turn.transcript import Message, Transcript
from agentd.types import Usage
from agentd_store import ConversationInUseError, LeaseLostError, StoreError
from agentd_store.holder import HolderGone

from agentd_ray.carrying import pack, unpack
from agentd_ray.errors import FleetError, HostLostError, SessionLeftError, not_opened
from agentd_ray.handle import HostHandle, RemoteRunError
from agentd_ray.moving import MovedRun
from agentd_ray.placing import HostPlaces
from agentd_ray.session_calls import SessionCalls
from agentd_ray.wire import OpenedReport, RunOrder, SessionOrder

if TYPE_CHECKING:
    from agentd_tools import ToolSet
    from agentd_tools.answer_form import JsonForm

__all__ = ["FleetSession"]

T = TypeVar("T")
AGAIN_S = 0.2


class SessionFleet(Protocol):
    """What a session asks of its fleet."""

    places: HostPlaces
    takeover_s: float

    def start_soon(self, function: Callable[..., Any], *args: Any) -> None: ...

    async def adopt(self, session: FleetSession) -> FleetSession: ...

    def forget(self, session: FleetSession) -> None: ...

    def moved(self, session: FleetSession, text: str) -> None: ...


class FleetSession(SessionCalls):
    """A conversation of a fleet. Made by `Fleet.session`; an async context manager.

    It is on one host at a time, or asleep: then it is in the store alone, and wakes with the next call. When its host
    is lost, it goes on elsewhere from its last turn, and so does a run that is under way.

    :ivar conversation_id: its name in the store.
    """

    def __init__(
        self,
        fleet: SessionFleet,
        order: SessionOrder,
        *,
        needs: Mapping[str, float],
        functions: Sequence[Any] = (),
        approver: Any = None,
    ) -> None:
        self.conversation_id = order.conversation
        self.needs = dict(needs)
        self.functions = functions
        self._tools: ToolSet | None = None
        self.approver = approver
        self.idle_since = time.monotonic()
        self.moves = 0
        self._fleet = fleet
        self._order = order
        self._host: HostHandle | None = None
        self._node = ""
        self._report = OpenedReport(messages=0)
        self._busy = asyncio.Lock()
        self._was_lost = False
        self._gone: dict[str, HolderGone] = {}
        self._closed = anyio.Event()
        self._scope: anyio.CancelScope | None = None

    # --- what can be asked

    @property
    def node(self) -> str:
        """The id of the node that it is on; empty if it is asleep."""
        return self._host.node.id if self._host is not None and self._host.lost is None else ""

    @property
    def is_asleep(self) -> bool:
        """True if it is in the store alone."""
        return self._host is None

    @property
    def is_busy(self) -> bool:
        """True while a run, or another call, is under way."""
        return self._busy.locked()

    @property
    def report(self) -> OpenedReport:
        """Where the conversation was after the last call."""
        return self._report

    @property
    def usage(self) -> Usage:
        """The tokens of all runs so far, as of the last call."""
        return self._report.usage

    @property
    def cost_usd(self) -> float | None:
        """What all runs have cost, or None without a price for the model."""
        return self.usage.cost_usd

    async def transcript(self) -> Transcript:
        """Return a copy of what was said and done."""
        return Transcript.from_dict(await self._call("transcript"))

    # --- running

    def run(self, task: str | list[Any], *, output: Any = None, key: str = "") -> Run:
        """As `Session.run`: the same events, as they happen. When the run goes on elsewhere, a `SourceLog` of the
        source `fleet` says so, and the events of the turn that is done again follow.

        :param key: names the run: how it has ended is in the store before that is told, and `ended` returns it.
        """
        self._check_open()
        Message.of_task(task)

        async def work(channel: Channel[Event]) -> None:
            await self._drive(task, output, channel, key)

        return Run(lambda state: self._fleet.start_soon(state.drive, work))

    @overload
    async def ask(self, task: str | list[Any], *, output: None = None) -> RunEnd: ...
    @overload
    async def ask(self, task: str | list[Any], *, output: type[T]) -> T: ...
    @overload
    async def ask(self, task: str | list[Any], *, output: Any) -> Any: ...
    async def ask(self, task: str | list[Any], *, output: Any = None) -> Any:
        """As `Session.ask`."""
        self._check_open()
        Message.of_task(task)
        return await self._drive(task, output, None)

    async def _drive(self, task: Any, output: Any, channel: Channel[Event] | None, key: str = "") -> Any:
        """Have a task done, wherever that may be."""
        from agentd_tools.answer_form import form_of

        message = Message.of_task(task)
        form = None if output is None else form_of(output)
        run = MovedRun(list(message.parts) or message.content)
        order = RunOrder(
            conversation=self.conversation_id,
            task=run.task,
            output=None if output is None else pack(output),
            wants_events=channel is not None,
            key=key,
        )
        async with self._held():
            self._check_open()  # it may have been closed while this waited
            with anyio.CancelScope() as self._scope:
                return await self._driven(run, order, form, channel)
        if channel is None:
            raise ConfigError("ask: this session was closed meanwhile")
        return None

    async def _driven(
        self, run: MovedRun, order: RunOrder, form: JsonForm | None, channel: Channel[Event] | None
    ) -> Any:
        await self._wake()
        run.before = self._report
        while True:
            try:
                return await self._done(run, order, channel)
            except HostLostError as lost:
                await self._move(f"{lost}; the turn that was under way is done again", channel)
                left = False
            except SessionLeftError:
                await self._leave(channel)
                left = True
            end = run.end_of(self._report)
            if end is not None and (form is None or not form.review(end.text)):
                if channel is not None:
                    channel.put(end)
                return end if form is None or channel is not None else form.read(end.text)
            spent = run.spent(self._report)
            order = attrs.evolve(order, task=run.told(self._report, left=left), spent=spent)

    def _reported(self, report: OpenedReport) -> None:
        self._report = report

    async def _done(self, run: MovedRun, order: RunOrder, channel: Channel[Event] | None) -> Any:
        """Have a run done on the host, and return what `ask` returns. Raises the run's own error."""
        host = self._host
        assert host is not None
        try:
            done = await host.run(order, partial(_take, run, channel), channel, self._reported)
        except RemoteRunError as failed:
            self._report = failed.report
            if isinstance(failed.error, SessionLeftError):
                raise failed.error from None
            if isinstance(failed.error, LeaseLostError):  # another process has the conversation now
                await self._fall_asleep()
            if channel is not None and failed.end is not None:
                channel.put(run.end(failed.end, failed.report))
            if isinstance(failed.error, asyncio.CancelledError):  # nobody has cancelled who waits here
                raise FleetError(
                    f"the run of {self.conversation_id!r} was ended on {host}: the fleet is closed"
                ) from None
            raise failed.error from None
        self._report = done.report
        value = unpack(done.value)
        if isinstance(value, RunEnd):
            value = run.end(value, done.report)
            if channel is not None:
                channel.put(value)
        return value

    # --- where it is

    async def open(self) -> FleetSession:
        """Open it on a host; `Fleet.session` does."""
        async with self._held():
            await self._wake()
        return self

    def give_up(self) -> None:
        """It could not be opened."""
        self._closed.set()
        self._fleet.forget(self)

    async def serve_tools(self) -> None:
        """Run async functions that stay here on this event loop, until the session is closed."""
        from agentd_tools.toolset import ToolSet

        self._tools = ToolSet(self.functions)
        async with anyio.create_task_group() as group:
            await group.start(self._tools.serve)
            await self._closed.wait()
            group.cancel_scope.cancel()

    async def call_tool(self, name: str, arguments: Mapping[str, object]) -> object:
        """Call a function that stays here. Raises `ToolError`."""
        assert self._tools is not None
        names = {binding.spec.name: binding.python_name for binding in self._tools.bindings}
        return await self._tools.call(names.get(name, name), arguments)

    async def _wake(self) -> None:
        """Have it on a host that lives."""
        if self._host is not None and self._host.lost is not None:
            self._was_lost = True
            self._know_lost(self._host)
            self._let_go()
        if self._host is None:
            await self._open_somewhere()

    async def _open_somewhere(self) -> None:
        fleet = self._fleet
        due = time.monotonic() + fleet.takeover_s
        while True:
            host = await fleet.places.take(self.conversation_id, self.needs, self._node)
            try:
                order = attrs.evolve(self._order, is_again=self._was_lost, gone=(*self._gone.values(),))
                self._report = await host.call("open", order)
            except HostLostError:
                self._know_lost(host)  # it may have opened it
                fleet.places.release(host, self.conversation_id, self.needs)
                continue
            except ConversationInUseError:  # who had it is not known to be gone yet, or is cut off and lives
                fleet.places.release(host, self.conversation_id, self.needs)
                if time.monotonic() > due:
                    raise
                await asyncio.sleep(AGAIN_S)
                continue
            except (MissingPluginError, SandboxUnavailableError) as error:
                fleet.places.release(host, self.conversation_id, self.needs)
                raise FleetError(not_opened(host, self.conversation_id, error)) from error
            except StoreError as error:  # each node has credentials of its own
                fleet.places.release(host, self.conversation_id, self.needs)
                raise StoreError(f"on the node {host}: {error}", errno=error.errno) from error
            except BaseException as error:
                if isinstance(error, asyncio.CancelledError):  # the host goes on, and would keep it
                    host.tell("close", self.conversation_id, True)
                fleet.places.release(host, self.conversation_id, self.needs)
                raise
            self._host, self._node, self._was_lost = host, host.node.id, False
            host.holder = self._report.holder or host.holder
            self._gone.clear()
            return

    def _know_lost(self, host: HostHandle) -> None:
        if host.gone is not None:
            self._gone[host.gone.id] = host.gone

    @property
    def is_moving(self) -> bool:
        """True while it is opened again after its host was lost."""
        return self._was_lost and self._busy.locked()

    async def _move(self, why: str, channel: Channel[Event] | None) -> None:
        """Go on elsewhere, after the host was lost."""
        began = time.monotonic()
        await self._wake()
        self.moves += 1
        assert self._host is not None
        text = f"{why}; {self.conversation_id} is on {self._host} now, after {time.monotonic() - began:.1f} s"
        self._fleet.moved(self, text)
        if channel is not None:
            channel.put(SourceLog(source="fleet", level="warning", text=text))

    async def _leave(self, channel: Channel[Event] | None) -> None:
        """Go on elsewhere, from a turn's border."""
        before = self._host
        await self._fall_asleep()
        self._node = ""
        await self._wake()
        self.moves += 1
        text = f"{self.conversation_id} has left {before} at a turn's border, and is on {self._host} now"
        self._fleet.moved(self, text)
        if channel is not None:
            channel.put(SourceLog(source="fleet", level="info", text=text))

    def _let_go(self) -> None:
        if self._host is not None:
            self._fleet.places.release(self._host, self.conversation_id, self.needs)
            self._host = None

    async def sleep(self) -> None:
        """Close it on its host; it is in the store, and wakes with the next call. Waits for a run under way."""
        async with self._held():
            await self._fall_asleep()

    async def _fall_asleep(self, *, forget: bool = False) -> None:
        host = self._host
        if host is not None:
            try:
                await host.call("close", self.conversation_id, forget)
            except HostLostError:
                self._was_lost = True
                self._know_lost(host)
            finally:
                self._let_go()

    async def ask_to_leave(self) -> None:
        """Have it leave its host: now if it is idle, else at the next turn's border."""
        host = self._host
        if host is None:
            return
        if not self._busy.locked():
            await self.sleep()
            return
        try:
            await host.call("leave", self.conversation_id)
        except HostLostError:
            return  # it moves anyway

    # --- checkpoints

    async def fork(
        self, wanted: Selector | Checkpoint | None = None, *, conversation_id: str | None = None
    ) -> FleetSession:
        """Return a second session that goes on from a checkpoint of this one, on whichever host, as a conversation of
        its own. It has the settings of this one."""
        name = conversation_id or f"{self.conversation_id}-fork-{secrets.token_hex(4)}"
        await self._call("fork", wanted=wanted, conversation=name)
        order = attrs.evolve(self._order, conversation=name)
        return await self._fleet.adopt(
            FleetSession(
                self._fleet, order, needs=self.needs, functions=self.functions, approver=self.approver
            )
        )

    async def _call(self, method: str, **arguments: Any) -> Any:
        self._check_open()
        if self._busy.locked():
            raise SessionBusyError(method)
        async with self._held():
            while True:
                await self._wake()
                assert self._host is not None
                try:
                    return await self._host.call("call", self.conversation_id, method, pack(arguments))
                except HostLostError:
                    continue

    # --- the end

    async def aclose(self) -> None:
        """End a run under way and close the session; it stays in the store. May be called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._scope is not None:
            self._scope.cancel()
        try:
            async with self._busy:
                await self._fall_asleep(forget=True)
        finally:
            self._fleet.forget(self)

    async def __aenter__(self) -> FleetSession:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ConfigError(
                f"the session {self.conversation_id!r} is closed; fleet.session(conversation_id=...) opens it again"
            )

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        async with self._busy:
            self.idle_since = float("inf")
            try:
                yield
            finally:
                self.idle_since = time.monotonic()
                self._fleet.places.nudge()


def _take(run: MovedRun, channel: Channel[Event] | None, events: Sequence[Event]) -> None:
    if channel is not None:
        for event in events:
            if (told := run.event(event)) is not None:
                channel.put(told)
