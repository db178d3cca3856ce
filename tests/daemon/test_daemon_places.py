"""An agent whose session is at a place: what a person asks of it, and what becomes of its tasks, is as without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd.events import CodeStart, RunEnd
from agentd_daemon.config.values import AgentConfig, BudgetsConfig, DaemonConfig
from agentd_daemon.journal import Journal
from agentd_demo.replay import ReplayFault, ReplayServer
from living import agent, living, told
from session_place import SessionPlace

pytestmark = pytest.mark.anyio

CREATE = "```one.txt:create\n1\n```\n"
SLEEP = "```bash:execute\nsleep 60\n```\n"
COUNT = "```bash:execute\necho x >> here; wc -l < here\n```\n"
PARKS = ("daemon", {"hold_s": 0.1})


@pytest.fixture
def model() -> Iterator[ReplayServer]:
    with ReplayServer([]) as server:
        yield server


def say(model: ReplayServer, *texts: str) -> None:
    """Have a model say these texts."""
    model.recording = type(model.recording).of(texts)


def coder(model: ReplayServer, **keys: Any) -> AgentConfig:
    return agent(model, mode="ptc", **keys)


async def test_a_task_is_parked_goes_on_is_cancelled_and_its_agent_changed(
    tmp_path: Path, model: ReplayServer
) -> None:
    say(model, CREATE, CREATE)  # a run may ask once more until it is set aside
    rules = {"rules": [{"kind": "create", "verdict": "ask"}], "default": "allow"}
    place = SessionPlace(tmp_path / "there")
    config = coder(model, policy=rules, approver=PARKS, system_prompt="Old prompt.")
    async with living(tmp_path / "state", config, place=place) as seen:
        id = await seen.daemon.submit("news", "Write it.")
        await seen.until(lambda: seen.status().state == "waiting")
        assert not place.open_now, "whoever waits for a person has no session"
        say(model, *([""] * len(model.requests)), CREATE, "Written.", SLEEP, "Changed.")
        (question,) = seen.daemon.questions()
        assert seen.daemon.answer(question.id, allowed=True) == "allowed: one.txt; its task goes on"
        (done,) = await seen.settled(1)
        assert (done.state, done.result, done.attempts) == ("done", "Written.", 2)
        assert place.keys == [f"{id}/1", f"{id}/2"], "each attempt is a run with a key of its own"
        assert (tmp_path / "there" / "news" / "one.txt").read_text().strip() == "1"
        assert seen.status().node == "here"

        await seen.daemon.submit("news", "Sleep.")
        await seen.until(lambda: seen.count(CodeStart) >= 3)
        assert seen.daemon.cancel("news")
        assert (await seen.settled(2))[1].error == "cancelled by a person"

        changed = attrs.evolve(config, system_prompt="New prompt.")
        seen.daemon._adopt(DaemonConfig(agents=(changed,)))
        await seen.daemon.submit("news", "And now?")
        assert (await seen.settled(3))[2].result == "Changed."
        assert "New prompt." in str(model.requests[-1].messages)
        assert "Write it." in told(model.requests[-1])[0], "the conversation went on"
    assert not place.is_open


async def test_the_money_of_a_task_is_one_for_all_attempts_at_a_place_that_knows_of_one(
    tmp_path: Path, model: ReplayServer
) -> None:
    say(model, COUNT, COUNT, COUNT, "Too dear.")
    model.faults[1] = ReplayFault("status", status=500)
    config = attrs.evolve(coder(model), model=("replay", {"prices": {"replay": [1000, 1000]}}))
    async with living(tmp_path / "state", config, place=SessionPlace(tmp_path / "first")) as seen:
        await seen.daemon.submit("news", "Count.")
        (done,) = await seen.settled(1)
        one = seen.journal.turns(done.id)[0].usage.cost_usd
        assert (done.attempts, done.result) == (2, "Too dear.")
        assert one
    say(model, COUNT, COUNT, COUNT, "Too dear.")
    model._played, model.faults = 0, {len(model.requests) + 1: ReplayFault("status", status=500)}
    poor = attrs.evolve(config, budgets=BudgetsConfig(max_cost_usd=one * 1.5))
    place = SessionPlace(tmp_path / "second", limits=False)
    async with living(tmp_path / "other", poor, place=place) as seen:
        await seen.daemon.submit("news", "Count.")
        (failed,) = await seen.settled(1)
        assert (failed.state, failed.error) == ("failed", "ended without an answer: cost")
        assert [note.attempt for note in seen.journal.turns(failed.id)] == [1, 2]


async def test_an_end_that_the_place_has_kept_is_noted_and_the_task_is_not_given_again(
    tmp_path: Path, model: ReplayServer
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with Journal.open(state / "journal.db") as journal:  # of a daemon that was killed behind the run's end
        ended = journal.begin(journal.accept("news", origin="repl", task="Say it.").id)
        parked = journal.accept("news", origin="repl", task="Say more.")
    place = SessionPlace(tmp_path / "there")
    place.ends[f"{ended.id}/1"] = RunEnd(text="Said.", turns=1)
    place.ends[f"{parked.id}/0"] = RunEnd(text="Never begun.", turns=1)
    say(model, "More.")
    async with living(state, coder(model), place=place) as seen:
        found = await seen.settled(2)
    assert [(t.state, t.result, t.attempts) for t in found] == [("done", "Said.", 1), ("done", "More.", 1)]
    assert len(model.requests) == 1
