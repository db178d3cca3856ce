"""Checkpoints, rewinds and forks of a session are spans, and a log message to every sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import UnknownSnapshotError
from agentd.events import Event, SourceLog
from agentd.session.session import Session
from agentd_sink_otel.sink import OtelSink
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from script_model import ScriptModel

BLOCK = "```bash:execute\necho hi > file\n```\n"


class Rewindable(ScriptModel):
    def reset(self) -> None:
        self.messages.clear()


class Logs:
    def __init__(self) -> None:
        self.seen: list[SourceLog] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, SourceLog) and event.source == "checkpoints":
            self.seen.append(event)

    def close(self) -> None: ...


def ms(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e6


@pytest.mark.anyio
async def test_a_runs_checkpoints_are_spans_of_it_and_those_before_it_come_with_it(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sinks: list[Any] = [OtelSink(tracer_provider=provider), logs := Logs()]
    settings: dict[str, Any] = {
        "cwd": tmp_path / "here",
        "tools": [],
        "snapshots_dir": tmp_path / "snapshots",
    }
    model = Rewindable(BLOCK, BLOCK, "done", "again")
    async with Session(model, sinks=sinks, checkpoint_every_turn=True, **settings) as session:
        await session.ask("first")
        kept = [one.id for one in session.checkpoints()]
        first = {span.name: span for span in exporter.get_finished_spans()}
        root = first["invoke_agent agentd"]
        taken = [span for span in exporter.get_finished_spans() if span.name == "checkpoint"]
        assert [span.attributes["agentd.checkpoint"] for span in taken if span.attributes] == kept
        assert len(kept) >= 2
        for span in taken:
            assert span.parent is not None
            assert span.parent.span_id == root.context.span_id
            assert root.start_time <= span.start_time <= span.end_time <= root.end_time
            assert ms(span) > 0

        exporter.clear()
        await session.rewind(kept[0])
        await session.fork(kept[0], cwd=tmp_path / "fork", model=Rewindable())
        with pytest.raises(UnknownSnapshotError):
            await session.rewind("nothing")
        assert exporter.get_finished_spans() == ()
        await session.ask("second")
    names = [span.name for span in exporter.get_finished_spans()]
    assert [name for name in names if name in ("rewind", "fork")] == ["rewind", "fork", "rewind"]
    failed = [span for span in exporter.get_finished_spans() if span.name == "rewind"][1]
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "UnknownSnapshotError"
    assert not failed.status.is_ok
    assert {log.level for log in logs.seen} == {"debug"}
    assert logs.seen[0].text.startswith(f"checkpoint {kept[0]} took ")
