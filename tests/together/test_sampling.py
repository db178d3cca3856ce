"""An MCP server that asks for a model's answer: on the policy and the money of the run whose code has called it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from agentd.events import Approval
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.spending import around
from agentd.types import Budgets
from agentd_subagents import models_from_code
from fake_openai import Answer
from helpers import entry
from nested_play import PRICES, Play, only_output, opened

pytestmark = pytest.mark.anyio
CODE = "from lib.tools import sample\nprint(sample())"


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def session(server: Play, tmp_path: Path, sampling: Any, **settings: Any) -> Session:
    work = tmp_path / "work"
    return opened(server, work, tools=[entry("well", None, sampling=sampling)], **settings)


async def test_what_a_server_asks_is_answered_by_the_run_s_models_and_paid_by_the_run(tmp_path: Path) -> None:
    models = models_from_code(model="cheap")
    with Play(CODE) as server:
        made = session(server, tmp_path, models.sampling, budgets=Budgets(max_cost_usd=50))
        output = await only_output(made)
        (asked,) = server.asked("cheap")
    assert "about Say hi" in output
    assert (asked["messages"][-1]["content"], asked["max_tokens"]) == ("Say hi", 9)
    assert made.usage.requests == 3
    assert made.cost_usd == pytest.approx(0.6, abs=0.01)


async def test_a_budget_that_is_spent_asks_nothing_for_a_server(tmp_path: Path) -> None:
    models = models_from_code(model="cheap")
    with Play(CODE) as server:
        made = session(server, tmp_path, models.sampling, budgets=Budgets(max_cost_usd=0.15))
        output = await only_output(made)  # the run's own answer has cost 0.2
        assert server.asked("cheap") == []
    assert "sampling failed on the client's side" in output


@pytest.mark.parametrize("allowed", [True, False])
async def test_the_policy_is_asked_before_a_model_is(allowed: bool, tmp_path: Path) -> None:
    questions: list[Any] = []
    called: list[Any] = []

    async def approve(question: Any) -> bool:
        questions.append(question.request)
        return allowed

    def complete(request: dict[str, Any]) -> str:
        called.append(request)
        return "hi"

    rules = {"rules": [{"verdict": "allow", "name": "sample"}], "default": "ask"}
    with Play(CODE) as server:
        made = session(server, tmp_path, complete, policy=rules, approver=approve)
        async with made:
            events = [event async for event in made.run("go")]
    assert [(q.kind, q.name, q.source) for q in questions] == [("tool", "sampling", "scripted")]
    assert b"Say hi" in questions[0].content
    assert len(called) == allowed
    output = made.transcript.executions[0].output
    assert ("hi" if allowed else "asking a model was denied") in output
    told = [event for event in events if isinstance(event, Approval) and event.decision]
    assert [(event.name, event.code_id) for event in told] == [("sampling", "run1_code1")]


async def test_what_a_function_says_that_it_has_cost_counts(tmp_path: Path) -> None:
    def complete(request: dict[str, Any]) -> dict[str, Any]:
        content = {"type": "text", "text": "hi"}
        usage = {"input_tokens": 7, "output_tokens": 3, "cost_usd": 0.5}
        return {"role": "assistant", "model": "x", "content": content, "usage": usage}

    with Play(CODE) as server:
        made = session(server, tmp_path, complete, budgets=Budgets(max_cost_usd=50))
        assert "hi" in await only_output(made)
    assert made.cost_usd == pytest.approx(0.9, abs=0.01)
    assert made.usage.input_tokens == 207


@pytest.mark.parametrize("limit", [None, 50.0])
async def test_a_function_that_says_nothing_is_guessed_and_refused_under_a_money_budget(
    limit: float | None, tmp_path: Path
) -> None:
    with Play(CODE) as server:
        made = session(server, tmp_path, lambda request: "hi", budgets=Budgets(max_cost_usd=limit))
        output = await only_output(made)
    assert ("hi" in output) is (limit is None)
    assert made.usage.requests == 3


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_that_asks_a_session_of_its_own_is_counted_once(
    is_async: bool, tmp_path: Path
) -> None:
    threads: list[str] = []
    given: dict[str, Any] = {"api_key": "none", "prices": PRICES, "tools": []}

    def complete(request: dict[str, Any]) -> str:
        threads.append(threading.current_thread().name)
        with SyncSession("cheap", cwd=tmp_path / "inner", base_url=inner.base_url, **given) as session:
            return session.ask("x").text

    async def acomplete(request: dict[str, Any]) -> str:
        async with Session("cheap", cwd=tmp_path / "inner", base_url=inner.base_url, **given) as session:
            return (await session.ask("x")).text

    with Play(CODE) as server, Play("") as inner:
        inner.decide = lambda request: Answer(text="from within")
        made = session(
            server, tmp_path, acomplete if is_async else complete, budgets=Budgets(max_cost_usd=50)
        )
        assert "from within" in await only_output(made)
    assert made.usage.requests == 3
    assert made.cost_usd == pytest.approx(0.6, abs=0.01)


async def test_a_program_that_calls_a_source_itself_is_answered_as_before(tmp_path: Path) -> None:
    from helpers import source

    def complete(request: dict[str, Any]) -> str:
        assert around.get() is None
        return "hi"

    made = source(sampling=complete)
    await made.list_tools()
    assert "hi" in str(await made.call("sample", {}))
    await made.aclose()
