"""Progress and log messages of sources: in order, bounded, and never in the way of a call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import anyio
import pytest
from agentd.events import SourceLog, ToolCall, ToolProgress
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec
from agentd_tools import ToolSet
from agentd_tools.reports import LOG_BURST, LOGS_PER_S, LogReport, ProgressReport

Event = ToolCall | ToolProgress | SourceLog


class Reporter:
    """A source whose one tool does what the test says with its `on_progress`."""

    name = "reporter"

    def __init__(self, work: Callable[[OnProgress], object]) -> None:
        self.work = work
        self.host: SourceHost | None = None

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        self.host = host
        return [ToolSpec(name="work")]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        assert on_progress is not None
        await anyio.lowlevel.checkpoint()
        return self.work(on_progress)

    async def aclose(self) -> None: ...


@pytest.mark.anyio
async def test_a_flood_of_progress_gives_few_events_with_the_last_before_the_call(anyio_backend: str) -> None:
    kept: list[OnProgress] = []

    def work(report: OnProgress) -> str:
        kept.append(report)
        for i in range(100_000):
            report(i, 100_000, f"step {i}")
        return "done"

    events: list[Event] = []
    over = threading.Event()

    def ended(event: ToolCall) -> None:
        events.append(event)
        over.set()

    tools = ToolSet([], [Reporter(work)], on_call=ended, on_event=events.append)
    await tools.start()
    assert await tools.call("work", {}) == "done"
    kept[0](1.0, None, "late")
    assert await anyio.to_thread.run_sync(over.wait, 10)
    *progress, end = events
    assert isinstance(end, ToolCall)
    assert all(isinstance(e, ToolProgress) and (e.id, e.name) == (end.id, "work") for e in progress)
    assert isinstance(progress[0], ToolProgress)
    assert isinstance(progress[-1], ToolProgress)
    assert progress[0].done == 0
    assert (progress[-1].done, progress[-1].total, progress[-1].message) == (99_999, 100_000, "step 99999")
    assert len(progress) <= 3 + end.wall_s / 0.05


def test_the_newest_report_comes_although_the_source_falls_silent() -> None:
    told: list[float] = []
    came = threading.Event()

    def tell(event: Event) -> None:
        assert isinstance(event, ToolProgress)
        told.append(event.done)
        if event.done == 3:
            came.set()

    report = ProgressReport("call_1", "work", "", tell)
    for done in (1, 2, 3):
        report(done)
    assert came.wait(10), "without the call's end"
    assert told[0] == 1
    report.finish()
    assert told[-1] == 3


def test_reports_that_make_no_sense_are_ignored_and_long_ones_cut() -> None:
    told: list[Event] = []
    report = ProgressReport("call_1", "work", "", told.append)
    report("half")  # type: ignore[arg-type]
    report(float("nan"))
    report(0.5, float("inf"), "x" * 10_000)
    (event,) = told
    assert isinstance(event, ToolProgress)
    assert event.total is None
    assert len(event.message) < 600


def test_a_flood_of_log_messages_is_bounded_and_what_is_left_out_is_counted() -> None:
    told: list[SourceLog] = []
    told_all = threading.Event()
    accounted = 0

    def tell(event: Event) -> None:
        nonlocal accounted
        assert isinstance(event, SourceLog)
        told.append(event)
        accounted += int(event.text.split()[0]) if "left out" in event.text else 1
        if accounted == 5000:
            told_all.set()

    log = LogReport("srv", tell)
    begin = time.monotonic()
    for i in range(5000):
        log("loud" if i else "warning", f"line {i}")
    took_s = time.monotonic() - begin
    assert told_all.wait(10), f"{accounted} of 5000, although nothing comes any more"
    assert (told[0].level, told[1].level) == ("warning", "info")
    passed = [e for e in told if "left out" not in e.text]
    assert LOG_BURST <= len(passed) <= LOG_BURST + took_s * LOGS_PER_S + 1


@pytest.mark.anyio
async def test_a_listener_that_raises_harms_no_call(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: object) -> None:
        raise RuntimeError("listener")

    source = Reporter(lambda report: report(1.0, None, ""))
    tools = ToolSet([], [source], on_event=fail)
    await tools.start()
    assert await tools.call("work", {}) is None
    assert source.host is not None
    source.host.log("info", "x")
    assert "on_event of the tool set raised" in caplog.text
