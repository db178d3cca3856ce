"""What breaks a session's run: a killed runner, a cut stream, a time-out, a reader that leaves. The next run works."""

from __future__ import annotations

import os
import shutil
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from agentd import Session
from agentd.errors import ModelError
from agentd.turn.transcript import Execution
from agentd.types import Limits
from agentd_testing.processes import wait_until_gone

from endurance.measuring import Processes
from endurance.model import bash, python, task
from endurance.works.sessions import settings_of, turns
from endurance.works.work import Work

__all__ = ["BrokenRuns"]

GONE_S = 20.0
TIMEOUT_S = 1.0
PATIENCE_S = 60.0
SETTLE_S = 1.0
ANOTHER = "The next action starts a new one"


class BrokenRuns(Work):
    """One session, four breaks in an order of its own, a check behind each."""

    name = "broken-runs"
    pause_s = 2.0

    def once(self) -> None:
        self.number += 1
        folder = self.place.folder(f"broken-{uuid.uuid4().hex[:8]}")
        mark = f"2{self.dice.randrange(10**9):09}.{self.dice.randrange(1000):03}"
        try:
            anyio.run(self._talk, folder, mark)
            left = wait_until_gone(mark, GONE_S)
            assert not left, f"code has outlived its run: {left}"
        finally:
            shutil.rmtree(folder)
        self.tally.add(sessions=1)

    async def _talk(self, folder: Path, mark: str) -> None:
        limits = Limits(timeout_s=TIMEOUT_S, grace_s=0.3)
        settings = settings_of(self, self.number, folder, options={"limits": limits})
        breaks: list[Callable[[Session, str], Awaitable[None]]]
        breaks = [self._kill_runner, self._kill_below, self._cut, self._time_out, self._leave]
        self.dice.shuffle(breaks)
        done: list[str] = []
        try:
            async with Session("scripted", model_options={"max_retries": 0}, **settings) as session:
                for number, broken in enumerate(breaks):
                    done.append(f"{broken.__name__} at {anyio.current_time():.2f}")
                    await self._break(session, number, broken, mark)
        except Exception as exc:
            told = f"{settings['executor']}: {', '.join(done)}; now {anyio.current_time():.2f}"
            raise AssertionError(told) from exc

    async def _break(
        self, session: Session, number: int, broken: Callable[[Session, str], Awaitable[None]], mark: str
    ) -> None:
        await broken(session, mark)
        goes_on = await self._go_on(session, number)
        if broken in (self._kill_runner, self._kill_below):
            # On a busy machine, what was killed takes the runner with it only after some blocks.
            await anyio.sleep(SETTLE_S)
            goes_on = await self._go_on(session, number)
            if goes_on.status == "error" and ANOTHER in goes_on.output:
                goes_on = await self._go_on(session, number)
        assert goes_on.status == "completed", goes_on
        assert goes_on.output.startswith(f"{number} goes on"), goes_on
        self.tally.add(blocks=1, breaks=1)

    async def _go_on(self, session: Session, number: int) -> Execution:
        """Run a block, and return what became of it; its output may have a note that the runner is a new one."""
        turns(self, session, await session.ask(task(bash(f"echo {number} goes on"))))
        return session.transcript.executions[-1]

    async def _kill_runner(self, session: Session, mark: str) -> None:
        await session.ask(task(bash("true")))
        connection = session.executor._connection  # type: ignore[attr-defined]
        os.kill(connection.process.pid, signal.SIGKILL)
        self.tally.add(killed_runners=1)
        await session.ask(task(bash("true"), bash("true")))  # its failure is told to the model

    async def _kill_below(self, session: Session, mark: str) -> None:
        """Kill what forks and watches the code: the runner goes on without, or ends, and another one begins."""
        await session.ask(task(python("print('warm')")))
        connection = session.executor._connection  # type: ignore[attr-defined]
        below = Processes().below(connection.process.pid)
        if below:
            try:
                os.kill(self.dice.choice(below), signal.SIGKILL)
            except ProcessLookupError:
                return
            self.tally.add(killed_supervisors=1)
        await session.ask(task(bash("true"), bash("true")))

    async def _cut(self, session: Session, mark: str) -> None:
        try:
            await session.ask(task({"text": "half an answer of several words", "cut_after": 12}))
        except ModelError:
            self.tally.add(cut_streams=1)
        else:
            raise AssertionError("a stream that was cut was taken for an answer")

    async def _time_out(self, session: Session, mark: str) -> None:
        code = f"trap '' TERM; setsid sleep {mark} & sleep {mark}"
        end = await session.ask(task(bash(code)))
        assert end.stop_reason == "answer", end
        assert session.transcript.executions[-1].status == "timeout", session.transcript.executions[-1]
        self.tally.add(timeouts=1)

    async def _leave(self, session: Session, mark: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            async with session.run(task(bash(f"echo runs; sleep {mark}"))) as events:
                async for event in events:
                    if event.type == "code_output":
                        break
        self.tally.add(cancelled=1)
