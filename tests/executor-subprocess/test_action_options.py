"""What an action brings along for itself: standard input, and limits below those of its executor."""

from __future__ import annotations

from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd.types import Action, BashAction, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor


@pytest.mark.parametrize(
    ("action", "output"),
    [
        (BashAction(command="cat", stdin="h\xe9llo\n"), "h\xe9llo\n"),
        (BashAction(command="read a; read b; echo $b; cat", stdin="one\ntwo\nthree"), "two\nthree"),
        (BashAction(command="true; cat | tr a-z A-Z", stdin=b"x\0y"), "X\0Y"),
        (BashAction(command="python3 -c 'print(input())'; wc -c", stdin="line\nrest"), "line\n"),
        (BashAction(command="exec cat", stdin="out of the file\n"), "out of the file\n"),
        (BashAction(command="cat", stdin=""), ""),
        (PythonAction(code="print(input(), input())", stdin="a\nb\n"), "a b\n"),
        (PythonAction(code="import sys; print(sys.stdin.buffer.read())", stdin=b"\xff\0"), "b'\\xff\\x00'\n"),
        (PythonAction(code="import subprocess; subprocess.run('cat')", stdin="inherited"), "inherited"),
    ],
)
def test_standard_input_is_what_the_action_gives(
    executor: SubprocessExecutor, action: Action, output: str
) -> None:
    assert executor.run_sync(action).output.startswith(output)
    assert executor.execute_bash("cat; echo at its end") == ("at its end\n", 0)
    assert executor.execute_python("import sys; print(repr(sys.stdin.read()))") == ("''\n", 0)


def test_megabytes_of_standard_input_arrive(executor: SubprocessExecutor) -> None:
    data = b"0123456789abcde\n" * 200_000
    assert executor.run_sync(BashAction(command="cat > file; wc -c < file", stdin=data)).output == "3200000\n"
    assert (executor.workspace_dir / "file").read_bytes() == data
    code = "import sys; print(len(sys.stdin.buffer.read()))"
    assert executor.run_sync(PythonAction(code=code, stdin=data)).output == "3200000\n"


def test_a_kept_interpreter_reads_each_block_s_own_input(executor: SubprocessExecutor) -> None:
    def run(code: str, stdin: str = "") -> str:
        return executor.run_sync(PythonAction(code=code, state="kept", stdin=stdin)).output

    assert run("print(input())", "one\nnever read\n") == "one\n"
    assert "EOFError" in run("input()")
    assert run("print(input())", "two") == "two\n"


def test_the_code_is_not_to_be_read_from_standard_input(executor: SubprocessExecutor) -> None:
    """Code that stands before it in the same file: reading starts behind it."""
    action = BashAction(command="# a comment\ncat\n", stdin="input")
    assert executor.run_sync(action).output == "input"


@pytest.mark.parametrize(
    ("limits", "bash", "python"),
    [
        ({"file_mib": 1}, "head -c 3000000 /dev/zero > f; ls -l f | cut -d' ' -f5", None),
        (
            {"open_files": 50},
            "ulimit -n",
            "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])",
        ),
        (
            {"memory_mib": 300},
            "ulimit -d",
            "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[1] >> 10)",
        ),
        ({"cpu_s": 7}, "ulimit -t", "import resource; print(resource.getrlimit(resource.RLIMIT_CPU)[1])"),
    ],
)
def test_an_action_may_lower_limits_for_itself(
    executor: SubprocessExecutor, limits: dict[str, int], bash: str, python: str | None
) -> None:
    wanted = {"file_mib": "1048576", "open_files": "50", "memory_mib": str(300 << 10), "cpu_s": "7"}[
        next(iter(limits))
    ]
    before = executor.execute_bash("ulimit -a")
    assert executor.run_sync(BashAction(command=bash, limits=limits)).stdout.split() == [wanted.encode()]
    if python is not None:
        assert executor.run_sync(PythonAction(code=python, limits=limits)).output.split() == [wanted]
    assert executor.execute_bash("ulimit -a") == before


def test_an_action_may_keep_less_of_its_output(executor: SubprocessExecutor) -> None:
    for action in (
        BashAction(command="printf %1000s | tr ' ' x", limits={"output_bytes": 10}),
        PythonAction(code="print('x' * 1000, end='')", limits={"output_bytes": 10}),
    ):
        result = executor.run_sync(action)
        assert (result.dropped_bytes, result.stdout.count(b"x")) == (990, 10)
    assert len(executor.execute_bash("printf %1000s")[0]) == 1000


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"memory": 5}, "an action may lower .*not 'memory'"),
        ({"processes": 5}, "not 'processes'"),
        ({"cpu_s": 0}, "limits.cpu_s: must be an integer of at least 1"),
        ({"open_files": True}, "must be an integer"),
        ({"open_files": 1 << 20}, "more than the executor's own, 4096"),
    ],
)
def test_a_limit_that_an_action_may_not_have_is_refused_in_words(
    tmp_path: Path, limits: dict[str, int], message: str
) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        with pytest.raises(ConfigError, match=message):
            executor.run_sync(BashAction(command="true", limits=limits))
        with pytest.raises(ConfigError, match="kept interpreter"):
            executor.run_sync(PythonAction(code="1", state="kept", limits={"cpu_s": 5}))
        assert executor.execute_bash("echo on") == ("on\n", 0)
