"""The daemon: all agents of a configuration, side by side in one event loop."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.abc
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError, SessionBusyError, suggest
from agentd.events import Event
from agentd.registry import Registry
from agentd.turn.transcript import Message
from agentd.types import ToolSpec

from agentd_daemon.agent import AgentWorker
from agentd_daemon.answering import give_answer
from agentd_daemon.config.values import AgentConfig, DaemonConfig
from agentd_daemon.control import AgentStatus, AnswerScope
from agentd_daemon.journal import Journal, JournalledQuestion
from agentd_daemon.notify import Notifier
from agentd_daemon.places import AgentPlace
from agentd_daemon.remote import RemoteSession
from agentd_daemon.sources import ServerPool, ServerShare
from agentd_daemon.state import StateFolder
from agentd_daemon.status import serve_status
from agentd_daemon.supervisor import AgentSupervisor, AgentWatch
from agentd_daemon.waking import TriggerWatch
from agentd_daemon.watch import Watch

__all__ = ["Daemon"]

log = logging.getLogger("agentd.daemon")

OnEvent = Callable[[str, Event], None]


class Daemon:
    """Runs the agents of a configuration until it is told to stop. Implements `agentd_daemon.control.Control`.

        with StateFolder(path) as folder:
            await Daemon(config, folder).run()

    Everything happens in the event loop that `run` is called in, which is asyncio's.

    :param folder: entered, so that no other daemon works in it.
    :param reload: reads the configuration again, for `reload()`. Called in a thread.
    :param place: where the agents' sessions are, if not here; `run` opens and closes it.
    """

    def __init__(
        self,
        config: DaemonConfig,
        folder: StateFolder,
        *,
        reload: Callable[[], DaemonConfig] | None = None,
        place: AgentPlace | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.failures = 0
        """With `once`, how many agents had something go wrong."""
        self.started = anyio.Event()
        self._read_again = reload
        self._place = place
        self._registry = Registry(config=config.plugins)
        self._pool = ServerPool(self._registry.create_tool_sources)
        self._journal: Journal | None = None
        self._supervisors: dict[str, AgentSupervisor] = {}
        self._listeners: list[OnEvent] = []
        self._notifier = Notifier()
        self._stop = anyio.Event()
        self._once = False
        self._working: anyio.abc.TaskGroup

    # --- running -----------------------------------------------------------------------------------

    async def run(self, *, once: bool = False) -> None:
        """Work until `stop()` is called; with `once`, until no agent has anything left to do.

        When it returns, no process that it started is left.

        :raises JournalError: if the journal cannot be used.
        :raises AgentdError: if the place of the sessions cannot be reached.
        """
        self._once = once
        with Journal.open(self.folder.journal) as self._journal:
            async with _opened(self._place):
                await self._run()

    async def _run(self) -> None:
        assert self._journal is not None
        if self._journal.damaged is not None:
            log.error("the journal was damaged; it is kept as %s", self._journal.damaged)
        async with anyio.create_task_group() as group:
            await group.start(serve_status, self.folder.socket, self.agents, self.look)
            group.start_soon(self._notifier.keep_alive)
            async with anyio.create_task_group() as self._working:
                for agent in self.config.agents:
                    self._begin(agent)
                self.started.set()
                self._notifier.ready(len(self.config.agents))
                if self._once:
                    self._working.start_soon(self._stop_when_all_have_ended)
                await self._stop.wait()
                self._notifier.stopping()
                self._working.cancel_scope.cancel()
            group.cancel_scope.cancel()

    async def _stop_when_all_have_ended(self) -> None:
        for supervisor in list(self._supervisors.values()):
            await supervisor.ended.wait()
        self.stop()

    def _begin(self, config: AgentConfig) -> None:
        supervisor = AgentSupervisor(config, self._pool, self._make_worker, self._make_watches)
        self._supervisors[config.name] = supervisor
        self._working.start_soon(self._supervise, supervisor)

    async def _supervise(self, supervisor: AgentSupervisor) -> None:
        good = await supervisor.run(once=self._once)
        self.failures += not good
        if not self._once and self._supervisors.get(supervisor.name) is supervisor:
            del self._supervisors[supervisor.name]

    def _make_worker(self, config: AgentConfig, shares: list[ServerShare]) -> AgentWorker:
        assert self._journal is not None
        return AgentWorker(
            config,
            journal=self._journal,
            folder=self.folder,
            shares=shares,
            registry=self._registry,
            on_event=self._tell,
            place=self._place,
        )

    def _make_watches(self, worker: AgentWorker) -> list[AgentWatch]:
        journal = self._journal
        assert journal is not None
        make = self._registry.create_trigger
        of_triggers = (
            TriggerWatch(worker, t, partial(make, t.kind, t.options), journal, once=self._once)
            for t in worker.config.triggers
        )
        of_subscriptions = (
            Watch(worker, s, journal, first_counts=self._once) for s in worker.config.wakers()
        )
        return [*of_subscriptions, *of_triggers]

    def _tell(self, agent: str, event: Event) -> None:
        for listener in list(self._listeners):
            try:
                listener(agent, event)
            except Exception:  # whoever listens is no reason to stop working: a pipe that nobody reads, say
                log.exception("a listener to the agents' events failed and is left out from now on")
                self._listeners = [other for other in self._listeners if other is not listener]

    # --- the configuration -------------------------------------------------------------------------

    async def reload(self) -> None:
        """Read the configuration again. What has not changed goes on undisturbed; what has, after its task at hand.

        A configuration that cannot be used is told in the log, and the old one stays. With `once` nothing is read.
        To be called again when it has returned.
        """
        if self._read_again is None or self._once:
            return
        await self.started.wait()
        self._notifier.reloading()
        try:
            # A file that cannot be read to its end, such as a pipe, must not keep the daemon from ending.
            config = await call_in_thread(self._read_again, abandon=True, unbounded=True)
        except ConfigError as error:
            log.error("the configuration was not reloaded, the old one stays:\n%s", error)
        except Exception:  # nothing that a file holds ends the daemon
            log.exception("the configuration was not reloaded, the old one stays")
        else:
            self._adopt(config)
        self._notifier.ready(len(self.config.agents))

    def _adopt(self, config: DaemonConfig) -> None:
        if any(
            getattr(config, key) != getattr(self.config, key) for key in ("plugins", "state_dir", "store")
        ):
            log.warning(
                "`plugins`, `state_dir` and `store` are read at the start only; restart the daemon to change them"
            )
        wanted = {agent.name: agent for agent in config.agents}
        for name, supervisor in self._supervisors.items():
            if wanted.get(name) != supervisor.config:
                log.info("%s: %s", name, "changed" if name in wanted else "removed")
                supervisor.change(wanted.get(name))
        for name, agent in wanted.items():
            if name not in self._supervisors:
                log.info("%s: added", name)
                self._begin(agent)
        order = {name: index for index, name in enumerate(wanted)}
        self._supervisors = dict(
            sorted(self._supervisors.items(), key=lambda item: order.get(item[0], len(order)))
        )
        self.config = config
        log.info("the configuration was reloaded: %d agents", len(wanted))

    # --- Control -----------------------------------------------------------------------------------

    def agents(self) -> list[AgentStatus]:
        """Return how every agent is now."""
        return [supervisor.status for supervisor in self._supervisors.values()]

    async def submit(self, agent: str, text: str) -> str:
        """Give the agent a person's message; see `Control`."""
        assert self._journal is not None
        supervisor = self._find(agent)
        if supervisor.config is None:
            raise ConfigError(f"the agent {agent!r} is no longer in the configuration and is ending")
        trigger = self._journal.accept(agent, origin="repl", task=text)
        if supervisor.worker is not None:
            supervisor.worker.wake()
        return trigger.id

    def listen(self, on_event: OnEvent) -> Callable[[], None]:
        """Tell of the events of all agents; see `Control`."""
        self._listeners.append(on_event)

        def end() -> None:
            if on_event in self._listeners:
                self._listeners.remove(on_event)

        return end

    def cancel(self, agent: str) -> bool:
        """End the agent's turn; see `Control`."""
        return self._worker(agent).cancel_turn()

    def resume(self, agent: str) -> bool:
        """Let a parked agent try again; see `Control`."""
        return self._worker(agent).resume()

    def questions(self) -> list[JournalledQuestion]:
        """Return the questions without an answer; see `Control`."""
        assert self._journal is not None
        return self._journal.questions()

    def answer(self, id: str, *, allowed: bool, scope: AnswerScope = "once", reason: str = "") -> str:
        """Answer a question; see `Control`."""
        assert self._journal is not None
        by = "a person at the prompt"
        given = give_answer(self._journal, id, allowed=allowed, scope=scope, reason=reason, by=by)
        self.look()
        return given.what_follows(runs=True)

    def look(self) -> None:
        """See which questions have been answered, perhaps by another process."""
        for supervisor in self._supervisors.values():
            if supervisor.worker is not None:
                supervisor.worker.questions.look()

    async def tools(self, agent: str) -> list[ToolSpec]:
        """Return the agent's tools; see `Control`."""
        session = self._worker(agent).session
        if isinstance(session, RemoteSession):
            return await session.tools()
        return [spec for share in self._worker(agent).shares for spec in await share.list_tools()]

    def history(self, agent: str, limit: int = 20) -> list[Message]:
        """Return the end of the agent's conversation; see `Control`."""
        return self._worker(agent).transcript.messages[-limit:]

    async def snapshot(self, agent: str, label: str | None = None) -> str:
        """Keep a checkpoint; see `Control`."""
        session = self._worker(agent).session
        if session is None:
            raise SessionBusyError("snapshot")
        return (await session.checkpoint(label)).id

    async def rewind(self, agent: str, wanted: str) -> str:
        """Go back to a checkpoint; see `Control`."""
        assert self._journal is not None
        session = self._worker(agent).session
        if session is None:
            raise SessionBusyError("rewind")
        checkpoint = await session.rewind(wanted)
        self._journal.save_transcript(agent, session.transcript)
        return checkpoint.id

    def stop(self) -> None:
        """End what runs, and `run`."""
        self._stop.set()

    def _find(self, agent: str) -> AgentSupervisor:
        try:
            return self._supervisors[agent]
        except KeyError:
            known: Sequence[str] = list(self._supervisors)
            listed = ", ".join(map(repr, known)) or "none"
            raise ConfigError(f"no agent {agent!r}; there are: {listed}{suggest(agent, known)}") from None

    def _worker(self, agent: str) -> AgentWorker:
        supervisor = self._find(agent)
        if supervisor.worker is None:
            reason = supervisor.status.last_error or "it is just being started"
            raise ConfigError(f"the agent {agent!r} does not work now: {reason}")
        return supervisor.worker


@asynccontextmanager
async def _opened(place: AgentPlace | None) -> AsyncIterator[None]:
    if place is None:
        yield
        return
    try:
        await place.open()
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await place.aclose()
