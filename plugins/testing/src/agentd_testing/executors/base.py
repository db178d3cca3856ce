"""What all parts of the executor's contract share: the executor, and short ways to run things in it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import attrs
import pytest
from agentd.protocols import Executor
from agentd.types import ActionResult, BashAction, CreateAction, Limits, PythonAction
from agentd_runner.host import RunnerExecutor

from agentd_testing.processes import living_with, wait_until_gone

__all__ = ["ExecutorBase"]

LIMITS = Limits(timeout_s=30.0, grace_s=0.3)


class ExecutorBase:
    """What an author of an executor sets.

    `factory` names a callable as `module:name`; it is called with the workspace and `limits=`, and with `options`.
    Where that does not fit, override `make_executor` (the test of the host's death then needs `factory` still, and is
    skipped without it).

    `local_processes`: whether the code's processes are seen in this machine's /proc (False for a virtual machine);
    without that, what outlives a block is looked for from the inside. `start_s`: how long a start may take.
    """

    factory: ClassVar[str] = ""
    options: ClassVar[dict[str, Any]] = {}
    local_processes: ClassVar[bool] = True

    def make_executor(self, workspace: Path, *, limits: Limits) -> Executor:
        """Return a new executor over this workspace, not started."""
        if not self.factory:
            pytest.fail(
                "set `factory = 'module:name'` in the subclass, or override make_executor", pytrace=False
            )
        module, _, name = self.factory.partition(":")
        made: Executor = getattr(import_module(module), name)(workspace, limits=limits, **self.options)
        return made

    def kill_place(self, executor: Executor) -> None:
        """End the place where code runs, as a crash of it would. Override it for an executor of another kind."""
        connection = executor._connection if isinstance(executor, RunnerExecutor) else None
        pid = getattr(getattr(connection, "process", None), "pid", None)
        if not isinstance(pid, int):
            pytest.skip("override kill_place(executor): this executor has no local runner to kill")
        os.kill(pid, signal.SIGKILL)

    # --- fixtures --------------------------------------------------------------------------------

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The event loop of the async tests. Override it with `params=["asyncio", "trio"]` to have both."""
        return "asyncio"

    @pytest.fixture
    def workspace(self, tmp_path: Path) -> Path:
        """A new directory. Its parents can be entered by everybody, for executors that drop their rights."""
        for folder in (tmp_path, *tmp_path.parents):
            if folder.name.startswith("pytest-") and folder.stat().st_uid == os.geteuid():
                folder.chmod(0o755)
        made = tmp_path / "workspace"
        made.mkdir()
        return made

    @pytest.fixture
    def limits(self) -> Limits:
        """The limits of the fixture `executor`."""
        return LIMITS

    @pytest.fixture
    def executor(self, workspace: Path, limits: Limits) -> Iterator[Executor]:
        """An executor that is closed after the test."""
        made = self.make_executor(workspace, limits=limits)
        try:
            yield made
        finally:
            made.close()

    @pytest.fixture
    def marker(self) -> Iterator[str]:
        """A number of seconds for `sleep` that no other process has: living processes are found by it."""
        word = f"9{random.randrange(10**8):08d}"
        yield word
        for pid in living_with(word):  # only if the test has failed
            os.kill(pid, signal.SIGKILL)

    # --- running ---------------------------------------------------------------------------------

    async def bash(self, executor: Executor, command: str, **options: Any) -> ActionResult:
        """Run bash source."""
        return await executor.run(BashAction(command=command, **options))

    async def python(self, executor: Executor, code: str, **options: Any) -> ActionResult:
        """Run Python source."""
        return await executor.run(PythonAction(code=code, **options))

    async def create(self, executor: Executor, path: str, content: str | bytes = "text") -> ActionResult:
        """Create a file."""
        return await executor.run(CreateAction(path=path, content=content))

    async def check_usable(self, executor: Executor) -> None:
        """Assert that the next block works and gets no output of the one before."""
        result = await self.bash(executor, "echo usable")
        assert (result.stdout, result.exit_code) == (b"usable\n", 0), (
            f"the session must go on after that; the next block gave {attrs.asdict(result)}"
        )

    async def check_gone(self, executor: Executor, marker: str) -> None:
        """Assert that no process of the code lives on."""
        if self.local_processes:
            left = len(wait_until_gone(marker, 5))
        else:
            count = f"import os; n = '{marker[:4]}' + '{marker[4:]}'\n"
            count += "print(sum(n in open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()))"
            left = int((await self.python(executor, count)).stdout)
        assert left == 0, f"{left} process(es) of the block outlived it: its whole tree must end, daemons too"
