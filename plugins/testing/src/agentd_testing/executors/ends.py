"""Time-outs, cancellation, death on both sides, the hostile child: the tree ends and the session goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Final

import anyio
import pytest
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ExecutorError
from agentd.protocols import Executor
from agentd.types import Action, ActionResult, BashAction, OutputChunk, PythonAction

from agentd_testing.executors.base import ExecutorBase
from agentd_testing.processes import wait_until_gone

__all__ = ["HOSTILE", "EndsPart"]

HOSTILE: Final = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "{marker}"])
        os._exit(0)
print("ready", flush=True)
while True:
    sys.stdout.write("flood" * 1000)
"""
"""The child that nobody wants: ignores TERM, forks out of its session, floods its output. Harmless beyond that."""

_HOST: Final = """
    import anyio, os, signal
    from importlib import import_module
    from agentd.types import BashAction, Limits
    make = getattr(import_module({module!r}), {name!r})
    executor = make({workspace!r}, limits=Limits(timeout_s=30.0), **{options!r})
    command = "trap '' TERM; setsid sleep {marker} & echo x; sleep {marker}"
    async def main():
        die = lambda chunk: os.kill(os.getpid(), signal.SIGKILL)
        await executor.run(BashAction(command=command), on_output=die)
    anyio.run(main)
"""


class EndsPart(ExecutorBase):
    """How things end."""

    @pytest.mark.anyio
    async def test_a_time_out_ends_the_whole_tree_and_keeps_the_output(
        self, executor: Executor, marker: str
    ) -> None:
        started = time.monotonic()
        result = await self.python(executor, HOSTILE.format(marker=marker), timeout_s=2.0)
        assert (result.status, result.exit_code) == ("timeout", 124)
        assert result.stdout.startswith(b"ready\n"), "what was printed before the time-out must be kept"
        assert time.monotonic() - started < 15, (
            "a process that ignores TERM must be killed after the grace time"
        )
        await self.check_gone(executor, marker)
        await self.check_usable(executor)

    @pytest.mark.anyio
    async def test_late_output_of_a_timed_out_block_does_not_leak_into_the_next(
        self, executor: Executor
    ) -> None:
        await self.bash(executor, "while :; do echo old; done", timeout_s=0.3)
        await self.check_usable(executor)

    @pytest.mark.anyio
    async def test_cancelling_ends_the_whole_tree(self, executor: Executor, marker: str) -> None:
        await executor.start()
        with anyio.fail_after(20):
            await _cancel_after_output(executor, PythonAction(code=HOSTILE.format(marker=marker)))
        await self.check_gone(executor, marker)
        await self.check_usable(executor)

    @pytest.mark.anyio
    async def test_background_jobs_end_with_their_block(self, executor: Executor, marker: str) -> None:
        command = f"sleep {marker} & (setsid sleep {marker} &); disown -a; echo done"
        result = await self.bash(executor, command, timeout_s=15)
        assert result.status == "completed", "a job that holds the output open must not hold up its block"
        assert result.stdout == b"done\n"
        await self.check_gone(executor, marker)

    @pytest.mark.anyio
    async def test_a_place_that_dies_is_an_error_and_the_next_action_gets_a_new_one(
        self, executor: Executor, marker: str
    ) -> None:
        await self.bash(executor, "true")

        def kill(chunk: OutputChunk) -> None:
            self.kill_place(executor)

        action = BashAction(command=f"setsid sleep {marker} & echo partial; sleep {marker}")
        with pytest.raises(ExecutorError) as caught:
            await executor.run(action, on_output=kill)
        partial = getattr(caught.value, "partial", None)
        assert isinstance(partial, ActionResult), "the error must carry what was printed as `partial`"
        assert partial.stdout == b"partial\n"
        result = await self.bash(executor, "echo again")
        assert (result.stdout, result.exit_code) == (b"again\n", 0), "the next action must start a new place"
        await self.check_gone(executor, marker)

    def test_everything_ends_when_the_host_is_killed(self, workspace: Path, marker: str) -> None:
        if not (self.factory and self.local_processes):
            pytest.skip("needs `factory` (the host is a process of its own here) and processes seen in /proc")
        module, _, name = self.factory.partition(":")
        code = textwrap.dedent(_HOST).format(
            module=module, name=name, workspace=str(workspace), options=self.options, marker=marker
        )
        done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert wait_until_gone(marker, 15) == [], "code must end when the host dies, however it dies"

    @pytest.mark.anyio
    async def test_close_ends_what_runs_and_may_be_called_again(
        self, executor: Executor, marker: str
    ) -> None:
        errors: list[BaseException] = []
        waiter = AsyncWaiter()

        async def act() -> None:
            try:
                action = BashAction(command=f"echo x; sleep {marker}")
                await executor.run(action, on_output=lambda chunk: waiter.set())
            except ExecutorError as error:
                errors.append(error)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(act)
                await waiter.wait()
                await executor.aclose()
        assert errors, "an action that runs while the executor is closed must raise an ExecutorError"
        if self.local_processes:
            await self.check_gone(executor, marker)
        with pytest.raises(ExecutorError):
            await self.bash(executor, "true")
        executor.close()
        await executor.aclose()

    @pytest.mark.anyio
    async def test_an_executor_that_was_never_used_is_closed_in_peace(self, executor: Executor) -> None:
        await executor.aclose()

    @pytest.mark.anyio
    async def test_nothing_is_left_in_the_workspace(self, executor: Executor) -> None:
        await self.bash(executor, "echo x > mine")
        await executor.aclose()
        names = sorted(path.name for path in executor.workspace_dir.iterdir())
        assert names == ["mine"], "an executor must take away what it put into the workspace"


async def _cancel_after_output(executor: Executor, action: Action) -> None:
    waiter = AsyncWaiter()

    def on_output(chunk: OutputChunk) -> None:
        waiter.set()

    async def act() -> None:
        await executor.run(action, on_output=on_output)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(act)
        await waiter.wait()
        tasks.cancel_scope.cancel()
