"""Several executors at a time: from the second on, their runners are forks of one process."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from agentd.errors import RunnerDiedError
from agentd.types import PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host import connection, forkserver

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks its runners on Linux only")


def pid_of(executor: SubprocessExecutor) -> int:
    assert executor._connection is not None
    return executor._connection.process.pid


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[SubprocessExecutor]]:
    with ExitStack() as stack:
        made = []
        for number in range(3):
            env = {f"ONLY_{number}": f"secret{number}"}
            made.append(stack.enter_context(SubprocessExecutor(tmp_path / str(number), env=env, timeout=20)))
            assert made[-1].execute_bash("echo on") == ("on\n", 0)
        yield made


def test_the_first_runner_is_a_child_and_the_others_share_a_parent(three: list[SubprocessExecutor]) -> None:
    first, second, third = map(pid_of, three)
    assert parent_of(first) == os.getpid()
    server = parent_of(second)
    assert server not in (first, os.getpid())
    assert parent_of(third) == server
    assert parent_of(server) == os.getpid()


def test_the_last_of_them_ends_the_process_that_forked_them(tmp_path: Path) -> None:
    executors = [SubprocessExecutor(tmp_path / str(number)) for number in range(3)]
    for executor in executors:
        executor.execute_bash("true")
    server = parent_of(pid_of(executors[1]))
    executors[1].close()
    assert lives(server)
    executors[2].close()
    assert not lives(server)
    assert executors[0].execute_bash("echo on") == ("on\n", 0)
    executors[0].close()


def test_neither_sees_the_environment_of_another(three: list[SubprocessExecutor]) -> None:
    look = (
        "import os\nprint(sorted(n for n in os.environ if n.startswith('ONLY_')))\n"
        "print([n for n in range(3) if b'secret%d' % n in open('/proc/self/environ', 'rb').read()])"
    )
    for number, executor in enumerate(three):
        assert executor.execute_bash("echo ${!ONLY_*}") == (f"ONLY_{number}\n", 0)
        names, started_with = executor.execute_python(look)[0].splitlines()
        assert names == f"['ONLY_{number}']"
        assert started_with in ("[]", f"[{number}]")


def test_a_fork_has_no_descriptor_of_another_and_leads_a_session_of_its_own(
    three: list[SubprocessExecutor],
) -> None:
    held = []
    for executor in three[1:]:
        pid = pid_of(executor)
        assert os.getsid(pid) == pid
        links = (os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
        held.append({link for link in links if link.startswith(("pipe:", "socket:"))})
    assert held[0]
    assert not held[0] & held[1]


def test_without_the_process_that_forks_the_runners_go_on_and_new_ones_start(
    three: list[SubprocessExecutor], tmp_path: Path
) -> None:
    os.kill(parent_of(pid_of(three[1])), signal.SIGKILL)
    assert three[1].execute_bash("echo on") == ("on\n", 0)
    with SubprocessExecutor(tmp_path / "new") as new, SubprocessExecutor(tmp_path / "newer") as newer:
        assert new.execute_bash("echo on") == ("on\n", 0)
        assert newer.execute_bash("echo on") == ("on\n", 0)
        three[1].close()
        three[2].close()
        assert new.execute_bash("echo on") == ("on\n", 0)
        assert newer.execute_bash("echo on") == ("on\n", 0)


def test_a_process_that_forks_and_is_stopped_holds_nobody_up_for_long(
    three: list[SubprocessExecutor],
) -> None:
    server = parent_of(pid_of(three[1]))
    os.kill(server, signal.SIGSTOP)
    began = time.monotonic()
    three[1].close()
    assert three[2].execute_bash("echo on") == ("on\n", 0)
    assert time.monotonic() - began < 5
    assert not lives(server)


def test_where_no_runner_can_be_forked_they_start_without_trying_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a kernel without pidfds, where the process that forks dies of the first request."""
    made = []

    class Dying(forkserver.ForkServer):
        def __init__(self, command: Sequence[str]) -> None:
            super().__init__(["/bin/false"])
            made.append(self)

    monkeypatch.setattr(forkserver, "ForkServer", Dying)
    monkeypatch.setattr(forkserver, "_starters", {})
    with ExitStack() as stack:
        for number in range(6):
            executor = stack.enter_context(SubprocessExecutor(tmp_path / str(number)))
            assert executor.execute_bash("echo on") == ("on\n", 0)
            assert parent_of(pid_of(executor)) == os.getpid()
    assert len(made) == forkserver.FAILURES


def test_how_a_forked_runner_ended_is_said(three: list[SubprocessExecutor]) -> None:
    pid = pid_of(three[2])
    with pytest.raises(RunnerDiedError, match=rf"the runner \(pid {pid}\) ended: .*exit code -9"):
        three[2].run_sync(PythonAction(code=f"import os; print('half', flush=True); os.kill({pid}, 9)"))
    assert three[2].execute_bash("echo on")[0].startswith("on\n")


def test_a_forked_child_of_the_program_does_not_hold_the_process_that_forks(tmp_path: Path) -> None:
    executors = [SubprocessExecutor(tmp_path / str(number)) for number in range(2)]
    for executor in executors:
        executor.execute_bash("true")
    server = parent_of(pid_of(executors[1]))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    try:
        for executor in executors:
            executor.close()
        assert not lives(server)
    finally:
        os.write(write, b"x")
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


def below(pid: int) -> list[int]:
    own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return own + [deeper for child in own for deeper in below(child)]


def test_many_keep_their_workers_for_a_shorter_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FLEET", 1)
    with ExitStack() as stack:
        fleet = [stack.enter_context(SubprocessExecutor(tmp_path / str(number))) for number in range(12)]
        for _ in range(2):  # by the second round all of them are open
            for executor in fleet:
                assert executor.execute_python("print('on')") == ("on\n", 0)
        until = time.monotonic() + 8  # one alone keeps them for 10 s
        while any(map(below, map(pid_of, fleet))) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(below, map(pid_of, fleet)))
        for executor in fleet:
            assert executor.execute_python("print('again')") == ("again\n", 0)
            assert executor.execute_bash("echo and so on") == ("and so on\n", 0)
