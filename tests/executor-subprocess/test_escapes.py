"""Ways out of the executor that agentd 0.8.6 had, each under its own name. All are harmless if they work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import anyio
import pytest
from agentd.types import PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor


@pytest.mark.anyio
async def test_python_of_the_async_path_does_not_run_in_the_host(
    executor: SubprocessExecutor, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOST_ONLY", "secret")
    result = await executor.run(
        PythonAction(code="import os; print(os.getpid(), os.environ.get('HOST_ONLY'))")
    )
    pid, secret = result.output.split()
    assert int(pid) != os.getpid()
    assert secret == "None"


@pytest.mark.parametrize("quote", ["'", '"', "'\"'\"'", "\\'", "$'\\''", "`", "\n'\n"])
def test_no_quoting_in_a_command_leads_out_of_its_block(executor: SubprocessExecutor, quote: str) -> None:
    executor.execute_bash(f"echo {quote}; echo $PPID > parents; : {quote}")
    seen = executor.workspace_dir / "parents"
    parents = seen.read_text().split() if seen.exists() else []
    assert str(os.getpid()) not in parents
    assert executor.execute_bash("echo still here") == ("still here\n", 0)


@pytest.mark.parametrize("path", ["../outside.txt", "a/../../outside.txt", "{outside}", "link/outside.txt"])
def test_a_file_is_not_created_outside_the_workspace(
    executor: SubprocessExecutor, tmp_path: Path, path: str
) -> None:
    outside = tmp_path / "outside.txt"
    (executor.workspace_dir / "link").symlink_to(tmp_path)
    said = executor.create_file(path.format(outside=outside), "out")
    assert re.search(r"absolute|'\.\.'|leaves the workspace", said), said
    assert not outside.exists()


def test_async_bash_keeps_its_state_and_is_bash(executor: SubprocessExecutor) -> None:
    from agentd.types import BashAction

    async def both() -> str:
        await executor.run(BashAction(command="declare -A m=([a]=1); export N=${m[a]}; mkdir -p d; cd d"))
        return (await executor.run(BashAction(command="echo $N ${PWD##*/} ${BASH_VERSION%%.*}"))).output

    number, folder, version = anyio.run(both).split()
    assert (number, folder) == ("1", "d")
    assert int(version) >= 3
