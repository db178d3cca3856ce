"""What servers ask of the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from helpers import Host, source
from mcp.server.mcpserver import Elicit, MCPServer, Resolve
from pydantic import BaseModel

pytestmark = pytest.mark.anyio


async def ask(tool: str, host: Host | None = None, **options: Any) -> dict[str, Any]:
    """Have the scripted server ask; return the client's answer."""
    made = source(**options)
    await made.list_tools(host)
    answer = await made.call(tool, {})
    await made.aclose()
    assert isinstance(answer, str)
    found: dict[str, Any] = json.loads(answer)
    return found


async def test_a_question_goes_to_the_callback_with_message_and_schema() -> None:
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, str]:
        asked.append(request)
        return {"city": "Oslo"}

    assert await ask("ask", elicitation=answer) == {
        "result": {"action": "accept", "content": {"city": "Oslo"}}
    }
    [request] = asked
    assert (request["server"], request["mode"], request["message"]) == ("scripted", "form", "Where?")
    assert request["schema"]["required"] == ["city"]


async def test_an_async_callback_is_awaited() -> None:
    async def answer(request: dict[str, Any]) -> dict[str, str]:
        return {"city": "Rome"}

    assert (await ask("ask", elicitation=answer))["result"]["content"] == {"city": "Rome"}


@pytest.mark.parametrize("refusal", [None, False])
async def test_a_callback_may_decline(refusal: object) -> None:
    assert await ask("ask", elicitation=lambda request: refusal) == {"result": {"action": "decline"}}


async def test_a_callback_that_raises_cancels_and_is_logged() -> None:
    def answer(request: dict[str, Any]) -> None:
        raise RuntimeError("nobody here")

    host = Host()
    assert await ask("ask", host, elicitation=answer) == {"result": {"action": "cancel"}}
    assert host.logged == [("error", "the elicitation callback raised RuntimeError: nobody here")]


async def test_without_a_callback_a_question_is_refused_in_words() -> None:
    assert "not supported" in (await ask("ask"))["error"]["message"]
    assert "not supported" in (await ask("sample"))["error"]["message"]


async def test_a_text_from_the_sampling_callback_becomes_the_answer_of_a_model() -> None:
    asked: list[dict[str, Any]] = []

    def complete(request: dict[str, Any]) -> str:
        asked.append(request)
        return "hi"

    answer = await ask("sample", sampling=complete)
    assert answer["result"]["content"] == {"type": "text", "text": "hi"}
    assert answer["result"]["role"] == "assistant"
    [request] = asked
    assert request["maxTokens"] == 9
    assert request["messages"][0]["content"]["text"] == "Say hi"


async def test_a_sampling_callback_may_return_the_whole_result_and_its_failure_hides_the_reason() -> None:
    whole = {"role": "assistant", "model": "m", "content": {"type": "text", "text": "x"}}
    assert (await ask("sample", sampling=lambda request: whole))["result"]["model"] == "m"

    def broken(request: dict[str, Any]) -> str:
        raise RuntimeError("key=s3cret")

    answer = await ask("sample", sampling=broken)
    assert "s3cret" not in json.dumps(answer)
    assert "sampling failed" in answer["error"]["message"]


async def test_directories_are_told_only_when_asked_to(tmp_path: Path) -> None:
    assert "not supported" in (await ask("roots"))["error"]["message"]
    told = await ask("roots", roots=[tmp_path])
    assert told == {"result": {"roots": [{"uri": tmp_path.as_uri(), "name": tmp_path.name}]}}


class _City(BaseModel):
    city: str


async def _ask_for_a_city() -> Elicit[_City]:
    return Elicit("Where?", _City)


async def test_the_questions_of_the_newer_protocol_are_answered_too() -> None:
    server = MCPServer("newer")

    @server.tool()
    async def where(answer: Annotated[_City, Resolve(_ask_for_a_city)]) -> str:
        """Ask for a city."""
        return answer.city

    spec = {"server": server, "elicitation": lambda request: {"city": "Bonn"}}
    [made] = agentd_create_tool_sources(spec, {}) or []
    assert await made.call("where", {}) == "Bonn"
    await made.aclose()
