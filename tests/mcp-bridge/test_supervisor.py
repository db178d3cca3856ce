"""The supervisor of a stdio server: exit codes, the host's word, and what it gives the server before it kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from agentd_mcp_bridge.child import _SUPERVISE

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sub-reapers are Linux's")

SAYS_TERM = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"TERM\\n"), os._exit(5)))
os.write(1, b"ready\\n")
time.sleep(30)
"""
DEAF = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
os.write(1, b"ready\\n")
time.sleep(30)
"""
LEAVES_ONE = """
import os, signal, time
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"TERM\\n"), os._exit(0)))
    os.write(writing, b"x")
    time.sleep(30)
os.read(reading, 1)
os._exit(3)
"""


class Supervised:
    """A supervisor and the end of the lifeline that a host holds."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int) -> None:
        self.process = process
        self.lifeline = lifeline

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def let_go(self, word: bytes = b"") -> None:
        lifeline, self.lifeline = self.lifeline, -1
        if lifeline >= 0:
            os.write(lifeline, word)
            os.close(lifeline)

    def output(self) -> bytes:
        """Return the rest of the server's output, which ends when nothing is left that could write there."""
        return self.process.communicate(timeout=20)[0]


@contextmanager
def supervised(*command: str, grace_s: float = 20.0) -> Iterator[Supervised]:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [*_SUPERVISE, str(reading), str(grace_s), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[reading],
        start_new_session=True,
    )
    os.close(reading)
    made = Supervised(process, writing)
    try:
        yield made
    finally:
        made.let_go()
        process.kill()
        process.communicate(timeout=40)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("pass", 0),
        ("import sys; sys.exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", 137),
        ("import os; os.kill(os.getpid(), 15)", 143),
    ],
)
def test_the_exit_code_is_the_servers(code: str, exit_code: int) -> None:
    with supervised(*python(code)) as made:
        assert made.output() == b""
        assert made.process.returncode == exit_code


def test_a_server_that_cannot_be_started_is_named_on_standard_error() -> None:
    with supervised("/no/such/server") as made:
        assert made.output() == b"/no/such/server: No such file or directory\n"
        assert made.process.returncode == 127


def test_a_server_that_is_let_go_may_end_by_itself() -> None:
    with supervised(
        *python("import sys; print('ready', flush=True); sys.stdin.read(); print('well')")
    ) as made:
        made.wait_ready()
        made.let_go()
        assert made.output() == b"well\n"  # which closes its standard input
        assert made.process.returncode == 0


def test_a_server_that_does_not_end_by_itself_is_told_to_after_the_grace() -> None:
    with supervised(*python(SAYS_TERM), grace_s=0.1) as made:
        made.wait_ready()
        made.let_go()
        assert made.output() == b"TERM\n"
        assert made.process.returncode == 5


@pytest.mark.slow
@linux
def test_what_does_not_hear_term_is_killed() -> None:
    with supervised(*python(DEAF), grace_s=0.1) as made:
        made.wait_ready()
        made.wait_ready()
        made.let_go()
        assert made.output() == b""
        assert made.process.returncode == 137


@linux
def test_a_host_in_a_hurry_has_all_of_it_killed_without_a_word() -> None:
    for code, times in ((SAYS_TERM, 1), (DEAF, 2)):
        with supervised(*python(code)) as made:
            for _ in range(times):
                made.wait_ready()
            made.let_go(b"k")
            assert made.output() == b""
            assert made.process.returncode == 137


@linux
def test_what_a_server_leaves_when_it_ends_is_told_to_end_as_well() -> None:
    with supervised(*python(LEAVES_ONE)) as made:
        assert made.output() == b"TERM\n"
        assert made.process.returncode == 3


def test_signals_decide_nothing_the_host_alone_does() -> None:
    with supervised(*python(SAYS_TERM)) as made:
        made.wait_ready()
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            made.process.send_signal(number)
        made.let_go(b"k")
        assert made.output() == b""
        assert made.process.returncode == 137


def test_it_loads_little() -> None:
    code = _SUPERVISE[-1].replace("sys.exit(main())", "print(*sys.modules)")
    done = subprocess.run(
        [*_SUPERVISE[:-1], code, "-1", "0"], capture_output=True, text=True, check=True, timeout=20
    )
    loaded = set(done.stdout.split())
    assert {"agentd_mcp_bridge.supervisor", "agentd_runner.reaper"} <= loaded
    assert not loaded & {
        "agentd",
        "mcp",
        "anyio",
        "typing",
        "ctypes",
        "socket",
        "subprocess",
        "pathlib",
        "json",
    }
