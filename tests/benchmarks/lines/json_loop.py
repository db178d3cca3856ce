"""The JSON tool loop: 20 rounds with a model that answers at once, 19 of them with a call of `@tool def echo`.

Ours and theirs: `patch_openai_with_mcp` and the same call, a client that has had one such conversation.
The model is a transport inside the process.
Floor: the bare SDK, 20 requests with the same tool and messages that grow the same way."""

from __future__ import annotations

from typing import Any

from benchmarks.kit import median_ms
from benchmarks.line import Figures, Line, Row
from benchmarks.scripted import Answer, ScriptedModel, call

LINE = Line(
    name="json_loop",
    rows=(Row(key="chat_ms", title="JSON tool loop, 20 rounds, zero-latency model", unit="ms", floor=1.5),),
)
ROUNDS = 20
SCRIPT: list[Answer] = [[call("echo", x=number)] for number in range(ROUNDS - 1)] + ["done"]
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
TOOL: Any = {
    "type": "function",
    "function": {"name": "echo", "description": "Give back what it got.", "parameters": PARAMETERS},
}


def _patched(quick: bool) -> Figures:
    """Both versions have the same public surface, so this is the code for both."""
    import os

    from agentd import patch_openai_with_mcp, tool

    os.environ["AGENTD_LOG_DISABLE"] = "1"

    @tool
    def echo(x: int) -> int:
        """Give back what it got.

        x: anything
        """
        return x

    model = ScriptedModel(SCRIPT)
    client = patch_openai_with_mcp(model.client())

    def converse() -> None:
        before = model.requests
        messages = [{"role": "user", "content": "Go on."}]
        response = client.chat.completions.create(model="gpt-4o", messages=messages)
        assert response.choices[0].message.content == "done", response
        assert model.requests - before == ROUNDS, f"{model.requests - before} requests"

    return {"chat_ms": median_ms(converse, count=3 if quick else 9)}


def ours(quick: bool) -> Figures:
    """The patched client."""
    return _patched(quick)


def theirs(quick: bool) -> Figures:
    """The patched client of 0.8.6, which sends the tools in the first round only."""
    return _patched(quick)


def floor(quick: bool) -> Figures:
    """The SDK alone."""
    model = ScriptedModel(SCRIPT)
    client = model.client()

    def converse() -> None:
        messages: list[Any] = [{"role": "user", "content": "Go on."}]
        for number in range(ROUNDS):
            response = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[TOOL])
            message = response.choices[0].message
            for made in message.tool_calls or ():
                function = {"name": made.function.name, "arguments": made.function.arguments}
                one = {"id": made.id, "type": "function", "function": function}
                messages.append({"role": "assistant", "tool_calls": [one]})
                messages.append({"role": "tool", "tool_call_id": made.id, "content": str(number)})

    return {"chat_ms": median_ms(converse, count=3 if quick else 9)}
