"""Transcripts in the journal: everything comes back, and saving costs what is new."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd.turn.transcript import Execution, Message, NativeCall, Transcript
from agentd.types import Usage
from agentd_daemon.journal import Journal, JournalError
from hypothesis import given, settings, strategies as st

TEXT = st.text(st.characters(), max_size=12)  # with NUL and lone surrogates
NUMBER = st.integers(min_value=0, max_value=2**70)
SECONDS = st.floats(allow_nan=False)
CALLS = st.builds(NativeCall, id=TEXT, name=TEXT, arguments=TEXT, output=TEXT)
ROLES = st.sampled_from(["task", "answer", "results"])
MESSAGES = st.builds(Message, ROLES, TEXT, st.lists(CALLS, max_size=2).map(tuple))
EXECUTIONS = st.builds(
    Execution,
    id=TEXT,
    turn=NUMBER,
    header=TEXT,
    code=TEXT,
    output=TEXT,
    status=TEXT,
    exit_code=st.integers(),
    wall_s=SECONDS,
)
USAGES = st.builds(
    Usage,
    input_tokens=NUMBER,
    output_tokens=NUMBER,
    cached_input_tokens=NUMBER,
    reasoning_tokens=NUMBER,
    requests=NUMBER,
    cost_usd=st.none() | SECONDS,
)
TRANSCRIPTS = st.builds(
    Transcript,
    st.lists(MESSAGES, max_size=6),
    st.lists(EXECUTIONS, max_size=4),
    USAGES,
)


class RowCount:
    """How many rows were written to the parts of transcripts, counted by the database itself."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as c, c:
            c.execute("CREATE TABLE written (kind TEXT, position INTEGER)")
            c.execute(
                "CREATE TRIGGER count_them AFTER INSERT ON transcript_parts "
                "BEGIN INSERT INTO written VALUES (new.kind, new.position); END"
            )
        c.close()
        self.path = path

    def take(self) -> list[tuple[str, int]]:
        """Return kind and position of each row written since the last time."""
        with closing(sqlite3.connect(self.path)) as c, c:
            rows = c.execute("SELECT kind, position FROM written ORDER BY rowid").fetchall()
            c.execute("DELETE FROM written")
        c.close()
        return rows


@pytest.fixture
def rows(journal: Journal) -> RowCount:
    return RowCount(journal.path)


def a_turn(transcript: Transcript, number: int) -> None:
    call = NativeCall(id=f"c{number}", name="fetch", arguments="{}")
    transcript.add("answer", f"answer {number}", [call])
    transcript.add("results", "", [attrs.evolve(call, output="x" * 200)])
    execution = Execution(
        id=f"e{number}",
        turn=number,
        header="fetch:call",
        code="{}",
        output="x",
        status="completed",
        exit_code=0,
    )
    transcript.executions.append(execution)
    transcript.usage += Usage(input_tokens=10, requests=1)


@settings(max_examples=60, deadline=None)
@given(states=st.lists(TRANSCRIPTS, min_size=1, max_size=4), data=st.data())
def test_whatever_was_saved_last_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory, states: list[Transcript], data: Any
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    journal = Journal.open(path)
    try:
        for number, state in enumerate(states):
            if number and data.draw(st.booleans()):  # shares a beginning with what was saved before
                keep = data.draw(st.integers(0, len(states[number - 1].messages)))
                state.messages[:0] = states[number - 1].messages[:keep]
            journal.save_transcript("a", state)
            if data.draw(st.booleans()):
                journal.close()
                journal = Journal.open(path)
            assert journal.load_transcript("a") == state
    finally:
        journal.close()
    with Journal.open(path, readonly=True) as reader:
        assert reader.load_transcript("a") == states[-1]


def test_twenty_turns_write_each_message_and_execution_once(journal: Journal, rows: RowCount) -> None:
    transcript = Transcript()
    transcript.add("task", "begin")
    journal.save_transcript("a", transcript)
    assert rows.take() == [("messages", 0)]
    for turn in range(20):
        a_turn(transcript, turn)
        journal.save_transcript("a", transcript)
        assert rows.take() == [
            ("messages", 1 + 2 * turn),
            ("messages", 2 + 2 * turn),
            ("executions", turn),
        ]
    assert journal.load_transcript("a") == transcript


def test_saving_goes_on_where_it_was_after_a_restart(journal: Journal, rows: RowCount) -> None:
    transcript = Transcript()
    for turn in range(5):
        a_turn(transcript, turn)
    journal.save_transcript("a", transcript)
    journal.close()
    rows.take()
    with Journal.open(journal.path) as again:
        a_turn(transcript, 5)
        again.save_transcript("a", transcript)  # without having loaded it
        assert rows.take() == [("messages", 10), ("messages", 11), ("executions", 5)]
    with Journal.open(journal.path) as again:
        loaded = again.load_transcript("a")
        assert loaded == transcript
        a_turn(loaded, 6)
        again.save_transcript("a", loaded)
        assert len(rows.take()) == 3
        assert again.load_transcript("a") == loaded


def test_saving_the_same_again_writes_no_rows(journal: Journal, rows: RowCount) -> None:
    transcript = Transcript()
    a_turn(transcript, 0)
    journal.save_transcript("a", transcript)
    rows.take()
    transcript.usage += Usage(input_tokens=1)
    journal.save_transcript("a", transcript)
    assert rows.take() == []
    assert journal.load_transcript("a") == transcript


def test_a_changed_beginning_is_written_anew(journal: Journal, rows: RowCount) -> None:
    transcript = Transcript()
    for turn in range(6):
        a_turn(transcript, turn)
    journal.save_transcript("a", transcript)
    rows.take()
    bounded = Transcript(transcript.messages[4:], transcript.executions[2:], transcript.usage)
    journal.save_transcript("a", bounded)
    assert len(rows.take()) == 8 + 4
    assert journal.load_transcript("a") == bounded


def test_a_rewound_transcript_loses_its_end_and_writes_what_is_new(journal: Journal, rows: RowCount) -> None:
    transcript = Transcript()
    for turn in range(6):
        a_turn(transcript, turn)
    journal.save_transcript("a", transcript)
    rows.take()
    del transcript.messages[4:], transcript.executions[2:]
    a_turn(transcript, 9)
    journal.save_transcript("a", transcript)
    assert rows.take() == [("messages", 4), ("messages", 5), ("executions", 2)]
    assert journal.load_transcript("a") == transcript
    journal.save_transcript("a", Transcript())
    assert journal.load_transcript("a") == Transcript()


def test_a_rewrite_that_fails_leaves_the_old_transcript(journal: Journal) -> None:
    transcript = Transcript()
    for turn in range(4):
        a_turn(transcript, turn)
    journal.save_transcript("a", transcript)
    with closing(sqlite3.connect(journal.path)) as c, c:
        c.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON transcript_parts WHEN new.position = 2 "
            "BEGIN SELECT raise(ABORT, 'stop here'); END"
        )
    other = Transcript()
    for turn in range(9, 13):
        a_turn(other, turn)
    with pytest.raises(JournalError, match=r"could not save the transcript of agent 'a' .* stop here"):
        journal.save_transcript("a", other)
    assert journal.load_transcript("a") == transcript
    with closing(sqlite3.connect(journal.path)) as c, c:
        c.execute("DROP TRIGGER stop")
    journal.save_transcript("a", other)
    assert journal.load_transcript("a") == other


def test_each_agent_has_its_own_and_a_new_one_has_none(journal: Journal) -> None:
    one, two = Transcript(), Transcript()
    a_turn(one, 1)
    a_turn(two, 2)
    journal.save_transcript("one", one)
    journal.save_transcript("two", two)
    assert journal.load_transcript("one") == one
    assert journal.load_transcript("two") == two
    assert journal.load_transcript("three") is None


def test_what_was_loaded_can_be_changed_without_changing_what_is_saved(journal: Journal) -> None:
    transcript = Transcript()
    a_turn(transcript, 0)
    journal.save_transcript("a", transcript)
    loaded = journal.load_transcript("a")
    assert loaded is not None
    loaded.messages.clear()
    assert journal.load_transcript("a") == transcript
