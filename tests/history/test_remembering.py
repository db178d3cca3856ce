"""A session's memory: what is sent stays within the limit, changes rarely, and the transcript keeps everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError, ContextLengthError, ModelError
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall
from agentd.session.session import Session
from agentd.turn.spending import Spending, around
from agentd.turn.transcript import Message, Transcript
from agentd.types import Budgets, Usage
from agentd_history import History
from agentd_history.bounding import tokens, without_long_results
from agentd_history.model import ask_apart
from fake_openai import Answer, FakeOpenAI

pytestmark = pytest.mark.anyio

Told = list[tuple[str, str]]


class NotedModel:
    """Answers at once, and keeps what it was told at each request."""

    name = "noted"

    def __init__(
        self, answer: Callable[[int], str] = lambda number: f"Answer {number}. " + "a" * 150
    ) -> None:
        self.answer = answer
        self.messages: Told = []
        self.requests: list[Told] = []
        self.fails: dict[int, Exception] = {}

    def start(self, instructions: str) -> None:
        self.messages.append(("system", instructions))

    def offer(self, tools: object) -> None:
        """Nothing is offered here."""

    def add_task(self, text: str) -> None:
        self.messages.append(("task", text))

    def add_answer(self, text: str, calls: Any = ()) -> None:
        self.messages.append(("answer", text))

    def add_results(self, text: str) -> None:
        self.messages.append(("results", text))

    def reset(self) -> None:
        self.messages = []

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        number = len(self.requests)
        self.requests.append(list(self.messages))
        if number in self.fails:
            raise self.fails[number]
        yield self._events(self.answer(number))

    async def _events(self, text: str) -> AsyncIterator[ModelEvent]:
        yield ModelText(text)
        yield ModelFinish(reason="stop", usage=Usage(input_tokens=10, output_tokens=1, requests=1))


def size(told: Told) -> int:
    return sum(len(text) // 4 for role, text in told if role != "system")


def cuts(requests: list[Told]) -> int:
    """Count the requests that do not begin with the one before."""
    return sum(later[: len(before)] != before for before, later in pairwise(requests))


async def talk(model: NotedModel, history: History, turns: int, cwd: Path) -> Transcript:
    async with Session(
        model, cwd=cwd, mode="tools", tools=(), instructions="Be brief.", history=history
    ) as session:
        for number in range(turns):
            await session.ask(f"task {number} " + "t" * 150)
        return session.transcript


@pytest.mark.parametrize("rule", ["drop", "summarise"])
async def test_two_hundred_turns_stay_within_the_limit_and_are_cut_rarely(rule: Any, tmp_path: Path) -> None:
    model, summariser = NotedModel(), NotedModel(lambda number: f"Summary {number}.")
    history = History(rule=rule, max_tokens=2_000, open_summariser=lambda: summariser)
    transcript = await talk(model, history, 200, tmp_path)
    assert len(model.requests) == 200
    for number, request in enumerate(model.requests):
        assert size(request) <= 2_000
        assert request[0] == ("system", "Be brief.")
        newest = [text.split()[1] for role, text in request if role == "task" and text.startswith("task ")][
            -3:
        ]
        assert newest == [str(n) for n in range(max(0, number - 2), number + 1)]
    assert 8 <= cuts(model.requests) <= 20  # a task has 80 tokens, so some 13 fill half of the limit
    assert bool(summariser.requests) == (rule == "summarise")
    if rule == "summarise":
        assert any("Summary" in text for _, text in model.requests[-1])
    assert [m.content.split()[1] for m in transcript.messages if m.role == "task"] == [
        str(n) for n in range(200)
    ]
    assert len(transcript.messages) == 400


async def test_the_results_of_old_turns_of_one_long_task_are_shortened_and_the_newest_stay_whole(
    tmp_path: Path,
) -> None:
    block = "```bash:execute\nprintf '%s\\n' {block}; printf '%04000d' 0\n```\n"
    model = NotedModel(
        lambda number: block.replace("{block}", f"result-{number}") if number < 30 else "Done."
    )
    async with Session(
        model,
        cwd=tmp_path,
        executor="subprocess",
        tools=(),
        budgets=Budgets(max_turns=40),
        history=History(rule="shorten", max_tokens=8_000),
    ) as session:
        end = await session.ask("go")
    assert (end.stop_reason, end.turns) == ("answer", 31)
    for request in model.requests:
        assert size(request) <= 8_000
        results = [text for role, text in request if role == "results"]
        assert all(len(text) > 4_000 for text in results[-2:])
        assert all(f"result-{n}" in text for n, text in enumerate(results))  # the head of each is there
        assert request[1] == ("task", "go")
    assert 2 <= cuts(model.requests) <= 8
    assert all(len(e.output) > 4_000 for e in session.transcript.executions)


async def test_a_provider_that_finds_it_too_long_is_asked_once_more_with_less(tmp_path: Path) -> None:
    model = NotedModel()
    model.fails[4] = ContextLengthError("too long")
    transcript = await talk(model, History(), 5, tmp_path)
    tasks = [[text.split()[1] for role, text in request if role == "task"] for request in model.requests]
    assert tasks[4:] == [["0", "1", "2", "3", "4"], ["3", "4"]]
    assert [m.role for m in transcript.messages] == ["task", "answer"] * 5

    model = NotedModel()
    model.fails |= {4: ContextLengthError("too long"), 5: ContextLengthError("still too long")}
    with pytest.raises(ContextLengthError, match="still"):
        await talk(model, History(), 5, tmp_path)
    assert len(model.requests) == 6

    model = NotedModel()
    model.fails[1] = ContextLengthError("too long")  # what must stay is too long already
    with pytest.raises(ContextLengthError):
        await talk(model, History(), 2, tmp_path)
    assert len(model.requests) == 2


async def test_keep_cuts_nothing(tmp_path: Path) -> None:
    model = NotedModel()
    await talk(model, History(rule="keep", max_tokens=100), 20, tmp_path)
    assert cuts(model.requests) == 0
    assert size(model.requests[-1]) > 1_000


async def test_a_conversation_that_is_continued_or_rewound_is_bounded_as_well(tmp_path: Path) -> None:
    transcript = await talk(NotedModel(), History(rule="keep"), 60, tmp_path)
    model = NotedModel()
    history = History(max_tokens=1_000)
    async with Session(
        model, cwd=tmp_path, mode="tools", tools=(), history=history, transcript=transcript
    ) as session:
        await session.ask("task 60")
        assert await session.forget_last() == "task 60"
        await session.ask("task 61")
    assert len(model.requests) == 2
    assert all(size(request) <= 1_000 for request in model.requests)
    assert [request[-1][1] for request in model.requests] == ["task 60", "task 61"]


@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_calls_and_their_results_stay_together(api: Any, tmp_path: Path) -> None:
    def fetch(number: int) -> str:
        """Return a long text."""
        return f"text {number} " + "x" * 2_000

    def decide(request: dict[str, Any]) -> Answer:
        said = request["messages"] if api == "chat" else request["input"]
        if said[-1].get("role") == "user":
            number = int(said[-1]["content"].split()[1])
            return Answer(calls=[(f"call_{number}", "fetch", f'{{"number": {number}}}')])
        return Answer(text="Done.")

    with FakeOpenAI() as server:
        server.decide = decide
        async with Session(
            "m",
            base_url=server.base_url,
            api_key="none",
            api=api,
            cwd=tmp_path,
            mode="tools",
            tools=[fetch],
            history=History(max_tokens=3_000),
        ) as session:
            for number in range(20):
                assert (await session.ask(f"task {number}")).text == "Done."
    assert len(server.requests) == 40
    for request in server.requests:
        assert [t.get("name") or t["function"]["name"] for t in request["tools"]] == ["fetch"]
        if api == "chat":
            made = [c["id"] for m in request["messages"] for c in m.get("tool_calls") or ()]
            answered = [m["tool_call_id"] for m in request["messages"] if m["role"] == "tool"]
        else:
            made = [i["call_id"] for i in request["input"] if i.get("type") == "function_call"]
            answered = [i["call_id"] for i in request["input"] if i.get("type") == "function_call_output"]
        assert made == answered
    assert "text 19" in str(server.requests[-1])


async def test_a_summary_is_written_by_the_session_s_own_model_and_is_part_of_the_cost(
    tmp_path: Path,
) -> None:
    with FakeOpenAI("Said.", repeat=True) as server:
        async with Session(
            "m",
            base_url=server.base_url,
            api_key="none",
            cwd=tmp_path,
            mode="tools",
            tools=(),
            prices={"m": (1_000.0, 10_000.0)},
            history=History(rule="summarise", max_tokens=2_000, keep_turns=1),
        ) as session:
            ends = [await session.ask(f"task {number} " + "t" * 2_000) for number in range(6)]
    written = [r for r in server.requests if "about to be removed from its memory" in str(r)]
    assert written
    assert sum(end.usage.requests for end in ends) == len(server.requests) == 6 + len(written)
    assert session.cost_usd == pytest.approx(0.2 * len(server.requests))


async def test_a_summary_that_cannot_be_written_does_not_hold_up_the_conversation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = NotedModel()  # an object: there is no second one like it
    await talk(model, History(rule="summarise", max_tokens=2_000), 40, tmp_path)
    assert len(model.requests) == 40
    assert all(size(request) <= 2_000 for request in model.requests)
    assert "open_summariser" in caplog.text


@pytest.mark.parametrize("rule", ["shorten", "drop", "summarise"])
@pytest.mark.parametrize("keep_turns", [0, 1])
@pytest.mark.parametrize("max_tokens", [1, 300])
async def test_the_newest_task_and_its_newest_results_are_always_told(
    rule: Any, keep_turns: int, max_tokens: int, tmp_path: Path
) -> None:
    block = "```bash:execute\nseq -s ' ' 1 1000; echo the end\n```\n"
    model = NotedModel(lambda number: "Done." if number % 2 else block)
    history = History(rule=rule, max_tokens=max_tokens, keep_turns=keep_turns)
    async with Session(
        model, executor="subprocess", cwd=tmp_path, instructions="Be brief.", history=history
    ) as session:
        for number in range(3):
            await session.ask(f"task {number} " + "t" * 2_000)
    for number, told in enumerate(model.requests):
        assert told[0][0] == "system"
        assert any(role == "task" and text.startswith(f"task {number // 2} ") for role, text in told)
        if number % 2:
            assert "998 999 1000" in told[-1][1]
            assert "500 501" in told[-1][1]


def test_results_of_so_many_turns_stay_whole_even_if_there_are_fewer() -> None:
    messages = [Message("results", f"[result 1 of 1: bash]\n{'x' * 5_000}") for _ in range(5)]
    for keep_turns in range(10):
        shorter = without_long_results(Transcript(messages=list(messages)), 1, keep_turns)
        whole = messages if shorter is None else [m for m in shorter.messages if m in messages]
        assert len(whole) == min(keep_turns, 5)


async def test_a_summary_that_the_money_budget_does_not_allow_is_not_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOpenAI("Said.", repeat=True) as server:
        async with Session(
            "m",
            base_url=server.base_url,
            api_key="none",
            cwd=tmp_path,
            mode="tools",
            tools=(),
            prices={"m": (1_000.0, 10_000.0)},
            budgets=Budgets(max_cost_usd=1.2),
            history=History(rule="summarise", max_tokens=2_000, keep_turns=1),
        ) as session:
            ends = [await session.ask(f"task {number} " + "t" * 2_000) for number in range(6)]
    assert not [r for r in server.requests if "about to be removed from its memory" in str(r)]
    assert [end.stop_reason for end in ends] == ["answer"] * 6
    assert all(end.usage.cost_usd is not None and end.usage.cost_usd <= 1.2 for end in ends)
    assert "are left of max_cost_usd, and a request to 'm' would cost more than that" in caplog.text


async def test_a_summary_whose_usage_is_not_told_is_counted_by_estimate() -> None:
    class Silent(NotedModel):
        async def _events(self, text: str) -> AsyncIterator[ModelEvent]:
            yield ModelText(text)
            raise ConnectionError("broken off")

        def estimate(self, text: str) -> Usage:
            return Usage(output_tokens=len(text), requests=1, cost_usd=0.5)

    spending = Spending(1.0)
    token = around.set(spending)
    try:
        with pytest.raises(ModelError, match="has no known price"):
            await ask_apart(NotedModel(), "Sum it up.")
        assert spending.requests == []
        spending.max_cost_usd = None
        with pytest.raises(ConnectionError):
            await ask_apart(Silent(), "Sum it up.")
    finally:
        around.reset(token)
    assert spending.total().cost_usd == 0.5


async def test_what_cannot_be_a_history_is_refused(tmp_path: Path) -> None:
    class Forgetless(NotedModel):
        reset = None  # type: ignore[assignment]

    del Forgetless.reset
    with pytest.raises(ConfigError, match="must be a History of agentd-history, got 'drop'"):
        async with Session(NotedModel(), cwd=tmp_path, history="drop"):
            pass
    with pytest.raises(
        ConfigError, match=r"History\.rule: must be one of 'keep', 'shorten', .* got 'forget'"
    ):
        History(rule="forget")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"History\.max_tokens: must be a whole number from 1 on, got 0"):
        History(max_tokens=0)
    with pytest.raises(ConfigError, match=r"History\.keep_turns: must be a whole number from 0 on, got True"):
        History(keep_turns=True)


def test_a_picture_and_a_call_that_are_told_anew_are_the_same() -> None:
    model = NotedModel()
    history = History(max_tokens=10, keep_turns=0).over(lambda: model)
    with pytest.raises(ConfigError, match="takes text alone"):
        history.add_parts([{"type": "text", "text": "x"}])  # type: ignore[attr-defined]
    history.add_answer("", [ModelToolCall(id="1", name="f")])
    assert model.messages == [("answer", "")]


def test_only_long_results_are_shortened_the_oldest_first_and_no_more_than_is_needed() -> None:
    transcript = Transcript()
    for number in range(4):
        transcript.add("task", f"task {number}")
        transcript.add("results", f"{number}" + "x" * 3_999)
    whole = tokens(transcript.messages)
    one = without_long_results(transcript, whole - 1, 2)
    assert one is not None
    assert [len(m.content) > 600 for m in one.messages if m.role == "results"] == [False, True, True, True]
    most = without_long_results(transcript, 0, 2)
    assert most is not None
    assert [len(m.content) > 600 for m in most.messages if m.role == "results"] == [False, False, True, True]
    every = without_long_results(transcript, 0, 0)
    assert every is not None
    assert all(len(m.content) < 600 for m in every.messages)
    assert without_long_results(transcript, 0, 9) is None
    assert without_long_results(transcript, whole, 0) is None
    assert len(transcript.messages[1].content) == 4_000


async def test_results_that_were_shortened_already_do_not_make_it_cut_in_every_turn() -> None:
    history, told, moments = History(max_tokens=5_000), Transcript(), []
    for number in range(120):
        told.messages += [Message("task", f"task {number}"), Message("answer", "a block")]
        told.messages += [Message("results", "r" * 2_000), Message("answer", "done")]
        shorter = await history.shorter(told)
        if shorter is not None:
            assert tokens(shorter.messages) <= 2_600  # half, and what must stay
            told = shorter
            moments.append(number)
    assert len(moments) > 10
    assert min(later - before for before, later in pairwise(moments)) >= 4
