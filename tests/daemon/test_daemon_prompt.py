"""The prompt together with the real daemon, on a pseudo-terminal."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_openai import Answer
from life import Home, call, left_of, tree_of
from person import Person

pytestmark = pytest.mark.slow


@pytest.fixture
def sit_down(home: Home) -> Iterator[Callable[..., Person]]:
    """Start the daemon on a terminal; it ends with the test."""
    people: list[Person] = []

    def start(*options: str) -> Person:
        command = home.command(str(home.file), "--state-dir", str(home.state), *options)
        people.append(Person(columns=110, rows=40, program=command, env=home.env, cwd=home.cwd))
        return people[-1]

    yield start
    for person in people:
        person.__exit__()


def watched(home: Home, **more: Any) -> dict[str, Any]:
    return {"mcp_servers": [home.server()], "subscriptions": ["board://page"], **more}


def test_a_person_talks_with_one_agent_while_another_one_works(home: Home, sit_down: Any) -> None:
    home.post("page", "old")
    home.model.decide = lambda request: Answer(text=f"answer of {request['model']}")
    home.write(home.agent("talks", model="m-1"), home.agent("wakes", **watched(home, model="m-2")))
    person = sit_down()
    person.see("talks>")
    home.seen("page", "wakes")
    person.type("hello\r")
    person.see("answer of m-1")
    person.type("half a li")
    person.see("talks> half a li")
    home.post("page", "new")
    person.see("answer of m-2")
    person.see(lambda: person.prompt() == "talks> half a li")
    person.type("ne\r")
    home.requests(3)
    assert home.model.requests[2]["messages"][-1]["content"] == "half a line"
    person.type("/use wakes\r/tools\r")
    person.see("wakes>")
    person.see("post")
    person.type("/agents\r")
    person.see("board:up")
    tree = tree_of(person.process.pid)
    person.type("/quit\r")
    assert person.wait() == 0
    assert left_of(tree) == []
    assert "Traceback" not in "\n".join(person.everything())


def test_quit_quits(home: Home, sit_down: Any) -> None:
    """In agentd 0.8.6 `quit` did not quit."""
    home.write(home.agent(mode="ptc", mcp_servers=[home.server()]))
    person = sit_down()
    person.see("a>")
    person.type("quit\r")
    assert person.wait() == 0


def test_ctrl_c_cancels_the_turn_and_the_agent_goes_on(home: Home, sit_down: Any) -> None:
    home.model.answers[:] = [call("hang"), Answer(text="still here")]
    home.model.repeat = False
    home.write(home.agent(mcp_servers=[home.server()]))
    person = sit_down()
    person.see("a>")
    person.type("take your time\r")
    home.asked("tools/call hang")
    person.type("\x03")
    person.see("cancelling the turn of a")
    person.see("cancelled by a person")
    person.type("are you there?\r")
    person.see("still here")
    person.type("\x04")
    assert person.wait() == 0


def test_a_snapshot_can_be_gone_back_to(home: Home, sit_down: Any) -> None:
    block = "```bash:execute\necho {0} > file; cat file\n```\n"
    home.model.answers[:] = [
        Answer(text=block.format(n)) if i == 0 else Answer(text=f"wrote {n}")
        for n in ("one", "two")
        for i in (0, 1)
    ]
    home.model.answers += [
        Answer(text="```bash:execute\necho it is $(cat file)\n```\n"),
        Answer(text="read it"),
    ]
    home.model.repeat = False
    home.write(home.agent(mode="ptc"))
    person = sit_down()
    person.see("a>")
    person.type("write one\r")
    person.see("wrote one")
    person.see(" done")
    person.type("/snapshot first\r")
    person.see("kept")
    person.type("write two\r")
    person.see("wrote two")
    person.type("/rewind first\r")
    person.see("a is back at")
    person.type("what is there?\r")
    person.see("read it")
    texts = [str(message["content"]) for message in home.model.requests[-1]["messages"]]
    assert any("it is one" in text for text in texts)
    assert not any("write two" in text for text in texts)
    person.type("/quit\r")
    assert person.wait() == 0


def test_a_parked_agent_is_resumed_from_the_prompt(home: Home, sit_down: Any) -> None:
    home.model.answers[:] = [Answer(status=401, text="not today"), Answer(text="today")]
    home.model.repeat = False
    home.write(home.agent(on_error={"retries": 0}))
    person = sit_down()
    person.see("a>")
    person.type("now?\r")
    person.see("parked")
    person.type("/resume a\r")
    person.see(
        lambda: (
            "a: today" in "\n".join(person.shown()) or any(row.endswith("today") for row in person.shown())
        )
    )
    person.type("quit\r")
    assert person.wait() == 0


def test_a_question_is_told_above_the_typed_line_and_answered_at_the_prompt(
    home: Home, sit_down: Any
) -> None:
    home.post("page", "old")
    home.model.answers[:] = [call("post", name="made", text="by hand"), Answer(text="it is posted")]
    home.model.repeat = False
    home.write(home.agent(**watched(home), policy={"default": "ask"}))
    person = sit_down()
    person.see("a>")
    home.seen("page")
    person.type("half a li")
    person.see("a> half a li")
    home.post("page", "new")
    person.see("a: asks whether it may call post: /allow")
    person.see(lambda: person.prompt() == "a> half a li")
    (id,) = set(re.findall(r"/allow ([0-9a-z]+)", "\n".join(person.everything())))
    person.type("\x03/approvals\r")
    person.see("a call waits since")
    person.see('{"name": "made", "text": "by hand"}')
    person.type("/agents\r")
    person.see("asks")
    person.type("/allow nothing\r")
    person.see("no question 'nothing' in")
    person.type(f"/allow {id} for-ever\r")
    person.see("/allow: must be once, session, always, got 'for-ever'")
    person.type(f"/allow {id[:-1]}\t\r")
    person.see("allowed: post; its call goes on")
    person.see("it is posted")
    assert (home.board / "made").read_text() == "by hand"
    person.type(f"/deny {id} too late\r")
    person.see("it was allowed by a person at the prompt")
    person.type("/quit\r")
    assert person.wait() == 0


def test_a_signal_ends_the_daemon_and_gives_the_terminal_back(home: Home, sit_down: Any) -> None:
    home.model.answers[:] = [call("hang")]
    home.write(home.agent(mcp_servers=[home.server()]))
    person = sit_down()
    person.see("a>")
    person.type("take your time\r")
    home.asked("tools/call hang")
    tree = tree_of(person.process.pid)
    person.process.send_signal(signal.SIGTERM)
    assert person.wait() == 0
    assert left_of(tree) == []
    assert "Traceback" not in "\n".join(person.everything())


def test_a_terminal_that_is_closed_ends_the_daemon(home: Home, sit_down: Any) -> None:
    home.write(home.agent(mcp_servers=[home.server()]))
    person = sit_down()
    person.see("a>")
    tree = tree_of(person.process.pid)
    person.hang_up()
    assert person.process.wait(60) == 0
    assert left_of(tree) == []


def test_without_a_prompt_ctrl_c_stops_the_daemon(home: Home, sit_down: Any) -> None:
    home.post("page", "old")
    home.write(home.agent(**watched(home)))
    person = sit_down("--no-repl")
    home.seen("page")
    home.post("page", "new")
    person.see(" done")
    assert not any("a>" in row for row in person.everything())
    person.type("\x03")
    assert person.wait() == 0


def test_a_daemon_in_the_background_of_a_terminal_has_no_prompt(home: Home, sit_down: Any) -> None:
    """Started with `&` in a shell with job control: a look at the terminal would stop it."""
    home.post("page", "old")
    home.write(home.agent(**watched(home)))
    script = 'set -m; "$@" & wait $!'
    command = home.command(str(home.file), "--state-dir", str(home.state))
    with Person(
        columns=110, rows=40, program=["/bin/bash", "-c", script, "sh", *command], env=home.env, cwd=home.cwd
    ) as person:
        home.seen("page")
        home.post("page", "new")
        person.see(" done")
        assert not any("a>" in row for row in person.everything())
        pid = int((home.state / "lock").read_text())
        os.kill(pid, signal.SIGTERM)
        assert person.wait() == 0
