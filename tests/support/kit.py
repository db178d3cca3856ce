"""Tools, a tool source and readers of requests for the tests of the JSON tool loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec
from fake_openai import Answer

__all__ = ["FakeSource", "Meeting", "add", "ask", "offered", "results", "spec"]


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    a: the first
    b: the second
    """
    return a + b


def ask(*calls: tuple[str, Any], text: str = "", **more: Any) -> Answer:
    """An answer of the model that calls tools: (name, arguments) each."""
    made = [
        (f"call_{n}", name, given if isinstance(given, str) else json.dumps(given))
        for n, (name, given) in enumerate(calls, 1)
    ]
    return Answer(text=text, calls=made, **more)


def spec(name: str, *properties: str, description: str = "", required: Sequence[str] = ()) -> ToolSpec:
    schema = {
        "type": "object",
        "properties": {p: {"type": "string"} for p in properties},
        "required": list(required),
    }
    return ToolSpec(name=name, description=description or f"The tool {name}.", input_schema=schema)


class FakeSource:
    """A tool source whose tools are functions of their arguments."""

    def __init__(
        self, name: str, tools: Sequence[ToolSpec], answer: Callable[..., Any], instructions: str = ""
    ) -> None:
        self.name = name
        self.tools = list(tools)
        self.answer = answer
        self.instructions = instructions
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.listed = 0
        self.closed = False
        self.host: SourceHost | None = None

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        self.listed += 1
        self.host = host
        return self.tools

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        self.calls.append((name, dict(arguments)))
        result = self.answer(name, **arguments)
        return await result if hasattr(result, "__await__") else result

    async def aclose(self) -> None:
        self.closed = True


class Meeting:
    """Lets calls go on only when `count` of them are there: they must run at the same time."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.there = 0
        self.all_there: anyio.Event | None = None

    async def join(self) -> None:
        self.all_there = self.all_there or anyio.Event()
        self.there += 1
        if self.there == self.count:
            self.all_there.set()
        with anyio.fail_after(10):
            await self.all_there.wait()


def results(request: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the (call id, text) pairs of the tools' results in a request of either API."""
    if "messages" in request:
        return [(m["tool_call_id"], m["content"]) for m in request["messages"] if m["role"] == "tool"]
    return [(i["call_id"], i["output"]) for i in request["input"] if i.get("type") == "function_call_output"]


def offered(request: dict[str, Any]) -> list[str]:
    """Return the names of the tools in a request of either API."""
    return [t.get("function", t)["name"] for t in request.get("tools", ())]
