"""A session under a policy: tools from code, native calls, created files, events and the transcript."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError
from agentd.events import Approval, CodeExecution, ToolCall
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.transcript import Transcript
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_policy import ApproverAnswer, Question
from agentd_policy.creating import create_policy
from policy_host import SessionStandIn
from script_model import CallingModel, ScriptModel

pytestmark = pytest.mark.usefixtures("state_folder")
sent: list[str] = []


def look(what: str) -> str:
    """Look something up."""
    return what.upper()


def send(what: str) -> str:
    """Send something."""
    sent.append(what)
    return "sent"


@pytest.fixture(name="state_folder")
def fixture_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    sent.clear()


CODE = """```python:execute
from lib.tools import ToolDeniedError, look, send
print(look("a"))
try:
    print(send("b"))
except ToolDeniedError as error:
    print(type(error).__mro__[2].__name__, error)
```
"""
RULES = {"rules": [{"verdict": "allow", "name": "look"}], "default": "ask"}


def session(tmp_path: Path, *answers: Any, **settings: Any) -> Session:
    model = ScriptModel(*answers)
    work = tmp_path / "work"
    return Session(model, executor="subprocess", cwd=work, tools=[look, send], **settings)


async def play(opened: Session) -> list[Any]:
    async with opened:
        return [event async for event in opened.run("go")]


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.anyio
async def test_code_reads_a_denial_and_every_decision_is_told_and_kept(tmp_path: Path, allowed: bool) -> None:
    async def approver(question: Question) -> ApproverAnswer:
        return ApproverAnswer(allowed, reason="not that")

    opened = session(tmp_path, CODE, "Done.", policy=RULES, approver=approver)
    events = await play(opened)
    (block,) = (e for e in events if isinstance(e, CodeExecution))
    denied = "PermissionError send() was denied: not that"
    assert block.output == f"A\n{'sent' if allowed else denied}\n"
    assert [(e.name, e.decision) for e in events if isinstance(e, Approval)] == [
        ("send", ""),
        ("send", f"{'allowed' if allowed else 'denied'} by approver"),
    ]
    assert [(e.name, e.decision) for e in events if isinstance(e, ToolCall)] == [
        ("look", "allowed by rule 1"),
        ("send", ""),
    ]
    kept = Transcript.from_dict(opened.transcript.as_dict()).decisions
    assert kept == {
        block.id: {
            "look: allowed by rule 1": 1,
            f"send: {'allowed' if allowed else 'denied'} by approver": 1,
        }
    }


@pytest.mark.anyio
async def test_an_async_approver_runs_on_the_sessions_own_event_loop(
    tmp_path: Path, anyio_backend: Any
) -> None:
    came, may = anyio.Event(), anyio.Event()

    async def approver(question: Question) -> bool:
        came.set()
        await may.wait()
        return True

    async def person() -> None:
        await came.wait()
        may.set()

    async with anyio.create_task_group() as group:
        group.start_soon(person)
        await play(session(tmp_path, CODE, "Done.", policy=RULES, approver=approver))
    assert sent == ["b"]


def test_an_async_approver_is_asked_under_a_bare_asyncio_run(tmp_path: Path) -> None:
    async def approver(question: Question) -> bool:
        await asyncio.sleep(0)
        return True

    policy = {**RULES, "timeout_s": 5}
    asyncio.run(play(session(tmp_path, CODE, "Done.", policy=policy, approver=approver)))
    assert sent == ["b"]


@pytest.mark.anyio
async def test_the_clock_of_the_block_stands_still_while_somebody_is_asked(tmp_path: Path) -> None:
    def approver(question: Question) -> bool:
        time.sleep(1.0)
        return True

    limits = {"timeout_s": 0.6}
    opened = session(
        tmp_path, CODE, "Done.", policy=RULES, approver=approver, executor_options={"limits": limits}
    )
    (block,) = (e for e in await play(opened) if isinstance(e, CodeExecution))
    assert (block.status, block.output) == ("completed", "A\nsent\n")


@pytest.mark.anyio
async def test_a_denied_file_is_a_rejected_block_that_says_why(tmp_path: Path) -> None:
    rules = [
        {"verdict": "deny", "kind": "create", "name": "*.env", "reason": "no secrets"},
        {"verdict": "allow"},
    ]
    answer = "```secret.env:create\nx\n```\n\n```a.txt:create\ny\n```\n"
    opened = session(tmp_path, answer, "Done.", policy=rules)
    events = await play(opened)
    assert sorted(p.name for p in (tmp_path / "work").iterdir() if p.is_file()) == ["a.txt"]
    first, second = opened.transcript.executions
    assert (first.status, second.status) == ("rejected", "completed")
    assert "the file was not written: no secrets" in first.output
    assert [(e.kind, e.name, e.decision) for e in events if isinstance(e, Approval)] == [
        ("create", "secret.env", "denied by rule 1"),
        ("create", "a.txt", "allowed by rule 2"),
    ]
    assert opened.transcript.decisions[first.id] == {"secret.env: denied by rule 1": 1}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path", [".git/hooks", "./.git/hooks", ".git//hooks", "a/./../.git/hooks", "{work}/.git/hooks"]
)
async def test_a_file_has_one_name_for_rules(path: str, tmp_path: Path) -> None:
    named = path.format(work=tmp_path / "work")
    rules = [{"verdict": "deny", "kind": "create", "name": ".git/*"}, {"verdict": "allow"}]
    events = await play(session(tmp_path, f"```{named}:create\nx\n```\n", "done", policy=rules))
    (asked,) = [event for event in events if isinstance(event, Approval)]
    assert (asked.name, asked.decision) == (".git/hooks", "denied by rule 1")
    assert not (tmp_path / "work" / ".git").exists()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "before",
    ["cd .git", "ln -s .git here; cd here", "ln -s .git a; ln -s a hooks", "mkdir -p a/b; cd a/b/../../.git"],
)
async def test_a_file_has_one_name_for_rules_wherever_the_shell_is(before: str, tmp_path: Path) -> None:
    path = "hooks/x" if "hooks" in before else "x"
    rules = [{"verdict": "deny", "kind": "create", "name": ".git/*"}, {"verdict": "allow"}]
    answers = (f"```bash:execute\nmkdir .git; {before}\n```\n", f"```{path}:create\nx\n```\n", "done")
    events = await play(session(tmp_path, *answers, policy=rules))
    (asked,) = [event for event in events if isinstance(event, Approval)]
    assert (asked.name, asked.decision) == (".git/x", "denied by rule 1")
    assert not (tmp_path / "work" / ".git" / "x").exists()


@pytest.mark.anyio
async def test_a_file_is_created_where_it_was_asked_about(tmp_path: Path) -> None:
    """A job, say, makes a link in its way before somebody has answered."""
    work = tmp_path / "work"

    def approver(question: Question) -> bool:
        assert question.name == "sub/x"
        (work / "sub").rmdir()
        (work / "sub").symlink_to(".git")
        return True

    answers = ("```bash:execute\nmkdir sub .git\n```\n", "```sub/x:create\nx\n```\n", "done")
    events = await play(session(tmp_path, *answers, policy=[{"verdict": "ask"}], approver=approver))
    assert "its path leads elsewhere" in [e.output for e in events if isinstance(e, CodeExecution)][-1]
    assert not (work / ".git" / "x").exists()


def test_the_gate_has_whatever_the_executor_has(tmp_path: Path) -> None:
    """From Python 3.12 on, `isinstance()` looks for a protocol's members without `__getattr__`."""
    executor = SubprocessExecutor(tmp_path / "work")
    policy = create_policy("yolo", None, SessionStandIn(tmp_path / "work"))
    gated = policy.guard(executor)
    for name in ("job_guide", "job_news", "upload", "shell_state", "pause"):
        assert inspect.getattr_static(gated, name)
    assert gated.workspace_dir == executor.workspace_dir
    executor.close()


@pytest.mark.anyio
async def test_what_is_shown_of_a_file_is_its_difference(tmp_path: Path) -> None:
    shown: list[str] = []

    def approver(question: Question) -> bool:
        shown.append(question.details())
        return True

    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "a.txt").write_text("one\ntwo\n")
    answer = "```a.txt:create\none\nthree\x1b[2J\n```\n"
    await play(session(tmp_path, answer, "Done.", policy="ask-writes", approver=approver))
    (text,) = shown
    assert "-two\n+three\\x1b[2J" in text
    assert (tmp_path / "work" / "a.txt").read_text() == "one\nthree\x1b[2J\n"


@pytest.mark.anyio
async def test_a_native_call_is_governed_the_same(tmp_path: Path) -> None:
    model = CallingModel("send", '{"what": "x"}', "Done.")
    rules = [{"verdict": "deny", "name": "send", "reason": "no"}]
    opened = Session(model, mode="tools", cwd=tmp_path / "work", tools=[look, send], policy=rules)
    events = await play(opened)
    assert model.results == ["ToolDeniedError: send() was denied: no"]
    assert sent == []
    (call,) = (e for e in events if isinstance(e, ToolCall))
    assert call.status == "failed"
    assert [(e.name, e.decision) for e in events if isinstance(e, Approval)] == [("send", "denied by rule 1")]
    assert list(opened.transcript.decisions.values()) == [{"send: denied by rule 1": 1}]


def test_a_sync_session_asks_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"executor": "subprocess", "cwd": tmp_path / "work", "tools": [look, send]}
    model = ScriptModel(CODE, "Done.")
    with SyncSession(model, policy=RULES, approver=lambda q: "session", **settings) as opened:
        opened.ask("go")
    assert sent == ["b"]
    (counts,) = opened.transcript.decisions.values()
    assert counts["send: allowed for the session by <lambda>"] == 1


@pytest.mark.anyio
async def test_the_end_of_a_session_ends_its_questions(tmp_path: Path) -> None:
    questions: list[Question] = []
    came = anyio.Event()

    async def approver(question: Question) -> None:
        questions.append(question)
        came.set()

    opened = session(tmp_path, CODE, "Done.", policy=RULES, approver=approver)
    async with opened, anyio.create_task_group() as group:
        group.start_soon(opened.ask, "go")
        await came.wait()
        group.cancel_scope.cancel()
    assert questions[0].is_over
    assert sent == []


def test_what_is_wrong_with_a_policy_is_told_when_the_session_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="policy"):
        session(tmp_path, policy="read-onyl")
    with pytest.raises(ConfigError, match="approver: goes with policy= only"):
        session(tmp_path, approver="terminal")
    with pytest.raises(ConfigError, match=r"approver: unknown name 'tty'"):
        session(tmp_path, policy="yolo", approver="tty")


@pytest.mark.anyio
async def test_what_a_job_calls_between_two_tasks_is_told_with_the_next(tmp_path: Path) -> None:
    job = "```bash:job caller\nuntil [ -e go ]; do sleep 0.05; done; send_example; exec sleep 60\n```\n"
    job = job.replace("send_example", "python3 -c \"from lib.tools import send; send('job')\"")
    called = anyio.Event()

    async def approver(question: Question) -> bool:
        called.set()
        return True

    opened = session(tmp_path, job, "Started.", "Next.", policy=RULES, approver=approver)
    async with opened:
        await opened.ask("go")
        (tmp_path / "work" / "go").touch()
        await called.wait()
        while not sent:
            await anyio.sleep(0.01)
        events = [event async for event in opened.run("go on")]
    assert [e.decision for e in events if isinstance(e, Approval)] == ["", "allowed by approver"]
    assert opened.transcript.decisions[""] == {"send: allowed by approver": 1}


who: ContextVar[str] = ContextVar("who", default="nobody")


@pytest.mark.anyio
async def test_an_async_approver_sees_the_context_variables_of_the_run(tmp_path: Path) -> None:
    seen: list[str] = []

    async def approver(question: Question) -> bool:
        seen.append(who.get())
        await anyio.lowlevel.checkpoint()
        return True

    opened = session(tmp_path, CODE, "Done.", CODE, "Done.", policy=RULES, approver=approver)
    async with opened:
        for name in ("ann", "bob"):
            who.set(name)
            await opened.ask("go")
    assert seen == ["ann", "bob"]


BY_THREADS = """
threads = [threading.Thread(target=send, args=(str(n),)) for n in range(1000)]
[thread.start() for thread in threads]
answer_all()
[thread.join() for thread in threads]
"""
GATHERED = """
async def main():
    with concurrent.futures.ThreadPoolExecutor(1000) as pool:
        call = asyncio.get_running_loop().run_in_executor
        sending = asyncio.gather(*[call(pool, send, str(n)) for n in range(1000)])
        await asyncio.sleep(0)
        answer_all()
        await sending

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("calling", "state"),
    [
        pytest.param(BY_THREADS, "fresh", id="threads"),
        pytest.param(GATHERED, "fresh", id="asyncio.gather", marks=pytest.mark.slow),
        pytest.param(GATHERED, "kept", id="of a kept interpreter", marks=pytest.mark.slow),
    ],
)
def test_a_thousand_waiting_questions_of_a_block_cost_no_thread_each_and_hold_up_no_other_call(
    tmp_path: Path, calling: str, state: str
) -> None:
    questions: list[Question] = []
    threads: list[int] = []

    async def approver(question: Question) -> None:
        questions.append(question)

    def release() -> str:
        """Answer every question."""
        threads.append(threading.active_count())
        found = list(questions)
        for question in found:
            question.answer(True)
        return str(len(found))

    def count() -> int:
        """Count the questions."""
        return len(questions)

    answering = """
import asyncio, concurrent.futures, threading, time
from lib.tools import count, look, release, send

def answer_all():
    while count() < 1000:
        time.sleep(0.01)
    print(look("a"), release())
"""
    beside = """
import time
from lib.tools import count, look
before = count()
while (now := count()) < 1000 and look("b") == "B":
    time.sleep(0.01)
print(before < 1000, now)
"""
    block = "```python:execute\n{}\n```\n"
    blocks = block.format(answering + calling + 'print("all")')
    if state == "fresh":  # blocks of a kept interpreter run one after the other
        blocks += block.format(beside)
    model = ScriptModel(blocks, "Done.")
    rules = {"rules": [{"verdict": "ask", "name": "send"}], "default": "allow"}
    before = threading.active_count()
    with SyncSession(
        model,
        executor="subprocess",
        executor_options={"state": state},
        cwd=tmp_path / "work",
        tools=[look, send, count, release],
        policy=rules,
        approver=approver,
    ) as agent:
        events = list(agent.run("go"))
    told = [e.output.split() for e in events if isinstance(e, CodeExecution)]
    assert sorted(told) == [["A", "1000", "all"], ["True", "1000"]][: 1 + (state == "fresh")]
    assert len(sent) == 1000
    assert threads[0] - before < 60  # those of a session, and at most 32 for its tools
