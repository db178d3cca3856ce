"""What is shown of a tool's call can be sent, whatever the model has put into its arguments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from acp.core import AgentSideConnection
from agentd import Registry, events
from agentd.turn.transcript import Message, NativeCall, Transcript
from agentd_acp.agent import EditorAgent
from agentd_acp.replay import replayed
from agentd_acp.updates import TurnUpdates

DEEP = '{"tree": ' + "[" * 400 + "]" * 400 + "}"
SURROGATE = '{"\\ud800": {"\\ud800": 1}}'


class Kept:
    """A transport that keeps what is sent, as JSON."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> None: ...

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(json.loads(json.dumps(message)))

    async def close(self) -> None: ...


async def shown(updates: Any) -> list[dict[str, Any]]:
    """Send updates by the SDK's connection, and return what an editor gets."""
    wire = Kept()
    agent = EditorAgent(cast(Any, None), cast(Any, wire), "1")
    connection = AgentSideConnection(agent, cast(Any, wire), listening=False)
    for update in updates:
        await connection.session_update(session_id="s", update=update)
    return [message["params"]["update"] for message in wire.sent]


async def updates_of(arguments: str, result: str, cwd: Path) -> list[Any]:
    """What a turn tells an editor of a call."""
    told: list[Any] = []

    async def send(update: Any) -> None:
        told.append(update)

    call = events.ToolCall(id="1", name="draw", arguments=arguments, result=result)
    await TurnUpdates(send, cwd, lambda id: None).handle(call)
    return told


@pytest.mark.anyio
@pytest.mark.parametrize("text", [DEEP, SURROGATE], ids=["deep", "surrogate"])
async def test_arguments_and_results_that_no_message_can_carry_are_shown_as_text(
    text: str, tmp_path: Path
) -> None:
    (update,) = await shown(await updates_of(text, text, tmp_path))
    assert (update["rawInput"], update["rawOutput"]) == (text, text)
    assert update["title"].startswith("draw({")


@pytest.mark.anyio
async def test_a_call_that_was_kept_with_such_arguments_is_shown_again(tmp_path: Path) -> None:
    message = Message("answer", "", (NativeCall(id="1", name="draw", arguments=DEEP),))
    (update,) = await shown(replayed(Transcript([message]), Registry().create_notations(), tmp_path))
    assert update["rawInput"] == DEEP


@pytest.mark.anyio
async def test_arguments_of_a_usual_depth_are_shown_as_data(tmp_path: Path) -> None:
    arguments = '{"tree": ' + "[" * 90 + "]" * 90 + ', "a": null}'
    (update,) = await shown(await updates_of(arguments, "1", tmp_path))
    assert (update["rawInput"], update["rawOutput"]) == (json.loads(arguments), 1)
