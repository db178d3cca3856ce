"""A run of 20 turns with event sinks beside one without: 19 bash blocks (`echo`), then an answer.

Ours: the median of such runs in a session with the sinks `otel` (the SDK's batch processor behind it, with nowhere to
send to), `html` and `jsonl`, beside one in a session without; each with its next run in turn, so that a busy machine
is as busy for both. The page is written by a thread when a run ends; `drained_x` has that time as well. The model is a
transport inside the process.
Theirs: nothing of this kind. Floor: none, as the session without sinks is it."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.line import Figures, Line, Row
from benchmarks.scripted import ScriptedModel

LINE = Line(
    name="sinks",
    rows=(
        Row(key="with_x", title="20 turns with otel, html and jsonl: times one without", unit="x", limit=1.1),
        Row(key="without_ms", title="  without sinks", unit="ms"),
        Row(key="drained_x", title="  the page written, too", unit="x"),
        Row(key="html_x", title="  html alone", unit="x"),
        Row(key="otel_x", title="  otel alone", unit="x"),
        Row(key="jsonl_x", title="  jsonl alone", unit="x"),
    ),
)
TURNS = 20
SCRIPT = [*["Next.\n```bash:execute\necho hi\n```\n"] * (TURNS - 1), "done"]


def _sinks(folder: Path) -> dict[str, list[Any]]:
    from agentd_sink_html.sink import HtmlSink
    from agentd_sink_jsonl.jsonl import JsonlSink
    from agentd_sink_otel.sink import OtelSink
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    def otel() -> OtelSink:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(Nowhere()))
        return OtelSink(tracer_provider=provider, content=True)

    def html(name: str) -> HtmlSink:
        return HtmlSink(folder / name)

    def jsonl(name: str) -> JsonlSink:
        return JsonlSink(folder / f"{name}.jsonl")

    return {
        "without": [],
        "with": [otel(), html("all"), jsonl("all")],
        "html": [html("html")],
        "otel": [otel()],
        "jsonl": [jsonl("jsonl")],
    }


def ours(quick: bool) -> Figures:
    """Sessions over the SDK."""
    from contextlib import ExitStack

    from agentd import SyncSession
    from agentd_model_openai import open_model
    from agentd_sink_html.sink import HtmlSink

    took: dict[str, list[float]] = {}
    drained: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        sinks = _sinks(Path(scratch))
        sessions = {}
        for name, given in sinks.items():
            model = open_model("gpt-4o", client=ScriptedModel(SCRIPT).client())
            options: dict[str, Any] = {"executor": "subprocess", "cwd": f"{scratch}/{name}-work", "tools": ()}
            sessions[name] = stack.enter_context(SyncSession(model, sinks=given, **options))
            took[name] = []
        for number in range(3 + (6 if quick else 25)):
            for name, session in sessions.items():
                begin = time.perf_counter()
                end = session.ask("Run it until it is done.")
                ended = time.perf_counter()
                assert (end.turns, end.stop_reason) == (TURNS, "answer"), end
                session.forget_last()
                for sink in sinks[name]:  # what is written by a thread is no part of the next one's time
                    if isinstance(sink, HtmlSink):
                        sink.close()
                if number >= 3:
                    took[name].append(ended - begin)
                    if name == "with":
                        drained.append(time.perf_counter() - begin)
    medians = {name: statistics.median(times) for name, times in took.items()}
    without = medians.pop("without")
    ratios = {f"{name}_x": median / without for name, median in medians.items()}
    return {**ratios, "without_ms": without * 1000, "drained_x": statistics.median(drained) / without}


def theirs(quick: bool) -> Figures:
    """Nothing of this kind."""
    return {}


def floor(quick: bool) -> Figures:
    """Nothing."""
    return {}
