from __future__ import annotations

import io
import re
import threading

import pytest
from agentd.errors import ConfigError
from agentd.events import (
    CodeExecution,
    CodeOutput,
    CodeStart,
    Event,
    ReasoningDelta,
    RunEnd,
    RunStart,
    SourceLog,
    TextDelta,
    ToolCall,
    ToolProgress,
    TurnEnd,
)
from agentd.types import Usage
from agentd_sink_console import plugin
from agentd_sink_console.console import ConsoleSink
from agentd_sink_console.painters import PlainPainter
from hypothesis import given, strategies as st

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")

RUN: list[Event] = [
    RunStart(task="t", model="m-1"),
    TextDelta("I will "),
    TextDelta("look."),
    CodeStart(id="a", code="echo hi\n", target="bash"),
    CodeOutput(id="a", text="hi\nthe"),
    CodeOutput(id="a", text="re\n"),
    ToolCall(id="t1", name="add", arguments='{"a": 1}', result="2"),
    CodeExecution(id="a", code="echo hi\n", output="hi\nthere\n", status="completed", target="bash"),
    TurnEnd(turn=1),
    TextDelta("Done."),
    TurnEnd(turn=2),
    RunEnd(text="Done.", turns=2, usage=Usage(input_tokens=1200, output_tokens=34, cost_usd=0.01)),
]


def shown(events: list[Event], *, color: bool = False) -> str:
    stream = io.StringIO()
    sink = ConsoleSink(stream, color=color, width=80)
    for event in events:
        sink.emit(event)
    sink.close()
    return stream.getvalue()


def test_a_cost_of_which_a_part_is_unknown_says_so() -> None:
    known, unknown = Usage(input_tokens=9, requests=1, cost_usd=0.01), Usage(input_tokens=9, requests=2)
    assert "18 + 0 tokens · at least $0.0100 · " in shown([RunEnd(usage=known + unknown)])
    assert "18 + 0 tokens · at least $0.0100 · " in shown([RunEnd(usage=unknown + known)])
    assert "at least" not in shown([RunEnd(usage=known + known + Usage())])


def test_an_answer_behind_one_that_was_not_taken_is_a_paragraph_of_its_own() -> None:
    events = [TextDelta("no"), TurnEnd(turn=1), TextDelta('{"n": 1}'), TurnEnd(turn=2), RunEnd(turns=2)]
    assert shown(events).startswith('no\n\n{"n": 1}\n\n')


def test_a_run_reads_from_top_to_bottom_in_plain_text() -> None:
    text = shown(RUN)
    assert "\x1b" not in text
    assert re.sub(r"\d+\.\d+ s", "N s", text) == (
        "model m-1\n\nI will look.\n\n--- 1 · bash\n    echo hi\n  │ hi\n  │ there\n"
        '  · add {"a": 1} → 2\n  └ ok · N s\n\nDone.\n\n2 turns · 1,200 + 34 tokens · $0.0100 · N s\n'
    )


def test_a_terminal_gets_colour_and_the_same_words() -> None:
    text = shown(RUN, color=True)
    assert ESCAPE.search(text)
    plain = ESCAPE.sub("", text)
    for word in ("I will look.", "echo hi", "│ there", "add", "Done.", "2 turns"):
        assert word in plain


def test_a_pipe_no_color_and_a_dumb_terminal_get_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def colours(stream: io.StringIO) -> bool:
        ConsoleSink(stream).emit(RunStart(model="m"))
        return "\x1b" in stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    assert colours(Terminal())
    assert not colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not colours(Terminal())


@pytest.mark.parametrize("color", [False, True])
def test_hostile_output_code_prose_and_tools_cannot_steer_the_terminal(color: bool) -> None:
    hostile = "\x1b]0;owned\x07\x1b[2Jx\x9b31m\x08"
    text = shown(
        [
            RunStart(model=hostile),
            TextDelta(hostile),
            CodeStart(id="a", code=hostile, target=hostile),
            CodeOutput(id="a", text=hostile[:5]),
            CodeOutput(id="a", text=hostile[5:] + "\n"),
            ToolCall(id="t", name=hostile, arguments=hostile, result=hostile, status="failed"),
            CodeExecution(id="a", code=hostile, output=hostile, status="failed", exit_code=3),
            RunEnd(stop_reason="error", error=hostile),
        ],
        color=color,
    )
    rest = ESCAPE.sub("", text) if color else text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", rest)
    assert "owned" not in rest


def test_lines_of_blocks_that_run_at_the_same_time_are_whole_and_marked() -> None:
    text = shown(
        [
            CodeStart(id="a", code="1", target="bash"),
            CodeStart(id="b", code="2", target="python"),
            CodeOutput(id="a", text="from "),
            CodeOutput(id="b", text="from b\n"),
            CodeOutput(id="a", text="a\nlast"),
            CodeOutput(id="b", text="oops", stream="stderr"),
            CodeExecution(id="a", code="1", output="", status="completed"),
            CodeExecution(id="b", code="2", output="", status="failed", exit_code=1),
        ]
    )
    assert [line for line in text.splitlines() if "│" in line or "└" in line] == [
        "  2│ from b",
        "  1│ from a",
        "  1│ last",
        "  1 └ ok · 0.00 s",
        "  2│ oops",
        "  2 └ exit 1 · 0.00 s",
    ]


def test_a_block_that_was_not_streamed_shows_what_it_gave() -> None:
    text = shown(
        [
            CodeStart(id="a", code="x", action="create", target="notes.md"),
            CodeExecution(id="a", code="x", output="created notes.md", status="completed"),
        ]
    )
    assert "create notes.md" in text
    assert "│ created notes.md" in text


def test_prose_is_shown_as_it_was_cut_and_blank_space_between_blocks_is_not() -> None:
    text = shown(
        [
            TextDelta("a\n"),
            TextDelta("b\n"),
            TextDelta("\nc\n\n"),
            CodeStart(id="a", code="x", target="bash"),
            TextDelta("\n\n"),
            CodeStart(id="b", code="y", target="bash"),
        ]
    )
    assert text == "a\nb\n\nc\n\n--- 1 · bash\n    x\n\n--- 2 · bash\n    y\n"


def test_in_a_pipe_everything_is_complete_and_in_colour_a_giant_block_is_shortened() -> None:
    events: list[Event] = [
        CodeStart(id="a", code="print()\n" * 10_000, target="python"),
        CodeOutput(id="a", text="line\n" * 5_000),
        CodeExecution(id="a", code="", output="", status="completed"),
    ]
    plain = shown(events)
    assert plain.count("│ line\n") == 5_000
    assert plain.count("print") == 10_000
    assert "more lines" not in plain
    assert shown(events, color=True).count("print") < 300


@pytest.mark.parametrize("cut", [1, 3, 1000])
def test_of_a_line_that_is_written_anew_the_last_state_is_shown(cut: int) -> None:
    text = "".join(f"\r{n} %" for n in range(3000)) + "\nplain\r\nlast\rend"
    events: list[Event] = [CodeOutput(id="a", text=text[i : i + cut]) for i in range(0, len(text), cut)]
    lines = shown(
        [CodeStart(id="a", code="x"), *events, CodeExecution(id="a", code="", output="", status="failed")]
    )
    assert [line for line in lines.splitlines() if "│" in line] == ["  │ 2999 %", "  │ plain", "  │ end"]


def test_an_endless_line_is_shown_in_parts_instead_of_kept() -> None:
    sink = ConsoleSink(stream := io.StringIO(), color=False)
    sink.emit(CodeStart(id="a", code="x", target="bash"))
    for _ in range(100):
        sink.emit(CodeOutput(id="a", text="y" * 1000))
    assert stream.getvalue().count("y") > 90_000


@pytest.mark.parametrize("reason", ["max_turns", "wall_time", "tokens", "tool_calls", "cancelled", "error"])
def test_a_run_that_stopped_early_says_so(reason: str) -> None:
    text = shown([RunStart(), TextDelta("half"), RunEnd(stop_reason=reason, error="because", turns=1)])  # type: ignore[arg-type]
    assert re.search(r"^(stopped: |cancelled|failed)", text, re.MULTILINE)
    assert "because" in text
    assert "1 turn ·" in text


@given(
    st.lists(
        st.one_of(
            st.text(max_size=8).map(TextDelta),
            st.builds(CodeOutput, id=st.sampled_from("ab"), text=st.text(alphabet="xy\n\r", max_size=8)),
            st.builds(
                CodeStart, id=st.sampled_from("ab"), code=st.text(max_size=8), target=st.text(max_size=4)
            ),
            st.builds(
                CodeExecution,
                id=st.sampled_from("ab"),
                code=st.just(""),
                output=st.text(max_size=8),
                status=st.just("completed"),
            ),
            st.builds(ToolCall, id=st.just("t"), name=st.text(max_size=5)),
            st.just(RunStart(model="m")),
            st.just(RunEnd()),
        ),
        max_size=12,
    )
)
def test_no_order_of_events_tears_a_line(events: list[Event]) -> None:
    text = shown(events)
    for line in text.splitlines():
        # output, ends and tool calls begin their line; nothing stands in front of them
        assert "└" not in line or line.lstrip(" 0123456789").startswith(("└", "│")) or line.startswith("    ")


def test_a_picture_that_code_shows_is_told_once_and_not_as_its_bytes() -> None:
    sink = ConsoleSink(stream := io.StringIO(), color=False)
    given = {"id": "1", "code_id": "2", "name": "agentd_show", "arguments": '{"data":"iVBORw0K"}'}
    sink.emit(ToolCall(**given, result="null", status="completed"))
    assert stream.getvalue() == ""
    sink.emit(ToolCall(**given, result="no picture", status="failed"))
    assert "agentd_show" in stream.getvalue()
    assert "no picture" in stream.getvalue()


def test_events_from_many_threads_do_not_mix_within_a_line() -> None:
    sink = ConsoleSink(stream := io.StringIO(), color=False)
    names = [str(n) for n in range(8)]
    for name in names:
        sink.emit(CodeStart(id=name, code="x", target="bash"))
    before = len(stream.getvalue())

    def flood(name: str) -> None:
        for _ in range(50):
            sink.emit(CodeOutput(id=name, text=f"<{name}"))
            sink.emit(CodeOutput(id=name, text=">\n"))

    threads = [threading.Thread(target=flood, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue()[before:].splitlines()
    assert len(lines) == 400
    assert all(re.fullmatch(r"  \d│ <\d>", line) for line in lines)


def test_the_plugin_makes_a_console_sink_and_refuses_what_it_does_not_know() -> None:
    assert isinstance(plugin.agentd_create_event_sink({"stream": "stderr"}), ConsoleSink)
    with pytest.raises(ConfigError, match="did you mean 'color'"):
        plugin.agentd_create_event_sink({"colour": True})
    with pytest.raises(ConfigError, match="'stdout' or 'stderr'"):
        plugin.agentd_create_event_sink({"stream": "file"})
    with pytest.raises(ConfigError, match="true or false"):
        plugin.agentd_create_event_sink({"color": "yes"})


def test_progress_and_log_messages_are_short_lines_and_no_flood() -> None:
    reports: list[Event] = [
        ToolProgress(id="t1", name="scan", done=i, total=4, message=f"step\x1b[2J {i}") for i in range(1, 4)
    ]
    logs: list[Event] = [
        SourceLog(source="srv", level=level, text=f"{level}\nmessage") for level in ("debug", "info", "error")
    ]
    assert shown([*reports, ToolProgress(id="t2", name="count", done=7), *logs]) == (
        "  · scan 25% step 1\n  · count 7\n  · srv info: info message\n  · srv error: error message\n"
    )


def test_a_painter_of_ones_own_shows_everything_and_output_may_be_bounded_tighter() -> None:
    stream = io.StringIO()
    sink = ConsoleSink(painter=PlainPainter(stream), max_output_lines=2)
    sink.emit(CodeStart(id="a", code="seq 5", target="bash"))
    sink.emit(CodeOutput(id="a", text="1\n2\n3\n4\n5\n"))
    sink.emit(CodeExecution(id="a", code="seq 5", output="", status="completed"))
    text = stream.getvalue()
    assert "│ 2\n" in text
    assert "│ 3" not in text
    assert "… 3 more lines" in text


@pytest.mark.parametrize("color", [False, True])
def test_what_the_model_thinks_stands_apart_from_its_answer_and_is_dim(color: bool) -> None:
    stream = io.StringIO()
    sink = ConsoleSink(stream, color=color)
    for event in [*map(ReasoningDelta, ("I sho", "uld\nlook.")), *map(TextDelta, ("\nI ", "look."))]:
        sink.emit(event)
    sink.emit(ReasoningDelta("Or not?"))
    sink.emit(RunEnd(text="I look."))
    text = stream.getvalue()
    assert ESCAPE.sub("", text).startswith("I should\nlook.\n\nI look.\n\nOr not?\n\n")
    if color:
        dim = re.findall(r"\x1b\[2m([^\x1b]*)\x1b\[0m", text)
        assert dim[:3] == ["I sho", "uld\nlook.", "Or not?"]
    else:
        assert "\x1b" not in text
