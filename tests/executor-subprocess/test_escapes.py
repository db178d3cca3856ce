"""Ways out of the executor that agentd 0.8.6 had, each under its own name. All are harmless if they work."""

from __future__ import annotations

import os

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
