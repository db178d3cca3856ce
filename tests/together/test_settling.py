"""Whatever opens a workspace to run code in it first finishes, or reports, what was left unfinished there."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd.events import SourceLog
from agentd.session.session import Session
from agentd.types import BashAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_openai import patch_openai_with_ptc
from agentd_snapshots import Snapshots, UnfinishedRestoreError
from killed_restore import kill_a_finish, kill_a_restore
from script_model import RecordingExecutor, ScriptModel

SHOW = "```bash:execute\ncat edited; ls\n```\n"
FIRST = "oneedited\ngone\nsame\ntree\n"
FINISHED = "had been interrupted; it is finished now"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a restore was killed; nobody is told where its snapshots lie."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "workspace"
    folder.mkdir()
    kill_a_restore(folder, tmp_path / "snapshots")
    return folder


@pytest.mark.anyio
async def test_a_session_finishes_a_killed_restore_before_its_code_runs_and_says_so(workspace: Path) -> None:
    async with Session(ScriptModel(SHOW, "done"), cwd=workspace, tools=[]) as session:
        events = [event async for event in session.run("show")]
    assert session.transcript.executions[0].output == FIRST
    (told,) = [event for event in events if isinstance(event, SourceLog)]
    assert told.source == "workspace"
    assert FINISHED in told.text


@pytest.mark.anyio
async def test_a_session_settles_for_executors_that_do_not_know_how(workspace: Path) -> None:
    executor = RecordingExecutor(workspace)
    async with Session(ScriptModel(SHOW, "done"), executor=executor, tools=[]) as session:
        await session.ask("show")
    assert (workspace / "edited").read_text() == "one"


def test_an_executor_alone_does_so_and_its_first_result_says_it(workspace: Path) -> None:
    with SubprocessExecutor(workspace) as executor:
        results = [executor.run_sync(BashAction(command="cat edited; ls")) for _ in range(2)]
    assert [result.stdout.decode() for result in results] == [FIRST, FIRST]
    assert [FINISHED in result.message for result in results] == [True, False]


@pytest.mark.anyio
async def test_no_code_runs_where_a_person_has_to_decide(workspace: Path) -> None:
    (workspace / "notes").write_text("mine")
    with SubprocessExecutor(workspace) as executor, pytest.raises(UnfinishedRestoreError, match="'notes'"):
        executor.run_sync(BashAction(command="touch ran"))
    async with Session(ScriptModel("```bash:execute\ntouch ran\n```\n"), cwd=workspace, tools=[]) as session:
        with pytest.raises(UnfinishedRestoreError, match="'notes'"):
            await session.ask("run")
    assert (workspace / "notes").read_text() == "mine"
    assert not (workspace / "ran").exists()


def test_the_command_finishes_it_or_names_both_ways(
    agentd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = agentd.env.get("XDG_STATE_HOME", str(tmp_path / "state"))
    agentd.env["XDG_STATE_HOME"] = state
    monkeypatch.setenv("XDG_STATE_HOME", state)
    kill_a_restore(agentd.cwd, tmp_path / "snapshots")
    (agentd.cwd / "notes").write_text("mine")
    agentd.replay(SHOW, "done")
    refused = agentd("run", "show")
    assert refused.returncode != 0
    assert "finish" in refused.stderr
    assert "abandon" in refused.stderr
    (agentd.cwd / "notes").unlink()
    server = agentd.replay(SHOW, "done")
    result = agentd("run", "show")
    assert result.returncode == 0, result.stderr
    assert FINISHED in result.stdout + result.stderr
    assert "oneedited" in server.requests[1].last


# --- a person has had it finished, and that was killed, too ----------------------------------------------------------


def finish_and_kill(workspace: Path, base_dir: Path) -> None:
    (workspace / "notes").write_text("mine")
    kill_a_finish(Snapshots(workspace, base_dir, settle=False), replaced=2)


def give_back(workspace: Path, base_dir: Path, choice: str) -> str:
    """Choose, and return what `ls` shows of it."""
    snapshots = Snapshots(workspace, base_dir)
    if choice == "finish":
        kept = snapshots.finish_restore()
        assert kept is not None
        return "gone"
    folder = snapshots.abandon_restore()
    assert folder is not None
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert "two" in texts  # what the restore had taken away, and below, what its end had
    assert "mine" in texts or (workspace / "notes").exists()
    return folder.name


@pytest.mark.anyio
@pytest.mark.parametrize("choice", ["finish", "abandon"])
async def test_a_session_asks_again_after_a_killed_finish(
    workspace: Path, tmp_path: Path, choice: str
) -> None:
    finish_and_kill(workspace, tmp_path / "snapshots")
    async with Session(ScriptModel(SHOW, "done"), cwd=workspace, tools=[]) as session:
        with pytest.raises(UnfinishedRestoreError, match=r"'notes'.*kept in 'turn_0003'"):
            await session.ask("show")
        shown = give_back(workspace, tmp_path / "snapshots", choice)
        await session.ask("show")
    assert shown in session.transcript.executions[0].output.split()


@pytest.mark.parametrize("choice", ["finish", "abandon"])
def test_an_executor_asks_again_after_a_killed_finish(workspace: Path, tmp_path: Path, choice: str) -> None:
    finish_and_kill(workspace, tmp_path / "snapshots")
    with SubprocessExecutor(workspace) as executor:
        with pytest.raises(UnfinishedRestoreError, match="'notes'"):
            executor.run_sync(BashAction(command="touch ran"))
        shown = give_back(workspace, tmp_path / "snapshots", choice)
        names = executor.run_sync(BashAction(command="ls")).stdout.decode().split()
    assert shown in names
    assert "ran" not in names


@pytest.mark.parametrize("choice", ["finish", "abandon"])
def test_a_patched_client_asks_again_after_a_killed_finish(
    workspace: Path, tmp_path: Path, serve: Any, choice: str
) -> None:
    finish_and_kill(workspace, tmp_path / "snapshots")
    server = serve(SHOW, SHOW, "done")
    client = patch_openai_with_ptc(
        server.client(), cwd=workspace, tools=[], executor=SubprocessExecutor(workspace)
    )
    ask = {"model": "m", "messages": [{"role": "user", "content": "show"}]}
    try:
        with pytest.raises(UnfinishedRestoreError, match="'notes'"):
            client.chat.completions.create(**ask)
        shown = give_back(workspace, tmp_path / "snapshots", choice)
        client.chat.completions.create(**ask)
    finally:
        client.cleanup_ptc()
        client.close()
    assert shown in str(server.requests[-1]["messages"][-1])


@pytest.mark.parametrize("choice", ["finish", "abandon"])
def test_the_command_asks_again_after_a_killed_finish_and_its_own_words_work(
    agentd: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    agentd.env["XDG_STATE_HOME"] = state = agentd.env.get("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_STATE_HOME", state)
    kill_a_restore(agentd.cwd, tmp_path / "snapshots")
    finish_and_kill(agentd.cwd, tmp_path / "snapshots")
    server = agentd.replay(SHOW, "done")
    refused = agentd("run", "show")
    assert refused.returncode != 0
    (words,) = re.findall(rf"python (-m agentd_snapshots {choice} \S+ [^\s.]+)", refused.stderr)
    chosen = subprocess.run([sys.executable, *shlex.split(words)], capture_output=True, text=True, timeout=60)
    assert chosen.returncode == 0, chosen.stderr
    server = agentd.replay(SHOW, "done")
    result = agentd("run", "show")
    assert result.returncode == 0, result.stderr
    expected = "gone" if choice == "finish" else "replaced-by-turn_0001"
    assert expected in server.requests[1].last
