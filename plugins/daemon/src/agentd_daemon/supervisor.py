"""An agent's supervisor: starts its worker and watches again when they fail or their configuration changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import anyio
import attrs
from agentd.errors import AgentdError
from agentd_tools.backoff import Backoff

from agentd_daemon.agent import AgentWorker
from agentd_daemon.config.values import AgentConfig
from agentd_daemon.control import AgentState, AgentStatus
from agentd_daemon.sources import ServerPool, ServerShare

__all__ = ["AgentSupervisor", "AgentWatch", "MakeWorker"]

log = logging.getLogger("agentd.daemon")

MakeWorker = Callable[[AgentConfig, list[ServerShare]], AgentWorker]
LONGEST_WAIT_S: Final = 300.0


class AgentWatch(Protocol):
    """What wakes an agent: a subscription, or a trigger. `error` says why it does not work now, if so."""

    error: str

    async def run(self) -> None:
        """Watch until cancelled; whatever fails is tried again."""
        ...

    async def once(self) -> None:
        """Look a single time. Raises `AgentdError`."""
        ...


class AgentSupervisor:
    """Keeps one agent at work, whatever becomes of it. Its failure is nobody else's.

    :param make_worker: makes the worker for a configuration and the shares of its servers.
    :param make_watches: makes a watch for each subscription and trigger; they wake the worker.
    """

    def __init__(
        self,
        config: AgentConfig,
        pool: ServerPool,
        make_worker: MakeWorker,
        make_watches: Callable[[AgentWorker], Sequence[AgentWatch]],
    ) -> None:
        self.config: AgentConfig | None = config
        self.name = config.name
        self.worker: AgentWorker | None = None
        self.watches: tuple[AgentWatch, ...] = ()
        self.ended = anyio.Event()
        self._pool = pool
        self._make_worker = make_worker
        self._make_watches = make_watches
        self._error = ""
        self._changed = anyio.Event()

    @property
    def status(self) -> AgentStatus:
        """How the agent is now."""
        if self.worker is not None:
            status = self.worker.status
            problem = next((watch.error for watch in self.watches if watch.error), "")
            return attrs.evolve(status, last_error=status.last_error or problem)
        state: AgentState = "retrying" if self._error else "starting"
        return AgentStatus(name=self.name, state=state, queued=0, last_error=self._error)

    def change(self, config: AgentConfig | None) -> None:
        """Go over to another configuration, None to end, once the trigger at hand is done."""
        self.config = config
        self._changed.set()
        if self.worker is not None:
            self.worker.leave()

    async def run(self, *, once: bool = False) -> bool:
        """Keep the agent at work until it is to end; with `once`, until there is nothing left to do.

        :return: whether all went well; of interest with `once` only.
        """
        backoff = Backoff(first_s=1.0, longest_s=LONGEST_WAIT_S)
        try:
            while self.config is not None:
                self._changed = anyio.Event()
                began = anyio.current_time()
                try:
                    good = await self._live(self.config, once=once)
                except Exception as error:  # the agent's boundary: the others go on
                    self._tell(_bare(error))
                    if anyio.current_time() - began > LONGEST_WAIT_S:
                        backoff.reset()
                    good = False
                else:
                    self._error = ""
                    backoff.reset()
                if once:
                    return good
                if self._error:
                    with anyio.move_on_after(backoff.next_s()):
                        await self._changed.wait()
            return True
        finally:
            self.ended.set()

    def _tell(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        if not isinstance(error, AgentdError):
            log.error("%s: failed, and starts again", self.name, exc_info=error)
        elif text != self._error:
            log.error("%s: cannot work: %s", self.name, text)
        self._error = text

    async def _live(self, config: AgentConfig, *, once: bool) -> bool:
        """Let the agent work with one configuration, until that changes or it fails."""
        shares: list[ServerShare] = []
        try:
            shares.extend(map(self._pool.share, config.mcp_servers))
            self.worker = worker = self._make_worker(config, shares)
            self.watches = tuple(self._make_watches(worker))
            return await (self._work_once(worker) if once else self._work(worker))
        finally:
            self.worker, self.watches = None, ()
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for share in shares:
                        group.start_soon(self._pool.give_back, share)

    async def _work(self, worker: AgentWorker) -> bool:
        async with anyio.create_task_group() as group:
            for watch in self.watches:
                group.start_soon(watch.run)
            await worker.run()
            group.cancel_scope.cancel()
        return True

    async def _work_once(self, worker: AgentWorker) -> bool:
        good = True
        for watch in self.watches:
            try:
                await watch.once()
            except (AgentdError, TimeoutError) as error:
                log.error("%s: %s", self.name, error)
                good = False
        async with anyio.create_task_group() as group:

            async def give_up() -> None:
                await worker.parked.wait()
                worker.leave()

            group.start_soon(give_up)
            await worker.run(until_empty=True)
            group.cancel_scope.cancel()
        return good and not worker.failures


def _bare(error: Exception) -> Exception:
    """Return the error that a task group has wrapped."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
