"""What stands in for absent files: several sessions share it, and whatever opens the workspace next clears it."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import sandbox
from agentd.types import BashAction
from agentd.workspace import settle_workspace
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host.placeholders import mark_dir


def kill(executor: SandboxRuntimeExecutor) -> None:
    """Kill the supervisor of a session, and wait until nothing of the session is left."""
    pid = executor._connection.process.pid  # type: ignore[union-attr]
    os.kill(pid, signal.SIGKILL)
    assert executor._process is not None
    executor._process.wait_gone(20)


def names(workspace: Path) -> set[str]:
    return {str(path.relative_to(workspace)) for path in workspace.rglob("*")}


def test_sessions_that_start_at_once_in_one_workspace_all_work(tmp_path: Path) -> None:
    executors = [sandbox.make(tmp_path, timeout=30) for _ in range(3)]
    said: dict[int, object] = {}

    def run(number: int) -> None:
        try:
            said[number] = executors[number].execute_bash(f"echo {number} > from-{number}; echo works")
        except Exception as error:
            said[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert said == dict.fromkeys(range(3), ("works\n", 0))
        assert executors[0].execute_bash("cat from-*") == ("0\n1\n2\n", 0)
    finally:
        for executor in executors:
            executor.close()
    assert names(tmp_path) == {"from-0", "from-1", "from-2"}


def test_what_one_session_guards_stays_guarded_when_another_ends(tmp_path: Path) -> None:
    first, second = (sandbox.make(tmp_path, timeout=30) for _ in range(2))
    first.execute_bash("true")
    assert second.execute_bash("true") == ("", 0)
    assert set(second.placeholders) == set(first.placeholders)
    first.close()
    try:
        command = "(echo x > .envrc) 2>/dev/null && echo made; mkdir .claude/x 2>/dev/null && echo made; "
        assert second.execute_bash(
            command + "mktemp -p $TMPDIR >/dev/null && ls -d $HOME >/dev/null && echo home"
        ) == (
            "home\n",
            0,
        )
        assert ".envrc" in second.snapshot_exclude
    finally:
        second.close()
    assert second.snapshot_exclude == ()
    assert names(tmp_path) - {".agentd"} <= {path for path in names(tmp_path) if path.startswith(".agentd")}


@pytest.mark.parametrize("opens", ["subprocess", "srt", "session"])
def test_whatever_opens_a_workspace_clears_it_after_a_killed_session_and_says_so(
    tmp_path: Path, opens: str
) -> None:
    killed = sandbox.make(tmp_path, timeout=30)
    killed.execute_bash("echo mine > file")
    kill(killed)
    assert (tmp_path / ".envrc").exists(), "the kill is told by what it leaves"
    assert mark_dir(tmp_path, "srt").is_dir()
    if opens == "session":
        (told, *given) = settle_workspace(tmp_path)
    else:
        make = sandbox.make if opens == "srt" else SubprocessExecutor
        with make(tmp_path) as executor:
            result = executor.run_sync(BashAction(command="cat file; test -s .envrc || ls .bashrc"))
            told = result.message
            given = [told]
            assert result.stdout.startswith(b"mine\n")
            assert (b".bashrc" in result.stdout) == (opens == "srt")
    assert "was killed before it could tidy up" in told
    assert "'.envrc'" in told or "..." in told
    if os.geteuid() == 0:
        assert any(f"{str(tmp_path)!r} was given back to its owner" in text for text in given)
        assert {path.lstat().st_uid for path in (tmp_path, *tmp_path.rglob("*"))} == {0}
    killed.close()
    assert {name for name in names(tmp_path) if not name.startswith(".agentd")} == {"file"}
    assert not mark_dir(tmp_path, "srt").exists()
