"""What a task may be: text, or parts with pictures and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.transcript import Transcript
from fake_openai import FakeOpenAI
from script_model import ScriptModel

PICTURE = "data:image/png;base64,aGk="
FILE = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aGk="}
PARTS: list[dict[str, Any]] = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": PICTURE}},
    {"type": "file", "file": FILE},
]
SENT = {
    "chat": PARTS,
    "responses": [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": PICTURE, "detail": "auto"},
        {"type": "input_file", **FILE},
    ],
}


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_pictures_and_files_are_sent_and_told_again(api: str, tmp_path: Path) -> None:
    with FakeOpenAI("A picture.", "Still.") as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "api": api,
            "cwd": tmp_path,
            "tools": [],
        }
        with SyncSession("m", **settings) as session:
            assert session.ask(PARTS).text == "A picture."
            events = list(session.session.transcript.messages)
        session.transcript.save(tmp_path / "t.json")
        with SyncSession("m", transcript=Transcript.load(tmp_path / "t.json"), **settings) as later:
            later.ask("And now?")
    key = "messages" if api == "chat" else "input"
    for request in server.requests:
        first = next(m for m in request[key] if m["role"] == "user")
        assert first["content"] == SENT[api]
    assert events[0].content == "What is this?\n[image_url]\n[file]"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("task", "got"),
    [
        (None, "got NoneType None"),
        (5, "got int 5"),
        (b"x", "got bytes b'x'"),
        ([], r"got list \[\]"),
        ({"type": "text", "text": "x"}, "got dict"),
        ([5], "got a part 5"),
        ([{"type": "input_audio", "input_audio": {}}], "got a part {'type': 'input_audio'"),
        ([{"type": "text"}], "got a part {'type': 'text'}"),
    ],
)
async def test_anything_else_is_refused_before_it_is_sent(task: Any, got: str, tmp_path: Path) -> None:
    model = ScriptModel("never")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        with pytest.raises(ConfigError, match=rf"must be text, or a list of parts .*'image_url'.*; {got}"):
            await session.ask(task)
        with pytest.raises(ConfigError):
            session.run(task)
    assert session.transcript.messages == []


@pytest.mark.anyio
async def test_a_model_that_takes_text_alone_says_so(tmp_path: Path) -> None:
    async with Session(ScriptModel("never", "Fine."), cwd=tmp_path, tools=[]) as session:
        with pytest.raises(ConfigError, match="takes text alone"):
            await session.ask(PARTS)
        await session.ask("Text.")
    assert [m.content for m in session.transcript.messages if m.role == "task"] == ["Text."]
