"""The trigger `mcp-events`: a real server of the SDK's with the extension, over stdio."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError, ToolError
from agentd.registry import Registry
from agentd_daemon.config.values import AgentServerConfig
from agentd_daemon.journal import Journal, JournalError
from agentd_daemon.sources import ServerPool
from agentd_daemon.waking import TriggerWatch
from agentd_tools.sources import EventPage
from event_lines import events_server
from life import Home, eventually
from triggering import IdleWorker, watch

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The daemon is asyncio's."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of these tests wishes to be asked at once."""
    monkeypatch.setattr("agentd_trigger_mcp_events.trigger.LEAST_WAIT_S", 0.02)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "state" / "journal.db") as made:
        yield made


def add(lines: Path, *more: str) -> None:
    with lines.open("a") as file:
        file.write("".join(f"{line}\n" for line in more))


def told(journal: Journal) -> list[str]:
    """The lines that the tasks are about, in order."""
    return [task.content.split('"line": "')[1].split('"')[0] for task in reversed(journal.recent("a", 1000))]


@asynccontextmanager
async def shares(*configs: dict[str, Any]) -> AsyncIterator[IdleWorker]:
    """A worker that has shares of these servers."""
    pool = ServerPool(Registry().create_tool_sources)
    worker = IdleWorker()
    worker.shares = tuple(
        pool.share(
            AgentServerConfig(
                command=config["command"], arguments=tuple(config["arguments"]), name=config.get("name")
            )
        )
        for config in configs
    )
    try:
        yield worker
    finally:
        for share in worker.shares:
            await pool.give_back(share)


def watched(journal: Journal, worker: IdleWorker, once: bool = False, **options: Any) -> TriggerWatch:
    given = {"event": "line.added", **options}
    return watch(lambda: Registry().create_trigger("mcp-events", given), journal, worker=worker, once=once)


@asynccontextmanager
async def asking(journal: Journal, worker: IdleWorker, **options: Any) -> AsyncIterator[TriggerWatch]:
    """A trigger that has asked once."""
    made = watched(journal, worker, **options)
    async with anyio.create_task_group() as group:
        group.start_soon(made.run)
        with anyio.fail_after(60):
            while made.cursor() is None:
                await anyio.sleep(0.01)
        yield made
        group.cancel_scope.cancel()


@pytest.mark.parametrize("how", [(), ("bare",)])
async def test_what_happens_after_the_first_look_wakes_the_agent_once_each_in_order(
    journal: Journal, lines: Path, how: tuple[str, ...]
) -> None:
    wanted = [f"new-{number}" for number in range(12)]  # in three pages
    async with shares(events_server(lines, *how)) as worker, asking(journal, worker):
        add(lines, *wanted)
        await worker.until_woken(12)
    assert told(journal) == wanted
    assert journal.pending("a")[0].content == ('line.added, 2026-11-30T12:00:00Z\n{\n "line": "new-0"\n}')


async def test_the_arguments_of_the_subscription_reach_the_server(journal: Journal, lines: Path) -> None:
    async with shares(events_server(lines)) as worker, asking(journal, worker, arguments={"prefix": "b"}):
        add(lines, *["a"] * 20, "b-1", "a", "b-2")
        await worker.until_woken(2)
    assert told(journal) == ["b-1", "b-2"]


async def test_other_arguments_under_the_same_name_begin_anew(journal: Journal, lines: Path) -> None:
    async with shares(events_server(lines)) as worker, asking(journal, worker) as first:
        before = first.cursor()
    add(lines, "meanwhile")
    async with (
        shares(events_server(lines)) as worker,
        asking(journal, worker, arguments={"prefix": ""}) as other,
    ):
        with anyio.fail_after(60):
            while other.cursor() == before:
                await anyio.sleep(0.01)
        add(lines, "later")
        await worker.until_woken(1)
    assert told(journal) == ["later"]


@pytest.mark.slow
async def test_events_that_the_server_has_no_more_are_said_to_be_lost(journal: Journal, lines: Path) -> None:
    async with shares(events_server(lines)) as worker:
        await watched(journal, worker, once=True).once()
        add(lines, *(f"{number}" for number in range(1002)))
        made = watch(
            lambda: Registry().create_trigger("mcp-events", {"event": "line.added"}),
            journal,
            worker=worker,
            once=True,
            max_waiting=2000,
        )
        await made.once()
    tasks = journal.recent("a", 2000)
    assert len(tasks) == 1000
    assert [
        task.content.startswith("Events before this one were lost") for task in (tasks[-1], tasks[-2])
    ] == [
        True,
        False,
    ]


async def test_a_server_that_dies_is_started_again_and_nothing_is_lost(journal: Journal, lines: Path) -> None:
    pid = lines.with_name("lines.pid")
    async with shares(events_server(lines)) as worker, asking(journal, worker):
        os.kill(int(pid.read_text()), signal.SIGKILL)
        add(lines, "1", "2")
        await worker.until_woken(2)
    assert told(journal) == ["1", "2"]


async def test_a_server_without_the_extension_is_told_apart(journal: Journal, tmp_path: Path) -> None:
    program = str(Path(__file__).resolve().parents[1] / "support" / "modern_files_server.py")
    config = {"command": sys.executable, "arguments": [program, str(tmp_path)]}
    async with shares(config) as worker:
        with pytest.raises(ToolError, match="offers no events: it does not have the extension"):
            await watched(journal, worker, once=True).once()


async def test_an_event_type_that_there_is_not_is_told_in_the_servers_words(
    journal: Journal, lines: Path
) -> None:
    async with shares(events_server(lines)) as worker:
        with pytest.raises(ToolError, match=r"events 'line.gone': Unknown event: line.gone"):
            await watched(journal, worker, once=True, event="line.gone").once()


async def test_the_server_is_named_where_there_are_several(journal: Journal, lines: Path) -> None:
    one, two = ({**events_server(lines), "name": name} for name in ("one", "two"))
    async with shares(one, two) as worker:
        with pytest.raises(ConfigError, match="option 'server' name one of: 'one', 'two'"):
            await watched(journal, worker, once=True).once()
        with pytest.raises(ConfigError, match="got 'tow'; did you mean 'two'"):
            await watched(journal, worker, once=True, server="tow").once()
        await watched(journal, worker, once=True, server="two").once()


class EndlessSource:
    """A server that says for ever that there is more."""

    name = "endless"
    asked = 0

    async def poll_events(self, name: str, arguments: object, cursor: str | None) -> EventPage:
        self.asked += 1
        return EventPage(events=(), cursor=str(self.asked), has_more=True)


async def test_a_server_that_has_always_more_and_never_an_event_is_asked_no_more_for_now(
    journal: Journal,
) -> None:
    worker, source = IdleWorker(), EndlessSource()
    worker.shares = (source,)
    with anyio.fail_after(60):
        await watched(journal, worker, once=True).once()
    assert source.asked == 100


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "option 'event' of the trigger 'mcp-events' is missing"),
        ({"event": "x", "poll_s": 0}, "must be from 1 to 86400, got 0"),
        ({"event": "x", "arguments": []}, "arguments"),
        ({"event": "x", "push": True}, "unknown option 'push'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Registry().create_trigger("mcp-events", options)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_kills_of_the_daemon_at_any_moment_lose_no_event_and_bring_none_twice(
    home: Home, lines: Path
) -> None:
    home.write(
        home.agent(
            mcp_servers=[events_server(lines)],
            triggers=[{"kind": "mcp-events", "options": {"event": "line.added"}}],
        )
    )
    dice = random.Random(seed := random.randrange(2**32))
    print("seed", seed)
    wanted: list[str] = []

    def noted() -> bool:
        try:
            with Journal.open(home.state / "journal.db", readonly=True) as journal:
                return journal.last_seen("a", "trigger:mcp-events") is not None
        except JournalError:  # it is not made yet
            return False

    for life_number in range(4):
        life = home.start()
        eventually(noted, lambda life=life: life.log)
        new = [f"{life_number}-{number}" for number in range(dice.randint(1, 20))]
        add(lines, *new)
        wanted += new
        time.sleep(dice.random() * 1.5)  # at any moment of questions and turns
        life.process.kill()
        life.wait()
    life = home.start()

    def all_told() -> bool:
        with Journal.open(home.state / "journal.db", readonly=True) as journal:
            return len(told(journal)) >= len(wanted)

    eventually(all_told, lambda: life.log)
    life.becomes("a", state="idle", queued=0)
    assert life.stop() == 0
    with Journal.open(home.state / "journal.db", readonly=True) as journal:
        assert told(journal) == wanted
        assert {task.state for task in journal.recent("a", 1000)} == {"done"}
