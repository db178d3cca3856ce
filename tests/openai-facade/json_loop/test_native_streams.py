"""Streams of the JSON tool loop are one coherent stream, in the SDK's own events."""

from __future__ import annotations

from typing import Any

import pytest
from agentd_openai.display import display_events
from kit import FakeSource, add, ask, spec
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import Response
from ways import call

OWN: Any = {"type": "function", "name": "mine", "parameters": {"type": "object"}, "strict": False}
SCRIPT = (
    ask(("add", {"a": 2}), ("sea_look", {"where": "here"}), text="I look."),
    ask(("mine", {"x": 1}), ("add", {"a": "bad"})),
)


def look(name: str, where: str = "") -> str:
    return f"fish {where}"


def play(way: str, serve: Any, patched: Any, *script: Any, **more: Any) -> Any:
    source = FakeSource("aquarium", [spec("sea.look", "where")], look)
    client = patched(serve(*script), asynchronous=way.startswith("async"), tools=[add])
    return call(way, client, mcp_servers=[source], **more)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_responses_stream_is_one_coherent_stream(kind: str, serve: Any, patched: Any) -> None:
    items = play(f"{kind}-responses-stream", serve, patched, *SCRIPT, tools=[OWN]).items
    kinds = [e.type for e in items]
    assert [e.sequence_number for e in items] == list(range(len(items)))
    assert (kinds.count("response.created"), kinds.count("response.completed")) == (1, 1)
    assert kinds[-1] == "response.completed"
    final = items[-1].response
    assert [i.type for i in final.output] == [
        "message", "mcp_call", "mcp_call", "function_call", "mcp_call",
    ]  # fmt: skip
    Response.model_validate(final.to_dict())
    added = [(e.output_index, e.item.type) for e in items if e.type == "response.output_item.added"]
    assert added == list(enumerate(i.type for i in final.output))
    done = [(e.output_index, e.item.id) for e in items if e.type == "response.output_item.done"]
    assert sorted(done) == list(enumerate(i.id for i in final.output))
    first, second, last = (i for i in final.output if i.type == "mcp_call")
    assert (first.server_label, first.name, first.arguments, first.status) == (
        "local", "add", '{"a": 2}', "completed",
    )  # fmt: skip
    assert (second.server_label, second.name) == ("aquarium", "sea.look")
    assert (last.status, "expected int" in str(last.error)) == ("failed", True)
    for item in (first, second, last):
        mine = [e.type for e in items if getattr(e, "item_id", None) == item.id]
        assert mine[0] == "response.mcp_call.in_progress"
        assert mine[-2] == "response.mcp_call_arguments.done"
        assert mine[-1] == f"response.mcp_call.{item.status}"
        deltas = [e.delta for e in items if e.type.endswith("arguments.delta") and e.item_id == item.id]
        assert "".join(deltas) == item.arguments


@pytest.mark.parametrize("asked", [True, False])
def test_results_stand_in_the_items_of_a_stream_if_include_asks_for_them(
    asked: bool, serve: Any, patched: Any
) -> None:
    more = {"include": ["tool_call.results", "reasoning.encrypted_content"]} if asked else {}
    server = serve(ask(("add", {"a": 2})), "ok")
    client = patched(server, tools=[add])
    outcome = call("sync-responses-stream", client, **more)
    (item,) = (
        e.item for e in outcome.items if e.type == "response.output_item.done" and e.item.type == "mcp_call"
    )
    assert item.output == ("3" if asked else None)
    assert getattr(item, "results", None) == (["3"] if asked else None)
    assert outcome.items[-1].response.output[0].output == item.output
    assert item.agentd["output"] == "3"  # so that it can go back
    included = [r.get("include") for r in server.requests]
    assert included == ([["reasoning.encrypted_content"]] * 2 if asked else [None, None])


def test_a_whole_answer_has_the_results_in_its_items(serve: Any, patched: Any) -> None:
    client = patched(serve(ask(("add", {"a": 2})), "ok"), tools=[add])
    answer = client.responses.create(model="m", input="go")
    assert [(i.type, getattr(i, "output", None)) for i in answer.output] == [
        ("mcp_call", "3"),
        ("message", None),
    ]
    assert answer.output_text == "ok"
    Response.model_validate(answer.to_dict())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_chat_stream_is_one_coherent_stream_without_the_deltas_of_our_calls(
    kind: str, serve: Any, patched: Any
) -> None:
    own = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    script = (SCRIPT[0], ask(("add", {"a": 9}), ("mine", {"x": 1}), ("mine", {"x": 2})))
    chunks = play(f"{kind}-chat-stream", serve, patched, *script, tools=[own]).items
    assert all(type(c) is ChatCompletionChunk for c in chunks)
    assert len({(c.id, c.created) for c in chunks}) == 1
    assert [c.choices[0].delta.role for c in chunks if c.choices[0].delta.role] == ["assistant"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["tool_calls"]
    pieces = [p for c in chunks for p in c.choices[0].delta.tool_calls or []]
    assert {p.index for p in pieces} == {0, 1}
    assert {p.function.name for p in pieces if p.function.name} == {"mine"}
    told = [e["name"] for c in chunks for e in getattr(c, "agentd", None) or [] if e["type"] == "tool_call"]
    assert sorted(told) == ["add", "add", "sea_look"]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_display_shows_each_tool_call_once(api: str, serve: Any, patched: Any) -> None:
    shown = play(f"sync-{api}-stream", serve, patched, SCRIPT[0], "Done.").shown
    calls = {e.name: (e.arguments, e.result, e.status, e.code_id) for e in shown if e.type == "tool_call"}
    assert calls == {
        "add": ('{"a": 2}', "3", "completed", ""),
        "sea_look": ('{"where": "here"}', "fish here", "completed", ""),
    }
    assert sum(e.type == "tool_call" for e in shown) == 2
    text = [e.text for e in shown if e.type == "text_delta"]
    assert "".join(text).replace("\n", "") == "I look.Done."


def test_a_call_that_the_provider_made_of_a_server_itself_is_shown_too(serve: Any) -> None:
    from fake_openai import Answer

    item = {
        "id": "mcp_1", "type": "mcp_call", "server_label": "s", "name": "t", "arguments": "{}", "output": "o",
    }  # fmt: skip
    with serve(Answer(text="x", items=[item])).client() as client:
        shown = list(display_events(client.responses.create(model="m", input="go", stream=True)))
    assert [(e.name, e.result) for e in shown if e.type == "tool_call"] == [("t", "o")]


def test_leaving_a_stream_gives_the_call_up_that_still_runs(serve: Any, patched: Any) -> None:
    import threading

    import anyio

    begun, ended = threading.Event(), threading.Event()

    async def wait(name: str) -> None:
        begun.set()
        try:
            await anyio.sleep(60)
        finally:
            ended.set()

    client = patched(serve(ask(("wait", {}))))
    source = FakeSource("s", [spec("wait")], wait)
    stream = client.responses.create(model="m", input="go", stream=True, mcp_servers=[source])
    for event in stream:
        if event.type == "response.mcp_call.in_progress":
            break
    assert begun.wait(10)
    stream.close()
    assert ended.wait(10)
