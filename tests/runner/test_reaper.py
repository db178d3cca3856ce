"""The sub-reaper of supervisors: whatever a main child has started, nothing is left, and it hears what it should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from agentd_runner.reaper import HERE

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sub-reapers are Linux's")

# What it kills holds its standard output: that ends when nothing is left, and not before.
SUPERVISOR = f"""\
import os, signal, sys
sys.path.append({HERE!r})
from agentd_runner import reaper
def main_child(become=None, on_term=None):
    made = reaper.SubReaper(on_term)
    def run():
        made.end_with_parent(signal.SIGKILL)
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", sys.argv[1]])
    made.start(become or run, not_started=9)
    return made
def tell(*what):
    os.write(1, (" ".join(map(str, what)) + "\\n").encode())
"""

# What a main child has at hand; all of it ends by itself, should it be left.
HOSTILE = """\
import os, signal, sys, time
def ready():
    os.write(1, b"ready\\n")
def stay():
    time.sleep(30)
    os._exit(0)
def forked(run):
    if os.fork() == 0:
        run()
        os._exit(0)
"""

DAEMON = """
def daemon():
    os.setsid()
    forked(lambda: (ready(), stay()))
forked(daemon)
os.wait()
stay()
"""

DEAF = """
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
forked(lambda: (ready(), stay()))
stay()
"""

# From the supervisor's TERM on: each process forks two in sessions of their own, five generations deep.
STORM = """
def burst(generation):
    if generation < 5:
        for _ in range(2):
            forked(lambda: (os.setsid(), burst(generation + 1)))
    stay()
signal.signal(signal.SIGTERM, lambda *_: burst(1))
ready()
stay()
"""

# Each forks the next one and ends, twenty times: none is there for long.
CHAIN = """
def link(left):
    time.sleep(0.005)
    if left:
        forked(lambda: (os.setsid(), link(left - 1)))
        os._exit(0)
    stay()
signal.signal(signal.SIGTERM, lambda *_: link(20))
ready()
stay()
"""

STOPPED = """
child = os.fork()
if child == 0:
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
    stay()
os.waitpid(child, os.WUNTRACED)
ready()
stay()
"""


@contextmanager
def supervisor(code: str, main: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that runs this as a supervisor, whose main child runs `main`."""
    program = SUPERVISOR + textwrap.dedent(code)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, HOSTILE + main],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=40)


def run(code: str, main: str = "") -> list[str]:
    with supervisor(code, main) as process:
        output, _ = process.communicate(timeout=40)
        assert process.returncode == 0
        return output.splitlines()


@linux
@pytest.mark.parametrize(
    "main", [DAEMON, DEAF, STORM, CHAIN, STOPPED], ids=["daemon", "deaf", "storm", "chain", "stopped"]
)
def test_nothing_is_left_of_a_main_child_and_what_it_has_started(main: str) -> None:
    code = """
    made = main_child()
    sys.stdin.readline()
    made.signal_below(signal.SIGTERM)
    made.wait(0.02, {})
    made.kill_below()
    tell("left:", made.reap(), "exit code:", made.exit_code is not None)
    """
    with supervisor(code, main) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        output, _ = process.communicate("now\n", timeout=20)  # in less than what is left would stay
    assert output.splitlines()[-1] == "left: False exit code: True"


@linux
def test_what_a_main_child_leaves_when_it_ends_falls_to_the_supervisor() -> None:
    code = """
    made = main_child()
    while made.reap() and made.exit_code is None:
        made.wait(None, {})
    tell("exit code:", made.exit_code, "others:", made.reap())
    made.kill_below()
    tell("others:", made.reap())
    """
    main = "forked(lambda: (os.setsid(), forked(stay)))\nos.wait()\nos._exit(3)"
    assert run(code, main) == ["exit code: 3 others: True", "others: False"]


def test_where_nobody_is_adopted_the_group_of_the_main_child_is_ended() -> None:
    """As on macOS, which has neither sub-reapers nor /proc."""
    code = """
    reaper.load_prctl = lambda: None
    reaper.children_of = lambda pid: []
    made = main_child()
    sys.stdin.readline()
    if made.reap():
        made.signal_below(signal.SIGTERM)
    made.kill_below()
    tell(made.exit_code)
    """
    ended = """
parent = os.getpid()
def orphan():
    while os.getppid() == parent:
        time.sleep(0.001)
    ready()
    stay()
forked(orphan)
os._exit(3)
"""
    for main, exit_code in ((DEAF, 128 + signal.SIGKILL), (ended, 3)):
        with supervisor(code, main) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            output, _ = process.communicate("now\n", timeout=20)
        assert output == f"{exit_code}\n"


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have a child that may not be killed")
def test_killing_has_an_end_even_if_something_cannot_be_killed() -> None:
    code = """
    made = main_child()
    sys.stdin.readline()
    os.setuid(65534)
    made.kill_below(0.1)
    tell("left:", made.reap())
    """
    with supervisor(code, 'os.write(1, f"{os.getpid()}\\n".encode())\nstay()') as process:
        assert process.stdin is not None
        assert process.stdout is not None
        main = int(process.stdout.readline())
        process.stdin.write("now\n")
        process.stdin.flush()
        assert process.stdout.readline() == "left: True\n"
        os.kill(main, signal.SIGKILL)


@pytest.mark.parametrize(
    ("main", "exit_code"),
    [("os._exit(0)", 0), ("os._exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_exit_code_is_the_main_childs_or_says_which_signal_ended_it(main: str, exit_code: int) -> None:
    code = """
    made = main_child()
    while made.reap():
        made.wait(None, {})
    tell(made.exit_code)
    """
    assert run(code, main) == [str(exit_code)]


@pytest.mark.parametrize("become", ["lambda: None", "lambda: os.execv('/no/such/program', ['x'])"])
def test_a_main_child_that_does_not_become_anything_has_the_exit_code_for_that(become: str) -> None:
    code = f"""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    made = main_child({become})
    while made.reap():
        made.wait(None, {{}})
    tell(made.exit_code)
    """
    assert run(code) == ["9"]


def test_a_main_child_leads_a_session_and_has_no_signal_handlers_and_no_pipe_of_the_supervisor() -> None:
    code = """
    made = main_child(on_term=lambda: None)
    while made.reap():
        made.wait(None, {})
    """
    main = """
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
    handler = signal.getsignal(number)
    assert handler in (signal.SIG_DFL, signal.default_int_handler), (number, handler)
found = [number for number in range(3, 100) if os.path.exists(f"/dev/fd/{number}")]
os.write(1, f"{os.getsid(0) == os.getpid()} {found}\\n".encode())
"""
    assert run(code, main) == ["True []"]


@linux
def test_a_main_child_ends_with_its_supervisor() -> None:
    with supervisor("main_child().wait(None, {})\nsys.stdin.read()", "ready()\nstay()") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.communicate(timeout=20) == ("", None)


def test_of_the_signals_term_alone_is_heard_and_only_if_that_is_asked_for() -> None:
    code = """
    heard = []
    made = main_child(on_term={on_term})
    tell("ready")
    while sys.stdin.readline():
        pass
    made.wait(0, {{}})
    tell(len(heard))
    """
    for on_term, count in (("None", 0), ("lambda: heard.append(1)", 1)):
        with supervisor(code.format(on_term=on_term), "stay()") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                process.send_signal(number)
            assert process.communicate("\n", timeout=20)[0] == f"{count}\n"


def test_it_waits_for_the_events_that_it_is_given_and_for_hang_ups() -> None:
    code = """
    import select
    made = main_child(lambda: os.execv("/bin/sleep", ["sleep", "30"]))
    reading, writing = os.pipe()
    os.write(writing, b"x")
    told = [made.wait(0, {reading: 0}), made.wait(None, {reading: select.POLLIN})]
    os.close(writing)
    told += [made.wait(None, {reading: 0}), made.wait(0, {})]
    tell(*([bool(ready) for ready in told]))
    made.kill_below()
    """
    assert run(code) == ["False True True False"]


def test_it_loads_little() -> None:
    show = "print(*sorted(set(sys.modules) - before))"
    code = f"import sys; sys.path.append({HERE!r}); before = set(sys.modules); import agentd_runner.reaper; {show}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("agentd")} == {
        "agentd_runner",
        "agentd_runner.inside",
        "agentd_runner.inside.primitives",
        "agentd_runner.inside.processes",
        "agentd_runner.reaper",
    }
    assert not loaded & {"typing", "ctypes", "socket", "subprocess", "pathlib", "json", "re", "enum"}
    assert Path(HERE, "agentd_runner").is_dir()
