"""An agent's work over time: its conversation goes on after restarts and stays within bounds, checkpoints are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from agentd.turn.spending import around
from agentd_daemon import sessions
from agentd_daemon.config.values import BudgetsConfig, HistoryConfig
from agentd_daemon.conversation import bill_of
from agentd_demo.replay import ReplayFault, ReplayServer
from living import agent, files_server, living, told

pytestmark = pytest.mark.anyio


@pytest.fixture
def model() -> Iterator[ReplayServer]:
    with ReplayServer(["Noted."], repeat=True) as server:
        yield server


async def test_the_conversation_goes_on_after_a_restart(tmp_path: Path, model: ReplayServer) -> None:
    config = agent(model, system_prompt="Be brief.")
    for text in ("one", "two", "three"):
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", text)
            await daemon.runs_end(1)
            await daemon.until(lambda: not daemon.journal.pending("news") and daemon.status().state == "idle")
    assert model.requests[-1].messages == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "Noted."),
        ("user", "two"),
        ("assistant", "Noted."),
        ("user", "three"),
    ]


async def test_what_was_being_answered_when_the_daemon_ended_is_answered_after_its_restart(
    tmp_path: Path, model: ReplayServer
) -> None:
    model.faults[0] = ReplayFault("stall")
    async with living(tmp_path / "state", agent(model)) as daemon:
        submitted = await daemon.daemon.submit("news", "one")
        await daemon.asked(model, 1)
    async with living(tmp_path / "state", agent(model)) as daemon:
        (trigger,) = await daemon.settled(1)
        assert (trigger.id, trigger.attempts, trigger.state) == (submitted, 2, "done")
    assert f"This is attempt 2 at the task {submitted}" in model.requests[-1].last


@pytest.mark.parametrize("rule", ["drop", "summarise"])
async def test_the_conversation_is_bounded_and_the_system_prompt_and_the_newest_tasks_stay(
    rule: str, tmp_path: Path
) -> None:
    limit = 2000
    history = HistoryConfig(rule=rule, max_tokens=limit, keep_turns=2)  # type: ignore[arg-type]
    with ReplayServer(["The answer."], repeat=True) as model:
        config = agent(model, system_prompt="Be brief.", history=history)
        async with living(tmp_path / "state", config) as daemon:
            for number in range(12):
                await daemon.daemon.submit("news", f"task {number} " + "word " * 250)
            await daemon.settled(12)
            kept = daemon.journal.load_transcript("news")
    assert kept is not None
    asked = [request for request in model.requests if request.messages[0][0] == "system"]
    assert len(asked) == 12
    for number, request in enumerate(asked):
        said = told(request)
        assert request.messages[0] == ("system", "Be brief.")
        assert request.last.startswith(f"task {number} ")
        if number > 1:
            assert [text.split()[1] for text in said[-3:-1]] == [str(number - 2), str(number - 1)]
        assert sum(len(text) for _, text in request.messages) // 4 < 1.3 * limit
    summaries = [request for request in model.requests if request.messages[0][0] != "system"]
    assert bool(summaries) == (rule == "summarise")
    assert any("earlier tasks" in text for text in told(asked[-1])) == (rule == "summarise")
    if rule == "summarise":
        assert "[task]\ntask 0 " in summaries[0].last


async def test_a_summary_that_fails_does_not_hold_up_the_task(tmp_path: Path) -> None:
    history = HistoryConfig(rule="summarise", max_tokens=1000, keep_turns=1)
    with ReplayServer(["The answer."], faults={4: ReplayFault("status", status=500)}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, history=history)) as daemon:
            for number in range(5):
                await daemon.daemon.submit("news", f"task {number} " + "word " * 250)
            done = await daemon.settled(5)
    assert [(t.state, t.attempts) for t in done] == [("done", 1)] * 5


async def test_a_conversation_that_the_provider_finds_too_long_is_shortened_and_told_again(
    tmp_path: Path,
) -> None:
    history = HistoryConfig(rule="drop", max_tokens=100_000, keep_turns=1)  # far beyond what this model takes
    with ReplayServer(["Noted."], faults={4: ReplayFault("status", status=413)}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, history=history)) as daemon:
            for number in range(5):
                await daemon.daemon.submit("news", f"task {number} " + "word " * 50)
                await daemon.settled(number + 1)
            done = await daemon.settled(5)
    assert [(t.state, t.attempts) for t in done] == [("done", 1)] * 5
    assert len(told(model.requests[-2])) == 5
    assert [text.split()[1] for text in told(model.requests[-1]) if text.startswith("task")] == ["3", "4"]


async def test_with_checkpoints_each_task_leaves_one_and_a_person_can_go_back(
    tmp_path: Path, model: ReplayServer
) -> None:
    config = agent(model, checkpoints=True)
    async with living(tmp_path / "state", config) as daemon:
        for number, text in enumerate(("one", "two"), 1):
            await daemon.daemon.submit("news", text)
            await daemon.settled(number)
            await daemon.until(lambda: daemon.status().state == "idle")
        worker = daemon.daemon._worker("news")
        assert worker.session is not None
        first, second = worker.session.checkpoints()
        assert (first.turn, second.turn) == (1, 2)
        assert await daemon.daemon.rewind("news", first.id) == first.id
        await daemon.daemon.submit("news", "three")
        await daemon.settled(3)
    assert told(model.requests[-1]) == ["one", "three"]
    async with living(tmp_path / "state", config) as daemon:  # and so it stays
        await daemon.daemon.submit("news", "four")
        await daemon.settled(4)
    assert told(model.requests[-1]) == ["one", "three", "four"]


async def test_checkpoints_of_old_tasks_go_and_those_with_a_label_stay(
    tmp_path: Path, model: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "KEPT_CHECKPOINTS", 2)
    monkeypatch.setattr(sessions, "FORGET_EVERY", 3)
    async with living(tmp_path / "state", agent(model, checkpoints=True)) as daemon:
        left = []
        for number in range(1, 6):
            await daemon.daemon.submit("news", f"task {number}")
            await daemon.settled(number)
            await daemon.until(lambda: daemon.status().state == "idle")
            session = daemon.daemon._worker("news").session
            assert session is not None
            if number == 1:
                await daemon.daemon.snapshot("news", "by hand")
            left.append([kept.label or kept.turn for kept in session.checkpoints()])
    # those by hand have a turn as well: the sixth is of the fifth task
    whole = [1, "by hand", 3, 4, 5]
    assert left == [whole[:2], whole[:3], whole[:4], whole, ["by hand", 5, 6]]


async def test_a_resting_agent_measures_its_conversation_and_a_rewound_one_is_measured_again(
    tmp_path: Path, model: ReplayServer
) -> None:
    async with living(tmp_path / "state", agent(model, checkpoints=True)) as daemon:
        for number, text in enumerate(("one", "two"), 1):
            await daemon.daemon.submit("news", text)
            await daemon.settled(number)
            await daemon.until(lambda: daemon.status().state == "idle")
        worker = daemon.daemon._worker("news")
        session = worker.session
        assert session is not None
        await daemon.until(lambda: worker._is_measured(session))
        await daemon.daemon.rewind("news", session.checkpoints()[1].id)
        assert len(session.transcript.messages) == 4
        assert not worker._is_measured(session)


async def test_a_conversation_that_is_too_long_is_not_taken_for_measured(
    tmp_path: Path, model: ReplayServer
) -> None:
    history = HistoryConfig(max_tokens=100, keep_turns=1)
    async with living(tmp_path / "state", agent(model, history=history)) as daemon:
        await daemon.daemon.submit("news", "word " * 250)
        await daemon.settled(1)
        await daemon.until(lambda: daemon.status().state == "idle")
        worker = daemon.daemon._worker("news")
        await daemon.until(lambda: worker._is_flushed)
        assert worker.session is not None
        assert not worker._is_measured(worker.session)


async def test_an_agent_is_ready_before_its_first_task(tmp_path: Path, model: ReplayServer) -> None:
    folder, log = tmp_path / "watched", tmp_path / "log"
    folder.mkdir()
    config = agent(model, files_server(folder, "--log", str(log)))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.until(lambda: daemon.server().state == "up")
        worker = daemon.daemon._worker("news")
        await daemon.until(lambda: worker._is_prepared)
        assert log.read_text().count("tools/list") == 1
        await daemon.daemon.submit("news", "one")
        await daemon.settled(1)
        assert log.read_text().count("tools/list") == 1
    assert model.requests[0].body["tools"][0]["function"]["name"] == "look"


async def test_the_money_of_a_task_is_one_for_all_attempts_and_what_cannot_be_paid_is_not_tried_again(
    tmp_path: Path, model: ReplayServer
) -> None:
    config = attrs.evolve(agent(model), model=("replay", {"prices": {"replay": [1000, 1000]}}))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.daemon.submit("news", "one")
        (done,) = await daemon.settled(1)
        spent = daemon.status().usage.cost_usd
        assert spent
        enough = attrs.evolve(config, budgets=BudgetsConfig(max_cost_usd=spent + 0.25))
        with bill_of(done, daemon.journal, enough):
            spending = around.get()
        assert spending is not None
        assert spending.left_usd() == pytest.approx(0.25)
    asked = len(model.requests)
    poor = attrs.evolve(config, budgets=BudgetsConfig(max_cost_usd=0.0001))
    async with living(tmp_path / "state", poor) as daemon:
        await daemon.daemon.submit("news", "two")
        failed = [t for t in await daemon.settled(2) if t.error]
    assert [(t.state, t.attempts, t.error) for t in failed] == [
        ("failed", 1, "ended without an answer: cost")
    ]
    assert len(model.requests) == asked
