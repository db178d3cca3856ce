"""`prewarm`: empty sandboxes that are there before the session."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import native
import pytest
from agentd.errors import ConfigError, RunnerStartError
from agentd.registry import Registry
from agentd_executor_native.blueprint import Blueprint, StartedSandbox
from agentd_executor_native.executor import NativeExecutor
from agentd_executor_native.prewarmed import prewarmed
from agentd_runner.inside.processes import descendants
from agentd_tools import ToolSet


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Path]:
    native.need_native()
    yield tmp_path / "w"
    prewarmed.close()


def ready() -> int:
    return sum(map(len, prewarmed._ready.values()))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run(executor: NativeExecutor, command: str) -> str:
    output, code = executor.execute_bash(command)
    assert code == 0, output
    return output


def test_a_session_takes_over_what_is_ready_and_finds_nothing_of_another_one(workspace: Path) -> None:
    options = {"env": {"OWN": "yes"}, "limits": {"processes": 50}}
    with native.make(workspace, prewarm=1, **options) as first:
        run(first, "echo mine > /tmp/mine; echo file > file; export MINE=1; echo $BASHPID > /dev/shm/pid")
        assert not first._was_prewarmed
        wait_until(lambda: ready() == 1)
    with native.make(workspace, prewarm=1, **options) as second:
        output = run(second, "cat file; ls /tmp /dev/shm; echo $OWN $MINE; ulimit -u; id -u")
        assert second._was_prewarmed
        words = output.split()
        assert not {"mine", "pid", "1"} & set(words)
        assert {"file", "yes"} <= set(words)
        assert words[-1] != "0"
        wait_until(lambda: ready() == 1)  # for the next one


@pytest.mark.parametrize(
    "change",
    [
        {"deny": ["secret"]},
        {"read": ["/etc/hostname"]},
        {"allow_git_config": True},
        {"allowed_hosts": ["example.com"]},
        {"env": {"OWN": "yes"}},
        {"limits": {"processes": 50}},
    ],
)
def test_other_options_are_another_sandbox(workspace: Path, change: dict[str, object]) -> None:
    workspace.mkdir()
    (workspace / "secret").write_text("s")
    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        with native.make(workspace, prewarm=0, **change) as other:
            run(other, "true")
            assert not other._was_prewarmed


def test_what_shows_other_files_than_a_new_one_would_is_not_taken_over(workspace: Path) -> None:
    workspace.mkdir()
    (workspace / ".envrc").write_text("old")
    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        (waiting,) = next(iter(prewarmed._ready.values()))
        (workspace / "new").write_text("new")
        (workspace / "new").rename(workspace / ".envrc")  # another file under the guarded name
        with native.make(workspace, prewarm=0) as second:
            assert run(second, "cat .envrc") == "new"
            assert not second._was_prewarmed
            assert second.execute_bash("echo x > .envrc")[1] != 0
        assert not waiting.is_alive


def test_a_skill_that_came_meanwhile_is_read_only(workspace: Path) -> None:
    from agentd.protocols import Layout

    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        (workspace / "skills").mkdir()
        with native.make(workspace, prewarm=0) as second:
            second.attach(tools=None, layout=Layout(read_only=(workspace / "skills",)))
            assert second.execute_bash("echo x > skills/x")[1] != 0


def waiting_bash(pid: int) -> str:
    """Return the pid, as the sandbox has it, of the bash that waits below a process; "" if there is none yet."""
    for below in descendants([pid]):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{below}/comm").read_text() == "bash\n":
                status = Path(f"/proc/{below}/status").read_text()
                return next(line for line in status.splitlines() if line.startswith("NSpid")).split()[-1]
    return ""


def test_its_shell_is_there_before_the_first_block(workspace: Path) -> None:
    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        ((sandbox,),) = prewarmed._ready.values()
        wait_until(lambda: waiting_bash(sandbox.process.pid) != "")
        shell = waiting_bash(sandbox.process.pid)
        with native.make(workspace, prewarm=0) as second:
            assert run(second, "echo $BASHPID; pwd").split() == [shell, str(workspace)]
            assert second.execute_python("import os; print(os.getcwd())") == (f"{workspace}\n", 0)


def test_the_tools_are_the_new_session_s_and_its_shell_is_there_all_the_same(workspace: Path) -> None:
    def attach(executor: NativeExecutor, number: int) -> None:
        def secret() -> int:
            return number

        tools = ToolSet([secret])
        closing.callback(tools.close)
        renderer = Registry().create_skill_renderer()
        renderer.render(tools.specs(), workspace / "skills")
        executor.attach(tools=tools, layout=renderer.layout(workspace / "skills"))

    with contextlib.ExitStack() as closing:
        first = closing.enter_context(native.make(workspace, prewarm=1))
        attach(first, 1)
        run(first, "true")
        wait_until(lambda: ready() == 1)
        ((sandbox,),) = prewarmed._ready.values()
        wait_until(lambda: waiting_bash(sandbox.process.pid) != "")
        shell = waiting_bash(sandbox.process.pid)
        second = closing.enter_context(native.make(workspace, prewarm=0))
        attach(second, 2)
        assert run(
            second, "echo $BASHPID; python -c 'from lib.tools import secret; print(secret())'"
        ).split() == [
            shell,
            "2",
        ]
        assert second._was_prewarmed
        assert second.execute_python("from lib.tools import secret; print(secret())") == ("2\n", 0)


def test_one_that_has_ended_is_replaced(workspace: Path) -> None:
    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        (waiting,) = next(iter(prewarmed._ready.values()))
        waiting.process.kill()
        with native.make(workspace, prewarm=0) as second:
            assert run(second, "echo on") == "on\n"


def test_one_that_ends_as_it_is_taken_over_is_replaced(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        monkeypatch.setattr("agentd_executor_native.blueprint.StartedSandbox.is_alive", True)
        (waiting,) = next(iter(prewarmed._ready.values()))
        waiting.process.kill()
        waiting.process.wait(5)
        with native.make(workspace, prewarm=0) as second:
            assert run(second, "echo on") == "on\n"


def test_the_network_is_the_new_session_s(workspace: Path) -> None:
    asked: list[str] = []
    with native.make(workspace, prewarm=1, on_host_request=lambda host, port: False) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)

    def ask(host: str, port: int) -> bool:
        asked.append(host)
        return False

    with native.make(workspace, prewarm=0, on_host_request=ask) as second:
        run(second, "curl -s --max-time 20 http://example.invalid/ || true")
        assert second._was_prewarmed
    assert asked == ["example.invalid"]


def test_by_itself_one_is_ready_while_there_are_several_sessions_and_goes_with_the_last(
    workspace: Path,
) -> None:
    first, second = native.make(workspace), native.make(workspace)
    try:
        run(first, "true")
        assert not prewarmed._wanted
        run(second, "echo x > made")
        wait_until(lambda: ready() == 1)
        first.close()
        assert ready() == 1
    finally:
        first.close()
        second.close()
    assert not ready()
    assert {path.name for path in workspace.iterdir()} == {"made"}


def test_none_waits_longer_than_its_time(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd_executor_native.prewarmed.KEPT_S", 0.5)
    with native.make(workspace, prewarm=2) as first:
        run(first, "echo x > made")
        wait_until(lambda: ready() == 2)
    wait_until(lambda: not ready() and {path.name for path in workspace.iterdir()} == {"made"})


def test_a_session_that_wants_none_takes_none_from_another(workspace: Path) -> None:
    with native.make(workspace, prewarm=1) as first:
        run(first, "true")
        wait_until(lambda: ready() == 1)
        with native.make(workspace, prewarm=0) as second:
            run(second, "true")
            wait_until(lambda: ready() == 1)  # in place of the one that it has taken over


def test_a_start_that_fails_ahead_harms_no_session(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = native.make(workspace), native.make(workspace, prewarm=1)
    try:
        run(first, "true")
        failed = threading.Event()
        start = Blueprint.start

        def fail(blueprint: Blueprint) -> StartedSandbox:
            if threading.current_thread().name != "agentd-native-prewarm":
                return start(blueprint)
            failed.set()
            raise RuntimeError("no")

        monkeypatch.setattr(Blueprint, "start", fail)
        assert run(second, "echo on") == "on\n"
        assert failed.wait(20)
        wait_until(lambda: not prewarmed._wanted and prewarmed._starting is None)
    finally:
        first.close()
        second.close()


def test_a_session_that_never_started_and_was_forgotten_counts_no_more(
    workspace: Path, tmp_path: Path
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    executor = native.make(workspace, python=program)
    with pytest.raises(RunnerStartError):
        executor.execute_bash("true")
    del executor
    gc.collect()  # the error's traceback leads to it
    wait_until(lambda: not prewarmed._open)


def test_a_session_that_was_forgotten_counts_no_more(workspace: Path) -> None:
    executor = native.make(workspace)
    run(executor, "true")
    assert prewarmed._open
    del executor
    wait_until(lambda: not prewarmed._open)


def test_neither_does_one_that_was_forgotten_without_a_sandbox(workspace: Path) -> None:
    executor = native.make(workspace)
    run(executor, "true")
    executor.pause()
    assert prewarmed._open
    del executor
    wait_until(lambda: not prewarmed._open)


@pytest.mark.parametrize("count", [-1, 65, True, "2", 1.5])
def test_what_is_no_number_of_sandboxes_is_refused(tmp_path: Path, count: object) -> None:
    with pytest.raises(ConfigError, match="prewarm"):
        native.make(tmp_path, prewarm=count)
