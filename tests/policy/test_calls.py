"""A policy over the calls of a tool set: what is done at once, what waits, and what is denied."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ToolDeniedError
from agentd.events import Approval, ToolCall
from agentd.protocols import ToolReply
from agentd.turn.transcript import Transcript
from agentd_policy import ApproverAnswer, Question, Rule
from agentd_policy.approvers import read_approver
from agentd_policy.policy import RulesPolicy
from agentd_policy.question_loop import MOST_THREADS
from agentd_policy.reading import read_policy
from agentd_tools import ToolSet, tool
from agentd_tools.policy import PolicyRequest
from policy_host import SessionStandIn


class Person:
    """An approver who answers when the test says so."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.asked = threading.Semaphore(0)

    def __call__(self, question: Question) -> None:
        self.questions.append(question)
        self.asked.release()

    def next(self) -> Question:
        assert self.asked.acquire(timeout=10)
        return self.questions[-1]


done: list[str] = []
# An approver that blocks gives its thread back when its test is over: few are there for all.
over = threading.Event()


def write_note(text: str) -> str:
    """Write a note."""
    done.append(text)
    return f"wrote {text}"


async def send_mail(to: list[str], text: str = "") -> str:
    """Send a mail."""
    done.append(f"mail {to}")
    return "sent"


def pay(to: str, amount: float, express: bool = False, more: Any = None) -> str:
    """Pay."""
    done.append(f"paid {amount}")
    return "paid"


Make = Callable[..., tuple[ToolSet, SessionStandIn]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    done.clear()
    over.clear()

    def made(policy: object, approver: object = None, **settings: Any) -> tuple[ToolSet, SessionStandIn]:
        host = SessionStandIn(tmp_path)
        judge, timeout_s = read_policy(policy)
        asked = RulesPolicy(judge, read_approver(approver), host, **{"timeout_s": timeout_s, **settings})
        tools = ToolSet(
            [write_note, send_mail, pay], policy=asked, on_call=host.told.append, on_event=host.tell
        )
        return tools, host

    yield made
    over.set()


def submit(
    tools: ToolSet, name: str, arguments: dict[str, Any], action: str = "run1_code1"
) -> tuple[list[ToolReply], threading.Event]:
    replies: list[ToolReply] = []
    came = threading.Event()

    def reply(value: ToolReply) -> None:
        replies.append(value)
        came.set()

    tools.submit(name, json.dumps(arguments).encode(), action, reply)
    return replies, came


def submit_json(tools: ToolSet, name: str, text: str) -> tuple[list[ToolReply], threading.Event]:
    replies: list[ToolReply] = []
    came = threading.Event()

    def reply(value: ToolReply) -> None:
        replies.append(value)
        came.set()

    tools.submit(name, text.encode(), "run1_code1", reply)
    assert came.wait(10)
    return replies, came


def test_what_a_rule_allows_is_done_at_once_and_its_event_says_which_rule(make: Make) -> None:
    tools, host = make([{"verdict": "allow", "name": "write_*"}])
    assert tools.call_sync("write_note", {"text": "a"}) == "wrote a"
    (event,) = host.told
    assert isinstance(event, ToolCall)
    assert (event.decision, event.status) == ("allowed by rule 1", "completed")


def test_what_a_rule_denies_is_not_done_and_the_code_reads_why(make: Make) -> None:
    tools, host = make([{"verdict": "deny", "name": "write_note", "reason": "no notes today"}])
    with pytest.raises(ToolDeniedError, match=r"write_note\(\) was denied: no notes today") as caught:
        tools.call_sync("write_note", {"text": "a"})
    assert isinstance(caught.value, PermissionError)
    assert done == []
    assert [(e.status, e.decision) for e in host.told] == [("failed", "denied by rule 1")]


def test_the_first_rule_that_matches_counts_and_the_default_comes_last(make: Make) -> None:
    rules = [
        Rule("deny", name="send_mail", arguments={"to": "*@evil.example"}),
        Rule("allow", name="send_mail", arguments={"to": "*@acme.example"}),
        Rule("allow", name="write_note"),
    ]
    tools, _ = make({"rules": rules, "default": "deny"})
    assert tools.call_sync("send_mail", {"to": ["ann@acme.example"]}) == "sent"
    for to in (["ann@acme.example", "x@evil.example"], ["x@evil.example"], ["bob@other.example"], []):
        with pytest.raises(ToolDeniedError):
            tools.call_sync("send_mail", {"to": to})
    with pytest.raises(ToolDeniedError):  # an allow needs all to match
        tools.call_sync("send_mail", {"to": ["ann@acme.example", "bob@other.example"]})
    assert done == ["mail ['ann@acme.example']"]


def test_a_deny_holds_however_its_argument_is_written(make: Make) -> None:
    rules = [
        Rule("deny", name="pay", arguments={"amount": "100", "to": "*"}),
        Rule("deny", name="pay", arguments={"express": "true"}),
    ]
    tools, _ = make({"rules": rules, "default": "allow"})
    for amount in ("100", "100.0", "1e2", "1E+2"):
        replies, _came = submit_json(tools, "pay", f'{{"to": "a", "amount": {amount}}}')
        assert b"was denied" in replies[0].payload
    replies, _came = submit_json(tools, "pay", '{"to": "a", "amount": 1, "amount": 100}')
    assert b"was denied" in replies[0].payload
    # a server that is lenient takes each of these for True; the schema says that it is a boolean
    for express in ('"yes"', '"TRUE"', "1", "[true]"):
        replies, _came = submit_json(tools, "pay", f'{{"to": "a", "amount": 1, "express": {express}}}')
        assert b"was denied" in replies[0].payload
    assert done == []
    replies, _came = submit_json(tools, "pay", '{"to": "a", "amount": 101}')
    assert (replies[0].ok, done) == (True, ["paid 101.0"])


@pytest.mark.parametrize("depth", range(950, 1010, 4))
def test_what_the_policy_cannot_read_is_denied_where_a_rule_looks_at_arguments(
    make: Make, depth: int
) -> None:
    tools, _ = make([Rule("deny", arguments={"to": "eve"}), Rule("allow")])
    text = '{"to": "eve", "amount": 1, "more": %s}' % ("[" * depth + "]" * depth)
    replies, _came = submit_json(tools, "pay", text)
    assert b"was denied" in replies[0].payload
    assert done == []


def test_an_allowed_pattern_lets_no_path_climb_out(make: Make) -> None:
    rules = [Rule("allow", name="write_note", arguments={"text": "notes/*"})]
    tools, _ = make({"rules": rules, "default": "deny"})
    assert tools.call_sync("write_note", {"text": "notes/a/b"}) == "wrote notes/a/b"
    with pytest.raises(ToolDeniedError):
        tools.call_sync("write_note", {"text": "notes/../secret"})


def test_a_question_blocks_its_call_alone_and_the_answer_lets_it_go_on(make: Make) -> None:
    person = Person()
    tools, host = make({"rules": [Rule("ask", name="write_note"), Rule("allow")]}, person)
    replies, came = submit(tools, "write_note", {"text": "a"})
    question = person.next()
    assert (question.name, question.arguments()) == ("write_note", {"text": "a"})
    assert tools.call_sync("send_mail", {"to": ["x"]}) == "sent"
    assert (replies, done) == ([], ["mail ['x']"])
    assert question.answer(True)
    assert came.wait(10)
    assert replies[0].ok
    asked, decided = (e for e in host.told if isinstance(e, Approval))
    assert (asked.decision, asked.code_id, asked.arguments) == ("", "run1_code1", '{"text": "a"}')
    assert decided.decision == "allowed by Person"
    assert decided.id == asked.id
    assert [e.decision for e in host.told if isinstance(e, ToolCall) and e.name == "write_note"] == [""]


def test_the_tools_own_time_begins_when_it_is_allowed(make: Make) -> None:
    person = Person()
    tools, _ = make({"default": "ask"}, person)
    tools._tools.entries["write_note"]  # it is there
    replies, came = submit(tools, "write_note", {"text": "a"})
    question = person.next()
    (call,) = tools._under_way()
    assert call.deadline == float("inf")
    question.answer("once")
    assert came.wait(10)
    assert replies[0].ok


@pytest.mark.parametrize(
    ("approver", "reason"),
    [
        (lambda q: False, "<lambda> has said no"),
        (lambda q: ApproverAnswer(False, reason="not on Sundays"), "not on Sundays"),
        (lambda q: 1 / 0, "<lambda> failed: ZeroDivisionError"),
        (lambda q: "perhaps", "<lambda> failed: ValueError"),
        (lambda q: over.wait(30) and None, "nobody has answered within 0.2 s"),
        (lambda q: None, "nobody has answered within 0.2 s"),
        (None, "there is nobody"),
    ],
)
def test_no_good_answer_is_a_no_that_says_why(make: Make, approver: Any, reason: str) -> None:
    tools, _ = make({"default": "ask"}, approver, timeout_s=0.2)
    with pytest.raises(ToolDeniedError) as caught:
        tools.call_sync("write_note", {"text": "a"})
    assert reason in str(caught.value)
    assert done == []


def test_the_second_answer_is_ignored_and_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    person = Person()
    tools, _ = make({"default": "ask"}, person)
    replies, came = submit(tools, "write_note", {"text": "a"})
    question = person.next()
    assert question.answer(False)
    assert not question.answer(True)
    assert came.wait(10)
    assert not replies[0].ok
    assert (len(replies), done) == (1, [])
    assert "an answer was ignored" in caplog.text


def test_an_answer_for_the_session_and_one_for_always_are_not_asked_for_again(make: Make) -> None:
    asked: list[str] = []

    def approver(question: Question) -> str:
        asked.append(question.name)
        return "session" if question.name == "write_note" else "always"

    for _ in range(2):  # two sessions
        tools, _host = make({"default": "ask"}, approver)
        for _ in range(2):
            tools.call_sync("write_note", {"text": "a"})
            tools.call_sync("send_mail", {"to": []})
    assert asked == ["write_note", "send_mail", "write_note"]


def test_an_async_approver_is_awaited(make: Make) -> None:
    async def approver(question: Question) -> bool:
        return question.name == "write_note"

    tools, _ = make({"default": "ask"}, approver)
    assert tools.call_sync("write_note", {"text": "a"}) == "wrote a"
    with pytest.raises(ToolDeniedError):
        tools.call_sync("send_mail", {"to": []})


def test_a_thousand_questions_wait_without_a_thread_each(make: Make) -> None:
    waiting: list[Question] = []
    every = threading.Event()

    async def approver(question: Question) -> None:
        waiting.append(question)
        if len(waiting) == 1000:
            every.set()

    tools, _ = make({"default": "ask"}, approver)
    before = threading.active_count()
    calls = [submit(tools, "write_note", {"text": str(n)}) for n in range(1000)]
    assert every.wait(30)
    assert threading.active_count() - before <= 2  # the loop of the questions, and the watcher of time-outs
    for question in waiting:
        question.answer(True)
    assert all(came.wait(30) for _, came in calls)
    assert sorted(done) == sorted(map(str, range(1000)))


def test_a_plain_function_has_a_few_threads_and_a_question_that_is_given_up_meanwhile_is_never_asked(
    make: Make,
) -> None:
    asked: list[str] = []
    lock, go_on, full = threading.Lock(), threading.Event(), threading.Semaphore(0)

    def approver(question: Question) -> bool:
        with lock:
            asked.append(question.name)
        full.release()
        assert go_on.wait(30)
        return True

    calls: list[tuple[list[ToolReply], threading.Event]] = []
    tools, _ = make({"default": "ask"}, approver)
    others, _ = make({"default": "ask"}, approver)  # the threads are those of the process
    for made in (tools, others):
        calls += [submit(made, "write_note", {"text": str(n)}) for n in range(MOST_THREADS)]
    for _ in range(MOST_THREADS):
        assert full.acquire(timeout=30)
    assert not full.acquire(blocking=False)
    given_up, came = submit(tools, "pay", {"to": "x", "amount": 1}, "run2_code1")
    tools.give_up("run2")
    assert came.wait(10)
    go_on.set()
    assert all(one.wait(30) for _, one in calls)  # whose turn came then
    last, came = submit(tools, "send_mail", {"to": ["x"]})
    assert came.wait(30)
    assert "pay" not in asked
    assert asked.count("write_note") == len(done) - 1 == 2 * MOST_THREADS
    assert len(given_up) == len(last) == 1


def test_a_call_that_is_given_up_withdraws_its_question(make: Make) -> None:
    person = Person()
    tools, host = make({"default": "ask"}, person)
    replies, came = submit(tools, "write_note", {"text": "a"})
    question = person.next()
    tools.give_up("run1")
    assert came.wait(10)
    assert question.is_over
    assert not question.answer(True)
    assert (len(replies), done) == (1, [])
    told = [e.decision for e in host.told if isinstance(e, Approval)]
    assert told == ["", "given up: nobody waits for an answer any more"]


def test_a_function_is_a_policy_and_what_fails_in_it_is_a_no(make: Make) -> None:
    def policy(request: PolicyRequest) -> object:
        if request.name == "write_note":
            return "allow"
        raise LookupError("no idea")

    tools, _ = make(policy)
    assert tools.call_sync("write_note", {"text": "a"}) == "wrote a"
    with pytest.raises(ToolDeniedError, match="the policy failed: LookupError: no idea"):
        tools.call_sync("send_mail", {"to": []})


class _Odd:
    """What can be neither compared nor shown."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise SystemExit("compared")

    def __repr__(self) -> str:
        raise RuntimeError("shown")


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "odd", [_Odd(), ("deny", _Odd()), _Mute(), SystemExit(1), True, None, b"allow", ["allow"]]
)
def test_a_policy_that_is_broken_in_any_way_is_a_no(make: Make, odd: object) -> None:
    def policy(request: PolicyRequest) -> object:
        if isinstance(odd, BaseException):
            raise odd
        return odd

    tools, _ = make(policy)
    replies, came = submit(tools, "write_note", {"text": "a"})
    assert came.wait(10)
    assert b"was denied" in replies[0].payload
    assert done == []


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize(
    "odd", [_Odd(), ApproverAnswer("deny"), 1, b"once", "once\n", _Mute(), SystemExit(1), KeyboardInterrupt()]
)  # type: ignore[arg-type]
def test_an_approver_that_is_broken_in_any_way_is_a_no_and_the_next_one_is_asked(
    make: Make, odd: object, is_async: bool
) -> None:
    def blocking(question: Question) -> object:
        if question.request.content == b'{"text": "good"}':
            return True
        if isinstance(odd, BaseException):
            raise odd
        return odd

    async def waiting(question: Question) -> object:
        return blocking(question)

    tools, _ = make({"default": "ask"}, waiting if is_async else blocking)
    replies, came = submit(tools, "write_note", {"text": "bad"})
    assert came.wait(10)
    assert b"was denied" in replies[0].payload
    assert done == []
    _replies, came = submit(tools, "write_note", {"text": "good"})
    assert came.wait(10)
    assert done == ["good"]


def test_an_answer_for_the_session_holds_for_the_rule_that_asked(make: Make) -> None:
    asked: list[str] = []

    def approver(question: Question) -> str:
        asked.append(question.why)
        return "always"

    rules = [Rule("ask", name="write_note", arguments={"text": "prod*"}), Rule("ask", name="write_note")]
    tools, _ = make({"rules": rules, "default": "deny"}, approver)
    for text in ("tmp", "other", "prod 1", "prod 2"):
        tools.call_sync("write_note", {"text": text})
    assert asked == ["rule 2", "rule 1"]
    # what holds always holds for the rule, wherever it stands later
    tools, _ = make({"rules": [Rule("deny", name="send_mail"), *rules], "default": "deny"}, approver)
    tools.call_sync("write_note", {"text": "prod 3"})
    assert len(asked) == 2


def test_an_answer_for_the_session_answers_what_waits_for_the_same(make: Make) -> None:
    person = Person()
    tools, host = make({"default": "ask"}, person)
    calls = [submit(tools, "write_note", {"text": str(number)}) for number in range(3)]
    other, other_came = submit(tools, "send_mail", {"to": []})
    for _ in range(4):
        person.next()
    first = next(q for q in person.questions if q.name == "write_note")
    first.answer("session")
    assert all(came.wait(10) for _, came in calls)
    assert sorted(done) == ["0", "1", "2"]
    assert not other_came.is_set()
    told = [e.decision for e in host.told if isinstance(e, Approval) and e.decision]
    assert sorted(told) == ["allowed by the answer to " + first.id] * 2 + [
        "allowed for the session by Person"
    ]
    next(q for q in person.questions if q.name == "send_mail").answer(False)
    assert other_came.wait(10)
    assert not other[0].ok


def test_a_job_that_calls_between_two_runs_has_an_unknown_cost(make: Make) -> None:
    tools, host = make([Rule("deny", cost_over_usd=1.0), Rule("allow")])
    host.transcripts.clear()
    replies, came = submit(tools, "write_note", {"text": "a"})
    assert came.wait(10)
    assert b"was denied" in replies[0].payload


def test_a_rule_on_the_cost_counts_what_is_not_known_as_more(make: Make) -> None:
    from agentd.types import Usage

    rules = [Rule("deny", cost_over_usd=1.0, reason="too dear"), Rule("allow")]
    tools, host = make({"rules": rules})
    transcript = host.transcripts["run1"] = Transcript()
    known, more, unknown = (Usage(requests=1, cost_usd=cost) for cost in (0.5, 1.5, None))
    for usage, allowed in ((known, True), (more, False), (unknown, False), (known + unknown, False)):
        transcript.usage = usage
        replies, came = submit(tools, "write_note", {"text": "a"})
        assert came.wait(10)
        assert replies[0].ok is allowed


def test_reading_resources_changes_nothing() -> None:
    from agentd_policy.presets import PRESETS
    from agentd_tools.resources import _SPECS

    requests = [PolicyRequest(kind="tool", name=spec.name, source=spec.source, spec=spec) for spec in _SPECS]
    said = [PRESETS["read-only"].judge(request, lambda _: 0.0) for request in requests]
    assert all(getattr(decision, "allowed", False) for decision in said)


@pytest.mark.parametrize(
    ("preset", "allowed"),
    [("read-only", ["look"]), ("ask-writes", ["look"]), ("yolo", ["append", "look", "wipe"])],
)
def test_a_preset_knows_what_a_function_says_of_itself(
    preset: str, allowed: list[str], tmp_path: Path
) -> None:
    @tool(read_only=True)
    def look() -> str:
        return "seen"

    @tool(destructive=False)
    def append() -> str:
        return "more"

    @tool
    def wipe() -> str:
        return "gone"

    judge, _ = read_policy(preset)
    tools = ToolSet([look, append, wipe], policy=RulesPolicy(judge, None, SessionStandIn(tmp_path)))
    assert [name for name in ("append", "look", "wipe") if may_call(tools, name)] == allowed
    rules, _ = read_policy({"rules": [{"verdict": "deny", "destructive": True}], "default": "allow"})
    tools = ToolSet([look, append, wipe], policy=RulesPolicy(rules, None, SessionStandIn(tmp_path)))
    assert [name for name in ("append", "look", "wipe") if may_call(tools, name)] == ["append", "look"]


def may_call(tools: ToolSet, name: str) -> bool:
    try:
        tools.call_sync(name, {})
    except ToolDeniedError:
        return False
    return True
