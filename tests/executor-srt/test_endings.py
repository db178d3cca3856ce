"""However a session ends, no process, no placeholder and no foreign owner is left."""

from __future__ import annotations

import gc
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sandbox
from agentd.errors import RunnerDiedError, SandboxUnavailableError
from agentd.types import BashAction, OutputChunk
from agentd_executor_srt.handover import UIDS
from agentd_runner.host.placeholders import PLACEHOLDERS
from host_processes import command_lines
from places import SUPPORT

pytestmark = pytest.mark.slow

STAY = "trap '' TERM; setsid sleep {tag} & echo started; sleep {tag}"


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def owners(workspace: Path) -> set[int]:
    return {path.lstat().st_uid for path in (workspace, *workspace.rglob("*"))}


def is_clean(workspace: Path) -> bool:
    left = {path.name for path in workspace.iterdir()} & {".agentd", *PLACEHOLDERS}
    return not left and owners(workspace) == {os.geteuid()}


def below(pid: int) -> dict[int, str]:
    """Command lines by pid of what is below a process."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    children: dict[int, list[tuple[int, str]]] = {}
    for line in listed.splitlines():
        one, parent, args = line.split(None, 2)
        children.setdefault(int(parent), []).append((int(one), args))
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        for child, args in children.get(todo.pop(), []):
            found[child] = args
            todo.append(child)
    return found


def srt_of(executor: object) -> int:
    process = executor._connection.process  # type: ignore[attr-defined]
    return next(
        pid for pid, args in below(process.pid).items() if "--settings" in args and "node" in args.split()[0]
    )


def test_nothing_of_ours_is_left_behind(tmp_path: Path) -> None:
    with sandbox.make(tmp_path / "w") as executor:
        assert executor.execute_bash(
            "test -d $TMPDIR && test -d $HOME && case $TMPDIR in $PWD/*) echo in;; esac"
        ) == (
            "in\n",
            0,
        )
        assert {path.name for path in executor.workspace_dir.iterdir()} > {".agentd", ".bashrc", ".mcp.json"}
        own = executor._sandbox_dir
        assert own is not None
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        pid = executor._connection.process.pid  # type: ignore[union-attr]
        tree = [pid, *below(pid)]
        assert len(tree) > 5
    assert is_clean(executor.workspace_dir)
    assert list(executor.workspace_dir.iterdir()) == []
    assert not own.exists()
    assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]


def test_files_that_were_there_stay(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").touch()
    (tmp_path / ".vscode").mkdir()
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash("true")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".bashrc", ".vscode"]


def host_that_dies(workspace: Path, tag: str, how: str) -> None:
    """Run a program whose sandbox is busy when it is killed."""
    code = f"""
        import os, signal, sys
        from agentd.types import BashAction
        sys.path.append({str(SUPPORT)!r})
        import sandbox
        executor = sandbox.make({str(workspace)!r})
        def die(chunk):
            {how}
        executor.run_sync(BashAction(command={STAY.format(tag=tag)!r}), on_output=die)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60, capture_output=True
    )


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(3)"])
def test_a_killed_host_leaves_no_process_and_no_placeholder(tmp_path: Path, how: str) -> None:
    sandbox.need_srt()
    (tmp_path / "mine").touch()
    host_that_dies(tmp_path, "987201", how)
    until(lambda: not command_lines("987201"))
    until(lambda: is_clean(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    until(lambda: not command_lines(str(tmp_path)))


def test_a_killed_srt_leaves_no_process_and_no_placeholder(tmp_path: Path) -> None:
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash("true")
        srt = srt_of(executor)

        def kill(_chunk: OutputChunk) -> None:
            os.kill(srt, signal.SIGKILL)

        with pytest.raises(RunnerDiedError, match="next action starts a new one") as caught:
            executor.run_sync(BashAction(command=STAY.format(tag=987202)), on_output=kill)
        assert caught.value.partial.stdout == b"started\n"  # type: ignore[attr-defined]
        until(lambda: not command_lines("987202"))
        output, code = executor.execute_bash("echo again")
        assert output.startswith("again\n")
        assert code == 0
    assert is_clean(tmp_path)


def test_a_killed_srt_leaves_no_dead_process_to_an_init_that_may_not_take_it(tmp_path: Path) -> None:
    for number in range(5):  # it depends on who dies first
        with sandbox.make(tmp_path / str(number)) as executor:
            executor.execute_bash("true")
            supervisor = executor._connection.process.pid  # type: ignore[union-attr]
            tree = [supervisor, *below(supervisor)]
            os.kill(srt_of(executor), signal.SIGKILL)
        assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]


def test_a_killed_supervisor_leaves_no_process_and_the_next_session_gives_the_files_back(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").touch()
    executor = sandbox.make(tmp_path)
    executor.execute_bash("true")
    pid = executor._connection.process.pid  # type: ignore[union-attr]

    def kill(_chunk: OutputChunk) -> None:
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(RunnerDiedError):
        executor.run_sync(BashAction(command=STAY.format(tag=987203)), on_output=kill)
    own = executor._sandbox_dir
    assert own is not None
    output, code = executor.execute_bash("echo x >> mine; cat mine")
    assert output.startswith("x\n")
    assert code == 0
    assert command_lines("987203") == []
    assert not own.exists()
    executor.close()
    assert is_clean(tmp_path)


def test_a_hung_runner_is_killed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd_runner.host.executor.HUNG_MARGIN_S", 0.5)
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash("true")
        runner = next(
            pid
            for pid, args in below(executor._connection.process.pid).items()  # type: ignore[union-attr]
            if "_agentd_runner" in args and args.split()[0] == executor.python
        )
        os.kill(runner, signal.SIGSTOP)
        with pytest.raises(RunnerDiedError, match="stopped answering"):
            executor.run_sync(BashAction(command="true", timeout_s=0.1))
        assert executor.execute_bash("echo on")[0].startswith("on\n")
    assert is_clean(tmp_path)


def test_close_while_code_runs_ends_it(tmp_path: Path) -> None:
    executor = sandbox.make(tmp_path)
    started = threading.Event()
    errors: list[BaseException] = []

    def act() -> None:
        try:
            executor.run_sync(
                BashAction(command=STAY.format(tag=987204)), on_output=lambda _chunk: started.set()
            )
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    assert started.wait(20)
    executor.close()
    thread.join(20)
    assert isinstance(errors[0], RunnerDiedError)
    assert command_lines("987204") == []
    assert is_clean(tmp_path)


def test_a_forgotten_executor_ends_its_sandbox(tmp_path: Path) -> None:
    executor = sandbox.make(tmp_path)
    executor.execute_bash("true")
    process = executor._connection.process  # type: ignore[union-attr]
    del executor
    gc.collect()
    assert process.wait(20) is not None
    assert is_clean(tmp_path)


def test_a_forked_child_of_the_program_neither_holds_nor_harms_the_sandbox(tmp_path: Path) -> None:
    read, write = os.pipe()
    executor = sandbox.make(tmp_path)
    executor.execute_bash("export A=1")
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    try:
        executor.close()
        assert is_clean(tmp_path)
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def test_an_interpreter_that_does_not_start_is_an_unavailable_sandbox(tmp_path: Path) -> None:
    with (
        sandbox.make(tmp_path, python="/bin/false") as executor,
        pytest.raises(SandboxUnavailableError, match="srt"),
    ):
        executor.execute_bash("true")
    assert is_clean(tmp_path)


def test_two_sessions_share_a_workspace(tmp_path: Path) -> None:
    with sandbox.make(tmp_path) as one:
        one.execute_bash("echo 1 > first")
        with sandbox.make(tmp_path) as two:
            assert two.execute_bash("echo 2 >> first; cat first") == ("1\n2\n", 0)
            if os.geteuid() == 0:
                assert {uid for uid in owners(tmp_path) if uid not in UIDS} <= {0}
        assert one.execute_bash("echo 3 >> first; cat first") == ("1\n2\n3\n", 0)
    assert owners(tmp_path) == {os.geteuid()}


def test_nothing_of_a_folder_that_is_everybody_s_is_looked_through_at_the_end(tmp_path: Path) -> None:
    big = tmp_path / "big"
    (big / "below").mkdir(parents=True)
    big.chmod(0o777)
    with sandbox.make(tmp_path / "w", allow_write=[big]) as executor:
        assert executor.execute_bash(f"echo x > {big}/new")[1] == 0
        for folder in (big / "below", big):
            os.utime(folder, ns=(1, folder.stat().st_mtime_ns))  # whoever lists it sets the first one anew
    assert {folder.stat().st_atime_ns for folder in (big / "below", big)} == {1}
    assert os.listdir(big / "below") == []
    if (big / "below").stat().st_atime_ns == 1:
        pytest.skip("this file system keeps no time of access, so nothing can be told by it")
