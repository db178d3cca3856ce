"""Questions in the journal: answered once, taken once, over with their task, whole after a cut."""

from __future__ import annotations

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd_daemon.journal import (
    Journal,
    JournalError,
    JournalledQuestion,
    LateAnswerError,
    UnknownQuestionError,
)
from agentd_daemon.journal.schema import MIGRATIONS


def question(journal: Journal, task: str | None = None, **more: Any) -> JournalledQuestion:
    """A question, which is not asked yet."""
    now = time.time()
    values = {
        "id": journal.new_question_id(),
        "agent": "a",
        "trigger_id": task,
        "state": "open",
        "kind": "tool",
        "name": "send_mail",
        "source": "mail",
        "digest": "d",
        "arguments": '{"to": "you"}',
        "why": "rule 1",
        "workspace": "/w",
        "asked_at": now,
        "until": now + 600,
    }
    return JournalledQuestion(**{**values, **more})


def ask(journal: Journal, task: str | None = None, **more: Any) -> JournalledQuestion:
    return journal.ask(question(journal, task, **more))


def task(journal: Journal) -> str:
    return journal.begin(journal.accept("a", origin="repl", task="do it").id).id


def test_what_was_asked_comes_back_as_it_was(journal: Journal) -> None:
    wanted = question(journal, task(journal))
    assert journal.ask(wanted) == wanted
    assert journal.questions() == journal.questions("a") == [wanted]
    assert journal.questions("b") == []


def test_the_first_answer_counts_and_the_second_is_told_so(journal: Journal) -> None:
    asked = ask(journal)
    given = journal.answer(asked.id, allowed=False, reason="r" * 5000, by="one")
    assert (given.state, given.allowed, len(given.reason)) == ("answered", False, 1000)
    with pytest.raises(
        LateAnswerError, match=f"the question {asked.id} takes no answer.*denied by one at 20"
    ):
        journal.answer(asked.id, allowed=True, by="two")
    assert journal.question(asked.id) == given
    assert journal.questions() == []


def test_of_many_who_answer_at_once_one_counts(journal: Journal) -> None:
    asked = ask(journal)
    outcomes: list[str] = []
    begin = threading.Barrier(8)

    def answer(number: int) -> None:
        with Journal.open(journal.path, guest=True) as guest:
            begin.wait()
            try:
                outcomes.append(guest.answer(asked.id, allowed=True, by=f"number {number}").answered_by)
            except LateAnswerError as error:
                outcomes.append(f"late: {error.question.answered_by}")

    threads = [threading.Thread(target=answer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [outcome for outcome in outcomes if not outcome.startswith("late")]
    assert outcomes.count(f"late: {winner}") == 7
    assert journal.question(asked.id).answered_by == winner


def test_an_unknown_question_takes_no_answer(journal: Journal) -> None:
    with pytest.raises(UnknownQuestionError, match=r"no question 'nope' in the journal .*agentd approvals"):
        journal.answer("nope", allowed=True)


def test_an_answer_is_taken_once(journal: Journal) -> None:
    asked = ask(journal, task(journal))
    assert journal.take(asked.id) is None, "there is none yet"
    journal.answer(asked.id, allowed=True)
    assert journal.take(asked.id) is not None
    assert journal.take(asked.id) is None
    assert journal.ask(asked).state == "over"


def test_a_call_that_is_asked_again_takes_the_answer_or_waits_for_it(journal: Journal) -> None:
    asked = ask(journal, task(journal))
    journal.lose(asked.id)
    assert journal.question(asked.id).state == "lost"
    assert journal.ask(attrs.evolve(asked, until=asked.until + 99)) == asked, "its time stays"
    journal.lose(asked.id)
    journal.answer(asked.id, allowed=True, scope="session")
    taken = journal.ask(asked)
    assert (taken.state, taken.allowed, taken.scope, taken.taken) == ("answered", True, "session", True)


def test_the_questions_of_a_task_are_over_with_it(journal: Journal) -> None:
    mine, other = task(journal), task(journal)
    asked, parked, apart = ask(journal, mine), ask(journal, mine), ask(journal, other)
    journal.lose(parked.id)
    assert journal.park(mine) == 2
    journal.settle(mine, state="done")
    assert journal.questions() == [apart]
    with pytest.raises(LateAnswerError, match="its task has ended"):
        journal.answer(asked.id, allowed=True)
    assert journal.prune("a", 0) == 1
    with pytest.raises(UnknownQuestionError):
        journal.question(asked.id)


def test_a_question_whose_time_is_over_takes_no_answer(journal: Journal) -> None:
    asked = ask(journal, until=time.time() - 1)
    assert journal.questions() == []
    with pytest.raises(LateAnswerError, match="nobody has answered in time"):
        journal.answer(asked.id, allowed=True)


def test_after_a_kill_no_call_waits_and_a_parked_task_still_does(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        first, second = task(journal), task(journal)
        asked, parked = ask(journal, first), ask(journal, second)
        journal.park(second)
        newest = journal.new_question_id()
    with Journal.open(path) as journal:
        assert [(q.id, q.state) for q in journal.questions()] == [(asked.id, "lost"), (parked.id, "parked")]
        assert journal.new_question_id() > newest


def test_a_guest_answers_beside_the_owner_and_takes_nothing_for_interrupted(journal: Journal) -> None:
    begun = task(journal)
    asked = ask(journal, begun)
    with Journal.open(journal.path, guest=True) as guest:
        guest.answer(asked.id, allowed=True, by="the guest")
        assert guest.counts("a") == {"running": 1}
    assert journal.question(asked.id).answered_by == "the guest"


def test_a_guest_makes_no_journal_and_brings_none_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(JournalError, match="there is no such file"):
        Journal.open(path, guest=True)
    assert not path.exists()
    Journal.open(path).close()
    with closing(sqlite3.connect(path)) as c, c:
        c.execute("PRAGMA user_version = 1")
    c.close()
    with pytest.raises(
        JournalError, match=f"has version 1, this agentd reads {len(MIGRATIONS)}; start the daemon"
    ):
        Journal.open(path, guest=True)


def test_a_question_for_which_there_is_no_room_is_not_kept(journal: Journal) -> None:
    with journal.read("fill it") as c:
        pages = c.execute("PRAGMA page_count").fetchone()[0]
        c.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def ask_for_ever() -> None:
        while True:
            ask(journal, arguments="x" * 2000)

    with pytest.raises(JournalError, match="could not keep a question"):
        ask_for_ever()
    for kept in journal.questions():
        assert len(kept.arguments) == 2000


def test_a_journal_that_was_cut_keeps_the_questions_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        begun = task(journal)
        asked = [ask(journal, begun, arguments="x" * 1500) for _ in range(60)]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 8 * 4096)
    with Journal.open(path) as journal:
        assert journal.damaged is not None
        left = journal.questions()
    assert 0 < len(left) < 60
    assert {q.id for q in left} <= {q.id for q in asked}
    assert {q.state for q in left} == {"lost"}


def test_a_question_between_two_tasks_is_over_with_its_call(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        given_up, open_ = ask(journal), ask(journal)
        journal.lose(given_up.id)
        with pytest.raises(LateAnswerError, match="its call is gone"):
            journal.answer(given_up.id, allowed=True)
    with Journal.open(path) as journal:
        assert journal.question(open_.id).state == "over"
        journal.prune("a")
        with pytest.raises(UnknownQuestionError):
            journal.question(open_.id)
