"""Code that asks models: one, five hundred, some that fail, a budget that ends in the middle."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError
from agentd.events import CodeStart, RunEnd, ToolCall
from agentd.types import Budgets
from agentd_subagents import models_from_code
from fake_openai import Answer
from nested_play import Play, only_output, opened

pytestmark = pytest.mark.anyio

MANY = """
from lib.tools import ask_models
found = ask_models([f"snippet {i}" for i in range(500)])
print([i for i, one in enumerate(found) if one["error"]])
print(found[0]["answer"], found[499]["answer"])
print(found[7]["error"] or "")
"""


async def test_a_model_is_asked_over_the_session_s_own_client_and_the_tools_say_how(tmp_path: Path) -> None:
    code = "from lib.tools import ask_model\nprint(ask_model('this', system='be short', max_tokens=9))"
    with Play(code) as server:
        session = opened(server, tmp_path, models={"model": "cheap"}, model_options={"temperature": 0.5})
        assert await only_output(session) == "about this\n"
        (asked,) = server.asked("cheap")
        assert asked["messages"][0] == {"role": "system", "content": "be short"}
        assert (asked["max_tokens"], asked["temperature"]) == (9, 0.5)
        skill = (tmp_path / "skills" / "models" / "SKILL.md").read_text()
        assert "ask_models" in skill
        assert session.transcript.usage.requests == 3


async def test_three_of_five_hundred_fail_and_the_others_are_there_in_order(tmp_path: Path) -> None:
    def question(prompt: str) -> Any:
        number = int(prompt.split()[-1])
        return Answer(status=400, text=f"no {number}") if number in (7, 77, 477) else f"topic {number}"

    with Play(MANY, question=question) as server:
        before = threading.active_count()
        session = opened(server, tmp_path, models={"model": "cheap"})
        async with session:
            events = [event async for event in session.run("go")]
            ours = {t.name for t in threading.enumerate() if "process_request_thread" not in t.name}
        output = session.transcript.executions[0].output
        assert output.startswith("[7, 77, 477]\ntopic 0 topic 499\nmodel 'cheap'")
        assert "no 7" in output
        calls = [event for event in events if isinstance(event, ToolCall)]
        assert [(call.name, call.status) for call in calls] == [("ask_models", "completed")]
        assert session.usage.requests == 2 + 497
        assert session.cost_usd == pytest.approx(0.2001 * 499)
        assert len(ours) - before < 20, "a thread for each question"


async def test_five_hundred_threads_of_one_block_ask_within_the_bound(tmp_path: Path) -> None:
    code = """
from concurrent.futures import ThreadPoolExecutor
from lib.tools import ask_model
with ThreadPoolExecutor(100) as pool:
    found = list(pool.map(lambda i: ask_model(f"snippet {i}"), range(500)))
print(len(found), found[499])
"""
    now, most, lock = [0], [0], threading.Lock()

    class Counting(Play):
        def _decide(self, request: dict[str, Any]) -> Answer:
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            try:
                return super()._decide(request)
            finally:
                with lock:
                    now[0] -= 1

    with Counting(code) as server:
        output = await only_output(opened(server, tmp_path, models={"model": "cheap", "parallel": 4}))
    assert output == "500 about snippet 499\n"
    assert most[0] <= 4


async def test_a_budget_that_is_spent_in_the_middle_ends_the_questions_and_then_the_run(
    tmp_path: Path,
) -> None:
    with Play(MANY, question=lambda prompt: "yes") as server:
        session = opened(
            server, tmp_path, models={"model": "cheap"}, budgets=Budgets(max_cost_usd=2.1)
        )  # 0.2 for the run's own answer, then 0.2 each
        async with session:
            end = await session.ask("go")
        asked = len(server.asked("cheap"))
    output = session.transcript.executions[0].output
    failed = json.loads(output.splitlines()[0])
    assert end.stop_reason == "cost"
    assert session.cost_usd is not None
    assert session.cost_usd <= 2.1 + 0.2  # the last answer's price
    assert asked == 500 - len(failed)
    assert asked == 10


async def test_without_a_price_nothing_is_asked_under_a_money_budget(tmp_path: Path) -> None:
    code = "from lib.tools import ask_model\ntry:\n    ask_model('x')\nexcept Exception as e:\n    print(e)"
    with Play(code) as server:
        session = opened(server, tmp_path, models={"model": "other"}, budgets=Budgets(max_cost_usd=9))
        assert "'other' was not asked: the run has a money budget, and no price of it is known" in (
            await only_output(session)
        )
        assert server.asked("other") == []


async def test_a_cost_says_how_many_requests_come_on_top_whose_price_is_unknown(tmp_path: Path) -> None:
    code = """
from lib.tools import ask_models, spawn_agent
print(len(ask_models(["x", "y", "z"])), spawn_agent("w")["answer"])
"""
    with Play(code, agent=lambda task, results: "well") as server:
        session = opened(server, tmp_path, models={"model": "unpriced"})
        async with session:
            events = [event async for event in session.run("go")]
    assert session.transcript.executions[0].output == "3 well\n"
    end = events[-1]
    assert isinstance(end, RunEnd)
    assert (end.usage.requests, end.usage.unpriced_requests) == (6, 4)
    assert end.usage.cost_usd == pytest.approx(0.4, abs=0.01)


async def test_no_agent_of_a_model_without_a_price_is_started_under_a_money_budget(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, spawn_agent
try:
    spawn_agent("x")
except ToolError as error:
    print(error)
"""
    with Play(code) as server:
        models = {"model": "unpriced"}
        session = opened(server, tmp_path, models=models, budgets=Budgets(max_cost_usd=9.0))
        assert "max_cost_usd: no price of 'unpriced' is known" in await only_output(session)
        assert server.asked("unpriced") == []


async def test_tokens_of_the_run_that_are_used_up_end_the_questions(tmp_path: Path) -> None:
    with Play(MANY) as server:
        session = opened(
            server, tmp_path, models={"model": "cheap", "parallel": 1}, budgets=Budgets(max_tokens=1100)
        )
        async with session:
            end = await session.ask("go")
        assert end.stop_reason == "tokens"
        assert len(server.asked("cheap")) == 9  # the run's own answer had 110, too


async def test_an_answer_that_is_not_json_is_asked_for_again_and_then_an_error(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, ask_model
schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
print(ask_model("good", schema=schema))
try:
    ask_model("bad", schema=schema)
except ToolError as error:
    print(error)
"""
    tries = {"good": 0, "bad": 0}
    word = ["good"]

    def question(prompt: str) -> str:
        word[0] = next((w for w in tries if prompt.startswith(w)), word[0])
        tries[word[0]] += 1
        return '{"n": 3}' if word[0] == "good" and tries["good"] > 1 else "well, three"

    with Play(code, question=question) as server:
        output = await only_output(opened(server, tmp_path, models={"model": "cheap"}))
    assert output.startswith("{'n': 3}\nthe answer does not have its form: it is no JSON")
    assert tries == {"good": 2, "bad": 2}
    assert session_formats(server.asked("cheap")) == ["json_schema"] * 4


def session_formats(requests: list[dict[str, Any]]) -> list[str]:
    return [request.get("response_format", {}).get("type", "") for request in requests]


async def test_an_answer_that_was_cut_is_no_answer(tmp_path: Path) -> None:
    code = "from lib.tools import ask_models\nprint(ask_models(['x'], max_tokens=3))"
    with Play(code, question=lambda _: Answer(text="and then", finish="length")) as server:
        output = await only_output(opened(server, tmp_path, models={"model": "cheap"}))
    assert "the answer of 'cheap' was cut off at the token limit" in output


async def test_code_names_only_the_models_that_it_was_given(tmp_path: Path) -> None:
    code = """
from lib.tools import ask_model
print(ask_model("x", model="strong"))
try:
    ask_model("x", model="m")
except TypeError as error:
    print(error)
"""
    with Play(code) as server:
        models = {"model": "cheap", "models": ["strong"]}
        output = await only_output(opened(server, tmp_path, models=models))
        assert [r["model"] for r in server.requests] == ["m", "strong", "m"]
    assert output.startswith("about x\nmodel: 'm' is not one that this session lets code ask")
    assert "there are: 'cheap', 'strong'" in output


async def test_without_a_name_the_run_s_own_model_is_asked(tmp_path: Path) -> None:
    code = "from lib.tools import ask_model\nprint(ask_model('x'))"
    with Play(code) as server:
        assert await only_output(opened(server, tmp_path)) == "about x\n"
        assert [r["model"] for r in server.requests] == ["m", "m", "m"]


async def test_another_provider_s_model_has_a_client_of_its_own_which_all_questions_share(
    tmp_path: Path,
) -> None:
    with Play(MANY) as server, Play("", question=lambda prompt: "from there") as other:
        spec = ("far", {"base_url": other.base_url, "api_key": "none"})
        output = await only_output(opened(server, tmp_path, models={"model": spec}))
        assert len(other.requests) == 500
        assert len(server.requests) == 2
    assert output.startswith("[]\nfrom there from there")


class SentRequests(logging.Handler):
    """Counts the requests that are sent, by whatever client of httpx.

    :ivar begun: how many it has begun to send.
    :ivar sent: how many it has sent whole.
    :ivar connecting: set when a second connection is made: the first question's, or that of one behind it.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.begun = self.sent = self._connections = 0
        self.connecting = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        self.begun += said.startswith("send_request_body.started")
        self.sent += said.startswith("send_request_body.complete")
        self._connections += said.startswith("connect_tcp.started")
        if self._connections > 1:
            self.connecting.set()


@pytest.fixture
def requests() -> Iterator[SentRequests]:
    handler = SentRequests()
    names = [f"{name}.{part}" for name in ("httpcore", "httpcore2") for part in ("connection", "http11")]
    logs = [logging.getLogger(name) for name in names]  # by the SDK's version
    for log in logs:
        log.addHandler(handler)
        log.setLevel(logging.DEBUG)
    yield handler
    for log in logs:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


@pytest.mark.parametrize("when", ["the model has been asked", "a connection is made"])
async def test_cancelling_while_five_hundred_are_asked_leaves_nothing(
    tmp_path: Path, requests: SentRequests, when: str
) -> None:
    gate = threading.Event()
    asked = threading.Event()
    begun = asked if when == "the model has been asked" else requests.connecting

    def question(prompt: str) -> Any:
        asked.set()
        gate.wait()
        return "late"

    with Play(MANY, question=question) as server:
        async with opened(server, tmp_path, models={"model": "cheap", "parallel": 16}) as session:
            run = session.run("go")
            async for event in run:
                if isinstance(event, CodeStart):
                    break
            with anyio.fail_after(60):
                await anyio.to_thread.run_sync(begun.wait)
                await run.aclose()
            under_way = requests.begun - 1  # the first was the run's own
            gate.set()
            assert (await session.ask("again")).text == "done"  # the client still works
            assert requests.sent - len(server.asked("m")) <= under_way  # none that was begun after the end
            assert len(server.asked("cheap")) <= under_way <= 16


async def test_the_policy_is_asked_about_questions_and_agents_as_about_any_tool(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolDeniedError, ask_model, spawn_agent
print(ask_model("x"))
try:
    spawn_agent("y")
except ToolDeniedError as error:
    print(error)
"""
    with Play(code) as server:
        output = await only_output(opened(server, tmp_path, policy="read-only"))
    assert output.startswith("about x\nspawn_agent() was denied")


async def test_a_model_that_is_called_natively_asks_as_well(tmp_path: Path) -> None:
    def question(prompt: str) -> str:
        return "an answer"

    with Play("", question=question) as server:
        calls = iter([Answer(calls=[("c1", "ask_model", '{"prompt": "x"}')]), Answer(text="done")])
        play = server._decide
        server.decide = lambda request: next(calls) if request.get("tools") else play(request)
        session = opened(server, tmp_path, mode="tools")
        async with session:
            events = [event async for event in session.run("go")]
    assert isinstance(events[-1], RunEnd)
    assert events[-1].text == "done"
    results = [call.output for m in session.transcript.messages for call in m.calls if call.output]
    assert results == ["an answer"]
    assert session.usage.requests == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"depth": -1}, "depth: must be at least 0, got -1"),
        ({"width": 0}, "width: must be at least 1"),
        ({"timeout_s": 0}, "timeout_s: must be above 0"),
        ({"models": [3]}, "models: names must be texts"),
        ({"model": 3}, "models_from_code: model: must be a plugin's name or a pair"),
        ({"budgets": {"max_turn": 3}}, "unknown option 'max_turn'"),
        ({"budgets": {"max_turns": 0}}, "max_turns: must be above 0"),
    ],
)
async def test_settings_that_mean_nothing_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        models_from_code(**given)
