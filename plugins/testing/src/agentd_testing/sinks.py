"""`EventSinkContract`: what every event sink promises, as tests."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import pytest
from agentd.events import (
    CodeDelta,
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
from agentd.protocols import EventSink
from agentd.types import Usage
from hypothesis import HealthCheck, given, settings, strategies as st

__all__ = ["RUN", "EventSinkContract"]

RUN: Final[tuple[Event, ...]] = (
    RunStart(task="t", model="m-1"),
    ReasoningDelta("They want me to look."),
    TextDelta("I will "),
    TextDelta("look."),
    CodeDelta(id="a", text="echo hi\n`", target="bash"),
    CodeStart(id="a", code="echo hi\n", target="bash"),
    CodeOutput(id="a", text="hi\nthe"),
    CodeOutput(id="a", text="re\n", stream="stderr"),
    ToolProgress(id="t1", name="add", done=1, total=2, message="half"),
    ToolCall(id="t1", name="add", arguments='{"a": 1}', result="2", code_id="a"),
    SourceLog(source="server", level="warning", text="slow"),
    CodeExecution(id="a", code="echo hi\n", output="hi\nthere\n", status="completed", target="bash"),
    TurnEnd(turn=1),
    CodeStart(id="b", code="text", action="create", target="x.txt", turn=2),
    CodeExecution(
        id="b", code="text", output="", status="failed", exit_code=1, action="create", target="x.txt"
    ),
    TextDelta("Done."),
    TurnEnd(turn=2, usage=Usage(input_tokens=1)),
    RunEnd(text="Done.", turns=2, usage=Usage(input_tokens=1200, output_tokens=34, cost_usd=0.01)),
)
"""One of each kind of event, as a run sends them."""

_texts = st.text(alphabet=st.characters(codec=None), max_size=60)
_settings = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class EventSinkContract:
    """Subclass it and say how a sink is made:

    class TestMySink(EventSinkContract):
        def make_sink(self, folder):
            return MySink(folder / "log")
    """

    def make_sink(self, folder: Path) -> EventSink:
        """Return a new sink; what it writes may go below `folder`."""
        pytest.fail("override make_sink(folder) in the subclass", pytrace=False)

    def test_a_whole_run_passes(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        for event in RUN:
            sink.emit(event)
        sink.close()

    def test_several_runs_pass_one_after_the_other(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        for event in RUN * 3:
            sink.emit(event)
        sink.close()

    @pytest.mark.parametrize("count", [0, 1, 4, 8])
    def test_a_run_that_stops_anywhere_can_be_closed(self, tmp_path: Path, count: int) -> None:
        sink = self.make_sink(tmp_path)
        for event in RUN[:count]:
            sink.emit(event)
        sink.close()

    def test_closing_twice_is_no_error(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        sink.emit(RUN[0])
        sink.close()
        sink.close()

    @pytest.mark.parametrize("event", RUN, ids=lambda event: event.type)
    def test_any_event_may_come_first(self, tmp_path: Path, event: Event) -> None:
        sink = self.make_sink(tmp_path)
        sink.emit(event)
        sink.close()

    def test_any_text_passes(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        @_settings
        @given(_texts, _texts)
        def holds(text: str, other: str) -> None:
            sink = self.make_sink(tmp_path_factory.mktemp("sink"))
            sink.emit(RunStart(task=text, model=other))
            sink.emit(ReasoningDelta(other))
            sink.emit(TextDelta(text))
            sink.emit(CodeStart(id="a", code=text, target=other))
            sink.emit(CodeOutput(id="a", text=other))
            sink.emit(ToolCall(id="c", name=text, arguments=other, result=text))
            sink.emit(CodeExecution(id="a", code=text, output=other, status="failed", target=other))
            sink.emit(RunEnd(text=text, error=other, stop_reason="error"))
            sink.close()

        holds()

    def test_events_may_come_from_several_threads(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        errors: list[BaseException] = []

        def emit() -> None:
            try:
                for event in RUN:
                    sink.emit(event)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=emit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sink.close()
        assert errors == [], "tools report from threads of their own: emit() must stand calls from any"
