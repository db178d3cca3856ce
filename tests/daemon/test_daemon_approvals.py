"""Questions of a policy outlive the daemon: real processes, killed and started again; a scripted model on loopback."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import Any

import pytest
from agentd_daemon.journal import Journal, JournalledQuestion
from fake_openai import Answer
from life import Home, Life, call, command_of, eventually, said, tree_of

pytestmark = pytest.mark.slow

POLICY = {"rules": [{"verdict": "allow", "name": "read"}], "default": "ask"}
SLOW = ["daemon", {"hold_s": 600}]
QUICK = ["daemon", {"hold_s": 0.2}]


def write(home: Home, approver: Any = SLOW, **more: Any) -> None:
    home.write(home.agent(mcp_servers=[home.server()], policy=POLICY, approver=approver, **more))
    home.model.repeat = False


def asked(home: Home, number: int = 1) -> list[JournalledQuestion]:
    """Wait until so many questions wait."""

    def found() -> list[JournalledQuestion]:
        with Journal.open(home.state / "journal.db", readonly=True) as journal:
            questions = journal.questions()
        return questions if len(questions) >= number else []

    return eventually(found, "no question was asked")


def start(home: Home, *arguments: str) -> Life:
    """Start the daemon and give its agent a task."""
    life = home.start(*arguments)
    home.seen("page")
    home.post("page", "new")
    return life


def approvals(home: Home, *arguments: str, code: int = 0) -> str:
    done = home.run("approvals", *arguments, "--state-dir", str(home.state))
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def page(home: Home) -> None:
    home.post("page", "old")


def watching(home: Home, approver: Any = SLOW, **more: Any) -> None:
    """Write the configuration of an agent that is woken by a page."""
    write(home, approver, subscriptions=["board://page"], **more)


def test_a_question_is_listed_shown_and_allowed_by_the_command(home: Home) -> None:
    watching(home)
    home.model.answers[:] = [call("post", name="made", text="by the agent"), Answer(text="posted")]
    life = start(home)
    (question,) = asked(home)
    assert (question.agent, question.kind, question.name, question.state) == ("a", "tool", "post", "open")
    assert json.loads(question.arguments) == {"name": "made", "text": "by the agent"}
    assert life.status("a")["questions"] == [question.id]
    assert question.id in home.run("status", "--state-dir", str(home.state)).stdout
    (listed,) = json.loads(approvals(home, "--json"))
    assert (listed["id"], listed["agent"], listed["name"], listed["state"]) == (
        question.id,
        "a",
        "post",
        "open",
    )
    assert f"{question.id}  a  a call  tool post" in approvals(home)
    assert not (home.board / "made").exists()
    assert approvals(home, "allow", question.id) == "allowed: post; its call goes on\n"
    home.requests(2)
    assert (home.board / "made").read_text() == "by the agent"
    assert approvals(home) == "no questions\n"
    life.becomes("a", questions=[], state="idle")


def test_a_denial_and_its_reason_are_read_by_the_agent(home: Home) -> None:
    watching(home)
    home.model.answers[:] = [call("post", name="made", text="x"), Answer(text="well then")]
    start(home)
    (question,) = asked(home)
    approvals(home, "deny", question.id, "--reason", "not on a Sunday")
    assert "not on a Sunday" in said(home.requests(2)[1])
    assert not (home.board / "made").exists()


# --- kill -9 -------------------------------------------------------------------------------------


def kill(life: Life) -> None:
    life.send(signal.SIGKILL)
    life.wait()


@pytest.mark.parametrize("answered", ["before the restart", "after the restart"])
def test_after_a_kill_the_question_is_there_and_the_same_call_takes_its_answer_once(
    home: Home, answered: str
) -> None:
    watching(home)
    same = call("post", name="made", text="x")
    home.model.answers[:] = [same, same, same, Answer(text="posted")]
    life = start(home)
    (question,) = asked(home)
    kill(life)
    assert f"{question.id}  a  nothing  tool post" in approvals(home), "no call waits in a dead sandbox"
    if answered == "before the restart":
        told = "allowed: post; the same call gets the answer if its task makes it again when the daemon is started\n"
        assert approvals(home, "allow", question.id) == told
        life = home.start()
    else:
        life = home.start()
        home.requests(2)
        eventually(lambda: [(q.id, q.state) for q in asked(home)] == [(question.id, "open")], "asked again")
        assert approvals(home, "allow", question.id) == "allowed: post; its call goes on\n"
    home.requests(3)
    (again,) = asked(home)
    assert again.id != question.id, "the answer was for one call"
    assert (home.board / "made").read_text() == "x"
    told = said(home.model.requests[1])
    assert "attempt 2" in told
    assert f"(question {question.id}) counts as denied" in told
    assert ("agentd approvals has allowed it" in told) is (answered == "before the restart")
    approvals(home, "allow", again.id)
    home.requests(4)
    life.becomes("a", state="idle", questions=[])


# --- a task that waits for long ------------------------------------------------------------------


def test_a_task_whose_answer_takes_long_is_parked_without_a_sandbox_and_wakes_with_it(home: Home) -> None:
    watching(home, ["daemon", {"hold_s": 1.0}], mode="ptc")
    code = "```python:execute\nimport lib.tools as t\nt.post(name='made', text='x')\n```\n"
    home.model.answers[:] = [Answer(text=code), Answer(text=code), Answer(text="posted")]
    life = start(home)
    (question,) = asked(home)
    life.becomes("a", state="waiting", questions=[question.id])
    eventually(lambda: runners(life) == [], "the sandbox is left")
    assert f"{question.id}  a  its task  tool post" in approvals(home)
    assert len(home.model.requests) == 1, "the model is not asked while nobody has answered"
    kill(life)
    life = home.start()
    life.logs("waits for an answer")
    life.becomes("a", state="waiting", questions=[question.id])
    assert len(home.model.requests) == 1
    assert approvals(home, "allow", question.id) == "allowed: post; its task goes on\n"
    home.requests(3)
    life.becomes("a", state="idle", questions=[])
    assert (home.board / "made").read_text() == "x"
    told = [str(message["content"]) for message in home.model.requests[1]["messages"]]
    assert any(f"nobody has answered the question {question.id} within 1 s" in text for text in told)
    assert "agentd approvals has allowed it" in told[-1]


def runners(life: Life) -> list[str]:
    """The runners below a daemon."""
    lines = [command_of(pid).replace(b"\0", b" ").decode() for pid in tree_of(life.process.pid)]
    return [line for line in lines if "agentd_runner" in line]


def test_calls_that_wait_side_by_side_are_parked_together_and_the_task_waits_for_all(home: Home) -> None:
    watching(home, ["daemon", {"hold_s": 3.0}])
    calls = [(f"call_{n}", "post", json.dumps({"name": f"made{n}", "text": "x"})) for n in (1, 2)]
    home.model.answers[:] = [Answer(calls=calls), Answer(calls=calls), Answer(text="posted")]
    life = start(home)
    first, second = asked(home, 2)
    life.becomes("a", state="waiting", questions=[first.id, second.id])
    approvals(home, "allow", first.id)
    life.becomes("a", state="waiting", questions=[second.id])
    assert len(home.model.requests) == 1
    approvals(home, "deny", second.id)
    home.requests(3)
    life.becomes("a", state="idle", questions=[])
    assert (home.board / "made1").exists()
    assert not (home.board / "made2").exists()


def test_once_leaves_the_question_for_the_next_time(home: Home) -> None:
    watching(home, QUICK)
    same = call("post", name="made", text="x")
    home.model.answers[:] = [same, same, Answer(text="posted")]
    assert home.start("--once").wait() == 1
    (question,) = asked(home)
    assert question.state == "parked"
    assert home.start("--once").wait() == 1, "it still waits"
    assert len(home.model.requests) == 1
    told = approvals(home, "allow", question.id)
    assert told == "allowed: post; its task goes on when the daemon is started\n"
    assert home.start("--once").wait() == 0
    assert (home.board / "made").exists()


def test_a_daemon_that_is_stopped_in_the_orderly_way_keeps_its_questions(home: Home) -> None:
    watching(home)
    home.model.answers[:] = [call("post", name="made", text="x"), Answer(text="well")]
    life = start(home)
    (question,) = asked(home)
    assert life.stop() == 0
    assert [entry["state"] for entry in json.loads(approvals(home, "--json"))] == ["lost"]
    approvals(home, "deny", question.id, "--reason", "too late today")
    life = home.start()
    assert "has denied it (too late today)" in said(home.requests(2)[1])
    life.becomes("a", state="idle", questions=[])


# --- the command ---------------------------------------------------------------------------------


def test_a_second_answer_an_ended_task_and_an_unknown_id_are_told_apart(home: Home) -> None:
    watching(home)
    home.model.answers[:] = [call("post", name="made", text="x"), Answer(text="posted")]
    start(home)
    (question,) = asked(home)
    both = [
        subprocess.Popen(
            home.command("approvals", word, question.id, "--state-dir", str(home.state)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=home.env,
            cwd=home.cwd,
        )
        for word in ("allow", "deny")
    ]
    outputs = [process.communicate() for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], outputs
    home.requests(2)
    word = ("allowed", "denied")[both[0].returncode]
    again = approvals(home, "allow", question.id, code=1)
    assert f"takes no answer any more: it was {word} by agentd approvals at" in again
    assert "no question 'nope' in" in approvals(home, "allow", "nope", code=2)
    assert "--for" in approvals(home, "allow", question.id, "--for", "ever", code=2)
    assert home.run("approvals", "allow", question.id, "nothing.yaml").returncode == 2


def test_without_a_folder_the_questions_of_all_daemons_are_found(home: Home) -> None:
    watching(home)
    home.model.answers[:] = [call("post", name="made", text="x"), Answer(text="posted")]
    home.state = home.state.parent / "xdg" / "agentd" / "daemon" / "one"
    home.state.mkdir(parents=True)
    start(home)
    (question,) = asked(home)
    assert question.id in home.run("approvals").stdout
    assert home.run("approvals", "allow", question.id).stdout == "allowed: post; its call goes on\n"
    home.requests(2)
    assert home.run("approvals", "list", "--json").stdout == "[]\n"


def test_what_is_allowed_always_is_listed_and_can_be_forgotten_while_the_daemon_runs(home: Home) -> None:
    watching(home)
    home.model.decide = lambda request: (
        Answer(text="posted")
        if request["messages"][-1]["role"] == "tool"
        else call("post", name="made", text=str(len(request["messages"])))
    )
    life = start(home)
    (question,) = asked(home)
    approvals(home, "allow", question.id, "--for", "always")
    life.becomes("a", state="idle", turns=2)
    home.post("page", "newer")
    life.becomes("a", state="idle", turns=4)
    (kept,) = json.loads(home.run("approvals", "list", "--always", "--json").stdout)
    what = {"kind": "tool", "source": "board", "name": "post", "rule": "default"}
    assert kept == {"workspace": question.workspace, **what}
    assert home.run("approvals", "forget", "pots").returncode == 2
    gone = home.run("approvals", "forget", "post")
    assert gone.stdout == f"forgotten: tool post in {question.workspace}\n"
    home.post("page", "newest")
    (again,) = asked(home)
    assert again.id != question.id
    assert home.run("approvals", "list", "--always").stderr == "nothing was allowed always\n"
