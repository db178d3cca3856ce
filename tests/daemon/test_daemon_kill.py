"""The real command, killed at any moment: what was accepted is finished after the restart, visibly so."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentd_daemon.journal import Trigger
from agentd_demo.replay import ReplayFault, ReplayServer
from living import HERE, Command, told, until

pytestmark = pytest.mark.slow

KILLS = 6


@pytest.fixture
def model() -> Iterator[ReplayServer]:
    with ReplayServer(["Noted."], repeat=True) as server:
        yield server


@pytest.fixture
def command(tmp_path: Path, folder: Path, model: ReplayServer) -> Iterator[Command]:
    """A daemon with one agent that watches the page; JSON is YAML."""
    server = {
        "type": "stdio",
        "command": sys.executable,
        "arguments": ["-S", str(HERE / "files_server.py"), str(folder)],
    }
    news = {
        "name": "news",
        "model": "replay",
        "base_url": model.base_url,
        "mcp_servers": [server],
        "subscriptions": [f"file://{folder}/page"],
        "on_error": {"backoff_s": 0.1},
    }
    config = tmp_path / "agents.yaml"
    config.write_text(json.dumps({"agents": [news]}))
    made = Command(config, tmp_path / "state", tmp_path / "daemon.log")
    yield made
    made.end()


@pytest.mark.timeout(300)  # starts of the command, each some seconds on a loaded machine
def test_a_task_under_way_is_done_again_after_a_kill_and_the_model_is_told(
    command: Command, folder: Path, model: ReplayServer
) -> None:
    model.faults |= dict.fromkeys(range(2), ReplayFault("stall"))
    command.start()
    until(lambda: command.seen(f"file://{folder}/page"), "the first look")
    (folder / "page").write_text("1")
    for number in (1, 2):
        until(lambda n=number: len(model.requests) >= n, "a request")
        (trigger,) = command.triggers()
        assert (trigger.state, trigger.attempts) == ("running", number)
        command.kill()
        command.start()
    (done,) = until(lambda: [t for t in command.triggers() if t.state == "done"], "the end")
    assert (done.id, done.attempts, done.content) == (trigger.id, 3, "1")
    (task,) = told(model.requests[-1])
    assert f"This is attempt 3 at the task {done.id}" in task


@pytest.mark.timeout(300)
def test_kills_at_any_moment_lose_no_change_and_the_conversation_goes_on(
    command: Command, folder: Path, model: ReplayServer
) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    command.start()
    until(lambda: command.seen(f"file://{folder}/page"), "the first look")
    accepted: set[str] = set()
    for number in range(1, KILLS + 1):
        (folder / "page").write_text(str(number))
        # some kills come before the change is seen, some with the answer, some after it
        asked = len(model.requests)
        if dice.random() < 0.7:
            until(lambda n=asked: len(model.requests) > n, "a request")
        accepted |= {trigger.id for trigger in command.triggers()}
        command.kill()
        command.start()

    def finished() -> list[Trigger]:
        found = command.triggers()
        ended = all(trigger.ended_at is not None for trigger in found)
        return found if ended and found and found[-1].content == str(KILLS) else []

    done = until(finished, f"all to be done: {command.tail()}")
    assert accepted <= {trigger.id for trigger in done}
    assert {trigger.state for trigger in done} == {"done"}
    contents = ["0", *(trigger.content for trigger in done)]
    assert [trigger.previous for trigger in done] == contents[:-1], "a change is missing between two tasks"
    answered = [text for request in model.requests for text in told(request)]
    for trigger in done:
        assert any(f"[task {trigger.id}]" in text for text in answered)
    ids = [trigger.id for trigger in done]
    with command.reading() as journal:
        assert journal is not None
        kept = journal.load_transcript("news")
    assert kept is not None
    tasks = [message.content for message in kept.messages if message.role == "task"]
    order = [id for text in tasks for id in ids if f"[task {id}]" in text]
    assert sorted(set(order)) == ids
    assert order == sorted(order)
