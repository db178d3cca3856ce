"""What agents do becomes rows: whole, in width, and without anything that steers a terminal."""

from __future__ import annotations

import re

import attrs
import pytest
from agentd import events
from agentd.events import Event
from agentd.turn.transcript import Message, NativeCall
from agentd.types import ToolSpec, Usage
from agentd_daemon.commands.status import _cost, _state
from agentd_daemon.control import AgentStatus, ServerStatus
from agentd_daemon.repl import views
from agentd_daemon.repl.feed import Feed
from agentd_daemon.repl.screen import Screen
from agentd_daemon.repl.wrapping import cut, width_of, wrap
from hypothesis import example, given, settings, strategies as st
from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import DummyOutput

SGR = re.compile(r"\x1b\[[0-9;]*m")
HOSTILE = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\x1b[]\x07\x9b\\;0mHJ?\r\n\t \x08")))


class Sized(DummyOutput):
    """A terminal that has a size and shows nothing."""

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def get_size(self) -> Size:
        return Size(rows=24, columns=self._columns)


class Rows(Screen):
    """A screen that keeps its rows."""

    def __init__(self, columns: int, *, color: bool) -> None:
        super().__init__(Sized(columns), color=color)

    def taken(self) -> list[str]:
        return self._taken().split("\r\n")[:-1]


def is_harmless(text: str) -> bool:
    plain = SGR.sub("", text)
    return all(c >= " " and not "\x7f" <= c <= "\x9f" and not "\ud800" <= c <= "\udfff" for c in plain)


def every_event(text: str) -> list[Event]:
    return [
        events.RunStart(task=text, model=text),
        events.TextDelta(text),
        *map(events.TextDelta, text),
        events.CodeStart(id="a", code=text, target=text, action=text),
        events.CodeStart(id="b", code=text, target="python"),
        events.CodeOutput(id="a", text=text),
        events.CodeOutput(id="b", text=text, stream="stderr"),
        events.ToolProgress(id="t", name=text, message=text),
        events.ToolCall(id="t", name=text, arguments=text, result=text),
        events.SourceLog(source=text, level=text, text=text),
        events.CodeExecution(id="a", code=text, output=text, status="failed", exit_code=1),
        events.TurnEnd(),
        events.RunEnd(stop_reason="error", error=text, text=text),
    ]


@settings(deadline=None)
@given(HOSTILE, HOSTILE, st.booleans(), st.sampled_from([1, 12, 40, 80]))
@example("\x1b[2J\x1b]52;c;aGk=\x07", "\x9b2J", True, 80)
@example("", "\t", False, 1)
def test_no_event_brings_a_control_character_to_the_terminal(
    text: str, agent: str, color: bool, columns: int
) -> None:
    screen = Rows(columns, color=color)
    feed = Feed(screen, lambda: [agent])
    for event in every_event(text):
        feed.on_event(agent, event)
        for live in screen.live.values():
            assert is_harmless(live.prefix + live.text)
    rows = screen.taken()
    assert rows
    assert all(map(is_harmless, rows))
    assert color or not any("\x1b" in row for row in rows)


@settings(deadline=None)
@given(HOSTILE, st.sampled_from([20, 80]))
def test_no_answer_of_a_command_brings_one_either(text: str, columns: int) -> None:
    status = AgentStatus(
        name=text, state="idle", queued=1, model=text, last_error=text, last_at=0.0, node=text,
        servers=(ServerStatus(name=text, state="down", error=text),),
    )  # fmt: skip
    said = [Message("task", text), Message("results", "", (NativeCall(id="1", name=text, output=text),))]
    for view in (
        views.note(text),
        views.agents([status], text),
        views.tools([ToolSpec(name=text, description=text, source=text)]),
        views.messages(said),
    ):
        for row in views.rows(view, columns=columns, color=True):
            assert is_harmless(row)


def test_an_agent_of_a_fleet_has_the_machine_that_it_is_on_beside_its_state() -> None:
    status = AgentStatus(name="a", state="running", queued=0, node="0e8206bd37bc60fc")
    (row,) = views.rows(views.agents([status], "a"), columns=200, color=False)[1:]
    assert "running on 0e8206bd37bc " in row
    assert _state(attrs.asdict(status)) == "running on 0e8206bd37bc"


def test_what_an_agent_has_cost_says_if_a_part_of_it_is_unknown() -> None:
    known, unknown = Usage(requests=1, cost_usd=0.5), Usage(requests=1)
    for usage, cost in ((known, "$0.5000"), (known + unknown, "at least $0.5000"), (unknown, "")):
        status = AgentStatus(name="a", state="idle", queued=0, model="m", usage=usage)
        row = views.rows(views.agents([status], "a"), columns=200, color=False)[-1]
        assert ("$" in row) is bool(cost)
        assert f"  {cost}" in row
        assert _cost(attrs.asdict(usage)) == (cost or "-")


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Cf", "Mn", "Me"])), st.integers(2, 40))
@example("漢字" * 9 + " a b", 5)
def test_wrapped_rows_fit_and_lose_nothing_but_the_spaces_where_they_break(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(width_of(row) <= width for row in rows)
    assert "".join(rows).replace(" ", "") == text.expandtabs(8).replace(" ", "")
    assert "".join(wrap(text, width, at_words=False)) == text.expandtabs(8)
    assert width_of(cut(text, width)) <= width


def test_words_stay_whole_where_they_can() -> None:
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]
    assert wrap("  - indented item", 10) == ["  -", "indented", "item"]
    assert wrap("unbreakable", 5) == ["unbre", "akabl", "e"]
    assert wrap("", 5) == [""]
    assert [cut("news desk", n) for n in (9, 5, 1, 0)] == ["news desk", "news…", "…", ""]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_prose_gives_the_same_rows_however_it_is_cut(size: int) -> None:
    text = "A paragraph of some length, to be broken.\n\n  * an item that goes on and on and on\nand an end"
    whole, pieces = Rows(40, color=False), Rows(40, color=False)
    Feed(whole, lambda: ["news"]).on_event("news", events.TextDelta(text + "\n"))
    feed = Feed(pieces, lambda: ["news"])
    for start in range(0, len(text), size):
        feed.on_event("news", events.TextDelta(text[start : start + size]))
    assert pieces.live["news"].text == "and an end"
    feed.on_event("news", events.TextDelta("\n"))
    assert not pieces.live
    assert pieces.taken() == whole.taken()


@pytest.mark.parametrize("color", [True, False])
def test_what_the_model_thinks_is_dim_and_has_rows_of_its_own(color: bool) -> None:
    screen = Rows(80, color=color)
    feed = Feed(screen, lambda: ["news"])
    for event in (events.ReasoningDelta("I should\nlook."), events.TextDelta("I look.\n")):
        feed.on_event("news", event)
    rows = [row.partition("┆ ")[2].removeprefix("\x1b[0m") for row in screen.taken()]
    dim = "\x1b[2m{}\x1b[0m" if color else "{}"
    assert [row for row in rows if row] == [dim.format("I should"), dim.format("look."), "I look."]


def test_names_have_colours_of_their_own_and_one_width() -> None:
    screen = Rows(80, color=True)
    feed = Feed(screen, lambda: ["news", "mailbox"])
    for name in ("news", "mailbox"):
        feed.on_event(name, events.TextDelta("hello\n"))
    rows = [row for row in screen.taken() if "hello" in row]
    assert rows[0].startswith("\x1b[1;36mnews    ┆ \x1b[0m")
    assert rows[1].startswith("\x1b[1;33mmailbox ┆ \x1b[0m")


def test_one_endless_line_is_cut_with_a_count() -> None:
    screen = Rows(80, color=False)
    feed = Feed(screen, lambda: ["news"])
    feed.on_event("news", events.CodeOutput(id="a", text="x" * 100_000 + "\n"))
    rows = screen.taken()
    assert len(rows) <= 22
    assert "more characters" in rows[-1] + rows[-2]


def test_rows_that_nobody_could_see_go_and_are_counted() -> None:
    screen = Rows(80, color=False)
    screen.show(f"{n}" for n in range(3_000))
    rows = screen.taken()
    assert rows[0] == "… 1,000 rows that this terminal was too slow for"
    assert rows[1] == "1000"
    assert rows[-1] == "2999"


def test_a_run_whose_end_was_not_seen_does_not_run_into_the_next_one() -> None:
    screen = Rows(80, color=False)
    feed = Feed(screen, lambda: ["news"])
    feed.on_event("news", events.TextDelta("half an ans"))
    feed.on_event("news", events.RunStart(task="next\none"))
    assert screen.taken() == ["news ┆ half an ans", "news ┆ ▸ next one"]
