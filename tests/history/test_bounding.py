"""A history kept within its limit: cut in front of tasks only, the newest kept, the rest dropped or summarised."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence

import pytest
from agentd.turn.transcript import Execution, NativeCall, Transcript, format_results
from agentd.types import Usage
from agentd_history.bounding import Message, bound, estimate, tokens
from hypothesis import example, given, settings, strategies as st


class Summariser:
    """Stands for the model that writes summaries: says what it is told to say, and keeps what it was given."""

    def __init__(self, says: str | Exception = "They counted lines.") -> None:
        self.says = says
        self.given: list[str] = []

    async def __call__(self, text: str) -> str:
        self.given.append(text)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


def execution(id: str, turn: int = 1, output: str = "out") -> Execution:
    return Execution(
        id=id, turn=turn, header="bash:execute", code="ls", output=output, status="completed", exit_code=0
    )


def add_task(transcript: Transcript, name: str, *, rounds: Sequence[int] = (1,), chars: int = 400) -> None:
    """Add a task with an answer for each round; a round has so many blocks, or, if negative, native calls."""
    transcript.add("task", f"task {name} " + "t" * chars)
    for turn, number in enumerate(rounds, 1):
        done = [execution(f"{name}.{turn}.{n}", turn) for n in range(abs(number))]
        transcript.executions += done
        if number > 0:
            transcript.add("answer", f"answer {name} {turn}")
            transcript.add("results", format_results(done, ["a note"]))
        elif number < 0:
            calls = [NativeCall(id=d.id, name="f") for d in done]
            transcript.add("answer", "", calls)
            transcript.add(
                "results", "", [NativeCall(id=d.id, name="f", output="[result 1 of 9: x") for d in done]
            )
    transcript.add("answer", f"done {name}")


def conversation(tasks: int, chars: int = 400, **more: Sequence[int]) -> Transcript:
    transcript = Transcript(usage=Usage(input_tokens=1000, requests=9))
    for n in range(tasks):
        add_task(transcript, str(n), chars=chars, **more)
    return transcript


def names(transcript: Transcript) -> list[str]:
    return [m.content.split()[1] for m in transcript.messages if m.content.startswith("task ")]


def run(
    transcript: Transcript,
    max_tokens: int,
    summarise: Summariser | None = None,
    keep_turns: int = 2,
    rule: str | None = None,
) -> Transcript | None:
    wanted = rule or ("summarise" if summarise else "drop")
    return asyncio.run(
        bound(
            transcript,
            rule=wanted,  # type: ignore[arg-type]
            max_tokens=max_tokens,
            keep_turns=keep_turns,
            summarise=summarise,
        )
    )


# --- dropping ------------------------------------------------------------------------------------------


def test_a_history_within_its_limit_stays_as_it_is() -> None:
    transcript = conversation(5)
    assert run(transcript, tokens(transcript.messages)) is None
    assert run(Transcript(), 0) is None


def test_a_history_beyond_its_limit_is_cut_to_half_of_it_and_the_old_one_is_left_alone() -> None:
    transcript = conversation(10)
    before = Transcript.from_dict(transcript.as_dict())
    limit = tokens(transcript.messages) - 1
    shorter = run(transcript, limit)
    assert shorter is not None
    assert names(shorter) == ["6", "7", "8", "9"]
    assert tokens(shorter.messages) <= limit // 2
    assert shorter.usage == transcript.usage  # it was used, whatever is remembered of it
    assert transcript == before


def test_the_newest_tasks_stay_however_long_they_are() -> None:
    transcript = conversation(5, chars=4000)
    assert names(run(transcript, 100) or Transcript()) == ["3", "4"]
    assert names(run(transcript, 100, keep_turns=1) or Transcript()) == ["4"]
    assert run(transcript, 100, keep_turns=5) is None
    assert run(transcript, 100, keep_turns=9) is None
    assert run(transcript, 100, keep_turns=0) == Transcript(usage=transcript.usage)


@pytest.mark.parametrize("rounds", [(1, 3, 2), (-1, -3, -2), (2, -2, 0, 1), (0,)])
def test_executions_go_with_the_tasks_that_they_belong_to(rounds: tuple[int, ...]) -> None:
    transcript = conversation(6, rounds=rounds)
    shorter = run(transcript, tokens(transcript.messages) // 2)
    assert shorter is not None
    kept = set(names(shorter))
    assert 0 < len(kept) < 6
    assert shorter.executions == [e for e in transcript.executions if e.id.split(".")[0] in kept]


def test_what_stands_before_the_first_task_goes_first() -> None:
    transcript = Transcript([Message("answer", "a" * 4000)])
    for n in range(3):
        add_task(transcript, str(n))
    shorter = run(transcript, 1200)
    assert shorter is not None
    assert shorter.messages == transcript.messages[1:]


def test_the_tokens_are_those_of_all_that_the_model_reads() -> None:
    call = NativeCall(id="not read", name="n" * 8, arguments="a" * 39, output="o" * 39)
    assert tokens([Message("results", "c" * 39, (call,))]) == 32
    assert tokens([Message("task", "four words are here")], count=lambda text: len(text.split())) == 4
    assert estimate("12345678") == 2


# --- summarising -----------------------------------------------------------------------------------------


def test_what_goes_is_replaced_by_a_task_and_an_answer_that_say_that_they_are_a_summary() -> None:
    transcript = conversation(10, chars=2000)
    summariser = Summariser("They counted lines; 7 files are left.")
    shorter = run(transcript, tokens(transcript.messages) - 1, summariser)
    assert shorter is not None
    task, answer, *rest = shorter.messages
    dropped = 10 - len(names(shorter))
    assert task.role == "task"
    assert task.content.startswith(f"[{dropped} earlier tasks of this conversation were left out")
    assert answer.role == "answer"
    assert answer.content == (
        "[This is a summary of them, written by a model.]\n\nThey counted lines; 7 files are left."
    )
    assert rest == transcript.messages[-len(rest) :]
    (given,) = summariser.given
    assert "task 0 " in given
    assert "done 0" in given
    assert f"task {dropped} " not in given  # it stays


def test_the_last_summary_goes_into_the_next_and_is_merged_not_repeated() -> None:
    transcript = conversation(8, chars=2000)
    limit = 4000
    summariser = Summariser("first summary")
    shorter = run(transcript, limit, summariser)
    assert shorter is not None
    gone = 8 - len(names(shorter))
    for n in range(8, 16):
        add_task(shorter, str(n), chars=2000)
    summariser.says = "second summary"
    again = run(shorter, limit, summariser)
    assert again is not None
    first, second = summariser.given
    assert "merge it with the rest" in second
    assert "merge it with the rest" not in first
    assert second.count("first summary") == 1
    assert "This is a summary" not in second  # the frame is not material
    summaries = [m for m in again.messages if "summary" in m.content]
    assert [m.content.splitlines()[-1] for m in summaries] == ["second summary"]
    assert again.messages[0].content.startswith(f"[{16 - len(names(again))} earlier tasks")
    assert 16 - len(names(again)) > gone


def test_a_summary_that_is_too_long_is_cut_to_its_share() -> None:
    shorter = run(conversation(60), 4000, Summariser("s" * 100_000))
    assert shorter is not None
    assert 400 < tokens(shorter.messages[:2]) <= 500
    assert tokens(shorter.messages) <= 2000


@pytest.mark.parametrize(("chars", "has_summary"), [(7400, True), (7800, False)])
def test_a_summary_takes_only_the_room_that_the_newest_tasks_leave(chars: int, has_summary: bool) -> None:
    shorter = run(conversation(4, chars=chars), 4000, Summariser("s" * 100_000))
    assert shorter is not None
    assert names(shorter) == ["2", "3"]
    assert 3700 < tokens(shorter.messages) <= 4000
    assert ("were left out" in shorter.messages[0].content) == has_summary


def test_what_the_summariser_is_given_is_bounded() -> None:
    summariser = Summariser()
    transcript = conversation(3, chars=50_000)
    for n in range(300):
        add_task(transcript, f"x{n}", chars=300)
    assert run(transcript, 2000, summariser) is not None
    (given,) = summariser.given
    assert estimate(given) <= 2000 + 50
    assert "characters were cut here" in given


@pytest.mark.parametrize("says", [RuntimeError("no model"), "", "  \n"])
def test_without_a_summary_the_old_tasks_are_dropped_and_the_log_says_so(
    says: str | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    transcript = conversation(10, chars=2000)
    limit = tokens(transcript.messages) - 1
    with caplog.at_level(logging.WARNING):
        shorter = run(transcript, limit, Summariser(says))
    assert shorter is not None
    assert shorter.messages == transcript.messages[-len(shorter.messages) :]
    assert shorter.messages[0].role == "task"
    assert re.search(r"the summary of \d old tasks failed, so they were dropped", caplog.text)
    assert ("no model" in caplog.text) == isinstance(says, Exception)


def test_a_failing_summariser_does_not_cost_the_summary_from_before() -> None:
    shorter = run(conversation(30), 2000, Summariser("They counted lines."))
    assert shorter is not None
    summary = shorter.messages[:2]
    for n in range(30, 60):
        add_task(shorter, str(n))
    again = run(shorter, 2000, Summariser(OSError("down")))
    assert again is not None
    assert again.messages[:2] == summary
    assert tokens(again.messages) <= 2000


def test_cancellation_of_the_summary_passes() -> None:
    async def never(text: str) -> str:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(bound(conversation(30), rule="summarise", max_tokens=2000, summarise=never))


def test_a_summary_whose_tasks_are_all_that_stays_too_long_is_not_written_again() -> None:
    summariser = Summariser("short")
    shorter = run(conversation(4, chars=8000), 1000, summariser)
    assert shorter is not None
    assert names(shorter) == ["2", "3"]
    assert run(shorter, 1000, summariser) is None
    assert len(summariser.given) == 1


# --- properties ------------------------------------------------------------------------------------------

CHARS = st.sampled_from([0, 10, 400, 3000])
ROUNDS = st.lists(st.integers(-3, 3), max_size=3)
TASKS = st.lists(st.tuples(CHARS, ROUNDS), max_size=12)
SUMMARIES = st.sampled_from(["", "short", "s" * 5000, RuntimeError("no")])


@settings(max_examples=250, deadline=None)
@given(
    tasks=TASKS,
    max_tokens=st.integers(0, 6000),
    keep_turns=st.integers(0, 4),
    says=SUMMARIES,
    later=TASKS,
    rule=st.sampled_from(["drop", "summarise"]),
)
@example(tasks=[(0, [])], max_tokens=536, keep_turns=1, says="short", later=[(3000, [])], rule="summarise")
def test_a_bounded_history_is_short_whole_and_final(
    tasks: list[tuple[int, list[int]]],
    max_tokens: int,
    keep_turns: int,
    says: str | Exception,
    later: list[tuple[int, list[int]]],
    rule: str,
) -> None:
    transcript = Transcript()
    number = 0
    for more in (tasks, later):  # the second time, it begins with a summary, maybe
        for chars, rounds in more:
            add_task(transcript, str(number), rounds=rounds, chars=chars)
            number += 1
        before = transcript
        bounded = run(transcript, max_tokens, Summariser(says), keep_turns, rule)
        transcript = bounded or transcript
        kept = names(transcript)
        newest = [str(n) for n in range(number)][max(number - keep_turns, 0) :]
        assert kept == [str(n) for n in range(number)][number - len(kept) :]  # in order, without holes
        assert kept[len(kept) - len(newest) :] == newest
        if bounded is not None:
            assert tokens(bounded.messages) < tokens(before.messages)
        start = next((i for i, m in enumerate(transcript.messages) if m.content.startswith("task ")), None)
        stays = [] if start is None else transcript.messages[start:]
        if len(kept) > keep_turns or tokens(stays) <= max_tokens:
            assert tokens(transcript.messages) <= max_tokens
        else:
            assert tokens(transcript.messages) - tokens(stays) <= max_tokens // 8
        calls = [c.id for m in transcript.messages if m.role == "answer" for c in m.calls]
        results = [c.id for m in transcript.messages if m.role == "results" for c in m.calls]
        assert calls == results  # no call without its result
        told = {e.id for e in transcript.executions}
        assert set(calls) <= told
        assert {i.split(".")[0] for i in told} <= set(kept)
        assert not transcript.messages or transcript.messages[0].role == "task"
        summariser = Summariser(says)
        assert run(transcript, max_tokens, summariser, keep_turns, rule) is None
        assert summariser.given == []
