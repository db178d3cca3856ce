"""How an answer ends that is none: refused, cut, broken off by the provider, paused, empty. In sessions and in each
way of calling a patched client."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ContextLengthError, ModelError
from agentd.session.sync import SyncSession
from agentd.turn.reading import end_of
from agentd.types import Budgets
from fake_openai import Answer, FakeOpenAI
from ways import WAYS, call, text_of

BLOCK = "```bash:execute\necho one\n```\n"
CHAT = [w for w in WAYS if "chat" in w]
RESPONSES = [w for w in WAYS if "responses" in w]


def stop_reason(way: str, outcome: Any) -> str:
    if way.endswith("whole"):
        return str(outcome.whole.agentd["stop_reason"])
    return str(outcome.items[-1].agentd[-1]["stop_reason"])


def finish_reason(outcome: Any) -> str:
    choice = (outcome.items[-1] if outcome.items else outcome.whole).choices[0]
    return str(choice.finish_reason)


@pytest.mark.parametrize(
    ("word", "stop", "finish"),
    [
        ("stop", "answer", "stop"),
        ("eos", "answer", "stop"),
        ("refusal", "refused", "content_filter"),
        ("content_filter", "refused", "content_filter"),
        ("SAFETY", "refused", "content_filter"),
        ("length", "cut", "length"),
        ("model_length", "cut", "length"),
        ("error", "provider_error", "length"),
        ("network_error", "provider_error", "length"),
        ("insufficient_system_resource", "provider_error", "length"),
    ],
)
@pytest.mark.parametrize("way", CHAT)
def test_each_word_has_its_stop_reason_and_one_that_the_sdk_knows(
    way: str, word: str, stop: str, finish: str, serve: Any, patched: Any
) -> None:
    server = serve(BLOCK, Answer(text="Some of it", finish=word))
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    assert stop_reason(way, outcome) == stop
    assert finish_reason(outcome) == finish
    assert text_of(way, outcome) == "Some of it"
    assert len(server.requests) == 2


@pytest.mark.parametrize(("word", "stop"), [("content_filter", "refused"), ("max_output_tokens", "cut")])
@pytest.mark.parametrize("way", RESPONSES)
def test_an_incomplete_response_has_its_stop_reason(
    way: str, word: str, stop: str, serve: Any, patched: Any
) -> None:
    server = serve(BLOCK, Answer(text="Some of it", finish=word))
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    response = outcome.items[-1].response if outcome.items else outcome.whole
    assert (response.status, response.incomplete_details.reason) == ("incomplete", word)
    assert stop_reason(way, outcome) == stop


@pytest.mark.parametrize("way", CHAT)
def test_a_paused_answer_goes_on(way: str, serve: Any, patched: Any) -> None:
    server = serve(Answer(text="I search. ", finish="pause_turn"), "Found it.")
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    assert stop_reason(way, outcome) == "answer"
    assert server.requests[1]["messages"][-1] == {"role": "assistant", "content": "I search. "}
    assert text_of(way, outcome) == "Found it."


@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.parametrize("way", WAYS)
def test_an_empty_answer_is_asked_for_again_once(way: str, text: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK, text, "The answer.")
    outcome = call(way, patched(server, asynchronous=way.startswith("async")))
    assert text_of(way, outcome) == "The answer."
    assert len(server.requests) == 3


@pytest.mark.parametrize("way", WAYS)
def test_two_empty_answers_are_an_error_with_the_providers_word(way: str, serve: Any, patched: Any) -> None:
    word = "malformed_function_call" if "chat" in way else None
    server = serve(BLOCK, Answer(finish=word), Answer(finish=word), "never")
    with pytest.raises(ModelError, match=f"answered nothing, twice: .*'{word or 'stop'}'") as caught:
        call(way, patched(server, asynchronous=way.startswith("async")))
    assert [e["output"] for e in caught.value.agentd["executions"]] == ["one\n"]  # type: ignore[attr-defined]
    assert len(server.requests) == 3


def test_an_empty_answer_that_was_cut_or_refused_is_not_asked_for_again(tmp_path: Path) -> None:
    script = [Answer(finish="length"), Answer(finish="content_filter"), "Fine."]
    with FakeOpenAI(*script) as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        with SyncSession("m", **settings) as session:
            ends = [session.ask(f"task {n}") for n in range(3)]
        assert [e.stop_reason for e in ends] == ["cut", "refused", "answer"]
        assert ends[1].error == "the provider ended the answer with 'content_filter'"
        told = [m["content"] for m in server.requests[2]["messages"][1:]]
        assert told == ["task 0", "task 2"]
    assert [m.role for m in session.transcript.messages] == ["task", "withdrawn", "task", "answer"]


def refusal_in(api: str) -> list[dict[str, Any]]:
    if api == "chat":
        base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        deltas = [{"role": "assistant", "refusal": "I can"}, {"refusal": "not do that."}, {}]
        return [
            {**base, "choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}]}
            for d in deltas
        ]
    part = {"type": "refusal", "refusal": "I cannot do that."}
    message = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    response = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    return [
        {"type": "response.created", "response": {**response, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**message, "content": []}},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": {**response, "output": [message]}},
    ]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_refusal_in_place_of_the_text_is_told(api: str, tmp_path: Path) -> None:
    with FakeOpenAI(Answer(pieces=refusal_in(api)), "Fine.") as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        with SyncSession("m", api=api, **settings) as session:
            end = session.ask("Something bad.")
    assert (end.stop_reason, end.error) == ("refused", "the model refuses: I cannot do that.")


def test_an_answer_that_is_a_picture_is_an_answer(tmp_path: Path) -> None:
    picture = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": "aGk="}
    answer = Answer(items=[picture])
    with FakeOpenAI(answer) as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "cwd": tmp_path,
            "tools": [],
        }
        with SyncSession("m", api="responses", **settings) as session:
            assert session.ask("Draw.").stop_reason == "answer"
        assert len(server.requests) == 1


def test_words_that_nobody_knows_are_ordinary_ends() -> None:
    assert [end_of(w) for w in ("stop", "end_turn", "", "unheard_of")] == ["answer"] * 4


@pytest.mark.parametrize("way", WAYS)
def test_a_conversation_that_is_too_long_says_so_with_its_numbers(way: str, serve: Any, patched: Any) -> None:
    error = {
        "message": "too long",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": 5012,
        "n_ctx": 4096,
    }
    server = serve(BLOCK, Answer(status=400, error=error))
    with pytest.raises(ContextLengthError, match="5,012 tokens of 4,096") as caught:
        call(way, patched(server, asynchronous=way.startswith("async")))
    assert isinstance(caught.value, openai.BadRequestError)
    assert (caught.value.tokens, caught.value.limit) == (5012, 4096)


@pytest.mark.parametrize("way", WAYS)
def test_a_model_that_says_nothing_in_time_is_a_timeout(way: str, serve: Any, patched: Any) -> None:
    server, gate = serve(), threading.Event()

    def decide(request: dict[str, Any]) -> Answer:
        gate.wait(60)
        return Answer(text="at last")

    server.decide = decide
    budgets = Budgets(wall_time_s=0.5)
    client = patched(server, asynchronous=way.startswith("async"), budgets=budgets)
    try:
        with pytest.raises(
            openai.APITimeoutError, match=r"'m': nothing of an answer came .* \(0.5 s\)"
        ) as caught:
            call(way, client)
    finally:
        gate.set()
    assert isinstance(caught.value, ModelError)
    assert caught.value.agentd["executions"] == []
