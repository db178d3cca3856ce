"""`ExecutorShell`: the state of an executor's shell, asked for and replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import anyio
from agentd._concurrency.pool import call_in_thread
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ExecutorError

from agentd_runner.host.pending import Pending
from agentd_runner.inside import frames

if TYPE_CHECKING:
    from agentd_runner.host.connection import Connection

__all__ = ["HUNG_MARGIN_S", "ExecutorShell"]

# Beyond an action's time-out and grace, how long its end may take before the runner counts as hung.
HUNG_MARGIN_S = 10.0


class ExecutorShell:
    """Part of `RunnerExecutor`: what the next bash block starts from, as `agentd.protocols.ShellExecutor` has it."""

    _idents: Iterator[int]
    _note: str
    _unused_shell: Mapping[str, Any] | None
    """What was set, while no block has started from it."""
    _connected: Callable[[], Connection | None]
    _connect: Callable[[], Connection]

    async def shell_state(self) -> Mapping[str, Any] | None:
        """Return what the next bash block starts from; see `agentd.protocols.ShellExecutor`.

        It raises what `run` raises.
        """
        connection = self._connected()
        return self._unused_shell if connection is None else await self._shell(connection, None)

    async def set_shell_state(self, state: Mapping[str, Any] | None) -> None:
        """Have the next bash block start from this state, None for a fresh shell. A kept Python ends.

        :raises ExecutorError: if blocks are running; and what `run` raises.
        """
        connection = self._connected()
        self._unused_shell = None
        if connection is None:
            if state is None:
                return
            connection = await call_in_thread(self._connect)
        await self._shell(connection, {"set": None if state is None else dict(state)})
        self._note = ""  # of a fresh shell, say
        self._unused_shell = state

    def _bring_shell(self, connection: Connection) -> None:
        """Set it in a runner that follows on one in which no block has used it: it has ended for folders of skills that
        are to be guarded, say, which a session writes before its first block. Blocks."""
        if self._unused_shell is None:
            return
        answered = threading.Event()
        pending = Pending(answered, ended_by=frames.SHELL)
        connection.ask(
            frames.SHELL, next(self._idents) & 0xFFFFFFFF, {"set": dict(self._unused_shell)}, pending
        )
        answered.wait(HUNG_MARGIN_S)
        if pending.error is None and pending.answer is not None and "error" not in pending.answer:
            self._note = ""  # nothing was lost

    async def _shell(self, connection: Connection, request: object) -> dict[str, Any]:
        waiter = AsyncWaiter()
        pending = Pending(waiter, ended_by=frames.SHELL)
        connection.ask(frames.SHELL, next(self._idents) & 0xFFFFFFFF, request, pending)
        with anyio.move_on_after(HUNG_MARGIN_S):
            await waiter.wait()
        if pending.error is not None:
            raise pending.error
        answer = pending.answer
        if answer is None or "error" in answer:
            problem = f"no answer within {HUNG_MARGIN_S:g} s" if answer is None else answer["error"]
            raise ExecutorError(f"the state of the shell cannot be had: {problem}")
        return dict(answer)
