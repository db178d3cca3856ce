"""`CommandSandbox`, which adapters to other frameworks stand on: commands by their arguments, and files."""

from __future__ import annotations

import errno
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agentd
import anyio
import pytest
from agentd.errors import ConfigError, ExecutorClosedError, UnknownPluginError
from agentd.protocols import Layout, OnOutput, ToolDispatcher
from agentd.types import Action, ActionResult, BashAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host import command_sandbox
from agentd_runner.host.command_sandbox import CommandSandbox, cannot_execute, chosen_executor


@pytest.fixture(params=["direct", "lasting"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[CommandSandbox]:
    with CommandSandbox("subprocess", lasting=request.param == "lasting") as made:
        yield made


def test_the_first_command_may_have_a_path_of_its_own(sandbox: CommandSandbox) -> None:
    assert (
        sandbox.run_sync(["sh", "-c", "echo $PATH"], env={"PATH": "/usr/bin:/bin"}).stdout
        == b"/usr/bin:/bin\n"
    )


def test_a_program_gets_its_arguments_input_directory_and_environment(sandbox: CommandSandbox) -> None:
    literal = " $(x) `y` 'z' \\ ;\n"
    assert sandbox.run_sync(["printf", "%s", literal]).stdout == literal.encode()
    assert sandbox.run_sync(["cat"], stdin=b"\0\xff\n").stdout == b"\0\xff\n"
    assert sandbox.run_sync(["cat"]).stdout == b""
    assert sandbox.run_sync(["printenv", "HUE"], env={"HUE": "red"}).stdout == b"red\n"
    assert sandbox.run_sync(["printenv", "HUE"]).exit_code == 1
    assert sandbox.run_sync(["/usr/bin/printenv", "PATH"], env={"PATH": "/bin"}).stdout == b"/bin\n"
    sandbox.write_file_sync("a b/c", b"")
    assert sandbox.run_sync(["ls"], cwd="a b").stdout == b"c\n"
    assert sandbox.run_sync(["pwd"]).stdout.decode().strip() == os.path.realpath(sandbox.workspace)
    absent = sandbox.run_sync(["ls"], cwd="no/such")
    assert absent.exit_code != 0
    assert b"no/such" in absent.stderr


def test_a_line_of_bash_is_run_by_itself_and_changes_nothing_for_the_next(sandbox: CommandSandbox) -> None:
    line = "cd /; X=1; export Y=2; f() { echo f; }; set -o pipefail; echo $X$Y; f # the end"
    assert sandbox.run_sync(["bash", "-c", line]).stdout == b"12\nf\n"
    assert sandbox.run_sync(["bash", "-c", "echo $X$Y; pwd; set +o | grep pipefail; f"]).stdout.decode() == (
        f"\n{os.path.realpath(sandbox.workspace)}\nset +o pipefail\n"
    )
    assert sandbox.run_sync(["bash", "-c", "exit 7"]).exit_code == 7
    assert sandbox.run_sync(["bash", "-c", "cat <<END\nhere\nEND"]).stdout == b"here\n"
    assert sandbox.run_sync(["bash", "-c", "cat; exec sh -c 'exit 3'"], stdin=b"in").stdout == b"in"
    assert sandbox.run_sync(["bash", "-c", "if"]).exit_code != 0
    assert sandbox.run_sync(["bash", "-c", "kill -TERM $BASHPID"]).exit_code == 143
    assert sandbox.run_sync(["bash", "-c", "pwd"], cwd="/usr").stdout == b"/usr\n"


def test_much_output_comes_whole_from_both_streams(sandbox: CommandSandbox) -> None:
    done = sandbox.run_sync(["sh", "-c", "seq 200000; seq 100000 >&2"], timeout_s=60)
    assert done.status == "completed"
    assert done.stdout == b"".join(b"%d\n" % n for n in range(1, 200_001))
    assert done.stderr == b"".join(b"%d\n" % n for n in range(1, 100_001))


def test_ends_are_told_apart(sandbox: CommandSandbox) -> None:
    missing = sandbox.run_sync(["no-such-program"])
    assert (missing.exit_code, cannot_execute(missing)) == (127, False)
    assert b"not found" in missing.stderr
    sandbox.write_file_sync("plain", b"echo hi\n")
    refused = sandbox.run_sync(["./plain"])
    assert (refused.exit_code, cannot_execute(refused)) == (126, True)
    own = sandbox.run_sync(["sh", "-c", "exit 126"])
    assert (own.exit_code, cannot_execute(own)) == (126, False)
    assert sandbox.run_sync(["sh", "-c", "kill -TERM $$"]).exit_code == 143
    assert sandbox.run_sync(["sleep", "60"], timeout_s=0.5).status == "timeout"
    both = sandbox.run_sync(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (both.stdout, both.stderr, both.exit_code) == (b"out\n", b"err\n", 3)


def test_an_input_and_a_file_may_be_larger_than_an_action(
    sandbox: CommandSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_sandbox, "MOST_STDIN", 1000)
    monkeypatch.setattr(command_sandbox, "PART_BYTES", 1000)
    data = bytes(range(256)) * 20
    assert sandbox.run_sync(["cat"], stdin=data).stdout == data
    sandbox.write_file_sync("big", data)
    assert sandbox.read_file_sync("big") == data
    assert sandbox.run_sync(["sh", "-c", "ls .agentd | grep -c stdin"]).stdout == b"0\n"


def test_files_raise_what_open_does(sandbox: CommandSandbox) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        sandbox.read_file_sync("nothing")
    with pytest.raises(IsADirectoryError):
        sandbox.read_file_sync("/etc")
    with pytest.raises(IsADirectoryError):
        sandbox.write_file_sync("/tmp", b"")
    with pytest.raises(NotADirectoryError):
        sandbox.write_file_sync("/etc/passwd/x", b"")
    with pytest.raises(FileNotFoundError):
        sandbox.write_file_sync("absent/x", b"", create=False)
    sandbox.write_file_sync("deep/er/x", b"12345")
    with pytest.raises(OSError, match="larger than 4 bytes") as refused:
        sandbox.read_file_sync("deep/er/x", most=4)
    assert refused.value.errno == errno.EFBIG
    sandbox.run_sync(["mkfifo", "pipe"])
    for use in (sandbox.read_file_sync, lambda path: sandbox.write_file_sync(path, b"")):
        with pytest.raises(OSError, match="not a regular file"):
            use("pipe")
    with pytest.raises(PermissionError, match="Read-only file system: '/x'") as read_only:
        sandbox.ask_sync("raise OSError(30, os.strerror(30))", "/x")
    assert read_only.value.errno == errno.EROFS
    assert sandbox.ask_sync("print(os.path.basename(path))", "a/b") == b"b\n"


LEFT = """
import os, sys
from agentd_runner.host.command_sandbox import CommandSandbox
sandbox = CommandSandbox("subprocess", lasting=True)
sandbox.run_sync(["sh", "-c", "echo x > file; nohup sleep 300 > log 2>&1 &"])
if (child := os.fork()) == 0:
    sys.exit(0)
os.waitpid(child, 0)
print(sandbox.workspace, os.listdir(sandbox.workspace).count("file"))
"""


def test_a_temporary_workspace_goes_also_if_nobody_closes_the_sandbox() -> None:
    forgotten = CommandSandbox("subprocess")
    forgotten.write_file_sync("file", b"x")
    workspace = forgotten.workspace
    assert workspace.is_dir()
    del forgotten
    gc.collect()
    assert not workspace.exists()
    done = subprocess.run(
        [sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=60, check=True
    )
    folder, found = done.stdout.split()
    assert found == "1"  # it is not the forked child's to remove
    assert not Path(folder).exists()


WAIT = "while [ ! -e go ]; do sleep 0.05; done; echo x > came"


def test_what_a_command_leaves_running_lives_on_if_it_shall_and_ends_with_the_sandbox() -> None:
    for lasting in (True, False):
        with CommandSandbox("subprocess", lasting=lasting) as sandbox:
            started = sandbox.run_sync(["sh", "-c", f"setsid sh -c '{WAIT}' > log 2>&1 & echo $! > pid"])
            assert started.exit_code == 0
            pid = int(sandbox.read_file_sync("pid"))
            assert _runs(pid) is lasting
            if lasting:
                sandbox.write_file_sync("go", b"")
                came = "while [ ! -e came ]; do sleep 0.05; done"
                assert sandbox.run_sync(["sh", "-c", came], timeout_s=30).exit_code == 0
                sandbox.run_sync(["rm", "go", "came"])
                sandbox.run_sync(["sh", "-c", f"setsid sh -c '{WAIT}' > log 2>&1 & echo $! > pid"])
                pid = int(sandbox.read_file_sync("pid"))
                assert _runs(pid)
        assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # it has ended: before the file was opened, or before it was read
        return False


@pytest.mark.anyio
async def test_a_cancelled_command_ends_with_its_group_in_both_ways() -> None:
    for lasting in (True, False):
        async with CommandSandbox("subprocess", lasting=lasting) as sandbox:
            async with anyio.create_task_group() as group:
                group.start_soon(sandbox.run, ["sh", "-c", "echo $$ > pid; sleep 3600 & wait"])
                while not (sandbox.workspace / "pid").exists() or not (sandbox.workspace / "pid").read_text():
                    await anyio.sleep(0.02)
                group.cancel_scope.cancel()
            pid = int((sandbox.workspace / "pid").read_text())
            with anyio.fail_after(20):
                while _runs(pid):
                    await anyio.sleep(0.02)
            assert (await sandbox.run(["echo", "still"])).stdout == b"still\n"


@pytest.mark.anyio
async def test_several_commands_may_run_at_once() -> None:
    async with CommandSandbox("subprocess", lasting=True) as sandbox:
        said: list[bytes] = []

        async def one(number: int) -> None:
            said.append((await sandbox.run(["echo", str(number)])).stdout)

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number)
        assert sorted(said) == [b"%d\n" % number for number in range(8)]


def test_what_is_left_running_is_a_job_and_without_room_for_one_it_ends_and_says_so(tmp_path: Path) -> None:
    executor = SubprocessExecutor(tmp_path, limits={"jobs": 1})
    with executor, CommandSandbox(executor, lasting=True) as sandbox:
        leaving = "(echo begun; sleep 3600) & echo $!"
        first = sandbox.run_sync(["bash", "-c", leaving])
        second = sandbox.run_sync(["bash", "-c", leaving])
        assert (first.exit_code, first.message, second.exit_code) == (0, "", 0)
        assert second.message == "what it left running was ended: 1 jobs run (job1); the limit jobs is 1"
        pids = [int(done.stdout.replace(b"begun", b"")) for done in (first, second)]
        assert [_runs(pid) for pid in pids] == [True, False]
        assert "(left running by block" in sandbox.act_sync(BashAction(command="job list")).output
        assert sandbox.act_sync(BashAction(command="job signal job1; job wait job1")).exit_code == 0
        assert not _runs(pids[0])
        assert sandbox.run_sync(["bash", "-c", leaving]).message == ""


def test_what_is_left_running_may_go_on_writing() -> None:
    with CommandSandbox("subprocess", lasting=True) as sandbox:
        waits = "while [ ! -e go ]; do sleep 0.02; done"
        started = sandbox.run_sync(["bash", "-c", f"({waits}; seq 100000; echo over > over) & echo hi"])
        assert started.stdout == b"hi\n"
        sandbox.write_file_sync("go", b"")
        over = "while [ ! -e over ]; do sleep 0.02; done"
        assert sandbox.run_sync(["bash", "-c", over], timeout_s=30).exit_code == 0
        assert sandbox.act_sync(BashAction(command="job out job1 | tail -1")).output == "100000\n"


def test_a_command_that_takes_too_long_ends_with_all_that_it_has_started() -> None:
    with CommandSandbox("subprocess", lasting=True) as sandbox:
        kept = sandbox.run_sync(["bash", "-c", "sleep 3600 & echo $!"])
        done = sandbox.run_sync(["bash", "-c", "sleep 3600 & echo $!; sleep 3600"], timeout_s=0.5)
        assert done.status == "timeout"
        assert not _runs(int(done.stdout))
        assert _runs(int(kept.stdout))


def test_a_python_that_is_given_a_text_is_a_block_and_any_other_is_not(tmp_path: Path) -> None:
    asked: list[Action] = []

    class Noting(SubprocessExecutor):
        async def run(self, action: Action, **more: Any) -> ActionResult:
            asked.append(action)
            return await super().run(action, **more)

        def run_sync(self, action: Action, **more: Any) -> ActionResult:
            asked.append(action)
            return super().run_sync(action, **more)

    code = "import sys; print(sys.stdin.read(), end=''); print('no', file=sys.stderr); sys.exit(3)"
    with Noting(tmp_path) as executor:
        sandboxes = [CommandSandbox(executor, python_blocks=blocks) for blocks in (True, False)]
        for argv in (["python3", "-c", code], ["bash", "-c", f'python3 -c "{code}" 2>&1']):
            done = [sandbox.run_sync(argv, stdin=b"in\n") for sandbox in sandboxes]
            assert type(asked[-2]).__name__ == "PythonAction"
            assert type(asked[-1]).__name__ == "BashAction"
            ends = [
                (one.exit_code, sorted(one.stdout.splitlines()), sorted(one.stderr.splitlines()))
                for one in done
            ]
            assert ends[0] == ends[1]
        for env in ({"PATH": "/usr/bin:/bin"}, {"PYTHONHASHSEED": "0"}):
            sandboxes[0].run_sync(["python3", "-c", "1"], env=env)
            assert type(asked[-1]).__name__ == "BashAction"
        sandboxes[0].run_sync(["python3", "-c", "1"], cwd=".agentd")
        assert type(asked[-1]).__name__ == "BashAction"


def test_a_python_of_the_sandboxs_own_is_not_taken_for_the_executors(tmp_path: Path) -> None:
    own = tmp_path / ".agentd/site/bin/python3"  # the first folder of the sandbox's PATH
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho mine\n")
    own.chmod(0o755)
    with CommandSandbox("subprocess", workspace=tmp_path, python_blocks=True) as sandbox:
        assert sandbox.run_sync(["python3", "-c", "print('theirs')"]).stdout == b"mine\n"


class PlainExecutor:
    """An executor with no more than the protocol has."""

    def __init__(self, executor: SubprocessExecutor) -> None:
        self._executor = executor
        self.workspace_dir = executor.workspace_dir
        self.closed = False

    async def start(self) -> None: ...

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        return await self._executor.run(action, action_id=action_id, on_output=on_output)

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None: ...

    async def aclose(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True


def test_any_executor_will_do_and_stays_its_owners(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as below:
        plain = PlainExecutor(below)
        with CommandSandbox(plain) as sandbox:
            sandbox.write_file_sync("x", b"1")
            assert sandbox.run_sync(["cat", "x"]).stdout == b"1"
            assert sandbox.act_sync(BashAction(command="cat x")).output == "1"
        assert not plain.closed
        assert (tmp_path / "x").exists()


def test_a_temporary_workspace_goes_and_one_that_was_named_stays(tmp_path: Path) -> None:
    with CommandSandbox("subprocess") as sandbox:
        sandbox.run_sync(["true"])
        folder = sandbox.workspace
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(ExecutorClosedError):
        sandbox.run_sync(["true"])
    with CommandSandbox("subprocess", workspace=tmp_path / "named"):
        pass
    assert (tmp_path / "named").is_dir()
    with pytest.raises(UnknownPluginError, match="srtt"):
        CommandSandbox("srtt")


def test_without_a_word_of_the_users_it_is_a_sandbox_or_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert chosen_executor() == "native"
        assert chosen_executor("subprocess") == "subprocess"
        monkeypatch.setenv("AGENTD_EXECUTOR", "subprocess")
        assert chosen_executor() == "subprocess"
        monkeypatch.delenv("AGENTD_EXECUTOR")
        wanted: Any = ("subprocess", {"timeout": 5})
        agentd.defaults(executor=wanted)
        try:
            assert chosen_executor() == wanted
        finally:
            agentd.defaults(executor=None)
    assert not caplog.records


def test_limits_are_those_that_are_named_and_else_the_adapters(tmp_path: Path) -> None:
    given = {"timeout_s": None, "jobs": 3}
    pair = ("subprocess", {"limits": {"timeout_s": 5, "processes": 50}})
    with CommandSandbox(pair, limits=given, options={"limits": {"processes": 60}}) as sandbox:
        limits: Any = sandbox.executor.limits  # type: ignore[attr-defined]
        assert (limits.timeout_s, limits.jobs, limits.processes) == (5, 3, 60)
    with CommandSandbox("subprocess", limits=given) as sandbox:
        limits = sandbox.executor.limits  # type: ignore[attr-defined]
        assert (limits.timeout_s, limits.jobs) == (None, 3)
    with pytest.raises(ConfigError, match="limits"):
        CommandSandbox("subprocess", options={"limits": 3}, limits=given)
    executor = SubprocessExecutor(tmp_path)
    with CommandSandbox(executor, limits=given) as sandbox:
        assert sandbox.executor.limits is executor.limits  # type: ignore[attr-defined]
    executor.close()
