"""The start and the end of a sandbox: what is missing is said in one sentence, and nothing is left."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import native
import pytest
from agentd import Registry
from agentd.errors import RunnerStartError, SandboxUnavailableError
from agentd.types import BashAction
from agentd_executor_native import requirements
from agentd_executor_native.executor import NativeExecutor
from agentd_executor_native.requirements import Bubblewrap, explain, list_requirements
from agentd_runner import call_filter
from agentd_runner.call_filter import MACHINES, UnknownMachineError, filter_program
from host_processes import command_lines
from life import left_of, tree_of

BUBBLEWRAP = Bubblewrap("/usr/bin/bwrap", "0.8.0", can_end_nesting=True)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_verify_says_that_it_holds_and_by_what(executor: NativeExecutor) -> None:
    held, said = executor.verify()
    assert held, said
    assert said.startswith("bubblewrap ")
    assert " holds: " in said
    assert said.endswith("its memory is bounded for each process, not for the session as a whole")


def test_memory_is_bounded_as_verify_says(tmp_path: Path) -> None:
    say = "sys.stdout.write(str(len(x) >> 20) + chr(10)); sys.stdout.flush()"  # in one piece
    take = f"python3 -c 'import sys; x = bytearray(80 << 20); {say}; sys.stdin.read()'"
    with native.make(tmp_path / "w", limits={"memory_mib": 120}, timeout=60) as executor:
        said = executor.execute_bash(f"for i in 1 2 3; do sleep 3 | {take} & done; wait")[0]
        assert said.split() == ["80", "80", "80"]  # at the same time
        assert executor.execute_bash(take.replace("80 <<", "200 <<") + " < /dev/null")[1] != 0


def test_the_executor_is_a_plugin_with_requirements() -> None:
    needed = Registry().requirements("executor", "native")
    assert [one.name for one in needed] == ["bubblewrap", "user namespaces", "system call filter"]


def test_without_bubblewrap_nothing_runs_and_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "_FOLDERS", str(tmp_path))
    with NativeExecutor(tmp_path / "w") as executor:
        with pytest.raises(
            SandboxUnavailableError, match=r"bubblewrap is missing \(.*apt-get install bubblewrap"
        ):
            executor.execute_bash("true")
        held, said = executor.verify()
        assert (held, "bubblewrap is missing" in said) == (False, True)
    assert not list_requirements()[0].ok


def test_a_bubblewrap_that_lacks_an_option_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bwrap"
    old.write_text("#!/bin/sh\necho bubblewrap 0.4.1 --perms --seccomp\n")
    old.chmod(0o755)
    monkeypatch.setattr(requirements, "_FOLDERS", str(tmp_path))
    with (
        NativeExecutor(tmp_path / "w") as executor,
        pytest.raises(SandboxUnavailableError, match="has no --size, --bind-fd, --ro-bind-fd"),
    ):
        executor.execute_bash("true")


def test_an_interpreter_that_does_not_start_is_not_told_as_a_missing_sandbox(tmp_path: Path) -> None:
    native.need_native()
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    with NativeExecutor(tmp_path / "w", python=program) as executor, pytest.raises(RunnerStartError):
        executor.execute_bash("true")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("agentd: root's sandbox needs SYS_ADMIN", "root's sandbox needs SYS_ADMIN"),
        (
            "bwrap: No permissions to create new namespace, ...",
            "does not let bubblewrap make user namespaces",
        ),
        ("bwrap: setting up uid map: Permission denied", "does not let bubblewrap make user namespaces"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "mount a /proc of its own"),
        ("bwrap: something else\n happened", "did not start it; it said: bwrap: something else happened"),
        ("", "it said: nothing"),
    ],
)
def test_why_it_did_not_start_is_explained(said: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_reads", lambda _path, _value: False)
    got = explain(said, BUBBLEWRAP)
    assert expected in got
    assert "\n" not in got


@pytest.mark.parametrize(
    ("setting", "said", "expected"),
    [
        (
            "_APPARMOR",
            "bwrap: setting up uid map: Permission denied",
            "apparmor_restrict_unprivileged_userns=0",
        ),
        ("_COUNT", "bwrap: No space left on device", "max_user_namespaces=15000"),
        ("_CLONE", "bwrap: anything", "unprivileged_userns_clone=1"),
    ],
)
def test_a_setting_of_the_kernel_is_named_with_the_command_that_changes_it(
    setting: str, said: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = getattr(requirements, setting)
    monkeypatch.setattr(requirements, "_reads", lambda path, _value: path == chosen)
    assert expected in explain(said, BUBBLEWRAP)


def test_a_machine_without_a_filter_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownMachineError, match="riscv64"):
        filter_program("riscv64")
    assert all(len(filter_program(machine)) % 8 == 0 for machine in MACHINES)
    filter_program.cache_clear()
    monkeypatch.setattr(call_filter, "MACHINES", {})
    with (
        NativeExecutor(tmp_path / "w") as executor,
        pytest.raises(SandboxUnavailableError, match="no filter of system calls"),
    ):
        executor.execute_bash("true")


def below(pid: int) -> list[int]:
    """Pids of all processes below one."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(status.parent.name)] = int(words[1])
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def test_an_open_session_has_seven_processes_at_most_and_none_is_left(tmp_path: Path) -> None:
    executor = native.make(tmp_path / "w")
    executor.execute_bash("true")
    assert executor._connection is not None
    pid = executor._connection.process.pid
    assert 2 <= 1 + len(below(pid)) <= 7
    tag = f"9{os.getpid()}"
    executor.run_sync(BashAction(command=f"setsid sleep {tag} & disown; true"))
    executor.close()
    until(lambda: not below(pid) and not command_lines(f"sleep {tag}"))


def test_the_sandbox_ends_with_a_program_that_is_killed(tmp_path: Path) -> None:
    native.need_native()
    tag = f"8{os.getpid()}.5"
    program = f"""
import sys
from agentd_executor_native.executor import NativeExecutor
from agentd.types import BashAction
executor = NativeExecutor(sys.argv[1])
executor.run_sync(BashAction(command="true"))
print("ready", flush=True)
executor.run_sync(BashAction(command="trap '' TERM; setsid sleep {tag} & sleep {tag}"))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "w")], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        until(lambda: len([line for line in command_lines(f"sleep {tag}") if line.startswith("sleep")]) >= 2)
        host.send_signal(signal.SIGKILL)
    until(lambda: not command_lines(f"sleep {tag}"))


@pytest.mark.slow
def test_the_first_sandbox_of_a_program_may_have_hosts(tmp_path: Path) -> None:
    native.need_native()
    program = (
        "import sys\nfrom agentd import Registry\n"
        "with Registry().create_executor(('native', {'allowed_hosts': ['a.example']}), sys.argv[1]) as executor:\n"
        "    print(executor.execute_bash('echo here', '.'))\n"
    )
    (tmp_path / "w").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "w")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "here" in done.stdout


def test_code_that_kills_all_it_sees_leaves_the_session_usable(executor: NativeExecutor) -> None:
    assert executor.execute_bash("kill -9 -1; sleep 30")[1] != 0
    assert executor.execute_bash("echo on") == ("on\n", 0)


def test_a_sandbox_that_is_killed_from_outside_is_told_and_the_next_block_has_a_new_one(
    executor: NativeExecutor,
) -> None:
    executor.execute_bash("true")
    assert executor._connection is not None
    executor._connection.process.kill()
    until(lambda: executor._connected() is None)
    output, code = executor.execute_bash("echo on")
    assert (output.splitlines()[0], code) == ("on", 0)
    assert "a new one was started" in output


def test_a_forgotten_executor_ends_its_sandbox(tmp_path: Path) -> None:
    executor = native.make(tmp_path / "w")
    executor.execute_bash("true")
    assert executor._connection is not None
    sandbox = tree_of(executor._connection.process.pid)
    assert all(sandbox.values())
    del executor
    gc.collect()
    assert not left_of(sandbox)


def test_many_sessions_run_beside_each_other_and_see_nothing_of_each_other(tmp_path: Path) -> None:
    native.need_native()
    made = [NativeExecutor(tmp_path / f"w{number}") for number in range(8)]
    try:
        said = [executor.execute_bash("id -u; ls -d /proc/[0-9]* | wc -l; pwd") for executor in made]
        assert [output.split()[2] for output, _ in said] == [str(e.workspace_dir) for e in made]
        if os.geteuid() == 0:
            assert len({output.split()[0] for output, _ in said}) == 8
    finally:
        for executor in made:
            executor.close()
