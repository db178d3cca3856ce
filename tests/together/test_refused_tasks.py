"""Tasks that a provider refuses, and tasks that are taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError, ModelError, SessionBusyError
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.transcript import Message, Transcript
from fake_openai import Answer, FakeOpenAI
from script_model import ScriptModel

BLOCK = "```bash:execute\necho one > made.txt\n```\n"
REFUSED = Answer(status=400, text="this violates the content policy")


def said(request: dict[str, Any], api: str) -> list[str]:
    """Return what the model was told, but the system prompt."""
    messages = request["messages"][1:] if api == "chat" else request["input"]
    return [m["content"] if isinstance(m["content"], str) else m["content"][0]["text"] for m in messages]


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_refused_task_is_not_told_again(api: str, tmp_path: Path) -> None:
    with FakeOpenAI("Hello.", REFUSED, "Fine.") as server:
        async with Session(
            "m", base_url=server.base_url, api_key="none", api=api, cwd=tmp_path, tools=[]
        ) as session:
            await session.ask("Hi.")
            with pytest.raises(ModelError, match="content policy"):
                await session.ask("Something bad.")
            end = await session.ask("Something good.")
        assert end.text == "Fine."
        assert said(server.requests[2], api) == ["Hi.", "Hello.", "Something good."]
    roles = [m.role for m in session.transcript.messages]
    assert roles == ["task", "answer", "withdrawn", "task", "answer"]
    kept = session.transcript.messages[2].content
    assert kept.startswith("Something bad.\n\n[not answered: model 'm': ")
    assert "content policy" in kept


@pytest.mark.anyio
async def test_an_error_after_blocks_keeps_what_was_done(tmp_path: Path) -> None:
    with FakeOpenAI(BLOCK, REFUSED) as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        async with Session("m", **settings) as session:
            with pytest.raises(ModelError):
                await session.ask("Make it.")
    assert [m.role for m in session.transcript.messages] == ["task", "answer", "results"]


def test_forget_last_takes_back_a_task_and_its_answers_but_no_files(tmp_path: Path) -> None:
    with FakeOpenAI("Hello.", BLOCK, "Made.", "Fine.") as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        with SyncSession("m", **settings) as session:
            session.ask("Hi.")
            session.ask("Make it.")
            assert session.forget_last() == "Make it."
            session.ask("Go on.")
        assert said(server.requests[3], "chat") == ["Hi.", "Hello.", "Go on."]
    assert (tmp_path / "made.txt").read_text() == "one\n"
    assert session.transcript.messages[2] == Message("withdrawn", "Make it.\n\n[taken back]")
    assert len(session.transcript.executions) == 1


@pytest.mark.anyio
async def test_forget_last_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    async with Session("m", base_url="http://127.0.0.1:9", cwd=tmp_path, tools=[]) as session:
        with pytest.raises(ConfigError, match="no task"):
            await session.forget_last()
    model = ScriptModel(BLOCK, "done")
    async with Session(model, cwd=tmp_path, tools=[]) as session, session.run("go") as events:
        await anext(events)
        with pytest.raises(SessionBusyError):
            await session.forget_last()


def test_a_transcript_keeps_withdrawn_tasks_and_reads_those_of_older_versions(tmp_path: Path) -> None:
    transcript = Transcript()
    transcript.add("task", "Hi.")
    transcript.withdraw("taken back")
    transcript.save(tmp_path / "t.json")
    assert Transcript.load(tmp_path / "t.json") == transcript
    assert Transcript.from_dict({**transcript.as_dict(), "version": 2}) == transcript
    with pytest.raises(ConfigError, match="1 to 3, got 4"):
        Transcript.from_dict({**transcript.as_dict(), "version": 4})
