"""Whatever opens a workspace to run code in it first finishes, or reports, what was left unfinished there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.events import SourceLog
from agentd.session.session import Session
from agentd.types import BashAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_snapshots import UnfinishedRestoreError
from killed_restore import kill_a_restore
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
