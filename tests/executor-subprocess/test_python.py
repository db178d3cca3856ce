"""Python blocks: a clean `__main__` for each, forked from the warm runner; or one namespace that lasts."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd.types import PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor


def run(executor: SubprocessExecutor, code: str) -> tuple[str, int]:
    return executor.execute_python(code)


def kept(executor: SubprocessExecutor, code: str) -> tuple[str, int]:
    result = executor.run_sync(PythonAction(code=code, state="kept"))
    return result.output, result.exit_code


def test_a_traceback_has_file_line_and_source_and_none_of_our_frames(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "def f():\n    return 1 / 0\n\nf()")
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith('  File "<block 1>", line 4, in <module>')
    assert lines[2] == "    f()"
    assert "runner" not in output
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "    return 1 / 0" in lines


def test_a_thread_s_traceback_has_its_source(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "import threading\nt = threading.Thread(target=lambda: 1 / 0)\nt.start()")
    assert "Exception in thread" in output
    assert "t = threading.Thread(target=lambda: 1 / 0)" in output
    assert code == 0


def test_a_syntax_error_names_its_line(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "x = 1\ny = (\n")
    assert 'File "<block 1>", line 2' in output
    assert code == 1


@pytest.mark.parametrize(
    ("code", "exit_code", "output"),
    [
        ("import sys; sys.exit()", 0, ""),
        ("import sys; sys.exit(7)", 7, ""),
        ("import sys; sys.exit('why')", 1, "why\n"),
        ("raise SystemExit(256 + 5)", 5, ""),
        ("import os; os._exit(6)", 6, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143, "ended by signal SIGTERM"),
        ("raise KeyboardInterrupt", 130, None),
    ],
)
def test_exit_codes_arrive(
    executor: SubprocessExecutor, code: str, exit_code: int, output: str | None
) -> None:
    got = run(executor, code)
    assert got[1] == exit_code
    assert output is None or got[0] == output


def test_the_end_of_the_interpreter_is_complete(executor: SubprocessExecutor) -> None:
    code = (
        "import atexit, threading, time, sys\n"
        "gate = threading.Event()\n"
        "threading.Thread(target=lambda: (gate.wait(), print('thread'))).start()\n"
        "atexit.register(print, 'atexit')\n"
        "print('no newline', end='')\n"
        "print()\n"
        "gate.set()\n"
    )
    assert run(executor, code) == ("no newline\nthread\natexit\n", 0)


def test_multiprocessing_and_pools_work_without_a_word(executor: SubprocessExecutor) -> None:
    code = (
        "import multiprocessing as m, concurrent.futures as c\n"
        "def double(x): return 2 * x\n"
        "with m.Pool(2) as pool: print(pool.map(double, range(3)))\n"
        "with c.ProcessPoolExecutor(2) as pool: print(list(pool.map(double, range(3))))\n"
        "with c.ThreadPoolExecutor(2) as pool: print(list(pool.map(double, range(3))))\n"
    )
    assert run(executor, code) == ("[0, 2, 4]\n" * 3, 0)


def test_asyncio_and_subprocess_work(executor: SubprocessExecutor) -> None:
    code = (
        "import asyncio, subprocess, sys\n"
        "async def main():\n"
        "    p = await asyncio.create_subprocess_exec(sys.executable, '-c', 'print(6 * 7)')\n"
        "    await p.wait()\n"
        "asyncio.run(main())\n"
        "print(subprocess.run(['echo', 'sub'], capture_output=True, text=True).stdout.strip())\n"
    )
    assert run(executor, code) == ("42\nsub\n", 0)


def test_the_interpreter_s_packages_are_there_and_all_start_methods_work(
    executor: SubprocessExecutor,
) -> None:
    code = (
        "import pytest, sys, site, multiprocessing\n"
        "print(sys.prefix == sys.exec_prefix, exit.__class__.__name__)\n"
        "from math import sqrt\n"
        "for method in ('fork', 'spawn', 'forkserver'):\n"
        "    with multiprocessing.get_context(method).Pool(1) as pool: print(pool.map(sqrt, [4.0]))\n"
        "print(sys.prefix)\n"
    )
    expected = "True Quitter\n" + "[2.0]\n" * 3 + sys.prefix + "\n"
    output, exit_code = run(executor, code)
    assert output.startswith(expected)  # the fork server is left, which a note behind it says
    assert exit_code == 0


def test_the_workspace_is_importable_and_beats_nothing_of_the_runner(executor: SubprocessExecutor) -> None:
    executor.create_file("helper.py", "VALUE = 5")
    executor.create_file("json.py", "raise SystemExit('shadowed')")
    assert run(executor, "import helper; print(helper.VALUE)") == ("5\n", 0)
    assert executor.execute_bash("echo the runner still works") == ("the runner still works\n", 0)


def test_input_is_at_its_end(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "input()")
    assert "EOFError" in output
    assert code == 1


def test_a_nul_byte_in_python_source_is_a_syntax_error(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "print(1)\0")
    assert "null bytes" in output
    assert code == 1


def test_a_kept_namespace_lasts_and_survives_errors_and_exits(executor: SubprocessExecutor) -> None:
    assert kept(executor, "import os\nx = 41\ndef f(): return x + 1") == ("", 0)
    assert kept(executor, "print(f(), __name__)") == ("42 __main__\n", 0)
    assert kept(executor, "x = 1\nraise ValueError('no')")[1] == 1
    assert kept(executor, "raise SystemExit(3)") == ("", 3)
    assert kept(executor, "print(x)") == ("1\n", 0)
    assert run(executor, "print('x' in globals())") == ("False\n", 0)


def test_the_executor_s_own_state_is_what_blocks_get_that_do_not_say(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, state="kept") as executor:
        assert executor.execute_python("x = 5") == ("", 0)
        assert executor.execute_python("print(x)") == ("5\n", 0)
        action = PythonAction(code="print('x' in globals())", state="fresh")
        assert executor.run_sync(action).output == "False\n"
    with pytest.raises(ConfigError, match="'fresh' or 'kept'"):
        SubprocessExecutor(tmp_path, state="keep")  # type: ignore[arg-type]


def test_kept_blocks_run_one_after_the_other_in_the_order_written(executor: SubprocessExecutor) -> None:
    kept(executor, "seen = []")
    threads = []
    for number in range(5):
        thread = threading.Thread(target=kept, args=(executor, f"seen.append({number})"))
        thread.start()
        thread.join(0.05)  # only to order the five requests; their results do not depend on it
        threads.append(thread)
    for thread in threads:
        thread.join()
    assert kept(executor, "print(sorted(seen))") == ("[0, 1, 2, 3, 4]\n", 0)


def test_a_kept_namespace_lost_to_a_time_out_is_said(executor: SubprocessExecutor) -> None:
    kept(executor, "x = 1")
    result = executor.run_sync(PythonAction(code="while True: pass", state="kept", timeout_s=0.2))
    assert result.status == "timeout"
    assert "kept Python namespace is lost" in result.output
    assert kept(executor, "print('x' in globals())") == ("False\n", 0)


def test_a_block_that_waits_behind_one_that_times_out_gets_a_new_interpreter(
    executor: SubprocessExecutor,
) -> None:
    begun, results = threading.Event(), list[tuple[str, int]]()
    endless = PythonAction(code="print('on', flush=True)\nwhile True: pass", state="kept", timeout_s=1)
    first = threading.Thread(
        target=executor.run_sync, args=(endless,), kwargs={"on_output": lambda _chunk: begun.set()}
    )
    first.start()
    assert begun.wait(10)
    waiting = threading.Thread(target=lambda: results.append(kept(executor, "print('next')")))
    waiting.start()
    for thread in (first, waiting):
        thread.join(10)
    assert results == [("next\n", 0)]


def test_a_kept_interpreter_that_ends_between_two_blocks_is_replaced(executor: SubprocessExecutor) -> None:
    pid = int(kept(executor, "import os; print(os.getpid())")[0])
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists():
        pass
    output, code = kept(executor, "print('new')")
    assert output.startswith("new\n")
    assert "namespace was lost before this block" in output
    assert code == 0


def test_a_block_for_a_kept_interpreter_whose_end_is_not_known_yet_goes_to_another_one(
    executor: SubprocessExecutor,
) -> None:
    pid, supervisor = map(int, kept(executor, "import os; print(os.getpid(), os.getppid())")[0].split())
    spawner = int(Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[1])
    # So nobody says that the interpreter has ended, or has the other go on.
    for stopped in (spawner, supervisor):
        os.kill(stopped, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    going_on = threading.Timer(
        0.3, lambda: [os.kill(stopped, signal.SIGCONT) for stopped in (supervisor, spawner)]
    )
    going_on.start()
    output, code = kept(executor, "print('new')")
    going_on.join()
    assert output.startswith("new\n")
    assert "namespace was lost before this block" in output
    assert code == 0
    assert kept(executor, "print('again')") == ("again\n", 0)


def test_a_block_that_ends_its_kept_interpreter_is_not_run_again(executor: SubprocessExecutor) -> None:
    kept(executor, "runs = open('runs', 'a')")
    code = "runs.write('x'); runs.flush(); import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    output, exit_code = kept(executor, code)
    assert "the kept Python namespace is lost" in output
    assert exit_code == 137
    assert kept(executor, "print(open('runs').read())") == ("x\n", 0)


def test_a_kept_interpreter_that_exits_for_real_is_replaced(executor: SubprocessExecutor) -> None:
    assert kept(executor, "import os; os._exit(9)") == ("the kept Python namespace is lost", 9)
    assert kept(executor, "print('new')") == ("new\n", 0)


@pytest.mark.anyio
async def test_variables_of_one_action_do_not_stay_in_a_kept_namespace(
    executor: SubprocessExecutor, anyio_backend: str
) -> None:
    code = "import os; print(os.environ.get('ONCE'))"
    once = await executor.run(PythonAction(code=code, state="kept", env={"ONCE": "here"}))
    assert once.output == "here\n"
    assert (await executor.run(PythonAction(code=code, state="kept"))).output == "None\n"


def test_the_collector_does_not_look_at_what_a_block_has_inherited(executor: SubprocessExecutor) -> None:
    output, _ = executor.execute_python("import gc; print(len(gc.get_objects()))")
    assert int(output) < 200  # all of the interpreter's would be more than a thousand


@pytest.mark.parametrize(
    "report",
    [
        *("", "null", "[]", "{}", "[1]", "[0,0,0,0,0,0]", '["0",0,0,0,0]', "[0,NaN,0,0,0]", "[0,0,-1,0,0]"),
        *(
            "[99999999999,0,0,0,0]",
            "[0.0,0,0,0,0]",
            "[0,[],0,0,0]",
            "[" * 400,
            "[0,0,1e999,0,0]",
            "[0,0,0,0,true]",
        ),
    ],
)
def test_a_kept_interpreter_that_reports_an_end_of_its_own_fails_its_block_alone(
    executor: SubprocessExecutor, report: str
) -> None:
    runner = executor.execute_bash("true") and executor._connection
    code = (
        f"import os, time\nprint('on', flush=True)\nos.write(90, b'D' + {report!r}.encode())\ntime.sleep(30)"
    )
    result = executor.run_sync(PythonAction(code=code, state="kept"))
    assert result.status == "failed"
    assert result.stdout == b"on\n"
    assert "did not report the block's end as it must" in result.message
    assert kept(executor, "print('new')") == ("new\n", 0)
    assert executor._connection is runner


def test_a_descriptor_that_is_no_socket_does_not_become_a_channel(executor: SubprocessExecutor) -> None:
    runner = executor.execute_bash("true") and executor._connection
    code = (
        "import array, socket\n"
        "broker = socket.socket(fileno=90)\n"
        "for letter in (b'C', b'L'):\n"
        "    with open('/dev/null') as file:\n"
        "        rights = array.array('i', [file.fileno()])\n"
        "        broker.sendmsg([letter], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])\n"
        "print('sent')\n"
    )
    for state in ("fresh", "kept"):  # only of the first one's channels are some passed on
        assert executor.run_sync(PythonAction(code=code, state=state)).stdout == b"sent\n"  # type: ignore[arg-type]
        assert executor.execute_python("print('on')") == ("on\n", 0)
    assert executor._connection is runner


def test_the_source_of_what_a_block_defines_can_be_read(executor: SubprocessExecutor) -> None:
    code = (
        "import inspect\n"
        "class A:\n"
        "    x: int = 1  # kept\n"
        "def f():\n"
        "    return 1\n"
        "print(inspect.getsource(A) + inspect.getsource(f) + __file__)\n"
    )
    shown = "class A:\n    x: int = 1  # kept\ndef f():\n    return 1\n<block {}>\n"
    assert run(executor, code) == (shown.format(1), 0)
    assert kept(executor, code) == (shown.format(2), 0)


UNGUARDED = """
import concurrent.futures, multiprocessing
from dataclasses import dataclass
OFFSET = 10
@dataclass
class Point:
    x: int
def shifted(point):
    return Point(point.x + OFFSET)
context = multiprocessing.get_context({method!r})
with context.Pool(2) as pool:
    print([p.x for p in pool.map(shifted, [Point(1), Point(2)])])
with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
    print([p.x for p in pool.map(shifted, [Point(3)])])
"""
GUARDED = """
import multiprocessing
def named(x):
    return f"{{x}} {{SET}}"
SET = str(5)
if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(1) as pool:
        print(pool.map(named, ["a"]))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_that_are_started_afresh_find_what_the_block_defines(
    executor: SubprocessExecutor, method: str
) -> None:
    output, code = run(executor, UNGUARDED.format(method=method))
    assert output.startswith("[11, 12]\n[13]\n")
    assert code == 0
    output, code = run(executor, GUARDED.format(method=method))
    assert output.startswith("['a 5']\n")
    assert code == 0


def test_processes_started_afresh_by_a_kept_interpreter_find_what_its_blocks_define(
    executor: SubprocessExecutor,
) -> None:
    kept(executor, "import multiprocessing\ndef double(x): return 2 * x\nprint('never again')")
    kept(executor, "def triple(x): return double(x) + x")
    code = "with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(triple, [2]))"
    assert kept(executor, code)[0].startswith("[6]\n")
    kept(executor, "def more(x): return triple(x) + 1")
    code = "with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(more, [2]))"
    assert kept(executor, code)[0].startswith("[7]\n")


def test_the_first_block_waits_for_no_imports_and_later_ones_find_them(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        code = "import sys; print({'json', 'threading', 'traceback'} <= set(sys.modules))"
        assert executor.execute_python(code) == ("False\n", 0)
        for _ in range(3):  # a supervisor that is used again, too
            assert executor.execute_python(code) == ("True\n", 0)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f():\n    return 1 / 0\nf()", "    return 1 / 0\n"),
        (
            "import threading\ndef f():\n    return 1 / 0\nthreading.Thread(target=f).start()",
            "Exception in thread ",
        ),
        ("import inspect\ndef f():\n    return 41\nprint(inspect.getsource(f))", "    return 41\n"),
        (
            "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('end'))).start()",
            "end\n",
        ),
        ("import linecache, threading\nprint(linecache.__loader__.get_source('linecache')[:3])", '"""'),
    ],
)
def test_what_is_imported_late_knows_of_the_first_block(tmp_path: Path, code: str, expected: str) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        assert expected in executor.execute_python(code)[0]
