"""A run's events become a tree and bars, whatever is missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pytest
from agentd_sink_html import timeline
from agentd_sink_html.trace import BlockTrace, CallTrace, Prose, QuestionTrace, RunTrace, Thought, Traces
from hypothesis import given, settings, strategies as st


def runs(events: Iterable[tuple[float, dict[str, Any]]]) -> list[RunTrace]:
    traces = Traces()
    for at, event in events:
        traces.add(event, at)
    return traces.runs


def block(id_: str, start: float, end: float, **fields: Any) -> list[tuple[float, dict[str, Any]]]:
    begin = {"type": "code_start", "id": id_, "code": "true", "target": "bash"}
    ended = {"type": "code_execution", "id": id_, "status": "completed", "output": "ok", **fields}
    return [(start, begin), (end, ended)]


RUN = [
    (0.0, {"type": "run_start", "task": "t", "model": "m", "executor": "native"}),
    (0.5, {"type": "reasoning", "text": "Hm"}),
    (1.0, {"type": "text_delta", "text": "I "}),
    (1.5, {"type": "text_delta", "text": "look."}),
    (2.0, {"type": "code_start", "id": "a", "code": "one", "target": "python"}),
    (2.0, {"type": "code_start", "id": "b", "code": "two", "target": "bash"}),
    (
        3.0,
        {"type": "tool_call", "id": "1", "name": "f", "code_id": "a", "wall_s": 0.5, "status": "completed"},
    ),
    (3.0, {"type": "approval", "id": "q", "kind": "tool", "name": "g", "code_id": "a"}),
    (
        5.0,
        {
            "type": "approval",
            "id": "q",
            "kind": "tool",
            "name": "g",
            "code_id": "a",
            "decision": "allow once",
        },
    ),
    (
        6.0,
        {
            "type": "code_execution",
            "id": "a",
            "status": "failed",
            "exit_code": 3,
            "output": "bad",
            "code": "one",
        },
    ),
    (6.5, {"type": "code_execution", "id": "b", "status": "completed", "output": "ok", "code": "two"}),
    (7.0, {"type": "turn_end", "turn": 1, "usage": {"input_tokens": 5}}),
    (9.0, {"type": "text_delta", "text": "Done."}),
    (9.5, {"type": "turn_end", "turn": 2, "usage": {}}),
    (10.0, {"type": "run_end", "stop_reason": "answer", "text": "Done.", "usage": {"cost_usd": 0.5}}),
]


def test_turns_hold_prose_and_blocks_and_blocks_what_was_called_and_asked_inside() -> None:
    (run,) = runs(RUN)
    assert (run.task, run.model, run.executor, run.stop_reason, run.answer) == (
        "t",
        "m",
        "native",
        "answer",
        "Done.",
    )
    first, second = run.turns
    reasoning, text, a, b = first.parts
    assert isinstance(reasoning, Thought)
    assert (isinstance(text, Prose), text.text) == (True, "I look.")
    assert isinstance(a, BlockTrace)
    assert (a.status, a.exit_code, a.output, a.start, a.end) == ("failed", 3, "bad", 2.0, 6.0)
    call, question = a.inside
    assert isinstance(call, CallTrace)
    assert (call.start, call.end) == (2.5, 3.0)
    assert isinstance(question, QuestionTrace)
    assert (question.start, question.end, question.decision) == (3.0, 5.0, "allow once")
    assert isinstance(b, BlockTrace)
    assert not b.inside
    assert (first.start, first.end, first.usage) == (0.0, 7.0, {"input_tokens": 5})
    assert (second.start, second.written) == (7.0, 9.0)
    assert run.usage == {"cost_usd": 0.5}


def test_where_the_time_went_counts_each_moment_once_for_the_innermost_work() -> None:
    (run,) = runs(RUN)
    seconds = {share.kind: share.seconds for share in timeline.shares(run)}
    # asked 3-5, the tool 2.5-3, code 2-2.5 and 5-6.5, the model 0-2 and 7-9
    assert seconds == pytest.approx({"wait": 2.0, "tool": 0.5, "code": 2.0, "model": 4.0, "rest": 1.5})
    assert sum(share.percent for share in timeline.shares(run)) == pytest.approx(100)


def wrote_s(*steps: float | dict[str, Any]) -> float:
    """Return the time of the model in one turn of these events, and of the seconds that pass between them."""
    now, events = 0.0, [(0.0, {"type": "run_start"})]
    for step in steps:
        if isinstance(step, dict):
            events.append((now, step))
        else:
            now += step
    events += [(now, {"type": "turn_end", "turn": 1}), (now, {"type": "run_end"})]
    (run,) = runs(events)
    (turn,) = run.turns
    (model,) = (row for row in timeline.rows(run, {}) if row.kind == "model")
    assert model.bars[0].start == pytest.approx(turn.start / now * 1000, abs=0.01)
    return turn.written - turn.start


def test_a_block_that_waits_for_another_was_written_before() -> None:
    def about(id_: str, type_: str) -> dict[str, Any]:
        return {"type": type_, "id": id_, "code": "x", "action": "create", "status": "completed"}

    written = (2, about("a", "code_delta"), about("b", "code_delta"), about("a", "code_start"))
    assert wrote_s(*written, 30, about("a", "code_execution"), about("b", "code_start"), 5) == 2


def test_a_native_call_was_written_when_it_began() -> None:
    assert wrote_s(2, 30, {"type": "tool_call", "id": "run1_code1", "name": "f", "wall_s": 30.0}) == 2


def test_a_native_call_of_code_was_written_when_its_block_starts() -> None:
    assert wrote_s(2, {"type": "code_start", "id": "a", "code": "x"}, 30) == 2


def test_what_code_calls_is_no_time_of_the_model() -> None:
    said = {"type": "text_delta", "text": "x"}
    assert wrote_s(2, said, 30, {"type": "tool_call", "id": "call_1", "name": "f", "wall_s": 1.0}) == 2
    inside = {"type": "tool_call", "id": "1", "code_id": "a", "wall_s": 1.0}
    assert wrote_s(2, {"type": "code_start", "id": "a"}, 30, inside) == 2


def checkpoint(took_s: float) -> dict[str, Any]:
    text = f"checkpoint c took {took_s:.6f} s from 2026-01-01T00:00:00+00:00"
    return {"type": "source_log", "source": "checkpoints", "level": "debug", "text": text}


def test_a_checkpoint_before_a_turn_is_no_time_of_the_model() -> None:
    said = {"type": "text_delta", "text": "x"}
    assert wrote_s(30, checkpoint(30), 2, said, 5) == 2
    assert wrote_s(2, said, 30, checkpoint(30), 2, said) == 34  # one that is made while the model writes
    other = {**checkpoint(1), "source": "weather"}
    assert wrote_s(30, other, 2, said) == 32


def test_the_time_of_a_turn_in_which_nothing_is_told_is_the_models() -> None:
    assert wrote_s(30) == 30


def test_a_checkpoint_after_the_last_turn_makes_no_further_turn() -> None:
    (run,) = runs([*RUN[:-1], (9.8, checkpoint(0.3)), *RUN[-1:]])
    assert [turn.number for turn in run.turns] == [1, 2]
    assert run.turns[-1].parts[-1].kind == "logged"


def test_what_is_said_to_have_taken_longer_than_the_run_counts_within_it() -> None:
    (run,) = runs(
        [*RUN[:7], (4.0, {"type": "tool_call", "id": "2", "name": "f", "wall_s": 900.0}), *RUN[-1:]]
    )
    seconds = {share.kind: share.seconds for share in timeline.shares(run)}
    assert seconds["tool"] == pytest.approx(4.0)
    (bar,) = (
        bar for row in timeline.rows(run, {}) if row.kind == "tool" for bar in row.bars if bar.start == 0
    )
    assert bar.width == 400


def test_a_clock_that_is_set_back_makes_no_time_negative() -> None:
    from agentd_sink_html.page import page

    back = [(at - 3600, event) for at, event in RUN[4:-1]]
    made = runs(
        [*RUN[:4], *block("z", 1.6, -3600), *back, (2.0, {"type": "code_start", "id": "y"}), *RUN[-1:]]
    )
    assert all(share.seconds >= 0 for share in timeline.shares(made[0]))
    assert sum(share.percent for share in timeline.shares(made[0])) == pytest.approx(100, abs=0.3)
    assert not re.search(r"-[\d.]+ m?s\b", page(made))


def test_what_ran_at_once_has_rows_of_its_own_and_what_ran_in_turn_shares_one() -> None:
    (run,) = runs(
        [(0.0, {"type": "run_start"}), *block("a", 1, 3), *block("b", 2, 4), *block("c", 4, 5), *RUN[-1:]]
    )
    rows = [row for row in timeline.rows(run, {}) if row.kind == "code"]
    assert [[(bar.start, bar.width) for bar in row.bars] for row in rows] == [
        [(100, 200), (400, 100)],
        [(200, 200)],
    ]


def test_a_thousand_blocks_at_once_have_a_bounded_number_of_rows() -> None:
    events = [(1.0, block(str(number), 1, 9)[0][1]) for number in range(1000)]
    (run,) = runs([(0.0, {"type": "run_start"}), *events, *RUN[-1:]])
    rows = [row for row in timeline.rows(run, {}) if row.kind == "code"]
    assert len(rows) == 12
    assert sum(len(row.bars) for row in rows) == 1000


def test_a_run_that_breaks_off_keeps_what_its_block_had_printed() -> None:
    (run,) = runs([*RUN[:5], (4.0, {"type": "code_output", "id": "a", "text": "so far"})])
    (last,) = run.blocks()
    assert (run.stop_reason, last.status, last.output, last.end) == ("", "unfinished", "so far", 4.0)


def test_the_output_of_a_block_that_never_ends_is_kept_within_a_bound() -> None:
    flood = [(4.0, {"type": "code_output", "id": "a", "text": "x" * 10_000})] * 100
    (run,) = runs([*RUN[:5], *flood])
    assert len(run.blocks()[0].output) == 65_536


def test_a_long_text_in_short_pieces_is_put_together_once_and_not_with_each() -> None:
    (run,) = runs(
        [(0.0, {"type": kind, "text": "word "}) for kind in ("reasoning", "text_delta") for _ in range(50)]
    )
    thought, text = run.turns[0].parts
    assert isinstance(thought, Thought)
    assert isinstance(text, Prose)
    assert text.pieces == thought.pieces == ["word "] * 50
    assert text.text == "word " * 50


def test_a_new_run_after_an_end_is_another_one() -> None:
    first, second = runs([*RUN, *RUN])
    assert (len(first.turns), len(second.turns)) == (2, 2)


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    (run,) = runs(
        [*RUN[:2], (1.0, {"type": "from_the_future", "text": 1}), (1.0, {"type": "__init__"}), *RUN[2:]]
    )
    assert len(run.turns) == 2


ODD = [
    "/x/.agentd/pictures/\0",
    "/x/.agentd/pictures/\ud800",
    "image/png",
    float("inf"),
    10**400,
    "checkpoints",
]
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dictionaries(st.text(), st.none())
    | st.sampled_from(ODD)
)
FIELDS = (
    "id text code_id wall_s waited_s exit_code status code turn name path mime_type width source action task"
)
EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            sorted({event["type"] for _, event in RUN} | {"code_delta", "picture", "source_log"})
        )
    },
    optional={
        **dict.fromkeys(FIELDS.split(), VALUES),
        "usage": VALUES
        | st.dictionaries(st.sampled_from(["cost_usd", "input_tokens", "output_tokens"]), VALUES),
    },
)


@settings(max_examples=50)  # each makes a page
@given(st.lists(st.tuples(st.floats(0, 1e9), EVENTS), max_size=20))
def test_no_event_whatever_its_fields_and_order_stops_the_page(
    events: list[tuple[float, dict[str, Any]]],
) -> None:
    from agentd_sink_html.page import page

    made = runs(events)
    text = page(made)
    assert text.rstrip().endswith("</html>")
    assert not re.search(r"-[\d.]+ m?s</", text)
    for run in made:
        shares = timeline.shares(run)
        assert all(share.seconds >= 0 for share in shares)
        assert sum(share.seconds for share in shares) <= (run.end - run.start) * (1 + 1e-9)
        bars = [bar for row in timeline.rows(run, {}) for bar in row.bars]
        assert all(0 <= bar.start <= 1000 and bar.width <= 1000 for bar in bars)
