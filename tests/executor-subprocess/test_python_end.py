"""How Python blocks end: as CPython ends beside them, and without a trace in the next block of a kept interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from agentd.types import PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor

LEFT_OPEN = {
    "a file": "f = open('x', 'w'); f.write('hi')",
    "bytes": "f = open('x', 'wb'); f.write(b'hi')",
    "both ways": "f = open('x', 'w+'); f.write('hi')",
    "what a function uses": "f = open('x', 'w')\ndef say(): f.write('hi')\nsay()",
    "in a cycle": "class A: pass\na = A(); a.a = a; a.f = open('x', 'w'); a.f.write('hi')",
    "csv": "import csv\nw = csv.writer(open('x', 'w'))\nw.writerow([1, 2])",
    "print": "f = open('x', 'w')\nprint('hi', end='', file=f)",
    "standard output": "import sys\nsys.stdout = open('x', 'w')\nprint('hi')",
    "a module's": "import helper",
    "beside a daemon": (
        "import threading\nf = open('x', 'w'); f.write('hi')\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    ),
}
CLOSED_AT_THE_END = {
    "gzip": "import gzip\nf = gzip.GzipFile('x', 'w', mtime=0)\nf.write(b'hi')",
    "zip": "import zipfile\nf = zipfile.ZipFile('x', 'w')\nf.writestr(zipfile.ZipInfo('a'), 'b')",
    "gzip in a class": (
        "import gzip\nclass Log:\n    def __init__(self): self.file = gzip.GzipFile('x', 'w', mtime=0)\n"
        "log = Log()\nlog.file.write(b'hi')"
    ),
    "text in bz2": "import bz2\ndef f(): pass\ng = bz2.open('x', 'wt'); g.write('hi')",
    "a zip over a file": (
        "import zipfile\ndef f(): pass\nf = zipfile.ZipFile(open('x', 'wb'), 'w')\n"
        "f.writestr(zipfile.ZipInfo('a'), 'b')"
    ),
    "what typing remembers": (
        "import bz2, typing\nclass A:\n    def f(self): pass\nx = typing.List[A]\n"
        "g = bz2.open('x', 'wt'); g.write('hi')"
    ),
    "what signal remembers": (
        "import bz2, signal\ndef f(*_): pass\nsignal.signal(signal.SIGUSR1, f)\n"
        "class A:\n    def __del__(self): print('gone', f.__name__)\na = A()\n"
        "g = bz2.open('x', 'wt'); g.write('hi')"
    ),
    "a module's gzip": "import packed",
    "a footer": (
        "class A:\n    def __init__(self): self.f = open('x', 'w')\n"
        "    def __del__(self): self.f.write('footer'); self.f.close()\na = A()"
    ),
    "a coroutine": "async def f(): pass\nc = f()",
    "C's own output": "import ctypes\nctypes.CDLL(None).printf(b'hello\\n')",
    "__del__": "import os\nclass A:\n    def __del__(self): print('gone', os.sep)\na = A()",
    "a generator": "def f():\n    try: yield\n    finally: print('end')\ng = f(); next(g)",
}
STREAMS = {
    "half a line, then replaced": "import io, sys\nprint('abc', end='')\nsys.stdout = io.StringIO()",
    "half a line, then None": "import sys\nprint('abc', end='')\nsys.stdout = None",
    "closed": "import sys\nprint('abc')\nsys.stdout.close()",
    "wrapped anew": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint('abc')",
    "detached": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint('abc')",
    "standard error closed": "import sys\nprint('abc')\nsys.stderr.close()",
    "standard input closed": "import sys\nsys.stdin.close()",
    "deleted": "import sys\nprint('abc')\ndel sys.stdout",
    "of its descriptor": "import os, sys\nsys.stdout = os.fdopen(1, 'w', 1)\nprint('abc')",
    "standard error of its descriptor": "import sys\nsys.stderr = open(2, 'w')",
    "standard input of its descriptor": "import sys\nsys.stdin = open(0)",
    "what equals nothing": (
        "import sys\nclass A:\n    def __getattr__(self, name): return getattr(sys.__stdout__, name)\n"
        "    def __eq__(self, other): raise ValueError\nsys.stdout = A()\nprint('abc')"
    ),
    "detached buffers": (
        "import io\nb = open('y', 'wb'); r = b.detach(); r.write(b'x')\n"
        "t = open('z', 'w'); u = t.detach(); u.write(b'x'); print('abc')"
    ),
    "one instead of the other": "import sys\nsys.stdout.close()\nsys.stdout = sys.stderr\nprint('abc')",
}


def kept(executor: SubprocessExecutor, code: str) -> tuple[str, int]:
    result = executor.run_sync(PythonAction(code=code, state="kept"))
    return result.output, result.exit_code


@pytest.mark.parametrize("code", [*LEFT_OPEN.values(), *CLOSED_AT_THE_END.values(), *STREAMS.values()])
def test_a_fresh_interpreter_ends_as_cpython_does(
    executor: SubprocessExecutor, tmp_path: Path, code: str
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    for folder in (beside, executor.workspace_dir):
        Path(folder, "helper.py").write_text("FILE = open('x', 'w')\nFILE.write('hi')\n")
        Path(folder, "packed.py").write_text("import bz2\nFILE = bz2.open('x', 'wt')\nFILE.write('hi')\n")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    plain = subprocess.run(
        [sys.executable, "-c", code],
        cwd=beside,
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert executor.execute_python(code) == (plain.stdout + plain.stderr, plain.returncode)
    there = Path(executor.workspace_dir, "x")
    assert there.exists() == (beside / "x").exists()
    assert not there.exists() or there.read_bytes() == (beside / "x").read_bytes()


@pytest.mark.parametrize(("exit_code", "shown"), [("10 ** 30", 255), ("True", 1), ("-1", 255), ("256", 0)])
def test_an_exit_code_is_cut_as_cpython_does(
    executor: SubprocessExecutor, exit_code: str, shown: int
) -> None:
    code = f"raise SystemExit({exit_code})"
    # What is printed is not compared: CPython 3.13.0 tells an error of its own for the first.
    assert (
        subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode
        == shown
    )
    assert executor.execute_python(code) == ("", shown)


@pytest.mark.parametrize("code", LEFT_OPEN.values())
def test_what_a_kept_block_has_written_is_there_for_others(executor: SubprocessExecutor, code: str) -> None:
    Path(executor.workspace_dir, "helper.py").write_text("FILE = open('x', 'w')\nFILE.write('hi')\n")
    assert kept(executor, code) == ("", 0)
    assert executor.execute_bash("wc -c < x")[0].strip() in ("2", "3", "5")


def test_a_kept_block_writes_on_in_a_file_of_the_one_before(executor: SubprocessExecutor) -> None:
    assert kept(executor, "f = open('x', 'w'); f.write('a')") == ("", 0)
    assert kept(executor, "f.write('b'); print(open('x').read())") == ("a\n", 0)
    assert executor.execute_bash("cat x") == ("ab", 0)


def test_what_a_full_pipe_would_hold_up_is_not_written(executor: SubprocessExecutor) -> None:
    code = "import os\nr, w = os.pipe()\nos.write(w, bytes(65536))\nf = open(w, 'w', closefd=False); f.write('hi')"
    assert kept(executor, f"{code}\ng = open('x', 'w'); g.write('hi')") == ("", 0)
    assert executor.execute_bash("cat x") == ("hi", 0)


def test_later_blocks_do_not_look_for_files_that_are_known(executor: SubprocessExecutor) -> None:
    assert (
        kept(executor, "many = [[] for _ in range(300_000)]\nf = open('x', 'w'); g = open('/etc/passwd')")[1]
        == 0
    )
    code = "import time\nbefore = time.process_time()\nf.write('a')"
    assert kept(executor, code) == ("", 0)
    output, _ = kept(executor, "print(time.process_time() - before)")
    assert float(output) < 0.01, "looking through all objects takes longer"
    assert executor.execute_bash("cat x") == ("a", 0)
    for _ in range(2):  # the same number and the same inode
        assert kept(executor, "f.close(); f = open('x', 'a'); f.write('b')") == ("", 0)
    assert executor.execute_bash("cat x") == ("abb", 0)


def test_a_file_that_cannot_be_written_is_told_once(executor: SubprocessExecutor) -> None:
    small = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))"
    output, code = kept(executor, f"{small}\nf = open('x', 'w', 1 << 20)\nf.write('x' * 5000)")
    assert (output.count("File too large"), code) == (1, 120)
    assert kept(executor, "print(1)") == ("1\n", 0)
    assert kept(executor, "raise SystemExit(3)") == ("", 3)


@pytest.mark.parametrize("how", ["alarm", "trace"])
def test_handlers_and_tracers_of_a_block_touch_only_blocks(executor: SubprocessExecutor, how: str) -> None:
    left = {
        "alarm": (
            "import signal, time\nmine = 5\ndef late(*_): raise TimeoutError\n"
            "signal.signal(signal.SIGALRM, late)\nsignal.setitimer(signal.ITIMER_REAL, 0.05)"
        ),
        "trace": "import sys\nmine = 5\nsys.settrace(lambda *_: print('traced'))\nsys.setprofile(lambda *_: None)",
    }[how]
    assert kept(executor, left)[1] == 0
    executor.execute_bash("sleep 0.1")
    output, code = kept(executor, "print(mine)")
    assert (output.replace("traced\n", ""), code) == ("5\n", 0)
    assert output.count("traced") <= 5, "of what is not the block's, some calls"
    if how == "alarm":
        again = "signal.setitimer(signal.ITIMER_REAL, 0.01)\ntime.sleep(5)"
        assert kept(executor, again)[0].endswith("TimeoutError\n")


@pytest.mark.parametrize(
    "code",
    [
        *STREAMS.values(),
        "import io, sys\nsys.stdout = sys.stderr = io.StringIO()",
        "import contextlib, io\ncontextlib.redirect_stdout(io.StringIO()).__enter__()",
        "import sys\nsys.stdin.close()",
        "import os\nos.close(0)",
        "import os\nos.close(1)",
        "import os\nos.close(2)",
        "import os\nos.closerange(0, 3)",
    ],
)
def test_the_next_block_of_a_kept_interpreter_has_its_streams(
    executor: SubprocessExecutor, code: str
) -> None:
    kept(executor, f"mine = 5\n{code}")
    look = (
        "import subprocess, sys\nprint(mine, repr(sys.stdin.read()))\n"
        "print(subprocess.run('cat; echo out', shell=True, capture_output=True).stdout)"
    )
    assert kept(executor, look) == ("5 ''\nb'out\\n'\n", 0)
    assert kept(executor, "sys.stderr.write('err\\n')") == ("err\n", 0)
    assert kept(executor, "1 / 0")[0].endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("import sys\nclass W:\n    def write(self, text): ...\nsys.stdout = W()", 120, "has no attribute 'flush'"),
        ("import sys\nclass W:\n    write, flush = print, sys.exit\nsys.stdout = W()", 120, "SystemExit"),
        ("import sys\nsys.excepthook = lambda *_: {}[0]\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import sys\nsys.excepthook = None\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import sys\ndel sys.excepthook\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import sys\ndel sys.stderr\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import sys\nsys.stderr.close()\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import sys\nsys.stderr = object()\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import sys\nclass W:\n    write = open\nsys.stderr = W()\nraise ValueError('mine')", 1, "ValueError: mine"),
        ("import os\nos.close(2)\nraise ValueError('mine')", 1, ""),
        ("class A:\n    def __str__(self): raise ValueError('mine')\nraise SystemExit(A())", 1, "ValueError: mine"),
        ("class E(SystemExit):\n    code = property(lambda self: {}[0])\nraise E", 1, "KeyError: 0"),
    ],
)  # fmt: skip
def test_an_end_that_fails_is_the_block_s_own_and_its_namespace_stays(
    executor: SubprocessExecutor, code: str, exit_code: int, said: str
) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    plain = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, timeout=30, check=False
    ).returncode
    for how, wanted in ((executor.execute_python, plain), (partial(kept, executor), exit_code)):
        output, got = how(f"mine = 5\n{code}")
        assert got == wanted
        assert said in output
    assert kept(executor, "import sys\nsys.excepthook = sys.__excepthook__\nprint(mine)") == ("5\n", 0)


@pytest.mark.parametrize(
    ("code", "told", "child"),
    [
        ("if not os.fork(): open('x', 'w').write('hi')\nelse: print(os.wait()[1] >> 8)", "0\n", "hi"),
        (
            "if not os.fork(): print('child'); raise SystemExit(3)\nprint(os.wait()[1] >> 8)",
            "child\n3\n",
            None,
        ),
        ("if not os.fork(): raise KeyError('x')\nprint(os.wait()[1] >> 8)", "KeyError: 'x'\n1\n", None),
        ("f = open('x', 'w')\nif not os.fork(): f.write('hi')\nelse: os.wait()", "", "hi"),
        ("if not os.fork(): atexit.register(print, 'bye')\nelse: os.wait()", "bye\n", None),
        ("if not os.fork(): os.setsid(); time.sleep(0.4); open('x', 'w').write('hi')", "", "hi"),
    ],
)
def test_what_a_kept_block_forks_ends_with_it_as_in_a_script(
    executor: SubprocessExecutor, code: str, told: str, child: str | None
) -> None:
    assert kept(executor, "import atexit, os, time\nmine = 7") == ("", 0)
    output, exit_code = kept(executor, code)
    assert (output.endswith(told), exit_code) == (True, 0)
    assert kept(executor, "time.sleep(0.6); print(mine)") == ("7\n", 0)
    there = Path(executor.workspace_dir, "x")
    assert (there.read_text() if there.exists() else None) == child
