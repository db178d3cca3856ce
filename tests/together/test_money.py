"""The money budget: counted over all that a run causes, and looked at before each request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ConfigError, ModelError
from agentd.events import RunEnd, TurnEnd
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.spending import Spending, around
from agentd.types import Budgets, Usage
from agentd_openai import patch_openai_with_mcp, patch_openai_with_ptc
from fake_openai import Answer, FakeOpenAI
from script_model import ScriptModel
from ways import WAYS, call

PRICES = {"m": (1000.0, 10_000.0)}
"""With the server's 100 + 10 tokens, an answer costs 0.2 dollars, half of it for what was sent."""
AGAIN = "```bash:execute\necho done\n```\n"


def session(server: FakeOpenAI, cwd: Path, max_cost_usd: float | None, **more: Any) -> Session:
    given: dict[str, Any] = {
        "base_url": server.base_url,
        "api_key": "none",
        "tools": (),
        "prices": PRICES,
        **more,
    }
    return Session("m", cwd=cwd, budgets=Budgets(max_cost_usd=max_cost_usd), **given)


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_run_ends_before_the_request_that_would_cost_too_much(api: str, tmp_path: Path) -> None:
    with FakeOpenAI(AGAIN, repeat=True) as server:
        async with session(server, tmp_path, 0.5, api=api) as agent:
            events = [event async for event in agent.run("go")]
    end = events[-1]
    assert isinstance(end, RunEnd)
    assert (end.stop_reason, end.turns, len(server.requests)) == (
        "cost",
        2,
        2,
    )
    assert end.usage.cost_usd == pytest.approx(0.4)
    assert [e.usage.cost_usd for e in events if isinstance(e, TurnEnd)] == pytest.approx([0.2, 0.2])
    assert [e.output for e in agent.transcript.executions] == ["done\n", "done\n"]
    assert agent.cost_usd == pytest.approx(0.4)


@pytest.mark.anyio
async def test_what_was_added_since_the_last_request_is_part_of_the_next_one_s_price(tmp_path: Path) -> None:
    long = "```bash:execute\npython3 -c \"print('x' * 4000)\"\n```\n"
    with FakeOpenAI(long, "done") as server:
        async with session(server, tmp_path, 1.0) as agent:  # 0.2 are spent; 1,100 tokens would cost 1.1
            end = await agent.ask("go")
    assert (end.stop_reason, len(server.requests)) == ("cost", 1)


@pytest.mark.anyio
async def test_a_price_of_zero_is_a_price(tmp_path: Path) -> None:
    with FakeOpenAI(AGAIN, "done") as server:
        async with session(server, tmp_path, 0.01, prices={"m": (0, 0)}) as agent:
            end = await agent.ask("go")
    assert end.stop_reason == "answer"
    assert end.usage.cost_usd == 0.0


@pytest.mark.anyio
async def test_an_unknown_price_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with FakeOpenAI("done", "done") as server:
        async with session(server, tmp_path, 1.0, prices={"other": (1.0, 1.0)}) as agent:
            with pytest.raises(ConfigError, match="max_cost_usd: no price of 'm' is known; prices="):
                await agent.ask("go")
        assert [m.role for m in agent.transcript.messages] == ["withdrawn"]
        assert server.requests == []
        async with Session(ScriptModel("x"), cwd=tmp_path, budgets=Budgets(max_cost_usd=1)) as agent:
            with pytest.raises(ConfigError, match="no price of 'script' is known"):
                await agent.ask("go")
        async with session(server, tmp_path, None, prices=None) as agent:
            assert (await agent.ask("go")).usage.cost_usd is None


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["ptc", "tools"])
async def test_what_a_tool_asks_of_a_model_counts_for_the_run_that_called_it(
    mode: Any, tmp_path: Path
) -> None:
    def helper() -> str:
        """Ask another model."""
        given: dict[str, Any] = {"base_url": inner.base_url, "api_key": "none", "prices": PRICES, "tools": ()}
        with SyncSession("m", cwd=tmp_path / "inner", **given) as below:
            end = below.ask("go")
        return f"{end.stop_reason} after {end.turns}"

    block = "```python:execute\nfrom lib.tools import helper\nprint(helper())\n```\n"
    first = block if mode == "ptc" else Answer(calls=[("c1", "helper", "{}")])
    with FakeOpenAI(AGAIN, repeat=True) as inner, FakeOpenAI(first, "done") as server:
        async with session(server, tmp_path, 0.9, tools=[helper], mode=mode) as agent:
            events = [event async for event in agent.run("go")]
    end = events[-1]
    assert isinstance(end, RunEnd)
    assert "cost after 3" in agent.transcript.executions[0].output  # of 0.9: 0.2 here, 3 * 0.2 there
    assert (end.stop_reason, end.turns, len(inner.requests)) == ("cost", 1, 3)
    assert end.usage.cost_usd == pytest.approx(0.8)
    assert end.usage.requests == 4
    assert [e.usage.cost_usd for e in events if isinstance(e, TurnEnd)] == pytest.approx([0.8])


@pytest.mark.anyio
async def test_a_stream_that_broke_and_was_asked_for_again_is_counted(tmp_path: Path) -> None:
    with FakeOpenAI(Answer(text="never seen", cut_after=0), "done") as server:
        async with session(server, tmp_path, None) as agent:
            end = await agent.ask("go")
    assert (end.stop_reason, len(server.requests)) == ("answer", 2)
    assert end.usage.requests == 2
    assert end.usage.cost_usd == pytest.approx(0.3)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "usage",
    [
        {"completion_tokens": 10},
        {"prompt_tokens": 0, "completion_tokens": 10, "total_tokens": 10},
        {"prompt_tokens": -500, "completion_tokens": 10, "total_tokens": -490},
        {"prompt_tokens": None, "completion_tokens": 10, "total_tokens": None},
        {"prompt_tokens": "1000", "completion_tokens": 10, "total_tokens": 1010},
        {"prompt_tokens": 1000, "completion_tokens": -10_000, "total_tokens": 1},
        {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 10**6}},
        {
            "prompt_tokens": 1000,
            "completion_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": -(10**6)},
        },
        {"prompt_tokens": 10**400, "completion_tokens": 10, "total_tokens": 10**400},
        {"prompt_tokens": 1e400, "completion_tokens": 10},
    ],
)
async def test_a_server_that_counts_oddly_is_not_paid_more_than_the_budget_and_an_answer(
    usage: Any, tmp_path: Path
) -> None:
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {"index": 0, "finish_reason": None}
    pieces = [
        {**chunk, "choices": [{**choice, "delta": {"role": "assistant", "content": AGAIN}}]},
        {**chunk, "choices": [{**choice, "delta": {}, "finish_reason": "stop"}]},
        {**chunk, "choices": [], "usage": usage},
    ]
    with FakeOpenAI(Answer(pieces=pieces), repeat=True) as server:
        # a thousand tokens or more are sent each time: a dollar
        async with session(server, tmp_path, 5.0, instructions="x" * 4000) as agent:
            end = await agent.ask("go")
    assert end.stop_reason in ("cost", "tokens")
    assert 1 <= len(server.requests) <= 5
    assert end.usage.cost_usd is not None


@pytest.mark.anyio
async def test_a_server_that_counts_nothing_is_counted_by_estimate(tmp_path: Path) -> None:
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(**choice: Any) -> dict[str, Any]:
        return {**base, "choices": [{"index": 0, "finish_reason": None, "delta": {}, **choice}]}

    pieces = [chunk(delta={"role": "assistant", "content": AGAIN}), chunk(finish_reason="stop")]
    with FakeOpenAI(Answer(pieces=pieces), repeat=True) as server:
        async with session(
            server, tmp_path, 5.0, instructions="x" * 4000
        ) as agent:  # a dollar for each request
            end = await agent.ask("go")
    assert end.stop_reason == "cost"
    assert 1 <= len(server.requests) <= 4
    assert end.usage.cost_usd is not None
    assert len(server.requests) <= end.usage.cost_usd <= 5.0


@pytest.mark.parametrize("way", WAYS)
def test_a_patched_client_has_the_same_budget(way: str, tmp_path: Path) -> None:
    with FakeOpenAI(AGAIN, repeat=True) as server:
        client = (server.async_client if way.startswith("async") else server.client)()
        patch_openai_with_ptc(
            client, cwd=tmp_path, budgets=Budgets(max_cost_usd=0.5), prices=PRICES, tools=()
        )
        outcome = call(way, client)
        client.cleanup_ptc()
    assert len(server.requests) == 2
    if outcome.whole is not None:
        assert outcome.whole.agentd["stop_reason"] == "cost"
        assert outcome.whole.agentd["cost_usd"] == pytest.approx(0.4)
    else:
        last = [event for item in outcome.items for event in getattr(item, "agentd", None) or ()][-1]
        assert (last["stop_reason"], last["usage"]["cost_usd"]) == ("cost", pytest.approx(0.4))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("patch", [patch_openai_with_ptc, patch_openai_with_mcp])
def test_a_patched_client_says_so_if_not_even_the_first_request_can_be_paid(
    patch: Any, stream: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def tool() -> str:
        """Do nothing."""
        return ""

    with FakeOpenAI("done", repeat=True) as server:
        client = patch(server.client(), budgets=Budgets(max_cost_usd=0.000001), prices=PRICES, tools=[tool])
        with pytest.raises(ModelError, match="'m': not asked: its first request would cost more than"):
            list(
                client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "x" * 400}], stream=stream
                )
            )
        assert server.requests == []
        client.close()


def test_a_patched_client_refuses_an_unknown_price(tmp_path: Path) -> None:
    with FakeOpenAI("done") as server:
        client = patch_openai_with_ptc(
            server.client(), cwd=tmp_path, budgets=Budgets(max_cost_usd=1), tools=()
        )
        with pytest.raises(ConfigError, match="no price of 'm' is known"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
        client.cleanup_ptc()
        assert server.requests == []
        assert isinstance(client, openai.OpenAI)


def test_limits_around_each_other_leave_the_smallest_rest() -> None:
    outer = Spending(1.0)
    token = around.set(outer)
    inner, free = Spending(0.5), Spending()
    around.reset(token)
    assert (outer.left_usd(), inner.left_usd(), free.left_usd(), Spending().left_usd()) == (
        1.0,
        0.5,
        1.0,
        None,
    )
    inner.add(Usage(cost_usd=0.25))
    free.add(Usage(cost_usd=0.5))
    free.add(Usage())  # of a model whose price nobody knows
    assert (outer.left_usd(), inner.left_usd(), free.left_usd()) == (0.25, 0.25, 0.25)
    assert outer.total(1) == Usage(cost_usd=0.5)
