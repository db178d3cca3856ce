"""What is allowed always: kept for a workspace, listed, and forgotten also by sessions that run."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from agentd_policy.approvers import Approver
from agentd_policy.creating import create_policy
from agentd_policy.remembered import AlwaysAllowed, RememberedAnswers, always_allowed
from agentd_tools.policy import PolicyRequest
from policy_host import SessionStandIn


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "agentd" / "policy"


def request(name: str) -> PolicyRequest:
    return PolicyRequest(kind="tool", name=name, source="local")


def test_what_was_forgotten_is_asked_about_again_by_a_session_that_runs(tmp_path: Path) -> None:
    mine, other = (RememberedAnswers(tmp_path / name) for name in ("mine", "other"))
    for answers in (mine, other):
        answers.add(request("send"), "always")
    assert mine.scope_of(request("send")) == "always"
    kept = [AlwaysAllowed(str(tmp_path / name), "tool", "local", "send") for name in ("mine", "other")]
    assert always_allowed() == kept
    assert RememberedAnswers(Path(kept[0].workspace)).forget(kept[0])
    assert mine.scope_of(request("send")) is None
    assert other.scope_of(request("send")) == "always"
    assert always_allowed() == kept[1:]


def test_removing_the_file_forgets_it_and_one_that_is_damaged_allows_nothing(tmp_path: Path) -> None:
    answers = RememberedAnswers(tmp_path)
    answers.add(request("send"), "always")
    assert answers.scope_of(request("send")) == "always"
    answers.path.write_text("[]")
    assert answers.scope_of(request("send")) is None
    assert always_allowed() == []
    answers.path.unlink()
    assert answers.scope_of(request("send")) is None


def add_some(workspace: Path, prefix: str) -> None:
    for number in range(20):
        RememberedAnswers(workspace).add_always("tool", "local", f"{prefix}{number}", "default")


def test_two_processes_that_add_to_one_file_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_some, args=(tmp_path, prefix)) for prefix in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(always_allowed()) == 40


def test_what_cannot_be_written_holds_for_the_session(tmp_path: Path, state: Path) -> None:
    state.parent.mkdir(parents=True)
    state.write_text("a file where the folder should be")
    answers = RememberedAnswers(tmp_path)
    answers.add(request("send"), "always")
    assert answers.scope_of(request("send")) == "session"


@pytest.mark.parametrize(("policy", "seconds"), [("ask-writes", 7.0), ({"timeout_s": 2}, 2.0)])
def test_an_approver_says_how_long_it_takes_unless_the_policy_does(
    policy: object, seconds: float, tmp_path: Path
) -> None:
    approver = Approver(lambda question: True, "mine", timeout_s=7.0)
    assert create_policy(policy, approver, SessionStandIn(tmp_path)).timeout_s == seconds  # type: ignore[attr-defined]


def test_an_approver_may_name_its_questions(tmp_path: Path) -> None:
    host = SessionStandIn(tmp_path)
    approver = Approver(lambda question: None, "mine", id_of=lambda request: f"about-{request.name}")
    policy = create_policy({"default": "ask"}, approver, host)
    policy.check(request("send"), lambda decision: None)
    policy.close()
    assert [event.id for event in host.told] == ["about-send"] * 2
