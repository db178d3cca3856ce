"""Time-outs, cancellation, deaths: the tree ends, what was done is kept, the session goes on."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from agentd.errors import ExecutorClosedError, RunnerDiedError, RunnerStartError
from agentd.types import BashAction, Limits, OutputChunk, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host import spawn
from agentd_runner.host.hub import shared_hub
from host_processes import OWN
from unprivileged import run_as_nobody

Survivors = Callable[[str], list[str]]

# Ignores TERM, forks out of its session, floods its output: the child that no runner wants.
HOSTILE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "98{tag}"])
        os._exit(0)
print("ready", flush=True)
while True:
    sys.stdout.write("flood" * 1000)
"""


@pytest.mark.slow
def test_a_time_out_ends_the_whole_tree_and_keeps_the_output(tmp_path: Path, survivors: Survivors) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(grace_s=0.3)) as executor:
        result = executor.run_sync(PythonAction(code=HOSTILE.format(tag=f"7101{OWN}"), timeout_s=2.0))
        assert result.status == "timeout"
        assert result.exit_code == 124
        assert result.stdout.startswith(b"ready\n")
        assert "timed out after 2 s" in result.message
        assert survivors(f"987101{OWN}") == []
        assert executor.execute_bash("echo usable") == ("usable\n", 0)


def test_term_comes_before_kill(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(timeout_s=1.5, grace_s=5)) as executor:
        started = time.monotonic()
        result = executor.run_sync(
            BashAction(command="trap 'echo tidy; exit 0' TERM; while :; do sleep 0.05; done")
        )
        assert result.stdout == b"tidy\n"
        assert result.status == "timeout"
        assert time.monotonic() - started < 1.5 + 3.5


def test_a_killed_supervisor_is_a_failed_block_and_no_orphan(
    executor: SubprocessExecutor, survivors: Survivors
) -> None:
    output, code = executor.execute_bash(
        f"setsid sleep 987103{OWN} & echo out; kill -9 $PPID; sleep 987103{OWN}"
    )
    assert output.startswith("out\n")
    assert "supervisor was killed" in output
    assert code == 137
    assert survivors(f"987103{OWN}") == []
    assert executor.execute_bash("echo on") == ("on\n", 0)


def test_what_has_lost_its_supervisor_and_then_the_runner_ends_too(
    executor: SubprocessExecutor, survivors: Survivors
) -> None:
    parent = "$(awk '{print $4}' /proc/%s/stat)"
    command = (
        f"setsid sleep 987105{OWN} & N={parent % '$PPID'}; R={parent % '$N'}; "
        f"kill -STOP $PPID; kill -9 $R; kill -9 $PPID; sleep 987105{OWN}"
    )
    with pytest.raises(RunnerDiedError):
        executor.run_sync(BashAction(command=command))
    deadline = time.monotonic() + 5
    while survivors(f"987105{OWN}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert survivors(f"987105{OWN}") == []


@pytest.mark.parametrize("state", ["fresh", "kept"])
def test_a_block_that_stops_its_supervisor_ends_as_any_other(
    executor: SubprocessExecutor, state: Literal["fresh", "kept"]
) -> None:
    for again in range(2):  # with the spawner's first supervisor, and one that is used again
        result = executor.run_sync(BashAction(command="kill -STOP $PPID; echo on; exit 3", timeout_s=30))
        assert (result.status, result.exit_code, result.stdout) == ("failed", 3, b"on\n"), again
        code = "import os, signal; os.kill(os.getppid(), signal.SIGSTOP); print('on')"
        result = executor.run_sync(PythonAction(code=code, state=state, timeout_s=30))
        assert (result.status, result.stdout) == ("completed", b"on\n"), again


def test_code_hears_of_its_children_as_ever(executor: SubprocessExecutor) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)"
    assert executor.run_sync(PythonAction(code=code)).stdout == b"True\n"
    assert executor.execute_bash("trap -p CHLD; grep SigIgn /proc/self/status | grep -c '1....$'")[0] == "0\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop", ["kill -STOP $PPID", "{ while kill -STOP $PPID; do :; done; } &"], ids=["once", "on and on"]
)
def test_a_stopped_supervisor_cannot_stop_the_time_out(
    tmp_path: Path, survivors: Survivors, stop: str
) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(grace_s=0.1)) as executor:
        result = executor.run_sync(BashAction(command=f"{stop}\nsleep 987104{OWN}", timeout_s=0.5))
        assert result.status == "timeout"
        assert survivors(f"987104{OWN}") == []
        assert executor.execute_bash("echo on") == ("on\n", 0)


def test_a_runner_killed_from_outside_keeps_the_partial_output(
    executor: SubprocessExecutor, survivors: Survivors
) -> None:
    assert executor._connection is None
    executor.execute_bash("true")
    pid = executor._connection.process.pid  # type: ignore[unreachable]

    def kill(_chunk: OutputChunk) -> None:
        os.kill(pid, signal.SIGKILL)

    action = BashAction(command=f"setsid sleep 987105{OWN} & echo partial; sleep 987105{OWN}")
    with pytest.raises(RunnerDiedError, match="next action starts a new one") as caught:
        executor.run_sync(action, on_output=kill)
    assert caught.value.partial.stdout == b"partial\n"
    deadline = time.monotonic() + 10
    while survivors(f"987105{OWN}") and time.monotonic() < deadline:
        pass
    assert survivors(f"987105{OWN}") == []
    output, code = executor.execute_bash("echo again")
    assert output.startswith("again\n")
    assert "a new one was started" in output
    assert code == 0


def test_close_ends_what_runs_and_later_use_is_a_clear_error(tmp_path: Path, survivors: Survivors) -> None:
    executor = SubprocessExecutor(tmp_path)
    started = threading.Event()
    errors: list[BaseException] = []

    def act() -> None:
        try:
            executor.run_sync(
                BashAction(command=f"echo x; sleep 987107{OWN}"), on_output=lambda _chunk: started.set()
            )
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    assert started.wait(10)
    executor.close()
    thread.join(10)
    assert isinstance(errors[0], RunnerDiedError)
    assert survivors(f"987107{OWN}") == []
    with pytest.raises(ExecutorClosedError, match="make a new one"):
        executor.execute_bash("true")
    executor.close()


def test_no_folder_of_ours_is_left_behind(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        assert executor.execute_bash("ls; test -d $TMPDIR && test -d $HOME") == ("", 0)
        run_dir = executor._run_dir
        assert run_dir is not None
        assert Path(run_dir).stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []
    assert not Path(run_dir).exists()


LEAVING = """
import os, signal, sys
from agentd_executor_subprocess.executor import SubprocessExecutor

executor = SubprocessExecutor(sys.argv[1])
left = "mkdir $TMPDIR/a; echo 1 > $TMPDIR/a/file; ln -s $PWD $TMPDIR/a/link; chmod 0 $TMPDIR/a; mkfifo $TMPDIR/pipe"
print(executor.execute_bash(left + "; echo $TMPDIR; chmod 500 $TMPDIR; touch kept")[0], end="", flush=True)
"""


@pytest.mark.parametrize(
    "end",
    ["executor.close()", "os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "del executor"],
)
def test_the_temporary_folder_goes_with_the_session_however_it_ends(end: str) -> None:
    with tempfile.TemporaryDirectory(prefix="agentd-nobody-") as folder:
        home = Path(folder)
        program = f"{LEAVING}\n{end}\n"
        done = run_as_nobody(program, str(home / "workspace"), home=home, env={"TMPDIR": folder})
        assert done.stderr == ""
        temporary = Path(done.stdout.strip())
        assert temporary.is_relative_to(home)
        deadline = time.monotonic() + 10
        while temporary.parent.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [path.name for path in home.iterdir()] == ["workspace"]
        assert [path.name for path in (home / "workspace").iterdir()] == ["kept"]


def test_an_interpreter_that_does_not_start_is_named(tmp_path: Path) -> None:
    with (
        SubprocessExecutor(tmp_path, python="/bin/false") as executor,
        pytest.raises(RunnerStartError, match="/bin/false"),
    ):
        executor.execute_bash("true")


def test_a_forked_child_of_the_program_neither_holds_nor_harms_the_runner(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        executor.execute_bash("export A=1")
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            # It gets a runner of its own when it asks for one; the parent's shell it never sees.
            os.write(write, executor.execute_bash("echo child${A-unset}")[0].encode())
            os._exit(0)
        assert os.read(read, 100).startswith(b"childunset\n")
        os.waitpid(child, 0)
        for descriptor in (read, write):
            os.close(descriptor)
        assert executor.execute_bash("echo parent$A; test -S $AGENTD_TOOLS_SOCKET") == ("parent1\n", 0)


def test_a_forked_child_that_closes_what_it_inherited_ends_nothing_of_its_parent(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path / "a") as first, SubprocessExecutor(tmp_path / "b") as second:
        for executor in (first, second):  # a plain child, and one that was forked beside it
            executor.execute_bash("export A=1")
        child = os.fork()
        if child == 0:
            began = time.monotonic()
            first.close()
            second.close()
            os._exit(0 if time.monotonic() - began < 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        for executor in (first, second):
            assert executor.execute_bash("echo parent$A") == ("parent1\n", 0)


def test_a_forgotten_executor_ends_its_runner(tmp_path: Path) -> None:
    executor = SubprocessExecutor(tmp_path)
    executor.execute_bash("true")
    process = executor._connection.process  # type: ignore[union-attr]
    del executor
    import gc

    gc.collect()
    assert process.wait(10) is not None


def test_a_lifted_time_out_is_none(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(timeout_s=None)) as executor:
        assert executor.execute_bash("echo no hurry") == ("no hurry\n", 0)


def test_an_action_right_after_a_close_meets_a_new_runner(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        executor.execute_bash("X=1")
        connection = executor._connection
        assert connection is not None
        shared_hub().call(lambda: time.sleep(0.5))  # busy: what ends is noted late
        connection.close(5.0)  # as a sandbox does that needs other settings
        output, status = executor.execute_bash("echo on${X-}")
        assert (output.splitlines()[0], status) == ("on", 0)
        assert "with a fresh shell" in output


def test_a_runner_that_cannot_be_started_leaves_no_descriptor(tmp_path: Path) -> None:
    before = open_files()
    for _ in range(5):
        with pytest.raises(OSError, match="no such thing"):
            spawn(["/no such thing"], {}, "/", line=True)
    assert open_files() <= before  # fewer, if something of another test has ended meanwhile


def open_files() -> set[tuple[str, str]]:
    """The open descriptors, each with what it is."""
    return {
        (name, os.readlink(path))
        for name in os.listdir("/dev/fd")
        if os.path.lexists(path := f"/dev/fd/{name}")
    }
