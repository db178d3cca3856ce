"""Outages, through a daemon with real servers and a real endpoint: what fails is tried again, and nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from agentd.events import Event
from agentd.registry import Registry
from agentd_daemon.config.values import AgentConfig, BudgetsConfig, OnErrorConfig
from agentd_daemon.journal import Journal
from agentd_demo.recording import Turn
from agentd_demo.replay import ReplayFault, ReplayServer
from living import agent, files_server, kill_server, living, modern_server, once, starts, told, watching

pytestmark = [pytest.mark.slow, pytest.mark.anyio]


@pytest.fixture
def model() -> Iterator[ReplayServer]:
    with ReplayServer(["Noted."], repeat=True) as server:
        yield server


def page_agent(model: ReplayServer, folder: Path, *options: str, **keys: Any) -> AgentConfig:
    """An agent that watches the page of the folder."""
    return agent(model, files_server(folder, *options), subscriptions=(f"file://{folder}/page",), **keys)


# --- servers -----------------------------------------------------------------------------------------------


async def test_a_killed_server_is_restarted_and_a_change_during_its_outage_is_seen(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    log, page = tmp_path / "log", folder / "page"
    async with living(tmp_path / "state", page_agent(model, folder, "--log", str(log))) as daemon:
        await daemon.seen(f"file://{folder}/page")
        (folder / "closed").touch()
        assert kill_server(starts(log)[-1], folder)
        await daemon.until(lambda: daemon.server().state == "down")
        page.write_text("1")
        await daemon.until(lambda: "the folder is closed" in daemon.server().error)
        (folder / "closed").unlink()
        (during,) = await daemon.settled(1)
        assert during.content == "1"
        await daemon.until(lambda: daemon.server().state == "up")
        assert daemon.server().error == ""
        page.write_text("2")  # and it is subscribed to again
        _, after = await daemon.settled(2)
        assert after.content == "2"
    assert len(starts(log)) == 2


async def test_a_killed_server_of_the_new_revision_is_listened_to_again(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    uri = f"file://{folder}/page"
    config = agent(model, modern_server(folder), subscriptions=(uri,))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        for number in ("1", "2"):
            for pid in children_with(folder):
                kill_server(pid, folder)
            (folder / "page").write_text(number)
            await daemon.until(lambda n=number: [t.content for t in daemon.journal.recent("news", 1)] == [n])


async def test_a_server_that_hangs_is_replaced_within_the_time_of_a_call_and_the_change_is_seen(
    folder: Path, tmp_path: Path, model: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_mcp_bridge.source._REVIVE_S", 0.5)
    uri, log = f"file://{folder}/page", tmp_path / "log"
    server = attrs.evolve(files_server(folder, "--polled", "--log", str(log)), timeout=0.5)
    config = agent(model, server, subscriptions=watching(uri, poll_interval=0.1))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.seen(uri)
        assert kill_server(starts(log)[-1], folder, signal.SIGSTOP)
        (folder / "page").write_text("1")
        (trigger,) = await daemon.settled(1)
        assert trigger.content == "1"
    assert len(starts(log)) == 2


def children_with(folder: Path) -> list[int]:
    """The pids of this test's servers, which have its folder in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(folder) in command and command[1].endswith(b"files_server.py"):
                found.append(int(entry.name))
    return found


async def test_a_server_that_never_starts_fails_its_agent_only_which_says_so(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "closed").touch()
    rule = OnErrorConfig(retries=1, backoff_s=0.05)
    broken = agent(
        model,
        files_server(closed),
        name="broken",
        subscriptions=(f"file://{closed}/page",),
        on_error=rule,
    )
    async with living(tmp_path / "state", broken, page_agent(model, folder)) as daemon:
        await daemon.seen(f"file://{folder}/page")
        await daemon.until(lambda: "the folder is closed" in daemon.server("broken").error)
        assert daemon.server("broken").state == "down"
        submitted = await daemon.daemon.submit("broken", "What is there?")
        await daemon.until(lambda: daemon.status("broken").state == "parked")
        assert "the folder is closed" in daemon.status("broken").last_error
        (folder / "page").write_text("1")
        await daemon.settled(1)
        (closed / "closed").unlink()
        await daemon.until(lambda: daemon.server("broken").state == "up")
        assert daemon.daemon.resume("broken")
        (trigger,) = await daemon.settled(1, "broken")
        assert (trigger.id, trigger.state) == (submitted, "done")


# --- the model's provider ----------------------------------------------------------------------------------

FAULTS = {
    "status": ReplayFault("status", status=429),
    "500": ReplayFault("status", status=500),
    "disconnect": ReplayFault("disconnect"),
    "cut": ReplayFault("cut", after=2),
    "broken": ReplayFault("disconnect", after=2),
    "malformed": ReplayFault("malformed", after=1),
    "empty": ReplayFault("empty"),
}


@pytest.mark.parametrize("kind", FAULTS)
async def test_an_outage_of_the_provider_is_waited_out_and_the_task_stands_once_in_the_conversation(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    faults = dict.fromkeys(range(3), FAULTS[kind])
    with ReplayServer(["A longer answer, in several pieces."], faults=faults, repeat=True) as model:
        async with living(tmp_path / "state", page_agent(model, folder)) as daemon:
            await daemon.seen(f"file://{folder}/page")
            (folder / "page").write_text("1")
            (trigger,) = await daemon.settled(1)
            assert (trigger.state, trigger.attempts) == ("done", 4)
            assert daemon.status().last_error == ""
            kept = daemon.daemon.history("news")
    assert [message.role for message in kept] == ["task", "answer"]
    (task,) = told(model.requests[-1])
    assert task.count("<content>\n") == 1
    assert f"This is attempt 4 at the task {trigger.id}" in task


@pytest.mark.parametrize(
    "keys",
    [
        {"model_options": {"max_retries": 0, "timeout": 0.5}},
        {"budgets": BudgetsConfig(wall_time_s=2.0)},
    ],
    ids=["timeout", "wall time"],
)
async def test_a_provider_that_falls_silent_is_asked_again(keys: dict[str, Any], tmp_path: Path) -> None:
    with ReplayServer(["Here again."], faults={0: ReplayFault("stall")}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, **keys)) as daemon:
            await daemon.daemon.submit("news", "one")
            await daemon.until(lambda: daemon.status().last_error)
            (trigger,) = await daemon.settled(1)
            assert (trigger.state, trigger.attempts, trigger.result) == ("done", 2, "Here again.")
    assert len(told(model.requests[-1])) == 1


async def test_a_provider_that_asks_for_patience_gets_it(tmp_path: Path) -> None:
    rule = OnErrorConfig(backoff_s=0.01, max_backoff_s=1000.0)
    refusal = ReplayFault("status", status=429, retry_after_s=600)
    with ReplayServer(["Fine."], faults={0: refusal}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, on_error=rule)) as daemon:
            await daemon.daemon.submit("news", "one")
            next_try_at = await daemon.until(lambda: daemon.status().next_try_at)
            assert next_try_at > time.time() + 500
            assert daemon.daemon.resume("news")  # a person need not wait
            (trigger,) = await daemon.settled(1)
            assert trigger.attempts == 2


async def test_a_task_that_had_begun_to_act_goes_on_without_being_told_again(
    tmp_path: Path, folder: Path
) -> None:
    turns = [
        Turn(text="I act.\n\n```bash:execute\necho done >> made; echo acted\n```\n"),
        Turn(text="It was done before.", expect=("acted",)),
    ]
    with ReplayServer(turns, order="request", faults={1: ReplayFault("status", status=500)}) as model:
        async with living(tmp_path / "state", page_agent(model, folder, mode="ptc")) as daemon:
            await daemon.seen(f"file://{folder}/page")
            (folder / "page").write_text("the content")
            (trigger,) = await daemon.settled(1)
            assert trigger.state == "done"
    last = told(model.requests[-1])
    assert sum("the content" in text for text in last) == 1
    assert "This is attempt 2" in last[-1]
    assert "Go on where it broke off" in last[-1]
    assert (tmp_path / "state" / "agents" / "news" / "made").read_text() == "done\n"


async def test_after_the_last_retry_the_agent_is_parked_with_its_task_and_the_others_go_on(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    rule = OnErrorConfig(retries=2, backoff_s=0.02)
    with ReplayServer(["Back."], faults=dict.fromkeys(range(3), FAULTS["500"]), repeat=True) as away:
        poor = agent(away, name="poor", on_error=rule)
        async with living(tmp_path / "state", poor, page_agent(model, folder)) as daemon:
            first = await daemon.daemon.submit("poor", "first")
            await daemon.until(lambda: daemon.status("poor").state == "parked")
            second = await daemon.daemon.submit("poor", "second")
            assert len(away.requests) == 3
            assert daemon.status("poor").queued == 2
            assert "500" in daemon.status("poor").last_error
            await daemon.seen(f"file://{folder}/page")
            (folder / "page").write_text("1")
            await daemon.settled(1)
            assert daemon.daemon.resume("poor")
            done = await daemon.settled(2, "poor")
            assert [t.id for t in done] == [first, second]
            assert [t.state for t in done] == ["done", "done"]
            assert [t.attempts for t in done] == [4, 1]


async def test_a_restart_goes_on_with_the_task_of_a_parked_agent(tmp_path: Path) -> None:
    rule = OnErrorConfig(retries=0)
    with ReplayServer(["Back."], faults={0: FAULTS["500"]}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, on_error=rule)) as daemon:
            submitted = await daemon.daemon.submit("news", "first")
            await daemon.until(lambda: daemon.status().state == "parked")
        async with living(tmp_path / "state", agent(model, on_error=rule)) as daemon:
            (trigger,) = await daemon.settled(1)
            assert (trigger.id, trigger.state, trigger.attempts) == (submitted, "done", 2)


async def test_with_skip_the_next_task_follows_the_last_retry(tmp_path: Path) -> None:
    rule = OnErrorConfig(retries=1, backoff_s=0.02, then="skip")
    with ReplayServer(["Fine."], faults=dict.fromkeys(range(2), FAULTS["500"]), repeat=True) as model:
        async with living(tmp_path / "state", agent(model, on_error=rule)) as daemon:
            await daemon.daemon.submit("news", "first")
            await daemon.daemon.submit("news", "second")
            first, second = await daemon.settled(2)
            assert (first.state, first.attempts) == ("skipped", 2)
            assert "500" in first.error
            assert (second.state, second.result) == ("done", "Fine.")
    assert told(model.requests[-1]) == ["second"], "nothing of what was skipped stays in the conversation"


@pytest.mark.parametrize("then", ["park", "skip"])
async def test_what_no_retry_mends_parks_the_agent_at_once_and_skips_nothing(
    then: Any, tmp_path: Path, model: ReplayServer
) -> None:
    config = agent(model, mode="ptc", executor="nosuch", on_error=OnErrorConfig(then=then))
    async with living(tmp_path / "state", config) as daemon:
        await daemon.daemon.submit("news", "first")
        await daemon.until(lambda: daemon.status().state == "parked")
        assert "unknown executor 'nosuch'" in daemon.status().last_error
        (waiting,) = daemon.journal.pending("news")
        assert waiting.attempts == 1
    assert (await once(tmp_path / "state", config)).failures == 1


@pytest.mark.parametrize("status", [400, 404, 413, 422])
@pytest.mark.parametrize("then", ["park", "skip"])
async def test_a_task_that_the_provider_refuses_for_good_fails_at_once_and_the_next_is_served(
    then: Any, status: int, tmp_path: Path
) -> None:
    rule = OnErrorConfig(retries=5, backoff_s=60, then=then)
    refusal = ReplayFault("status", status=status)
    with ReplayServer(["Fine."], faults={0: refusal}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, on_error=rule)) as daemon:
            await daemon.daemon.submit("news", "first")
            await daemon.daemon.submit("news", "second")
            first, second = await daemon.settled(2)
            assert (first.state, first.attempts) == ("failed", 1)
            assert "failed as asked" in first.error
            assert (second.state, second.result) == ("done", "Fine.")
    assert told(model.requests[-1]) == ["second"], "nothing of what was refused stays in the conversation"


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_provider_that_does_not_admit_the_key_parks_the_agent_with_its_task(
    status: int, tmp_path: Path
) -> None:
    rule = OnErrorConfig(retries=5, backoff_s=60, then="skip")
    with ReplayServer(["Fine."], faults={0: ReplayFault("status", status=status)}, repeat=True) as model:
        async with living(tmp_path / "state", agent(model, on_error=rule)) as daemon:
            await daemon.daemon.submit("news", "first")
            await daemon.until(lambda: daemon.status().state == "parked")
            assert daemon.daemon.resume("news")  # a person has seen to it
            (trigger,) = await daemon.settled(1)
            assert (trigger.state, trigger.attempts) == ("done", 2)


# --- defects -----------------------------------------------------------------------------------------------


class BrokenSink:
    """A plugin's event sink with a defect."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error
        self.heard: list[Event] = []

    def emit(self, event: Event) -> None:
        self.heard.append(event)
        raise self.error("defect of a plugin")

    def close(self) -> None:
        raise self.error("defect of a plugin")


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
async def test_a_sink_that_raises_is_left_out_and_the_agent_goes_on(
    error: type[BaseException], tmp_path: Path, model: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = BrokenSink(error)
    monkeypatch.setattr(Registry, "create_event_sink", lambda self, name: sink)
    async with living(tmp_path / "state", agent(model, event_sinks=("broken",))) as daemon:
        for text in ("one", "two"):
            await daemon.daemon.submit("news", text)
        await daemon.settled(2)
        assert len(daemon.daemon.history("news")) == 4
    assert len(sink.heard) == 1


async def test_an_agent_that_cannot_even_begin_is_tried_again_and_the_others_work(
    tmp_path: Path, model: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Registry, name: str) -> object:
        raise RuntimeError("defect of a plugin")

    monkeypatch.setattr(Registry, "create_event_sink", broken)
    poor = agent(model, name="poor", event_sinks=("broken",))
    async with living(tmp_path / "state", poor, agent(model)) as daemon:
        submitted = await daemon.daemon.submit("poor", "task")
        await daemon.until(lambda: daemon.status("poor").last_error == "defect of a plugin")
        assert daemon.status("poor").state == "retrying"
        await daemon.daemon.submit("news", "task")
        await daemon.settled(1)
        monkeypatch.undo()
        monkeypatch.setattr(Registry, "create_event_sink", lambda self, name: BrokenSink(ValueError))
        (trigger,) = await daemon.settled(1, "poor")
        assert trigger.id == submitted


async def test_a_listener_that_raises_stops_nobody(tmp_path: Path, model: ReplayServer) -> None:
    def broken(agent: str, event: Event) -> None:
        raise BrokenPipeError

    async with living(tmp_path / "state", agent(model)) as daemon:
        daemon.daemon.listen(broken)
        await daemon.daemon.submit("news", "one")
        await daemon.runs_end(1)
        (trigger,) = await daemon.settled(1)
        assert trigger.state == "done"
        assert len(daemon.journal.turns(trigger.id)) == 1


async def test_a_worker_that_breaks_off_in_the_middle_takes_its_task_up_again(
    tmp_path: Path, model: ReplayServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = Journal.settle
    broken = [True]

    def settle_once_broken(self: Journal, *given: Any, **more: Any) -> Any:
        if broken:
            broken.clear()
            raise RuntimeError("a defect")
        return settle(self, *given, **more)

    monkeypatch.setattr(Journal, "settle", settle_once_broken)
    async with living(tmp_path / "state", agent(model)) as daemon:
        submitted = await daemon.daemon.submit("news", "task")
        (trigger,) = await daemon.settled(1)
        assert (trigger.id, trigger.attempts) == (submitted, 2)


# --- the disk ----------------------------------------------------------------------------------------------


def fill(journal: Journal) -> None:
    """Let the journal's file grow no more, as on a full disk."""
    with journal.read("fill") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()


def make_room(journal: Journal) -> None:
    with journal.read("make room") as connection:
        connection.execute("PRAGMA max_page_count = 1000000").fetchall()


async def test_a_change_that_does_not_fit_on_the_disk_is_told_and_taken_once_there_is_room(
    folder: Path, tmp_path: Path, model: ReplayServer
) -> None:
    log = tmp_path / "log"
    async with living(tmp_path / "state", page_agent(model, folder, "--log", str(log))) as daemon:
        await daemon.seen(f"file://{folder}/page")
        fill(daemon.journal)
        (folder / "page").write_text("new " * 20_000)
        error = await daemon.until(lambda: daemon.status().last_error)
        assert "make room on the disk" in error
        looks = log.read_text().count("resources/read")
        await daemon.until(lambda: log.read_text().count("resources/read") > looks)  # it is tried again
        assert not model.requests
        make_room(daemon.journal)
        (trigger,) = await daemon.settled(1)
        assert len(trigger.content) == 80_000
    assert log.read_text().count("resources/read") < 20, "it was tried again without a pause"


async def test_an_answer_that_does_not_fit_on_the_disk_waits_for_room_and_the_model_is_not_asked_again(
    tmp_path: Path,
) -> None:
    with ReplayServer(["long " * 50_000]) as model:
        async with living(tmp_path / "state", agent(model)) as daemon:
            await daemon.daemon.submit("news", "Tell me all.")
            await daemon.asked(model, 1)
            fill(daemon.journal)
            await daemon.until(lambda: daemon.status().state == "retrying")
            assert "make room on the disk" in daemon.status().last_error
            assert len(daemon.daemon.agents()) == 1
            make_room(daemon.journal)
            (trigger,) = await daemon.settled(1)
            assert (trigger.state, trigger.attempts) == ("done", 1)
            kept = daemon.journal.load_transcript("news")
            assert kept is not None
            assert len(kept.messages[-1].content) == 250_000
    assert len(model.requests) == 1


async def test_a_daemon_with_a_full_disk_ends_when_it_is_told_to(tmp_path: Path) -> None:
    with ReplayServer(["long " * 50_000]) as model:
        with anyio.fail_after(60):
            async with living(tmp_path / "state", agent(model)) as daemon:
                submitted = await daemon.daemon.submit("news", "Tell me all.")
                await daemon.asked(model, 1)
                fill(daemon.journal)
                await daemon.until(lambda: daemon.status().state == "retrying")
    with Journal.open(tmp_path / "state" / "journal.db") as journal:
        (waiting,) = journal.pending("news")
        assert (waiting.id, waiting.state) == (submitted, "interrupted")
