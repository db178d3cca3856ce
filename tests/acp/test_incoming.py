"""What an editor may say that an agent makes nothing of, or that the SDK would take for something else."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any, cast

import pytest
from acp import RequestError
from acp.core import AgentSideConnection
from acp.schema import (
    EmbeddedResourceContentBlock,
    ImageContentBlock,
    ResourceContentBlock,
    TextResourceContents,
)
from agentd.errors import ConfigError
from agentd_acp.agent import EditorAgent
from agentd_acp.incoming import read_message
from agentd_acp.prompts import read_prompt

LAST: dict[str, Any] = {"id": "last", "method": "no/such"}


class SaidBefore:
    """A wire on which an editor has said these lines, and goes when each request is answered."""

    def __init__(self, *lines: dict[str, Any]) -> None:
        read = [read_message(json.dumps({"jsonrpc": "2.0", **line}).encode()) for line in lines]
        self._messages: list[Any] = [message for message in read if message is not None]
        self._due = sum("id" in message for message in self._messages)
        self._all_answered = asyncio.Event()
        self.answers: list[dict[str, Any]] = []

    async def receive(self) -> Any:
        if self._messages:
            return self._messages.pop(0)
        await self._all_answered.wait()
        return None

    async def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message)
        if len(self.answers) == self._due:
            self._all_answered.set()

    async def close(self) -> None: ...


async def answered(*lines: dict[str, Any]) -> list[dict[str, Any]]:
    """Serve an editor that has said these lines, and return what it is answered."""
    wire = SaidBefore(*lines, LAST)
    agent = EditorAgent(cast(Any, None), cast(Any, wire), "1")
    connection = AgentSideConnection(agent, cast(Any, wire), listening=False, use_unstable_protocol=True)
    await connection.listen()
    await connection.close()
    return [answer for answer in wire.answers if answer["id"] != LAST["id"]]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "line",
    [
        {"method": "no/such", "params": {}},
        {"method": "$/cancel_request", "params": {"requestId": 5}},
        {"method": "session/cancel", "params": {}},
        {"method": "session/cancel", "params": {"sessionId": ["s"]}},
        {"method": "session/cancel", "params": [1]},
        {"method": "session/prompt", "params": {"sessionId": "s"}},
    ],
    ids=lambda line: json.dumps(line)[10:60],
)
async def test_a_notification_that_says_nothing_to_an_agent_is_passed_over_in_silence(
    line: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert await answered(line) == []
    assert not caplog.records


def test_the_notification_that_an_agent_takes_is_received() -> None:
    said = {"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "s"}}
    assert read_message(json.dumps(said).encode()) == said


@pytest.mark.anyio
@pytest.mark.parametrize("meta", [{"cwd": 7}, {"self": 1}, {"cursor": "next"}, 7], ids=str)
@pytest.mark.parametrize("name", ["_meta", "field_meta"])
async def test_nothing_below_meta_takes_the_place_of_a_parameter(
    name: str, meta: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (answer,) = await answered(
        {"id": 1, "method": "session/list", "params": {"cwd": str(tmp_path), name: meta}}
    )
    assert answer.get("result") == {"sessions": []}, answer
    assert not caplog.records


@pytest.mark.anyio
@pytest.mark.parametrize("cursor", ["next", "-1", "9" * 30, "9" * 5_000])
async def test_a_cursor_that_no_answer_had_is_a_parameter_that_is_wrong(cursor: str) -> None:
    agent = EditorAgent(cast(Any, None), cast(Any, None), "1")
    with pytest.raises(RequestError, match="is not from this agent") as caught:
        await agent.list_sessions(cursor=cursor)
    assert caught.value.code == -32602
    assert len(str(caught.value)) < 200


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("session/new", {"mcpServers": []}),
        ("session/load", {"mcpServers": [], "sessionId": "s"}),
        ("session/resume", {"sessionId": "s"}),
        ("session/fork", {"sessionId": "s"}),
        ("session/list", {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize(
    ("cwd", "why"),
    [
        ("/" + "a/" * 4_000, "File name too long"),
        ("/tmp/" + "a" * 300, "File name too long"),
        ("/tmp/a\0b", "no path can have"),
        ("/tmp/\ud800", "no path can have"),
        ("tmp", "got 'tmp'"),
        ("", "got ''"),
        ("/dev/null", "it is a file"),
        ("/dev/null/a", "Not a directory"),
        ("/no/such", "No such file"),
    ],
    ids=["path", "name", "nul", "surrogate", "relative", "empty", "file", "below a file", "not there"],
)
async def test_a_cwd_that_is_no_folder_is_a_parameter_that_is_wrong(
    method: str, more: dict[str, Any], cwd: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    (answer,) = await answered({"id": 1, "method": method, "params": {"cwd": cwd, **more}})
    assert answer["error"]["code"] == -32602
    assert answer["error"]["message"].startswith("cwd: must be the absolute path of a folder")
    assert why in answer["error"]["message"]
    assert len(answer["error"]["message"]) < 400
    assert not caplog.records


def test_an_address_that_cannot_be_read_is_taken_as_it_is(tmp_path: Path) -> None:
    odd = "http://["
    text = TextResourceContents(uri=odd, text="what it says")
    blocks = [
        ResourceContentBlock(type="resource_link", name="x", uri=odd),
        EmbeddedResourceContentBlock(type="resource", resource=text),
    ]
    said = read_prompt(blocks, tmp_path)
    assert said.text == f"@{odd} @{odd}"
    assert "what it says" in str(said.told)
    picture = ImageContentBlock(type="image", data="bm9uZQ==", mime_type="image/png", uri=odd)
    with pytest.raises(ConfigError, match="not a picture"):
        read_prompt([picture], tmp_path)
