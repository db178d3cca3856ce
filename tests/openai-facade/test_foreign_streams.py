"""Streams of servers that leave parts out: they are read by what is there, and a caller gets a whole one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.session.sync import SyncSession
from fake_openai import Answer, FakeOpenAI
from openai.types.responses import Response
from ways import call, text_of

BLOCK = "I look.\n```bash:execute\necho one\n```\n"
ABOUT = {"id": "resp_x", "object": "response", "created_at": 1, "model": "m"}
USAGE = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
Event = dict[str, Any]


def message(text: str | None, id: str | None = "msg_1") -> Event:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    item = {"type": "message", "role": "assistant", "status": "completed", "content": content}
    return item if id is None else {"id": id, **item}


def deltas(text: str, **place: Any) -> Iterator[Event]:
    for start in range(0, len(text), 5):
        yield {"type": "response.output_text.delta", "delta": text[start : start + 5], **place}


def ended(*output: Event, **more: Any) -> Event:
    response = {**ABOUT, "status": "completed", "output": list(output), "usage": USAGE, **more}
    return {"type": "response.completed", "response": response}


def begun() -> Event:
    return {
        "type": "response.created",
        "response": {"id": "resp_x", "object": "response", "status": "in_progress"},
    }


def llama_cpp(text: str) -> Iterator[Event]:
    """Without sequence_number, output_index, content_index; `response.created` comes twice."""
    yield begun()
    yield begun()
    yield {"type": "response.in_progress", "response": begun()["response"]}
    yield {"type": "response.output_item.added", "item": message(None)}
    part = {"type": "output_text", "text": ""}
    yield {"type": "response.content_part.added", "item_id": "msg_1", "part": part}
    yield from deltas(text, item_id="msg_1")
    yield {"type": "response.output_text.done", "item_id": "msg_1", "text": text}
    yield {"type": "response.content_part.done", "item_id": "msg_1", "part": {**part, "text": text}}
    yield {"type": "response.output_item.done", "item": message(text)}
    yield ended(message(text))


def text_alone(text: str) -> Iterator[Event]:
    yield from deltas(text)
    yield ended()


def items_at_their_end(text: str) -> Iterator[Event]:
    yield begun()
    yield {"type": "response.output_item.done", "output_index": 0, "item": message(text)}
    yield ended(message(text))


def all_at_the_end(text: str) -> Iterator[Event]:
    yield ended(message(text, None))


def another_id_at_the_end(text: str) -> Iterator[Event]:
    yield begun()
    yield {"type": "response.output_item.added", "output_index": 0, "item": message(None, "msg_a")}
    yield from deltas(text, output_index=0, item_id="msg_b")
    yield {"type": "response.output_item.done", "output_index": 0, "item": message(text, "msg_c")}
    yield ended(message(text, "msg_d"))


def no_ends(text: str) -> Iterator[Event]:
    yield begun()
    yield {"type": "response.output_item.added", "output_index": 0, "item": message(None)}
    yield from deltas(text, output_index=0, content_index=0, item_id="msg_1")
    yield ended(message(text))


SHAPES = [llama_cpp, text_alone, items_at_their_end, all_at_the_end, another_id_at_the_end, no_ends]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=[s.__name__ for s in SHAPES])


def check_whole(events: list[Any]) -> None:
    """See that a stream is one that OpenAI could have sent."""
    assert [e.sequence_number for e in events] == list(range(len(events)))
    kinds = [e.type for e in events]
    assert (kinds[0], kinds[-1], kinds.count("response.created")) == (
        "response.created",
        "response.completed",
        1,
    )
    added = {e.output_index: e.item for e in events if e.type == "response.output_item.added"}
    done = {e.output_index: e.item for e in events if e.type == "response.output_item.done"}
    final = events[-1].response
    assert sorted(added) == sorted(done) == list(range(len(final.output)))
    assert [(i.type, i.id) for i in final.output] == [(done[n].type, done[n].id) for n in sorted(done)]
    assert [i.id for i in added.values()] == [done[n].id for n in added]
    assert len({i.id for i in final.output}) == len(final.output)
    for index, item in done.items():
        if item.type == "message":
            mine = [e for e in events if getattr(e, "output_index", None) == index]
            text = "".join(e.delta for e in mine if e.type == "response.output_text.delta")
            assert text == "".join(p.text for p in item.content)
            assert [e.type for e in mine].count("response.content_part.added") == 1
            assert [e.type for e in mine].count("response.content_part.done") == 1
    Response.model_validate(final.to_dict())


@every_shape
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_response_stream_is_whole_whatever_the_server_leaves_out(
    shape: Any, kind: str, serve: Any, patched: Any
) -> None:
    server = serve(Answer(pieces=list(shape(BLOCK))), Answer(pieces=list(shape("All done."))))
    way = f"{kind}-responses-stream"
    outcome = call(way, patched(server, asynchronous=kind == "async"))
    check_whole(outcome.items)
    assert text_of(way, outcome) == "All done."
    assert outcome.items[-1].response.output_text.endswith("All done.")
    assert [e.output for e in outcome.shown if e.type == "code_execution"] == ["one\n"]


@every_shape
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_sdks_helper_reads_it(shape: Any, kind: str, serve: Any, patched: Any) -> None:
    server = serve(Answer(pieces=list(shape(BLOCK))), Answer(pieces=list(shape("All done."))))
    client = patched(server, asynchronous=kind == "async")

    async def read() -> Any:
        async with client, client.responses.stream(model="m", input="go") as stream:
            return await stream.get_final_response()

    if kind == "async":
        final = asyncio.run(read())
    else:
        with client.responses.stream(model="m", input="go") as stream:
            final = stream.get_final_response()
    assert final.output_text == f"{BLOCK}All done."
    assert [i.type for i in final.output] == ["message", "code_interpreter_call", "message"]


@every_shape
def test_a_session_reads_the_text(shape: Any, tmp_path: Path) -> None:
    with FakeOpenAI(Answer(pieces=list(shape(BLOCK))), Answer(pieces=list(shape("All done.")))) as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        with SyncSession("m", api="responses", **settings) as session:
            end = session.ask("go")
    assert end.text == "All done."
    assert [e.output for e in session.transcript.executions] == ["one\n"]


def test_an_answer_at_its_limit_is_cut_although_the_server_says_completed(tmp_path: Path) -> None:
    with FakeOpenAI(Answer(pieces=list(llama_cpp("All d")))) as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        options = {"max_output_tokens": USAGE["output_tokens"]}
        with SyncSession("m", api="responses", model_options=options, **settings) as session:
            assert session.ask("go").stop_reason == "cut"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_chunks_without_role_id_and_date_become_a_whole_stream(kind: str, serve: Any, patched: Any) -> None:
    def chunks(text: str) -> list[Event]:
        pieces = [{"content": text[:4]}, {"content": text[4:]}, {}]
        return [{"choices": [{"delta": d, "finish_reason": None if d else "stop"}]} for d in pieces]

    server = serve(Answer(pieces=chunks(BLOCK)), Answer(pieces=chunks("All done.")))
    outcome = call(f"{kind}-chat-stream", patched(server, asynchronous=kind == "async"))
    roles = [c.choices[0].delta.role for c in outcome.items]
    assert roles[0] == "assistant"
    assert not any(roles[1:])
    assert len({(c.id, c.created, c.model, c.object) for c in outcome.items}) == 1
    assert all(isinstance(value, str | int) for value in (outcome.items[0].id, outcome.items[0].created))
    assert text_of(f"{kind}-chat-stream", outcome) == "All done."
