"""`Session(store=...)`: a conversation goes on in another process, with its files, its shell and what was said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd import Session
from agentd.errors import ConfigError
from agentd_store import ConversationInUseError, LeaseLostError, StoredSnapshots
from agentd_store.log import CheckpointLog
from agentd_store.opened import open_store
from agentd_store.records import LogEntry
from places import SUPPORT
from script_model import ScriptModel

SETS = 'export CITY=Paris; greet() { echo "hello $1"; }; mkdir -p deep; cd deep; echo one > file'
SHOWS = "echo $CITY; greet you; basename $PWD; cat file"


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


class Rewindable(ScriptModel):
    """A script that goes on wherever its conversation goes back to."""

    def reset(self) -> None:
        self.messages.clear()


def settings(folder: Path, url: str, **more: Any) -> dict[str, Any]:
    plain = {"cwd": folder / "work", "snapshots_dir": folder / "cache", "tools": [], "executor": "subprocess"}
    return {**plain, "store": url, "conversation_id": "c1", **more}


@pytest.mark.anyio
async def test_it_goes_on_on_another_machine(url: str, tmp_path: Path) -> None:
    async with Session(Rewindable(bash(SETS), "set"), **settings(tmp_path / "one", url)) as session:
        await session.ask("set things up")
        usage = session.usage
    model = Rewindable(bash(SHOWS), "shown")
    async with Session(model, **settings(tmp_path / "two", url)) as session:
        assert session.usage == usage
        await session.ask("show me")
        assert session.transcript.executions[-1].output == "Paris\nhello you\ndeep\none\n"
        assert [text for role, text in model.messages if role == "user"] == ["set things up", "show me"]
        assert [kept.turn for kept in session.checkpoints()] == [1, 2, 3, 4]


@pytest.mark.anyio
async def test_what_is_only_opened_starts_no_runner_and_keeps_its_shell(
    file_url: str, tmp_path: Path
) -> None:
    async with Session(Rewindable(bash(SETS), "set"), **settings(tmp_path / "one", file_url)) as session:
        await session.ask("set things up")
    async with Session(Rewindable(), **settings(tmp_path / "two", file_url)) as session:
        assert session.executor._connected() is None
        await session.checkpoint()
    model = Rewindable(bash(SHOWS), "shown")
    async with Session(model, **settings(tmp_path / "three", file_url)) as session:
        await session.ask("show me")
        assert session.transcript.executions[-1].output == "Paris\nhello you\ndeep\none\n"


@pytest.mark.anyio
async def test_a_killed_process_has_lost_no_finished_turn(file_url: str, tmp_path: Path) -> None:
    child = f"""
import sys, os, asyncio, signal
sys.path.insert(0, {str(SUPPORT)!r})
from script_model import ScriptModel
from agentd import Session

async def main():
    model = ScriptModel("```bash:execute\\necho one > file\\n```\\n", "```bash:execute\\nsleep 9\\n```\\n")
    settings = dict(cwd={str(tmp_path / "one")!r}, snapshots_dir={str(tmp_path / "cache")!r}, tools=[])
    settings["snapshots"] = ("store", {{"url": {file_url!r}, "conversation": "c1", "lease_s": 1.0}})
    async with Session(model, executor="subprocess", checkpoint_every_turn=True, **settings) as session:
        async for event in session.run("begin"):
            if event.type == "code_start" and "sleep" in event.code:
                os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", child], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -9, done.stderr
    async with Session(
        Rewindable(bash("cat file"), "shown"), **settings(tmp_path / "two", file_url)
    ) as session:
        assert [message.role for message in session.transcript.messages] == ["task", "answer", "results"]
        await session.ask("go on")
        assert session.transcript.executions[-1].output == "one\n"


@pytest.mark.anyio
async def test_a_conversation_that_is_open_elsewhere_is_refused_and_nothing_stays_open(
    file_url: str, tmp_path: Path
) -> None:
    first = StoredSnapshots(tmp_path, file_url, "c1", base_dir=tmp_path.parent / f"{tmp_path.name}-cache")
    with pytest.raises(ConversationInUseError):
        await Session(ScriptModel(), **settings(tmp_path / "two", file_url)).open()
    first.close()
    async with Session(ScriptModel("hello"), **settings(tmp_path / "two", file_url)) as session:
        assert (await session.ask("hello")).text == "hello"
    log = CheckpointLog(open_store(file_url).place, open_store(file_url).seal, "c1")
    assert log.read().holder == "", "a closed session has let it go"


@pytest.mark.anyio
async def test_a_run_ends_when_its_conversation_was_taken_over(file_url: str, tmp_path: Path) -> None:
    model = Rewindable(bash("echo one"), bash("echo two > begun"), "done")
    async with Session(model, **settings(tmp_path / "one", file_url)) as session:
        store = open_store(file_url)
        log = CheckpointLog(store.place, store.seal, "c1")
        log.read()
        assert log._create(LogEntry("opened", "somebody"))
        with pytest.raises(LeaseLostError, match="'c1' was taken over"):
            await session.ask("begin")
        assert not (tmp_path / "one" / "work" / "begun").exists()


@pytest.mark.anyio
async def test_a_fork_is_a_conversation_of_its_own(file_url: str, tmp_path: Path) -> None:
    model = Rewindable(bash("echo one > file"), "set")
    async with Session(model, **settings(tmp_path / "one", file_url)) as session:
        await session.ask("set things up")
        forked = Rewindable(bash("cat file"), "shown")
        fork = await session.fork(cwd=tmp_path / "fork", model=forked)
        async with fork:
            await fork.ask("show me")
            assert fork.transcript.executions[-1].output == "one\n"
            assert len(fork.checkpoints()) == 2
        assert len(session.checkpoints()) == 3
    rows = sorted(path.name for path in Path(file_url.removeprefix("file://"), "conversations").iterdir())
    assert rows[0] == "c1"
    assert rows[1].startswith("c1-fork-")


@pytest.mark.anyio
async def test_a_store_without_a_conversation_is_refused(file_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'conversation' is missing; of a Session: conversation_id="):
        await Session(ScriptModel(), **settings(tmp_path, file_url, conversation_id=None)).open()


@pytest.mark.anyio
async def test_a_conversation_without_a_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'url' is missing; of a Session: store="):
        await Session(ScriptModel(), **(settings(tmp_path, "") | {"store": None})).open()


@pytest.mark.anyio
async def test_going_on_in_a_folder_with_other_files_is_refused_and_leaves_them(
    file_url: str, tmp_path: Path
) -> None:
    async with Session(Rewindable("done"), **settings(tmp_path / "one", file_url)) as session:
        await session.ask("begin")
    precious = tmp_path / "two" / "work" / "deep" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("not yours")
    with pytest.raises(ConfigError, match="has files that going on with the conversation 'c1' would remove"):
        await Session(Rewindable("done"), **settings(tmp_path / "two", file_url)).open()
    assert precious.read_text() == "not yours"
    precious.unlink()
    async with Session(Rewindable("done"), **settings(tmp_path / "two", file_url)) as session:
        await session.ask("go on")  # the conversation was let go, and an empty folder will do
    since = tmp_path / "two" / "work" / "since"
    since.write_text("made since")
    async with Session(Rewindable("done"), **settings(tmp_path / "two", file_url)) as session:
        assert len(session.checkpoints()) == 2
    assert not since.exists()


def test_a_store_beside_another_place_for_checkpoints_is_refused(file_url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="store and snapshots exclude each other"):
        Session(ScriptModel(), **settings(tmp_path, file_url, snapshots="other"))
