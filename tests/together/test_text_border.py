"""Whatever text comes in, by a person, a model or code: what is kept, shown and sent on is valid Unicode."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from agentd.events import Event
from agentd.session.session import Session
from agentd.turn.transcript import Transcript
from agentd_sink_jsonl.jsonl import JsonlSink
from script_model import ScriptModel

BLOCK = "```bash:execute\nprintf 'out \\xff \\xed\\xa0\\xbd \\0 \\x1b'\n```\n"


def strictly(text: str) -> Any:
    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(text, parse_constant=refuse)
    repr(found).encode()
    return found


@pytest.mark.anyio
async def test_a_session_keeps_and_tells_valid_text_alone(tmp_path: Path) -> None:
    model = ScriptModel(f"I look \ud83d.\n{BLOCK}", "half \ude00\ud83d", piece=5)
    sink = JsonlSink(tmp_path / "log.jsonl")
    async with Session(model, cwd=tmp_path / "ws", tools=[], sinks=[sink]) as session:
        end = await session.ask("task \udcff")
    assert end.text == "half \ufffd\ufffd"
    assert session.transcript.messages[0].content == "task \ufffd"
    assert session.transcript.executions[0].output == "out \ufffd \ufffd\ufffd\ufffd \0 \x1b"
    for role, text in model.messages:
        assert text.encode(), role
    session.transcript.save(tmp_path / "transcript.json")
    assert Transcript.load(tmp_path / "transcript.json") == session.transcript
    assert len([strictly(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").split("\n")[:-1]]) > 5


def test_lines_of_the_command_are_json_for_every_reader(agentd: Any) -> None:
    server = agentd.replay(f"I look.\n{BLOCK}", "done")
    result = agentd("run", "--json", os.fsdecode(b"task \xff"))
    assert result.returncode == 0, result.stderr
    events = [strictly(line) for line in result.stdout.splitlines()]
    assert events[0]["task"] == "task \ufffd"
    assert server.requests[0].body["messages"][-1]["content"] == "task \ufffd"


def test_numbers_that_json_lacks_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    from agentd.events import ToolProgress
    from agentd_cli.json_lines import JsonLines

    event: Event = ToolProgress(id="1", name="\ud83d", done=float("nan"), total=float("inf"))
    JsonLines(sys.stdout).emit(event)
    line = capsys.readouterr().out
    assert line.isascii()
    found = strictly(line)
    assert (found["name"], found["done"], found["total"]) == ("\ufffd", None, None)
