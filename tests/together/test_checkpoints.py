"""Checkpoints of a session: workspace, conversation and shell go back together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import native
import pytest
import sandbox
from agentd.errors import ConfigError, SessionBusyError, SnapshotError, UnknownSnapshotError
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from fake_openai import Answer, FakeOpenAI
from places import SUPPORT
from script_model import RecordingExecutor, ScriptModel

SETS = 'export CITY=Paris; greet() { echo "hello $1"; }; shopt -s extglob; mkdir -p deep; cd deep; echo one > file'
CHANGES = (
    "export CITY=Rome; greet() { echo bye; }; shopt -u extglob; cd ..; echo two > deep/file; echo new > new"
)
SHOWS = "echo $CITY; greet you; shopt -q extglob && echo extglob; pwd; cat file; ls"


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


class Rewindable(ScriptModel):
    """A script that goes on wherever its conversation goes back to."""

    def reset(self) -> None:
        self.messages.clear()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"cwd": tmp_path / "here", "tools": [], "snapshots_dir": tmp_path / "snapshots"}


@pytest.mark.anyio
async def test_going_back_restores_files_shell_and_conversation(settings: dict[str, Any]) -> None:
    model = Rewindable(bash(SETS), "set", bash(CHANGES), "changed", bash(SHOWS), "shown")
    async with Session(model, **settings) as session:
        await session.ask("set things up")
        before, usage = session.transcript.as_dict(), session.usage
        kept = await session.checkpoint("before")
        await session.ask("change them")
        assert (session.workspace / "new").exists()

        assert await session.rewind("before") == kept
        assert session.transcript.as_dict() == before
        assert session.usage == usage
        assert not (session.workspace / "new").exists()
        await session.ask("show me")
        shown = session.transcript.executions[-1].output
        deep = session.workspace / "deep"
        assert shown == f"Paris\nhello you\nextglob\n{deep}\none\nfile\n"
        assert [text for role, text in model.messages if role == "user"] == ["set things up", "show me"]
        assert model.messages[0][0] == "system"


@pytest.mark.anyio
async def test_going_back_to_a_fresh_session_gives_a_fresh_shell(settings: dict[str, Any]) -> None:
    model = Rewindable(bash(SETS), "set", bash('echo "[$CITY]"; pwd; ls -A'), "shown")
    async with Session(model, **settings) as session:
        await session.checkpoint()
        await session.ask("set things up")
        await session.rewind()
        await session.ask("show me")
        assert session.transcript.executions[-1].output.startswith(f"[]\n{session.workspace}\n")
        assert len(session.transcript.executions) == 1


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # what differs is the executor's, and not the loop's
@pytest.mark.parametrize("kind", ["native", "srt"])
async def test_the_shell_of_a_fork_outlives_that_its_sandbox_starts_anew_to_guard_the_tools(
    settings: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    if kind == "srt":
        sandbox.need_srt()
    else:
        native.need_native()

    def double(number: int) -> int:
        """Twice the number."""
        return 2 * number

    model, second = (
        Rewindable(bash(SETS), "set"),
        Rewindable(bash(SHOWS), "shown", bash("echo $CITY"), "done"),
    )
    settings |= {"tools": [double], "executor": (kind, {"srt_path": sandbox.CLI} if kind == "srt" else {})}
    async with Session(model, **settings) as session:
        await session.ask("set things up")
        async with await session.fork(cwd=tmp_path / "two", model=second) as fork:
            await fork.ask("show me")
            deep = tmp_path / "two" / "deep"
            assert fork.transcript.executions[-1].output == f"Paris\nhello you\nextglob\n{deep}\none\nfile\n"
            await fork.ask("and again")
            assert fork.transcript.executions[-1].output == "Paris\n"


@pytest.mark.anyio
async def test_a_checkpoint_fits_a_new_process(settings: dict[str, Any]) -> None:
    model = Rewindable(bash(SETS + "; unset LANG; export TMPDIR=$TMPDIR"), "set")
    async with Session(model, **settings) as session:
        await session.ask("set things up")
        await session.checkpoint("kept")
    child = f"""
import sys, asyncio
sys.path.insert(0, {str(SUPPORT)!r})
from script_model import ScriptModel
from agentd import Session

class Rewindable(ScriptModel):
    def reset(self): self.messages.clear()

async def main():
    show = "```bash:execute\\n" + {SHOWS!r} + "; echo [$LANG]; test -d $TMPDIR && echo $AGENTD_TOOLS_TOKEN\\n```\\n"
    model = Rewindable(show, "shown")
    async with Session(model, cwd={str(settings["cwd"])!r}, tools=[],
                       snapshots_dir={str(settings["snapshots_dir"])!r}) as session:
        kept = await session.rewind("kept")
        await session.ask("show me")
        assert [m.content for m in session.transcript.messages if m.role == "task"] == ["set things up", "show me"]
        print(session.transcript.executions[-1].output)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *shown, token = done.stdout.split()
    deep = settings["cwd"] / "deep"
    assert " ".join(shown) == f"Paris hello you extglob {deep} one file []"
    assert len(token) == 48  # its own, and the temporary folder is there


@pytest.mark.anyio
async def test_two_futures_go_on_side_by_side(settings: dict[str, Any], tmp_path: Path) -> None:
    with FakeOpenAI() as server:
        server.answers += [Answer(text=bash(SETS + "; export HERE=$PWD/x")), Answer(text="set")]
        options = {"base_url": server.base_url, "api_key": "test-key"}
        async with Session("gpt-test", **settings, **options) as session:
            await session.ask("set things up")
            async with await session.fork(cwd=tmp_path / "other") as fork:
                server.answers += [
                    Answer(text=bash("echo changed > file; echo $HERE; pwd")),
                    Answer(text="done"),
                ]
                await fork.ask("change the file")
                other = tmp_path / "other" / "deep"
                assert fork.transcript.executions[-1].output == f"{other}/x\n{other}\n"
                assert (other / "file").read_text() == "changed\n"
                assert (session.workspace / "deep" / "file").read_text() == "one\n"
                server.answers += [Answer(text=bash("cat file")), Answer(text="done")]
                await session.ask("show the file")
                assert session.transcript.executions[-1].output == "one\n"
                tasks = [m.content for m in fork.transcript.messages if m.role == "task"]
                assert tasks == ["set things up", "change the file"]


@pytest.mark.anyio
async def test_each_turn_can_be_kept_while_it_runs(settings: dict[str, Any]) -> None:
    model = Rewindable(bash("echo 1 > file"), bash("echo 2 > file"), "done", "again")
    async with Session(model, checkpoint_every_turn=True, **settings) as session:
        await session.ask("count")
        first, second, last = session.checkpoints()
        assert (first.turn, second.turn, last.turn) == (1, 2, 3)
        await session.rewind(first)
        assert (session.workspace / "file").read_text() == "1\n"
        assert [m.role for m in session.transcript.messages] == ["task", "answer", "results"]
        await session.rewind(2)
        assert (session.workspace / "file").read_text() == "2\n"


@pytest.mark.anyio
async def test_while_a_run_is_under_way_there_is_an_error_and_no_hang(settings: dict[str, Any]) -> None:
    async with Session(Rewindable(bash("echo hi"), "done"), **settings) as session:
        async for event in session.run("go"):
            if event.type == "code_execution":
                with pytest.raises(SessionBusyError, match="read it to its end"):
                    await session.checkpoint()
        await session.checkpoint()


@pytest.mark.anyio
async def test_what_belongs_to_one_session_is_named(settings: dict[str, Any], tmp_path: Path) -> None:
    async with Session(ScriptModel("done"), **settings) as session:
        await session.checkpoint()
        with pytest.raises(ConfigError, match=r"ScriptModel cannot rewind: it has no reset\(\)"):
            await session.rewind()
        with pytest.raises(ConfigError, match=r"model: belongs to the first session"):
            await session.fork(cwd=tmp_path / "other")
        with pytest.raises(ConfigError, match="must lie outside the workspace"):
            await session.fork(cwd=session.workspace / "inside", model=ScriptModel("x"))
        with pytest.raises(UnknownSnapshotError, match="unknown snapshot 'nothing'; there are: 'turn_0001'"):
            await session.fork("nothing", cwd=tmp_path / "other", model=ScriptModel("x"))


@pytest.mark.anyio
async def test_a_snapshot_without_a_conversation_is_no_checkpoint(settings: dict[str, Any]) -> None:
    async with Session(Rewindable("done"), **settings) as session:
        session._timeline.snapshots.snapshot("plain")
        assert session.checkpoints() == []
        with pytest.raises(UnknownSnapshotError):
            await session.rewind("plain")
        kept = await session.checkpoint("real")
        assert [c.id for c in session.checkpoints()] == [kept.id]
        await session.delete_checkpoint("real")
        assert session.checkpoints() == []


@pytest.mark.anyio
async def test_a_damaged_checkpoint_changes_nothing(settings: dict[str, Any]) -> None:
    async with Session(Rewindable(bash("echo 1 > file"), "done"), **settings) as session:
        kept = await session.checkpoint()
        await session.ask("go")
        path = session._timeline.snapshots.store.folder / "attached" / kept.id
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(SnapshotError, match="is damaged"):
            await session.rewind(kept)
        assert (session.workspace / "file").exists()
        assert len(session.transcript.messages) == 4


@pytest.mark.anyio
async def test_values_of_the_base_environment_are_not_written_to_disk(settings: dict[str, Any]) -> None:
    options = {"executor_options": {"env": {"API_SECRET": 's3cr$t "quoted" value'}}}
    model = Rewindable(bash("export MINE=1"), "done", bash("echo $API_SECRET$MINE"), "shown")
    async with Session(model, **settings, **options) as session:
        await session.ask("go")
        state = await session.executor.shell_state()  # type: ignore[attr-defined]
        assert "s3cr" not in str(state)
        assert "AGENTD_TOOLS_TOKEN" not in str(state)
        await session.checkpoint()
        await session.rewind()
        await session.ask("show")
        assert session.transcript.executions[-1].output == 's3cr$t "quoted" value1\n'


@pytest.mark.anyio
async def test_an_executor_without_a_shell_keeps_the_rest(settings: dict[str, Any], tmp_path: Path) -> None:
    executor = RecordingExecutor(settings.pop("cwd"))
    executor.workspace_dir.mkdir()
    async with Session(Rewindable(bash("x"), "done"), executor=executor, **settings) as session:
        kept = await session.checkpoint()
        (session.workspace / "file").write_text("later")
        await session.ask("go")
        await session.rewind(kept)
        assert list(session.workspace.iterdir()) == []
        assert session.transcript.messages == []


@pytest.mark.anyio
async def test_installed_packages_go_back_and_along(settings: dict[str, Any], tmp_path: Path) -> None:
    install = "mkdir -p $PIP_TARGET; echo 'x = 1' > $PIP_TARGET/installed_here.py"
    use = "```python:execute\nimport installed_here\nprint(installed_here.x, installed_here.__file__)\n```\n"
    model = Rewindable(bash(install), "done", use, "used")
    async with Session(model, **settings) as session:
        empty = await session.checkpoint()
        await session.ask("install")
        other = Rewindable(use, "used")
        async with await session.fork(cwd=tmp_path / "other", model=other) as fork:
            await fork.ask("use it")
            where = tmp_path / "other" / ".agentd/site/installed_here.py"
            assert fork.transcript.executions[-1].output == f"1 {where}\n"
        await session.rewind(empty)
        await session.ask("use it")
        assert "ModuleNotFoundError" in session.transcript.executions[-1].output


def test_the_sync_session_has_the_same(settings: dict[str, Any], tmp_path: Path) -> None:
    with SyncSession(Rewindable(bash("echo 1 > file"), "done"), **settings) as session:
        session.ask("go")
        kept = session.checkpoint("one")
        (session.workspace / "file").write_text("2")
        with session.fork("one", cwd=tmp_path / "other", model=Rewindable("other")) as fork:
            assert fork.ask("go on").text == "other"
            assert (fork.workspace / "file").read_text() == "1\n"
        assert session.rewind() == kept
        assert (session.workspace / "file").read_text() == "1\n"
        assert session.delete_checkpoint("one") == kept
        assert session.checkpoints() == []
