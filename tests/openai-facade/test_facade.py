"""The patched client, in each of the eight ways of calling it, over a real server and real code."""

from __future__ import annotations

import asyncio
import json
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ModelError, ModelStreamError
from agentd.types import Budgets
from fake_openai import Answer
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from ways import WAYS, Outcome, call, text_of

every_way = pytest.mark.parametrize("way", WAYS)
every_stream = pytest.mark.parametrize("way", [w for w in WAYS if w.endswith("stream")])
SCRIPT = (
    "I look.\n```bash:execute\necho one; exit 3\n```\n\n```python:execute\nprint(6 * 7)\n```\nSo it is 41.",
    "```notes/a.txt:create\nhello\n```\n",
    "All done.",
)


def executions(way: str, outcome: Outcome) -> list[tuple[str, str, int]]:
    if way.endswith("stream"):
        done = [e for e in outcome.shown if e.type == "code_execution"]
        started = [e.id for e in outcome.shown if e.type == "code_start"]
        done.sort(key=lambda e: started.index(e.id))
        return [(f"{e.target}:{e.action}", e.output, e.exit_code) for e in done]
    return [(e["header"], e["output"], e["exit_code"]) for e in outcome.whole.agentd["executions"]]


@every_way
def test_the_model_runs_code_until_it_answers(way: str, serve: Any, patched: Any, tmp_path: Path) -> None:
    server = serve(*SCRIPT)
    client = patched(server, asynchronous=way.startswith("async"), cwd=tmp_path)
    outcome = call(way, client)
    assert text_of(way, outcome) == "All done."
    assert executions(way, outcome) == [
        ("bash:execute", "one\n", 3),
        ("python:execute", "42\n", 0),
        ("notes/a.txt:create", "created notes/a.txt (6 bytes)", 0),
    ]
    assert (tmp_path / "notes/a.txt").read_text() == "hello\n"
    key = "messages" if "chat" in way else "input"
    assert "failed, exit code 3]\none" in json.dumps(server.requests[1][key]).replace("\\n", "\n")
    assert "41" not in server.bodies[2].decode()


@every_way
def test_usage_is_the_sum_over_the_rounds(way: str, serve: Any, patched: Any) -> None:
    block = "```bash:execute\ntrue\n```\n"
    server = serve(Answer(text=block, cached=30, reasoning=4), Answer(text="ok", cached=30, reasoning=4))
    client = patched(server, asynchronous=way.startswith("async"))
    more = {"stream_options": {"include_usage": True}} if "chat-stream" in way else {}
    outcome = call(way, client, **more)
    if "chat" in way:
        usage = outcome.items[-1].usage if outcome.items else outcome.whole.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (200, 20, 220)
        assert usage.prompt_tokens_details.cached_tokens == 60
        assert usage.completion_tokens_details.reasoning_tokens == 8
    else:
        usage = outcome.items[-1].response.usage if outcome.items else outcome.whole.usage
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (200, 20, 220)


@every_way
def test_each_request_begins_with_the_bytes_of_the_one_before(way: str, serve: Any, patched: Any) -> None:
    server = serve(*SCRIPT)
    call(way, patched(server, asynchronous=way.startswith("async")))
    key = "messages" if "chat" in way else "input"
    sent = [json.dumps(r[key])[:-1] for r in server.requests]
    assert len(sent) == 3
    for before, after in pairwise(sent):
        assert after.startswith(before)
    assert len({r.get("instructions") for r in server.requests}) == 1


@every_way
def test_the_callers_messages_are_not_changed(way: str, serve: Any, patched: Any) -> None:
    server = serve(*SCRIPT)
    client = patched(server, asynchronous=way.startswith("async"))
    mine: list[Any] = [
        {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": "go"},
    ]
    if "responses" in way:
        mine[0]["content"][0]["type"] = "input_text"
    before = json.dumps(mine)
    call(way, client, **{"messages" if "chat" in way else "input": mine})
    assert json.dumps(mine) == before
    assert "Be kind." in server.bodies[2].decode()


@every_way
def test_a_refusal_before_anything_ran_is_the_sdks_exception_and_ours(
    way: str, serve: Any, patched: Any
) -> None:
    server = serve(Answer(status=429, text="slow down"))
    client = patched(server, asynchronous=way.startswith("async"))
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        call(way, client)
    assert isinstance(caught.value, ModelError)
    assert caught.value.status_code == 429
    assert type(caught.value.__cause__) is openai.RateLimitError


@every_way
def test_an_error_in_a_later_round_keeps_what_was_done(way: str, serve: Any, patched: Any) -> None:
    server = serve("```bash:execute\necho precious\n```\n", Answer(status=500, text="broken"))
    client = patched(server, asynchronous=way.startswith("async"))
    with pytest.raises(openai.InternalServerError) as caught:
        call(way, client)
    told: Any = caught.value
    assert [e["output"] for e in told.agentd["executions"]] == ["precious\n"]
    assert "precious" in json.dumps(told.agentd["messages"])


@every_stream
@pytest.mark.parametrize("fault", ["cut_after", "malformed_after", "disconnect_after"])
def test_a_stream_that_breaks_is_an_error_with_what_was_done(
    way: str, fault: str, serve: Any, patched: Any
) -> None:
    text = "```bash:execute\necho one\n```\n"
    server = serve(text, Answer(text="And so I", **{fault: 5}))
    client = patched(server, asynchronous=way.startswith("async"))
    with pytest.raises(ModelStreamError) as caught:
        call(way, client)
    told: Any = caught.value
    assert [e["output"] for e in told.agentd["executions"]] == ["one\n"]


@every_way
def test_a_model_that_never_stops_is_ended_by_the_turns(way: str, serve: Any, patched: Any) -> None:
    server = serve("```bash:execute\ntrue\n```\n", repeat=True)
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    assert len(server.requests) == 20
    if way.endswith("stream"):
        last = outcome.items[-1]
        assert last.agentd[-1]["stop_reason"] == "max_turns"
        if "chat" in way:
            assert last.choices[0].finish_reason == "length"
        else:
            assert (last.type, last.response.status) == ("response.incomplete", "incomplete")
    else:
        assert outcome.whole.agentd["stop_reason"] == "max_turns"


@every_way
def test_a_model_that_writes_for_ever_behind_a_block_is_hung_up_on(
    way: str, serve: Any, patched: Any
) -> None:
    if way.endswith("whole"):
        pytest.skip("a whole answer has an end")
    server = serve(Answer(text="```bash:execute\necho one\n```\n", forever=True), "done")
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    assert text_of(way, outcome) == "done"
    assert server.hung_up.wait(10)


@every_stream
def test_an_answer_without_end_is_hung_up_on_and_is_incomplete(way: str, serve: Any, patched: Any) -> None:
    server = serve(Answer(text="and so on", forever=True))
    budgets = Budgets(max_answer_chars=2000)
    outcome = call(way, patched(server, asynchronous=way.startswith("async"), budgets=budgets))
    assert server.hung_up.wait(10)
    last = outcome.items[-1]
    assert last.agentd[-1]["stop_reason"] == "cut"
    assert "max_answer_chars" in last.agentd[-1]["error"]
    if "chat" in way:
        assert last.choices[0].finish_reason == "length"
    else:
        assert (last.type, last.response.status) == ("response.incomplete", "incomplete")


# --- whole answers -------------------------------------------------------------------------------------


def test_a_whole_chat_answer_is_the_sdks_type_with_the_messages_to_go_on(serve: Any, patched: Any) -> None:
    server = serve(*SCRIPT, "And more.")
    client = patched(server)
    mine = [{"role": "user", "content": "go"}]
    first = client.chat.completions.create(model="m", messages=mine)
    assert type(first) is ChatCompletion
    client.chat.completions.create(
        model="m", messages=[*mine, *first.agentd["messages"], {"role": "user", "content": "more"}]
    )
    assert server.requests[3]["messages"][:5] == server.requests[2]["messages"][:5]
    roles = [m["role"] for m in server.requests[3]["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user", "assistant", "user"]


def test_a_whole_response_holds_the_code_items_before_the_answer(serve: Any, patched: Any) -> None:
    client = patched(serve(*SCRIPT))
    response = client.responses.create(model="m", input="go")
    assert type(response) is Response
    assert [i.type for i in response.output] == ["code_interpreter_call"] * 3 + ["message"]
    assert response.output_text == "All done."
    assert response.output[0].outputs[0].logs == "one\n"
    assert [i.status for i in response.output[:3]] == ["failed", "completed", "completed"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_responses_output_can_be_passed_back_as_input(serve: Any, patched: Any, stream: bool) -> None:
    server = serve(*SCRIPT, "And more.")
    client = patched(server)
    made = client.responses.create(model="m", input="go", stream=stream)
    output = list(made)[-1].response.output if stream else made.output
    client.responses.create(model="m", input=[{"role": "user", "content": "go"}, *output])
    sent = server.requests[3]["input"]
    assert all(i.get("type") != "code_interpreter_call" for i in sent)
    told = json.dumps(sent)
    assert told.count("echo one; exit 3") == 1
    assert "failed, exit code 3" in told
    assert told.count("All done.") == 1


def test_native_tool_calls_of_the_caller_come_back_to_the_caller(serve: Any, patched: Any) -> None:
    wanted = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    server = serve(Answer(tool_calls=wanted))
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    ]
    answer = patched(server).chat.completions.create(
        model="m", messages=[{"role": "user", "content": "go"}], tools=tools
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls[0].function.name == "f"
    assert server.requests[0]["tools"] == tools


# --- streams -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 3, 7, 500])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_chat_stream_is_one_coherent_stream(piece: int, kind: str, serve: Any, patched: Any) -> None:
    server = serve(*SCRIPT, piece=piece)
    outcome = call(f"{kind}-chat-stream", patched(server, asynchronous=kind == "async"))
    chunks = outcome.items
    assert all(type(c) is ChatCompletionChunk for c in chunks)
    assert len({(c.id, c.created) for c in chunks}) == 1
    assert [c.choices[0].delta.role for c in chunks if c.choices[0].delta.role] == ["assistant"]
    assert [c.choices[0].finish_reason for c in chunks if c.choices[0].finish_reason] == ["stop"]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(c.usage is None for c in chunks)
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    blocks = SCRIPT[0].removesuffix("So it is 41.").strip()
    assert [t.strip() for t in text.split("\n\n\n")] == [blocks, SCRIPT[1].strip(), SCRIPT[2]]
    prose = "".join(e.text for e in outcome.shown if e.type == "text_delta")
    assert prose.split() == ["I", "look.", "All", "done."]


@pytest.mark.parametrize("piece", [1, 3, 7, 500])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_responses_stream_is_one_coherent_stream(piece: int, kind: str, serve: Any, patched: Any) -> None:
    outcome = call(
        f"{kind}-responses-stream", patched(serve(*SCRIPT, piece=piece), asynchronous=kind == "async")
    )
    events = outcome.items
    kinds = [e.type for e in events]
    assert kinds.count("response.created") == kinds.count("response.in_progress") == 1
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.completed") == 1
    assert [e.sequence_number for e in events] == list(range(len(events)))
    added = [e.output_index for e in events if e.type == "response.output_item.added"]
    done = {e.output_index: e.item for e in events if e.type == "response.output_item.done"}
    assert added == list(range(len(added)))
    final = events[-1].response
    assert [i.type for i in final.output] == [done[i].type for i in added]
    assert [i.id for i in final.output] == [done[i].id for i in added]
    assert {e.response.id for e in events if hasattr(e, "response")} == {"resp_1"}
    assert final.agentd["response_id"] == "resp_3"
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    texts = [e.text for e in events if e.type == "response.output_text.done"]
    assert "".join(texts) == deltas
    assert "41" not in deltas
    assert final.output_text == deltas
    prose = "".join(e.text for e in outcome.shown if e.type == "text_delta")
    assert prose.split() == ["I", "look.", "All", "done."]


def test_a_code_item_passes_through_its_states(serve: Any, patched: Any) -> None:
    server = serve("```bash:execute\necho one\n```\n", "done")
    events = list(patched(server).responses.create(model="m", input="go", stream=True))
    of_code = [
        e.type
        for e in events
        if getattr(e, "item_id", getattr(getattr(e, "item", None), "id", "")).startswith("ci_")
    ]
    kind = "response.code_interpreter_call"
    assert [k for i, k in enumerate(of_code) if k not in of_code[:i]] == [
        "response.output_item.added",
        f"{kind}.in_progress",
        f"{kind}_code.delta",
        f"{kind}_code.done",
        f"{kind}.interpreting",
        f"{kind}.completed",
        "response.output_item.done",
    ]
    item = next(
        e.item
        for e in events
        if e.type == "response.output_item.done" and e.item.type == "code_interpreter_call"
    )
    assert (item.code, item.container_id, item.outputs[0].logs) == ("echo one\n", "agentd", "one\n")


def test_the_sdks_own_stream_helper_reads_a_patched_stream(serve: Any, patched: Any) -> None:
    client = patched(serve("```bash:execute\necho one\n```\n", "done"))
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "go"}]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    assert final.choices[0].message.content.endswith("done")
    assert final.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_sdks_response_helper_reads_a_patched_stream(kind: str, serve: Any, patched: Any) -> None:
    client = patched(serve(*SCRIPT), asynchronous=kind == "async")

    async def read() -> Any:
        async with client.responses.stream(model="m", input="go") as stream:
            return await stream.get_final_response()

    if kind == "async":
        final = asyncio.run(read())
    else:
        with client.responses.stream(model="m", input="go") as stream:
            final = stream.get_final_response()
    assert final.id == "resp_1"
    assert [i.type for i in final.output].count("code_interpreter_call") == 3
    assert final.output_text.endswith("All done.")


@pytest.mark.parametrize("ptc_enabled", [True, False])
def test_a_streams_id_names_its_last_round_for_the_provider(
    ptc_enabled: bool, serve: Any, patched: Any
) -> None:
    server = serve("```bash:execute\ntrue\n```\n", "done", "more")
    client = patched(server)
    final = list(client.responses.create(model="m", input="go", stream=True))[-1].response
    assert final.id == "resp_1"
    client.responses.create(model="m", input="on", previous_response_id=final.id, ptc_enabled=ptc_enabled)
    assert server.requests[2]["previous_response_id"] == "resp_2"


def test_a_stream_of_a_patched_client_is_the_sdks_stream_class(serve: Any, patched: Any) -> None:
    client = patched(serve("done"))
    with client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "go"}], stream=True
    ) as stream:
        assert isinstance(stream, openai.Stream)
        assert stream.response.status_code == 200


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_code_output_arrives_while_the_code_runs(api: str, serve: Any, patched: Any, tmp_path: Path) -> None:
    from agentd_openai.display import display_events

    wait = "echo before; while [ ! -e seen ]; do sleep 0.01; done; echo after"
    client = patched(serve(f"```bash:execute\n{wait}\n```\n", "done"), cwd=tmp_path)
    given: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "go"}]} if api == "chat" else {"input": "go"}
    )
    create = client.chat.completions.create if api == "chat" else client.responses.create
    shown = []
    for event in display_events(create(model="m", stream=True, **given)):
        shown.append(event.type)
        if event.type == "code_output" and event.text == "before\n":
            (tmp_path / "seen").touch()  # only now does the code go on
    assert shown.count("code_output") >= 2
    assert shown.index("code_output") < shown.index("code_execution")


# --- where it is called from ---------------------------------------------------------------------------


def test_a_sync_client_works_from_several_threads_at_once(serve: Any, patched: Any) -> None:
    server = serve()
    server.decide = lambda request: (
        Answer(text="done")
        if len(request["messages"]) > 2
        else Answer(text=f"```bash:execute\n{request['messages'][1]['content']}\n```\n")
    )
    client = patched(server)
    outputs: dict[int, str] = {}

    def work(number: int) -> None:
        message = {"role": "user", "content": f"echo n{number}"}
        answer = client.chat.completions.create(model="m", messages=[message])
        outputs[number] = answer.agentd["executions"][0]["output"]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert outputs == {n: f"n{n}\n" for n in range(6)}


def test_a_sync_client_works_inside_a_running_event_loop(serve: Any, patched: Any) -> None:
    client = patched(serve(*SCRIPT))

    async def notebook() -> str:
        return "".join(
            c.choices[0].delta.content or ""
            for c in client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "go"}], stream=True
            )
        )

    assert asyncio.run(notebook()).endswith("All done.")


def test_an_async_client_serves_two_event_loops_one_after_the_other(serve: Any, patched: Any) -> None:
    server = serve(*SCRIPT, *SCRIPT)
    client = patched(server, asynchronous=True)

    async def ask() -> str:
        async with client.with_options(http_client=openai.DefaultAsyncHttpxClient()) as fresh:
            answer = await fresh.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "go"}]
            )
            return str(answer.choices[0].message.content)

    assert [asyncio.run(ask()), asyncio.run(ask())] == ["All done.", "All done."]
    asyncio.run(client.close())
