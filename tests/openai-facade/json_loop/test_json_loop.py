"""The JSON tool loop in each of the eight ways of calling a patched client, over a real server."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import Any

import openai
import pytest
from agentd.types import Budgets
from fake_openai import Answer
from kit import FakeSource, Meeting, add, ask, offered, results, spec
from ways import WAYS, Outcome, call, text_of

every_way = pytest.mark.parametrize("way", WAYS)
OWN_CHAT: Any = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
OWN_RESPONSES: Any = {"type": "function", "name": "mine", "parameters": {"type": "object"}, "strict": False}


def own_tool(way: str) -> Any:
    return OWN_CHAT if "chat" in way else OWN_RESPONSES


def tool_events(way: str, outcome: Outcome) -> list[Any]:
    return [e for e in outcome.shown if e.type == "tool_call"]


def run(way: str, serve: Any, patched: Any, *answers: Any, functions: Any = (add,), **more: Any) -> Any:
    server = serve(*answers)
    client = patched(server, asynchronous=way.startswith("async"), tools=functions)
    return call(way, client, **more), server


# --- the old defects ----------------------------------------------------------------------------------


@every_way
def test_tools_are_sent_in_every_round_not_only_the_first(way: str, serve: Any, patched: Any) -> None:
    outcome, server = run(
        way, serve, patched, ask(("add", {"a": 2, "b": 3})), ask(("add", {"a": 5})), "It is 6."
    )
    assert text_of(way, outcome) == "It is 6."
    assert [offered(r) for r in server.requests] == [["add"]] * 3
    assert results(server.requests[2]) == [("call_1", "5"), ("call_1", "6")]


@pytest.mark.parametrize("way", [w for w in WAYS if "chat-stream" in w])
def test_chat_streaming_works(way: str, serve: Any, patched: Any) -> None:
    outcome, _ = run(way, serve, patched, ask(("add", {"a": 2}), text="I add."), "It is 3.")
    text = "".join(c.choices[0].delta.content or "" for c in outcome.items)
    assert text == "I add.\n\nIt is 3."
    assert [e.type for e in outcome.shown if e.type != "text_delta"] == ["tool_call", "turn_end", "turn_end"]


@every_way
def test_the_callers_messages_are_not_changed(way: str, serve: Any, patched: Any) -> None:
    mine: list[Any] = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "go"}]
    own = [own_tool(way)]
    before = json.dumps([mine, own])
    key = "messages" if "chat" in way else "input"
    _, server = run(way, serve, patched, ask(("add", {"a": 1})), "ok", **{key: mine, "tools": [*own]})
    assert json.dumps([mine, own]) == before
    assert server.requests[0][key] == mine  # no guide of ours: the tools speak for themselves


@every_way
@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("ad", {"a": 1}, "UnknownToolError: unknown tool 'ad'; there are: add, fail; did you mean 'add'?"),
        ("add", '{"a": 1', "ToolInputError: add(): the arguments are no JSON that can be read"),
        ("add", {"a": "x"}, "ToolInputError: add(): argument 'a': expected int"),
        ("add", {}, "ToolInputError: add()"),
        ("fail", {}, "ToolError: fail() raised RuntimeError: the disk is full"),
    ],
)
def test_an_unknown_or_failing_tool_is_a_result_and_does_not_raise_out_of_create(
    way: str, name: str, given: Any, told: str, serve: Any, patched: Any
) -> None:
    def fail() -> None:
        """Fail."""
        raise RuntimeError("the disk is full")

    outcome, server = run(way, serve, patched, ask((name, given)), "I see.", functions=[add, fail])
    assert text_of(way, outcome) == "I see."
    (result,) = results(server.requests[1])
    assert result[1].startswith(told)
    for event in tool_events(way, outcome):
        assert event.status == "failed"


# --- calls and results ----------------------------------------------------------------------------------


@every_way
def test_parallel_calls_run_at_the_same_time_and_their_results_keep_their_order(
    way: str, serve: Any, patched: Any
) -> None:
    meeting = Meeting(3)

    async def meet(name: str, who: str) -> str:
        await meeting.join()
        return f"hello {who}"

    source = FakeSource("party", [spec("meet", "who")], meet)
    answer = ask(("meet", {"who": "a"}), ("meet", {"who": "b"}), ("meet", {"who": "c"}))
    _, server = run(way, serve, patched, answer, "done", functions=[], mcp_servers=[source])
    assert results(server.requests[1]) == [
        ("call_1", "hello a"),
        ("call_2", "hello b"),
        ("call_3", "hello c"),
    ]


@every_way
def test_each_request_begins_with_the_bytes_of_the_one_before(way: str, serve: Any, patched: Any) -> None:
    script = [
        ask(("add", {"a": 1}), text="First."),
        ask(("add", {"a": 2}), ("add", {"a": 3})),
        ask(("nope", {})),
        "done",
    ]
    _, server = run(way, serve, patched, *script)
    sent = [json.dumps(r["messages" if "chat" in way else "input"])[:-1] for r in server.requests]
    assert len(sent) == 4
    for before, after in pairwise(sent):
        assert after.startswith(before)
    assert len({json.dumps(r["tools"]) for r in server.requests}) == 1


@every_way
def test_usage_is_the_sum_over_the_rounds(way: str, serve: Any, patched: Any) -> None:
    more = {"stream_options": {"include_usage": True}} if "chat-stream" in way else {}
    outcome, _ = run(way, serve, patched, ask(("add", {"a": 1})), ask(("add", {"a": 1})), "ok", **more)
    last = outcome.items[-1] if outcome.items else outcome.whole
    usage = last.response.usage if "responses-stream" in way else last.usage
    assert usage.total_tokens == 330


@every_way
def test_a_long_result_is_cut_in_the_middle(way: str, serve: Any, patched: Any) -> None:
    source = FakeSource("s", [spec("big")], lambda name: "x" * 100_000 + "end")
    _, server = run(way, serve, patched, ask(("big", {})), "ok", functions=[], mcp_servers=[source])
    ((_, text),) = results(server.requests[1])
    assert 39_000 < len(text) < 41_000
    assert "characters were cut here" in text
    assert text.endswith("end")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("plain text", "plain text"),
        ("42", "42"),
        (42, "42"),
        (None, "null"),
        ({"a": [1, "é"]}, '{"a": [1, "é"]}'),
        ("", "(empty)"),
    ],
)
def test_results_are_text_as_it_is_and_all_else_as_json(
    value: Any, read: str, serve: Any, patched: Any
) -> None:
    source = FakeSource("s", [spec("t")], lambda name: value)
    way = "sync-chat-whole"
    _, server = run(way, serve, patched, ask(("t", {})), "ok", functions=[], mcp_servers=[source])
    assert results(server.requests[1]) == [("call_1", read)]


def test_binary_data_becomes_a_label(serve: Any, patched: Any) -> None:
    from agentd.types import Blob

    picture = Blob(b"\x89PNG" * 10, "image/png")
    source = FakeSource(
        "s", [spec("one"), spec("two")], lambda name: picture if name == "one" else ["a", picture]
    )
    _, server = run(
        "sync-responses-whole",
        serve,
        patched,
        ask(("one", {}), ("two", {})),
        "ok",
        functions=[],
        mcp_servers=[source],
    )
    assert results(server.requests[1]) == [
        ("call_1", "[image/png, 40 bytes]"),
        ("call_2", '["a", "[image/png, 40 bytes]"]'),
    ]


@every_way
def test_a_model_that_never_stops_calling_is_ended_after_twenty_rounds(
    way: str, serve: Any, patched: Any
) -> None:
    server = serve(ask(("add", {"a": 1})), repeat=True)
    outcome = call(way, patched(server, asynchronous=way.startswith("async"), tools=[add]))
    assert len(server.requests) == 20
    if "chat" in way:
        last = outcome.items[-1] if outcome.items else outcome.whole
        assert last.choices[0].finish_reason == "length"
        if outcome.whole:
            assert outcome.whole.choices[0].message.tool_calls is None
    else:
        response = outcome.items[-1].response if outcome.items else outcome.whole
        assert response.status == "incomplete"
        assert [i.type for i in response.output] == ["mcp_call"] * 20


def test_the_budgets_of_the_patch_hold(serve: Any, patched: Any) -> None:
    server = serve(ask(("add", {"a": 1}), ("add", {"a": 2})), repeat=True)
    client = patched(server, tools=[add], budgets=Budgets(max_tool_calls=5))
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
    assert (answer.agentd["stop_reason"], len(server.requests)) == ("tool_calls", 3)


def test_the_wall_time_gives_a_call_up(serve: Any, patched: Any) -> None:
    import anyio

    cancelled = threading.Event()

    async def wait(name: str) -> None:
        try:
            await anyio.sleep(60)
        finally:
            cancelled.set()

    source = FakeSource("s", [spec("wait")], wait)
    client = patched(serve(ask(("wait", {}))), budgets=Budgets(wall_time_s=0.3))
    answer = client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "go"}], mcp_servers=[source]
    )
    assert answer.agentd["stop_reason"] == "wall_time"
    assert answer.agentd["executions"][0]["status"] == "cancelled"
    assert cancelled.wait(10)


@every_way
def test_an_error_in_a_later_round_keeps_what_was_done(way: str, serve: Any, patched: Any) -> None:
    server = serve(ask(("add", {"a": 41})), Answer(status=500, text="broken"))
    client = patched(server, asynchronous=way.startswith("async"), tools=[add])
    with pytest.raises(openai.InternalServerError) as caught:
        call(way, client)
    told: Any = caught.value
    assert [(e["header"], e["output"]) for e in told.agentd["executions"]] == [("add:call", "42")]
    assert '"42"' in json.dumps(told.agentd["messages"])


def test_a_call_with_empty_arguments_is_one_without(serve: Any, patched: Any) -> None:
    source = FakeSource("s", [spec("t")], lambda name: "fine")
    _, server = run(
        "sync-chat-stream", serve, patched, ask(("t", "")), "ok", functions=[], mcp_servers=[source]
    )
    assert results(server.requests[1]) == [("call_1", "fine")]


def test_the_rounds_of_a_model_that_only_calls_unknown_tools_are_counted(serve: Any, patched: Any) -> None:
    server = serve(ask(("nope", {})), repeat=True)
    client = patched(server, tools=[add])
    answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
    assert (answer.agentd["stop_reason"], len(server.requests)) == ("rejected_blocks", 3)


def test_reasoning_goes_back_with_the_calls_that_it_led_to(serve: Any, patched: Any) -> None:
    thought = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "xyz"}
    for mode in ("whole", "stream"):
        answer = ask(("add", {"a": 1}), items=[thought])
        _, server = run(f"sync-responses-{mode}", serve, patched, answer, "ok")
        types = [i.get("type") for i in server.requests[1]["input"]]
        assert types == [None, "reasoning", "function_call", "function_call_output"]
        assert server.requests[1]["input"][1] == thought


# --- tool choice -----------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("choice", ["required", "named", "none"])
def test_a_forced_tool_choice_holds_for_the_first_round(
    way: str, choice: str, serve: Any, patched: Any
) -> None:
    named: Any = {"type": "function", "name": "add"}
    if "chat" in way:
        named = {"type": "function", "function": {"name": "add"}}
    given = named if choice == "named" else choice
    _, server = run(way, serve, patched, ask(("add", {"a": 1})), "ok", tool_choice=given)
    later = "none" if choice == "none" else "auto"
    assert [r["tool_choice"] for r in server.requests] == [given, later]


# --- the caller's own tools -------------------------------------------------------------------------------


def calls_of(way: str, outcome: Outcome) -> list[tuple[str, str, str]]:
    """Return the native calls that the caller sees: id, name and arguments."""
    if way.endswith("chat-whole"):
        found = outcome.whole.choices[0].message.tool_calls or []
        return [(c.id, c.function.name, c.function.arguments) for c in found]
    if way.endswith("chat-stream"):
        calls: dict[int, list[str]] = {}
        for chunk in outcome.items:
            for piece in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
                entry = calls.setdefault(piece.index, [piece.id, piece.function.name, ""])
                entry[2] += piece.function.arguments or ""
        assert list(calls) == list(range(len(calls)))
        return [(c[0], c[1], c[2]) for c in calls.values()]
    response = outcome.items[-1].response if outcome.items else outcome.whole
    return [(i.call_id, i.name, i.arguments) for i in response.output if i.type == "function_call"]


@every_way
def test_a_call_of_the_callers_own_tool_comes_back_as_the_sdk_has_it(
    way: str, serve: Any, patched: Any
) -> None:
    outcome, server = run(way, serve, patched, ask(("mine", {"x": 1})), tools=[own_tool(way)])
    assert calls_of(way, outcome) == [("call_1", "mine", '{"x": 1}')]
    assert [offered(r) for r in server.requests] == [["mine", "add"]]
    if "chat" in way:
        last = outcome.items[-1] if outcome.items else outcome.whole
        assert last.choices[0].finish_reason == "tool_calls"
        if outcome.whole:
            assert getattr(outcome.whole.choices[0].message, "agentd", None) is None


@every_way
def test_a_tool_of_ours_with_the_name_of_a_tool_of_the_callers_gets_another(
    way: str, serve: Any, patched: Any
) -> None:
    def mine() -> str:
        """Ours."""
        return "ours"

    outcome, server = run(
        way, serve, patched, ask(("mine_2", {})), ask(("mine", {})), functions=[mine], tools=[own_tool(way)]
    )
    assert offered(server.requests[0]) == ["mine", "mine_2"]
    assert results(server.requests[1]) == [("call_1", "ours")]
    assert [c[1] for c in calls_of(way, outcome)] == ["mine"]


MIXED = ask(("add", {"a": 1}), ("mine", {"x": 1}), ("add", {"a": 2}), ("mine", {"x": 2}), text="Both.")


def sent_on(way: str, outcome: Outcome, via: str) -> list[Any]:
    """Return the conversation that a caller sends who goes on from an answer."""
    start: list[Any] = [{"role": "user", "content": "go"}]
    if "chat" in way:
        message = outcome.whole.choices[0].message if outcome.whole else joined(outcome.items)
        said = message if via == "object" else message.model_dump(exclude_none=True)
        answers = [
            {"role": "tool", "tool_call_id": c.id, "content": f"mine {c.id}"} for c in message.tool_calls
        ]
        return [*start, said, *answers]
    response = outcome.whole or outcome.items[-1].response
    output = (
        response.output if via == "object" else [i.model_dump(exclude_none=True) for i in response.output]
    )
    answers = [
        {"type": "function_call_output", "call_id": i.call_id, "output": f"mine {i.call_id}"}
        for i in response.output
        if i.type == "function_call"
    ]
    return [*start, *output, *answers]


def joined(chunks: list[Any]) -> Any:
    """Put a message together from its chunks by the SDK's own helper."""
    from openai.lib.streaming.chat._completions import ChatCompletionStreamState

    state: Any = ChatCompletionStreamState()
    for chunk in chunks:
        list(state.handle_chunk(chunk))
    return state.get_final_completion().choices[0].message


@every_way
@pytest.mark.parametrize("via", ["object", "dict"])
def test_calls_of_ours_beside_the_callers_are_run_once_and_go_back_with_the_conversation(
    way: str, via: str, serve: Any, patched: Any
) -> None:
    asked: list[int] = []

    def count(a: int) -> int:
        """Count."""
        asked.append(a)
        return a + 1

    count.__name__ = "add"
    server = serve(ask(("add", {"a": 7}), text="Before."), MIXED, "done")
    client = patched(server, asynchronous=way.startswith("async"), tools=[count])
    outcome = call(way, client, tools=[own_tool(way)])
    assert [c[:2] for c in calls_of(way, outcome)] == [("call_2", "mine"), ("call_4", "mine")]
    assert sorted(asked) == [1, 2, 7]
    conversation = sent_on(way, outcome, via)
    if way.startswith("async"):
        client = patched(server, asynchronous=True, tools=[count])
    again = call(
        way, client, **{"messages" if "chat" in way else "input": conversation}, tools=[own_tool(way)]
    )
    assert text_of(way, again) == "done"
    assert sorted(asked) == [1, 2, 7]
    sent = server.requests[2]
    assert "agentd" not in json.dumps(sent)
    assert results(sent)[0] == ("call_1", "8")
    assert sorted(results(sent)[1:]) == [
        ("call_1", "2"), ("call_2", "mine call_2"), ("call_3", "3"), ("call_4", "mine call_4"),
    ]  # fmt: skip
    assert "Before." in json.dumps(sent)
    if "chat" in way:
        answer = sent["messages"][3]
        assert answer["content"] == "Both."
        assert [c["id"] for c in answer["tool_calls"]] == ["call_1", "call_2", "call_3", "call_4"]
        assert sent["messages"][:3] == server.requests[1]["messages"]
    else:
        assert [i["call_id"] for i in sent["input"] if i.get("type") == "function_call"] == [
            "call_1", "call_1", "call_2", "call_3", "call_4",
        ]  # fmt: skip
        assert not any(i.get("type") == "mcp_call" for i in sent["input"])
        begun = server.requests[1]["input"]
        assert sent["input"][: len(begun)] == begun


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_outputs_of_ours_are_sent_when_the_caller_goes_on_by_the_responses_id(
    mode: str, serve: Any, patched: Any
) -> None:
    server = serve(MIXED, "done")
    client = patched(server, tools=[add])
    own = [OWN_RESPONSES]
    given: dict[str, Any] = {"model": "m", "tools": own}
    made = client.responses.create(input="go", stream=mode == "stream", **given)
    id = list(made)[-1].response.id if mode == "stream" else made.id
    mine = [{"type": "function_call_output", "call_id": c, "output": "x"} for c in ("call_2", "call_4")]
    client.responses.create(input=mine, previous_response_id=id, **given)
    sent = server.requests[1]
    assert sent["previous_response_id"] == "resp_1"
    assert results(sent) == [("call_1", "2"), ("call_3", "3"), ("call_2", "x"), ("call_4", "x")]


def test_a_conversation_kept_by_the_provider_gets_the_outputs_of_ours(serve: Any, patched: Any) -> None:
    server = serve(ask(("add", {"a": 1})), MIXED, "done", "and on")
    client = patched(server, tools=[add])
    given: dict[str, Any] = {"model": "m", "tools": [OWN_RESPONSES], "conversation": "conv_1"}
    client.responses.create(input="go", **given)
    assert [i["type"] for i in server.requests[1]["input"]] == ["function_call_output"]
    mine = [{"type": "function_call_output", "call_id": c, "output": "x"} for c in ("call_2", "call_4")]
    client.responses.create(input=mine, **given)
    assert [c for c, _ in results(server.requests[2])] == ["call_1", "call_3", "call_2", "call_4"]
    client.responses.create(input="more", **given)
    assert server.requests[3]["input"] == [{"role": "user", "content": "more"}]


@every_way
def test_an_answer_that_is_sent_on_brings_the_results_with_it(way: str, serve: Any, patched: Any) -> None:
    outcome, _ = run(way, serve, patched, ask(("add", {"a": 41})), "It is 42.")
    server = serve("ok")
    client = patched(server, asynchronous=way.startswith("async"), tools=[add])
    if "chat" in way:
        message = outcome.whole.choices[0].message if outcome.whole else joined(outcome.items)
        given: dict[str, Any] = {"messages": [{"role": "user", "content": "go"}, message]}
    else:
        response = outcome.whole or outcome.items[-1].response
        assert response.output_text == "It is 42."
        given = {"input": [{"role": "user", "content": "go"}, *response.output]}
    call(way, client, **given)
    assert results(server.requests[0]) == [("call_1", "42")]
    assert json.dumps(server.requests[0]).count("It is 42.") == 1


def test_the_sdks_own_call_through_a_patched_client_gets_no_field_of_ours(serve: Any, patched: Any) -> None:
    outcome, _ = run("sync-chat-whole", serve, patched, ask(("add", {"a": 41})), "It is 42.")
    server = serve("ok", "ok")
    client = patched(server, tools=[])
    message = outcome.whole.choices[0].message
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}, message])
    assert "agentd" not in server.bodies[0].decode()
    client.responses.create(model="m", input="go", include=["tool_call.results"])
    assert "include" not in server.requests[1]
