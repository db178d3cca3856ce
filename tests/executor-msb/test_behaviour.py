"""What every executor must do, in the microVM: on the stand-in always, on a real one with `-m kvm`."""

from __future__ import annotations

import json
import os
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from agentd.errors import ExecutorClosedError
from agentd.registry import Registry
from agentd.types import BashAction, CreateAction, Limits, OutputChunk, PythonAction
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_skills import layout_of
from agentd_tools import ToolSet
from standin import BWRAP

Survivors = Callable[[str], list[str]]
needs_bwrap = pytest.mark.skipif(BWRAP is None, reason="bubblewrap is missing: apt-get install bubblewrap")

HOSTILE = """
import os, signal, sys
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


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def fails() -> None:
    """Never works."""
    raise ValueError("on purpose")


def test_bash_keeps_directory_exports_and_functions(executor: MicrosandboxCLIExecutor) -> None:
    executor.execute_bash("mkdir sub; cd sub; export A='x y'; f() { echo f:$A; }")
    output, code = executor.execute_bash("pwd; f; bash -c 'echo child:$A'")
    assert output.splitlines() == [f"{executor.settings.guest_dir}/sub", "f:x y", "child:x y"]
    assert code == 0


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 3", 3), ("echo 'unclosed", 2), ("set -e; false; echo never", 1), ("cat", 0), ("kill -9 $$", 137)],
)
def test_no_block_hurts_the_session(executor: MicrosandboxCLIExecutor, command: str, code: int) -> None:
    assert executor.execute_bash(command)[1] == code
    assert executor.execute_bash("echo still here") == ("still here\n", 0)


def test_python_is_fresh_for_every_block_and_shows_lines_in_tracebacks(
    executor: MicrosandboxCLIExecutor,
) -> None:
    assert executor.execute_python("x = 1; print(__name__)") == ("__main__\n", 0)
    output, code = executor.execute_python("print(\n  x)")
    assert "NameError" in output
    assert code == 1


def test_kept_python_shares_its_names(executor: MicrosandboxCLIExecutor) -> None:
    executor.run_sync(PythonAction(code="x = 41", state="kept"))
    result = executor.run_sync(PythonAction(code="print(x + 1)", state="kept"))
    assert result.output == "42\n"


def test_both_outputs_are_apart_any_bytes_and_counted_where_cut(executor: MicrosandboxCLIExecutor) -> None:
    chunks: list[OutputChunk] = []
    result = executor.run_sync(
        BashAction(command=r"printf '\xff\x00out'; printf err >&2; exit 7"), on_output=chunks.append
    )
    assert (result.stdout, result.stderr, result.exit_code) == (b"\xff\x00out", b"err", 7)
    assert b"".join(c.data for c in chunks if c.stream == "stdout") == b"\xff\x00out"
    flood = executor.run_sync(PythonAction(code="import sys; sys.stdout.write('x' * 20_000_000)"))
    assert flood.dropped_bytes == 20_000_000 - executor.limits.output_bytes


def test_a_large_block_and_a_large_file_go_through_the_pipe(executor: MicrosandboxCLIExecutor) -> None:
    code = "data = '''" + "y" * 3_000_000 + "'''\nprint(len(data))"
    assert executor.execute_python(code) == ("3000000\n", 0)
    content = os.urandom(5_000_000)
    assert executor.run_sync(CreateAction(path="big/file", content=content)).exit_code == 0
    assert (executor.workspace_dir / "big" / "file").read_bytes() == content


def test_a_time_out_ends_the_whole_tree_and_leaves_the_session_usable(
    executor: MicrosandboxCLIExecutor, survivors: Survivors
) -> None:
    executor.limits = Limits(timeout_s=20, grace_s=0.3)
    result = executor.run_sync(PythonAction(code=HOSTILE.format(tag="8201"), timeout_s=1.0))
    assert (result.status, result.exit_code) == ("timeout", 124)
    assert result.stdout.startswith(b"ready\n")
    assert survivors("988201") == []
    assert executor.execute_bash("pgrep -f 988201 || echo usable") == ("usable\n", 0)


@pytest.mark.anyio
async def test_cancelling_ends_the_block_and_nothing_else(executor: MicrosandboxCLIExecutor) -> None:
    began = threading.Event()

    def on_output(chunk: OutputChunk) -> None:
        began.set()

    async def block() -> None:
        await executor.run(BashAction(command="echo on; sleep 988401"), on_output=on_output)

    async with anyio.create_task_group() as group:
        group.start_soon(block)
        await anyio.to_thread.run_sync(began.wait, 30)
        group.cancel_scope.cancel()
    assert began.is_set()
    result = await executor.run(BashAction(command="pgrep -f 988401 || echo none"))
    assert result.output == "none\n"


@pytest.mark.anyio
async def test_blocks_run_at_the_same_time(executor: MicrosandboxCLIExecutor) -> None:
    # Each waits for the other: one after the other, they would never end.
    await executor.run(BashAction(command="mkfifo $TMPDIR/one $TMPDIR/two"))
    results = []

    async def run(command: str) -> None:
        results.append((await executor.run(BashAction(command=command, timeout_s=15))).exit_code)

    async with anyio.create_task_group() as group:
        group.start_soon(run, "echo a > $TMPDIR/one; read b < $TMPDIR/two")
        group.start_soon(run, "read a < $TMPDIR/one; echo b > $TMPDIR/two")
    assert results == [0, 0]


@pytest.mark.parametrize("path", ["/etc/evil", "../evil", "a/../../evil", "link/evil"])
def test_create_does_not_leave_the_workspace(executor: MicrosandboxCLIExecutor, path: str) -> None:
    executor.execute_bash("ln -s /tmp link")
    result = executor.run_sync(CreateAction(path=path, content="x"))
    assert result.exit_code == 1
    assert "not created" in result.message


def test_created_scripts_are_executable_on_both_sides(executor: MicrosandboxCLIExecutor) -> None:
    assert executor.create_file("tool", "#!/bin/sh\necho ran\n") == "created tool (19 bytes)"
    assert executor.execute_bash("./tool") == ("ran\n", 0)
    assert os.access(executor.workspace_dir / "tool", os.X_OK)


@needs_bwrap
def test_host_paths_of_the_workspace_are_understood(executor: MicrosandboxCLIExecutor) -> None:
    inner = executor.workspace_dir / "pkg"
    inner.mkdir()
    (inner / "mine.py").write_text("name = 'mine'")
    assert executor.execute_bash("pwd", cwd=inner) == ("/workspace/pkg\n", 0)
    code = "import mine, os; print(mine.name, os.getcwd())"
    assert (
        executor.execute_python(code, cwd=executor.workspace_dir, pythonpath=inner)[0] == "mine /workspace\n"
    )


@needs_bwrap
def test_the_code_sees_neither_the_hosts_files_nor_its_environment(
    executor: MicrosandboxCLIExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-host")
    (tmp_path / "private").write_text("secret")
    output, _ = executor.execute_bash(f"cat {tmp_path}/private; env; cat /proc/*/environ | tr '\\0' '\\n'")
    assert "secret" not in output
    assert "sk-host" not in output
    assert str(tmp_path) not in output.replace(f"cat: {tmp_path}/private", "")


def test_tools_are_called_from_python_from_children_and_over_http(executor: MicrosandboxCLIExecutor) -> None:
    tools = ToolSet([double, fails])
    skills = executor.workspace_dir / "skills"
    Registry().create_skill_renderer().render(tools.specs(), skills)
    executor.attach(tools=tools, layout=layout_of(skills))
    try:
        code = "from lib.tools import double\nprint(double(21))"
        assert executor.execute_python(code) == ("42\n", 0)
        assert executor.execute_bash(f"$AGENTD_PYTHON -c '{code}'") == ("42\n", 0)
        http = textwrap.dedent("""
            import json, os, urllib.request
            request = urllib.request.Request(
                os.environ["AGENTD_TOOLS_URL"] + "/call/double", json.dumps({"x": 4}).encode(),
                {"Authorization": "Bearer " + os.environ["AGENTD_TOOLS_TOKEN"]})
            print(urllib.request.urlopen(request).read().decode())
        """)
        output, code_ = executor.execute_python(http)
        assert code_ == 0
        assert "8" in json.dumps(json.loads(output))
        failed = (
            "from lib.tools import fails, ToolError\ntry:\n    fails()\nexcept ToolError as e:\n    print(e)"
        )
        assert "on purpose" in executor.execute_python(failed)[0]
    finally:
        tools.close()


@needs_bwrap
def test_the_bindings_cannot_be_changed_from_inside(executor: MicrosandboxCLIExecutor) -> None:
    tools = ToolSet([double])
    skills = executor.workspace_dir / "skills"
    Registry().create_skill_renderer().render(tools.specs(), skills)
    executor.attach(tools=tools, layout=layout_of(skills))
    try:
        output, code = executor.execute_bash("echo 'evil' >> skills/lib/tools.py; rm -rf skills; mv skills x")
        assert code != 0
        assert output.count("Read-only file system") >= 1
        assert "evil" not in (skills / "lib" / "tools.py").read_text()
    finally:
        tools.close()


def test_resource_limits_hold_in_the_guest(executor: MicrosandboxCLIExecutor) -> None:
    executor.limits = Limits(file_mib=1, open_files=64)
    result = executor.run_sync(
        BashAction(command="head -c 3000000 /dev/zero > big; stat -c %s big; ulimit -n")
    )
    assert (result.stdout.split(), result.exit_code) == ([b"1048576", b"64"], 0)


def test_nothing_is_left_in_the_workspace_and_a_closed_executor_says_so(
    executor: MicrosandboxCLIExecutor,
) -> None:
    executor.execute_bash("echo x > mine")
    executor.close()
    assert os.listdir(executor.workspace_dir) == ["mine"]
    with pytest.raises(ExecutorClosedError):
        executor.execute_bash("true")
    executor.close()


def test_verify_runs_a_block_and_names_the_microvm(executor: MicrosandboxCLIExecutor) -> None:
    works, message = executor.verify()
    assert works
    assert executor.vm_name in message
