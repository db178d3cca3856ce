"""Triggers in the journal: taken, coalesced, begun, repeated, settled, pruned."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from agentd.types import Usage
from agentd_daemon.journal import Journal, JournalError, Trigger
from agentd_daemon.journal.ids import TriggerIds


def change(journal: Journal, content: str, uri: str = "file:///a", **more: str) -> Trigger:
    return journal.accept(
        "news", origin="subscription", uri=uri, content=content, digest=f"d{content}", **more
    )


def test_a_trigger_goes_from_pending_through_running_to_done(journal: Journal) -> None:
    before = time.time()
    taken = journal.accept("news", origin="repl", task="What is new?")
    assert (taken.state, taken.attempts, taken.task) == ("pending", 0, "What is new?")
    assert before <= taken.accepted_at <= time.time()
    assert journal.next_trigger("news") == taken == journal.get(taken.id)
    begun = journal.begin(taken.id)
    assert (begun.state, begun.attempts) == ("running", 1)
    assert begun.started_at is not None
    assert journal.next_trigger("news") is None
    done = journal.settle(taken.id, state="done", result="Nothing.")
    assert (done.state, done.result) == ("done", "Nothing.")
    assert done.ended_at is not None
    assert journal.pending("news") == []
    assert journal.recent("news") == [done]
    assert journal.counts("news") == {"done": 1}


def test_triggers_come_in_the_order_in_which_they_were_taken_each_agent_its_own(journal: Journal) -> None:
    first = journal.accept("a", origin="repl", task="1")
    other = journal.accept("b", origin="once", task="2")
    last = journal.accept("a", origin="repl", task="3")
    assert first.id < other.id < last.id
    assert journal.pending("a") == [first, last]
    assert journal.next_trigger("b") == other
    assert journal.next_trigger("c") is None
    assert journal.recent("a", 1) == [last]


def test_changes_of_one_resource_become_one_trigger_with_the_newest_content(journal: Journal) -> None:
    first = change(journal, "one", previous="zero", task="old words")
    between = journal.accept("news", origin="repl", task="hello")
    change(journal, "two", previous="one", task="new words")
    newest = change(journal, "three", previous="two", task="new words")
    assert newest.id == first.id
    assert (newest.content, newest.digest, newest.coalesced) == ("three", "dthree", 2)
    assert newest.previous == "zero"  # what the agent knows: it never saw one and two
    assert newest.task == "new words"
    assert newest.accepted_at == first.accepted_at
    assert journal.pending("news") == [newest, between]


def test_other_resources_other_agents_and_what_people_write_are_not_coalesced(journal: Journal) -> None:
    change(journal, "x", "file:///a")
    change(journal, "x", "file:///b")
    journal.accept("other", origin="subscription", uri="file:///a", content="x")
    journal.accept("news", origin="repl", task="same")
    journal.accept("news", origin="repl", task="same")
    assert journal.counts("news") == {"pending": 4}
    assert journal.counts("other") == {"pending": 1}


def test_a_change_during_the_work_on_the_last_one_is_a_trigger_of_its_own(journal: Journal) -> None:
    begun = journal.begin(change(journal, "one").id)
    later = change(journal, "two")
    assert later.id > begun.id
    assert change(journal, "three").id == later.id
    assert journal.next_trigger("news") == journal.get(later.id)


def test_a_trigger_that_waits_for_another_attempt_keeps_its_content(journal: Journal) -> None:
    """Its id may be known elsewhere as half done: other content under the same id would be taken for a repeat."""
    tried = journal.begin(change(journal, "one").id)
    waiting = journal.retry_later(tried.id, "the model is not there")
    assert (waiting.state, waiting.attempts, waiting.error) == ("pending", 1, "the model is not there")
    change(journal, "two")
    assert [(t.content, t.attempts) for t in journal.pending("news")] == [("one", 1), ("two", 0)]
    again = journal.begin(waiting.id)
    assert (again.id, again.attempts, again.error) == (tried.id, 2, "the model is not there")


def test_what_was_last_seen_is_noted_with_the_trigger(journal: Journal) -> None:
    assert journal.last_seen("news", "file:///a") is None
    taken = change(journal, "one")
    seen = journal.last_seen("news", "file:///a")
    assert seen is not None
    assert (seen.digest, seen.content, seen.at) == ("done", "one", taken.accepted_at)
    change(journal, "two")
    assert getattr(journal.last_seen("news", "file:///a"), "content", None) == "two"
    journal.note_seen("news", "file:///a", "d3", "three")
    assert getattr(journal.last_seen("news", "file:///a"), "digest", None) == "d3"
    assert journal.last_seen("other", "file:///a") is None
    journal.accept("news", origin="repl", uri="file:///c", content="not a resource's change")
    assert journal.last_seen("news", "file:///c") is None


def test_one_agent_that_starts_anew_takes_up_what_it_had_begun_and_no_other_does(journal: Journal) -> None:
    begun = [journal.begin(journal.accept(name, origin="repl", task="x").id) for name in ("news", "mail")]
    assert journal.interrupt("news") == 1
    found = journal.next_trigger("news")
    assert found is not None
    assert (found.id, found.state, found.attempts) == (begun[0].id, "interrupted", 1)
    assert journal.next_trigger("mail") is None
    assert journal.interrupt("news") == 0


@pytest.mark.parametrize("usage", ["", "[]", "{", '{"input_tokens": "many"}', '{"unknown": 1}', "null"])
def test_a_damaged_usage_row_is_named(journal: Journal, usage: str) -> None:
    begun = journal.begin(change(journal, "one").id)
    journal.note_turn(begun.id, 1, Usage(input_tokens=5))
    with journal.write("damage it") as c:
        c.execute("UPDATE turns SET usage = ?", (usage,))
    with pytest.raises(JournalError, match="damaged usage"):
        journal.turns(begun.id)


def test_what_was_running_is_found_interrupted_after_a_restart_and_can_begin_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        begun = journal.begin(change(journal, "one").id)
        journal.note_turn(begun.id, 1, Usage(input_tokens=5, requests=1))
    with Journal.open(path) as journal:
        found = journal.next_trigger("news")
        assert found is not None
        assert (found.id, found.state, found.attempts) == (begun.id, "interrupted", 1)
        assert journal.counts("news") == {"interrupted": 1}
        assert journal.begin(found.id).attempts == 2
        journal.note_turn(begun.id, 1, Usage(input_tokens=7, requests=1, cost_usd=0.5))
        notes = journal.turns(begun.id)
        assert [(n.attempt, n.turn, n.usage.input_tokens, n.usage.cost_usd) for n in notes] == [
            (1, 1, 5, None),
            (2, 1, 7, 0.5),
        ]


@pytest.mark.parametrize("state", ["done", "failed", "skipped"])
def test_a_settled_trigger_neither_begins_nor_settles_nor_waits_again(journal: Journal, state: str) -> None:
    trigger = journal.accept("news", origin="repl", task="x")
    settled = journal.settle(trigger.id, state=state, error="why")  # type: ignore[arg-type]
    for attempt in (
        lambda: journal.begin(trigger.id),
        lambda: journal.settle(trigger.id, state="done"),
        lambda: journal.retry_later(trigger.id, "no"),
    ):
        with pytest.raises(JournalError, match=f"the trigger '{trigger.id}' is '{state}'"):
            attempt()
    assert journal.get(trigger.id) == settled


def test_a_running_trigger_does_not_begin_twice(journal: Journal) -> None:
    trigger = journal.begin(journal.accept("news", origin="repl").id)
    with pytest.raises(JournalError, match="is 'running'"):
        journal.begin(trigger.id)
    assert journal.get(trigger.id) == trigger


def test_an_unknown_trigger_is_an_error_that_names_it(journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"could not begin a trigger .* no trigger 'nope'"):
        journal.begin("nope")
    assert journal.get("nope") is None


def test_text_with_nul_and_lone_surrogates_is_taken(journal: Journal) -> None:
    taken = change(journal, "a\0b\ud800c é 漢", task="\udfff")
    assert taken.content == "a\0b?c é 漢"
    assert journal.get(taken.id) == taken
    assert journal.settle(taken.id, state="failed", error="\ud800").error == "?"


def test_pruning_keeps_the_newest_settled_ones_and_all_that_wait(journal: Journal) -> None:
    triggers = [journal.accept("news", origin="repl", task=str(n)) for n in range(10)]
    for trigger in triggers[1:9]:
        journal.begin(trigger.id)
        journal.note_turn(trigger.id, 1, Usage())
        journal.settle(trigger.id, state="done")
    journal.settle(journal.accept("other", origin="once").id, state="done")
    assert journal.prune("news", keep_triggers=3) == 5
    assert [t.task for t in reversed(journal.recent("news", 99))] == ["0", "6", "7", "8", "9"]
    assert journal.turns(triggers[1].id) == []
    assert len(journal.turns(triggers[8].id)) == 1
    assert journal.prune("news", keep_triggers=0) == 3
    assert journal.counts("news") == {"pending": 2}
    assert journal.counts("other") == {"done": 1}


def test_ids_rise_when_the_clock_stands_or_is_set_back_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 2_000_000_000_000_000_000)
    path = tmp_path / "journal.db"
    with Journal.open(path) as journal:
        ids = [journal.accept("a", origin="repl").id for _ in range(40)]
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000_000_000_000)
    with Journal.open(path) as journal:
        ids += [journal.accept("a", origin="repl").id for _ in range(40)]
    assert ids == sorted(set(ids))
    assert {len(i) for i in ids} == {11}


def test_an_id_from_a_damaged_file_does_not_stop_the_ids() -> None:
    assert len(TriggerIds("no id! ÄÖÜ").new()) == 11


def test_many_threads_take_and_settle_at_once(journal: Journal) -> None:
    def work(number: int) -> list[str]:
        taken = []
        for n in range(20):
            trigger = journal.accept(f"agent{number % 2}", origin="repl", task=str(n))
            journal.begin(trigger.id)
            if n % 2:
                journal.settle(trigger.id, state="done")
            change(journal, str(n))
            taken.append(trigger.id)
        return taken

    with ThreadPoolExecutor(8) as pool:
        ids = [i for taken in pool.map(work, range(8)) for i in taken]
    assert len(set(ids)) == 160
    assert journal.counts("agent0") == journal.counts("agent1") == {"done": 40, "running": 40}
    assert [t.coalesced for t in journal.pending("news")] == [159]


def test_a_trigger_whose_resource_is_passed_over_waits_unless_it_has_begun_before(journal: Journal) -> None:
    begun = journal.accept("news", origin="subscription", uri="u:1", content="1", digest="1")
    journal.begin(begun.id)
    held = journal.accept("news", origin="subscription", uri="u:2", content="2", digest="2")
    other = journal.accept("news", origin="repl", task="Hello.")
    assert journal.next_trigger("news") == held
    assert journal.next_trigger("news", but=["u:2", "u:3"]) == other
    retried = journal.retry_later(begun.id, "later")
    assert journal.next_trigger("news", but=["u:1", "u:2"]) == retried
    journal.begin(begun.id)
    journal.settle(begun.id, state="done")
    journal.begin(other.id)
    assert journal.next_trigger("news", but=["u:2"]) is None
