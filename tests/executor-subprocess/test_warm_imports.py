"""Modules that blocks import are there already in later ones, and behave as in a Python that imports them itself."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import venv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from agentd.protocols import Layout
from agentd.types import PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host import RunnerExecutor, connection
from warm_blocks import run_warm

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="modules are imported ahead on Linux only")

WAVE = "import sys\nprint('wave' in sys.modules)\nimport wave"
"""Says whether the module was there before the block's own import."""


def run_until(executor: RunnerExecutor, code: str, expected: str) -> None:
    until = time.monotonic() + 20
    while (said := executor.execute_python(code)) != (expected, 0) and time.monotonic() < until:
        time.sleep(0.05)
    assert said == (expected, 0)


def test_what_a_block_imports_is_there_in_a_later_one(executor: SubprocessExecutor) -> None:
    assert executor.execute_python(WAVE) == ("False\n", 0)
    run_until(executor, WAVE, "True\n")
    assert executor.execute_python("import sys\nprint('wave' in sys.modules)") == ("False\n", 0)
    both = "import sys\nprint('wave' in sys.modules, 'fractions' in sys.modules)\nimport wave, fractions"
    executor.execute_python(both)
    run_until(executor, both, "True True\n")


def test_what_is_asked_for_is_there_in_the_first(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, preload=["wave"]) as executor:
        executor.execute_bash("sleep 0.5")  # the session starts without waiting for it
        run_until(executor, WAVE, "True\n")


def test_one_that_is_left_out_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, preload=["this", "wave"]) as executor:
        executor.execute_bash("sleep 2")
        assert executor.execute_python(WAVE) == ("True\n", 0)


def test_what_is_left_out_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "agentd.execution")
    with SubprocessExecutor(tmp_path, preload=["this", "wave", "no_such_module"]) as executor:
        run_until(executor, WAVE, "True\n")
        executor.execute_bash("true")
    said = {record.getMessage(): record.levelno for record in caplog.records}
    lead = "not imported ahead of the blocks: "
    assert said[f"{lead}this: its import prints"] == logging.WARNING
    assert (
        said[f"{lead}no_such_module: there is no such module in the interpreter's own folders"]
        == logging.WARNING
    )


@pytest.mark.parametrize("blocks", [0, 1])
def test_what_is_left_out_is_named_in_the_shortest_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, blocks: int
) -> None:
    with SubprocessExecutor(tmp_path, preload=["no_such_module", "this"]) as executor:
        asyncio.run(executor.start())
        for _ in range(blocks):
            executor.execute_bash("true")
    assert told(caplog).keys() == {"no_such_module", "this"}


def test_a_session_does_not_wait_for_the_end_of_a_long_import(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "takes_long.py").write_text("import time\ntime.sleep(60)\n")
    python = tmp_path / "venv" / "bin" / "python"
    with SubprocessExecutor(tmp_path / "work", preload=["takes_long", "wave"], python=python) as executor:
        executor.execute_bash("true")
    reason = "the session ended before that"
    assert told(caplog) == {"takes_long": reason, "wave": reason}


def told(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    """Return the warnings: modules, and why they are left out."""
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return dict(line.removeprefix("not imported ahead of the blocks: ").split(": ", 1) for line in warnings)


def test_where_modules_are_looked_for_is_the_same(executor: SubprocessExecutor) -> None:
    # By other names: a block that has to do with the path is to import by itself.
    looks = (
        "for a in 'path', 'meta_' + 'path':\n"
        "    print([f if type(f) is str else getattr(f, '__name__', type(f)) for f in getattr(sys, a)])\n"
    )
    bare = executor.execute_python(f"import sys\n{looks}")
    executor.execute_python(WAVE)
    run_until(executor, WAVE, "True\n")
    assert executor.execute_python(f"import sys\nassert 'wave' in sys.modules\nimport wave\n{looks}") == bare


@pytest.mark.parametrize(
    "head",
    ["sys.path.insert(0, 'vendor')", "import os; os.environ['A'] = '1'", "import os; os.chdir('vendor')"],
)
def test_a_block_that_sets_up_its_imports_finds_what_it_would_find(
    executor: SubprocessExecutor, head: str
) -> None:
    executor.execute_bash("mkdir vendor; echo 'own = 1' >vendor/wave.py")
    executor.execute_python(WAVE)
    run_until(executor, WAVE, "True\n")
    assert executor.execute_python(f"import sys\n{head}\nprint('wave' in sys.modules)\nimport wave") == (
        "False\n",
        0,
    )


def test_what_code_can_write_is_not_run_ahead(executor: SubprocessExecutor) -> None:
    executor.execute_bash('echo \'import os; open("ran", "a").write(str(os.getpid()))\' >mine.py')
    code = "import os\nprint(os.getpid())\nimport mine, wave"
    first, second = (executor.execute_python(code)[0].strip() for _ in range(2))
    run_until(executor, WAVE, "True\n")
    assert (executor.workspace_dir / "ran").read_text() == first + second


def test_a_module_of_the_blocks_own_comes_first(executor: SubprocessExecutor) -> None:
    executor.execute_python(WAVE)
    run_until(executor, WAVE, "True\n")
    executor.execute_bash("echo 'own = 1' >wave.py; mkdir -p elsewhere; cp wave.py elsewhere/chunk.py")
    assert executor.execute_python("import wave\nprint(wave.own)") == ("1\n", 0)
    executor.execute_bash("rm wave.py")
    run_until(executor, WAVE, "True\n")
    place = PythonAction(code="import wave, chunk\nprint(chunk.own)", pythonpath=("elsewhere",))
    assert executor.run_sync(place).output == "1\n"


def test_a_block_with_an_environment_of_its_own_imports_itself(executor: SubprocessExecutor) -> None:
    executor.execute_python(WAVE)
    run_until(executor, WAVE, "True\n")
    assert executor.run_sync(PythonAction(code=WAVE, env={"A": "1"})).output == "False\n"


def test_code_that_ends_all_its_relatives_loses_nothing_but_time(executor: SubprocessExecutor) -> None:
    executor.execute_python(WAVE)
    run_until(executor, WAVE, "True\n")
    kill = """
import os, signal
runner = int(os.environ["RUNNER"])
for pid in map(int, open(f"/proc/{runner}/task/{runner}/children").read().split()):
    os.kill(pid, signal.SIGKILL)
"""
    runner = executor._connected().process.pid  # type: ignore[union-attr]
    executor.run_sync(PythonAction(code=kill, env={"RUNNER": str(runner)}))
    assert executor.execute_python("import wave\nprint('on')") == ("on\n", 0)
    run_until(executor, WAVE, "True\n")


def test_where_many_sessions_are_open_none_keeps_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FLEET", 0.05)
    with SubprocessExecutor(tmp_path) as executor:
        for _ in range(5):
            assert executor.execute_python(WAVE) == ("False\n", 0)
            time.sleep(0.1)


def test_new_tools_do_not_lose_what_was_imported(executor: SubprocessExecutor) -> None:
    executor.execute_python(WAVE)
    run_until(executor, WAVE, "True\n")
    executor.attach(tools=None, layout=None)
    run_until(executor, WAVE, "True\n")


def test_bindings_alone_are_no_reason_for_another_process(
    executor: SubprocessExecutor, tmp_path: Path
) -> None:
    path = tmp_path / "bindings"
    sources = {path / "lib" / "__init__.py": "", path / "lib" / "tools.py": "def echo(): return 'on'"}
    executor.attach(tools=None, layout=Layout(importable=(path,), preload=("lib.tools",), sources=sources))
    code = "import os\nfrom lib.tools import echo\nprint(echo())"
    runner = 0
    for _ in range(3):
        assert executor.execute_python(code) == ("on\n", 0)
        time.sleep(0.1)
        runner = executor._connected().process.pid  # type: ignore[union-attr]
    assert len(Path(f"/proc/{runner}/task/{runner}/children").read_text().split()) == 1


# --- what a fork must leave right


@pytest.fixture
def warm(executor: SubprocessExecutor) -> Callable[[str], str]:
    """Run a block that imports modules when they are there already, and return what it prints."""

    return partial(run_warm, executor)


def test_random_numbers_differ(warm: Callable[[str], str]) -> None:
    pytest.importorskip("numpy")
    code = "import numpy.random\nimport random\nimport secrets\nimport uuid\nimport tempfile\n" + (
        "print(numpy.random.rand(), random.random(), secrets.token_hex(8), uuid.uuid4(), "
        "tempfile.mktemp(), numpy.random.default_rng().random())"
    )
    first, second = warm(code).split(), warm(code).split()
    assert len(first) == 6
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_the_threads_of_linear_algebra_are_there(warm: Callable[[str], str]) -> None:
    pytest.importorskip("numpy")
    code = "import numpy\na = numpy.ones((600, 600))\nprint(int((a @ a).sum()), numpy.linalg.det(numpy.eye(300)) == 1)"
    assert warm(code) == "216000000 True\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(warm: Callable[[str], str], method: str) -> None:
    code = f"""
import multiprocessing
import concurrent.futures
if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(abs, [-1, 2, -3]))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        print(list(pool.map(abs, [-4])))
"""
    assert warm(code).startswith("[1, 2, 3]\n[4]\n")  # a fork server may end a moment after the block


def test_locks_loops_and_exit_functions(warm: Callable[[str], str]) -> None:
    code = """
import asyncio
import logging
import queue
import atexit
logging.basicConfig(format="%(message)s", stream=sys.stdout)
atexit.register(print, "at exit")
async def main():
    return await asyncio.to_thread(logging.warning, "from a thread")
asyncio.run(main())
import threading
assert threading.current_thread() is threading.main_thread()
q = queue.Queue()
t = threading.Thread(target=q.put, args=(1,)); t.start(); t.join()
print(q.get(timeout=5))
"""
    assert warm(code) == "from a thread\n1\nat exit\n"


@pytest.mark.slow
def test_matplotlib_draws(warm: Callable[[str], str]) -> None:
    pytest.importorskip("matplotlib")
    code = "import matplotlib.pyplot as p\np.plot([1, 2])\np.savefig('a.png')\nprint(open('a.png', 'rb').read()[1:4])"
    assert warm(code) == "b'PNG'\n"
