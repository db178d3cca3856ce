"""What a run's events become: spans below each other, current where tools run, and metrics."""

from __future__ import annotations

import gzip
import sys
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from agentd import Session, SyncSession, tool
from agentd.errors import ConfigError
from agentd.events import (
    Approval,
    CodeDelta,
    CodeExecution,
    CodeStart,
    RunEnd,
    RunStart,
    SourceLog,
    TextDelta,
    ToolCall,
    TurnEnd,
)
from agentd.types import Usage
from agentd_sink_otel import plugin
from agentd_sink_otel.sink import OtelSink
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from script_model import CallingModel, ScriptModel


class Begun(SpanProcessor):
    """Keeps the names of the spans that have begun."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def on_start(self, span: ReadableSpan, parent_context: object = None) -> None:
        self.names.append(span.name)


class Kept:
    """A provider whose spans are kept, and a sink that uses it."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.sink = OtelSink(tracer_provider=self.provider, meter_provider=self.meters, **options)

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def tree(self) -> dict[str, str]:
        """Return the name of each span's parent."""
        spans = self._exporter.get_finished_spans()
        names = {span.context.span_id: span.name for span in spans}
        return {span.name: names.get(span.parent.span_id, "outside") if span.parent else "" for span in spans}

    def figures(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
        return {metric.name: list(metric.data.data_points) for metric in metrics}


@pytest.fixture
def kept() -> Iterator[Kept]:
    value = Kept()
    yield value
    value.sink.close()
    value.provider.shutdown()
    value.meters.shutdown()


CALLS_LOOK = "```python:execute\nfrom lib.tools import look\nprint(look(n=2))\n```"


def test_a_tool_finds_the_span_of_its_call_and_what_it_starts_lies_below(kept: Kept, tmp_path: Path) -> None:
    tracer = kept.provider.get_tracer("test")

    @tool
    def look(n: int) -> int:
        with tracer.start_as_current_span("inside"):
            return n

    model = ScriptModel(CALLS_LOOK, "Done.")
    settings: dict[str, Any] = {
        "cwd": tmp_path,
        "tools": [look],
        "executor": "subprocess",
        "sinks": [kept.sink],
    }
    with SyncSession(model=model, **settings) as session, tracer.start_as_current_span("around"):
        session.ask("Look.")
    assert kept.tree() == {
        "around": "",
        "invoke_agent agentd": "around",
        "turn 1": "invoke_agent agentd",
        "chat script": "turn 2",  # the later of two of this name
        "execute_code python": "turn 1",
        "execute_tool look": "execute_code python",
        "inside": "execute_tool look",
        "turn 2": "invoke_agent agentd",
    }
    assert (kept.spans["execute_tool look"].attributes or {})["gen_ai.operation.name"] == "execute_tool"


@pytest.mark.anyio
async def test_async_tools_and_calls_at_once_each_find_their_own_span(kept: Kept, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    @tool
    async def look(n: int) -> int:
        seen.append((n, trace.get_current_span().get_span_context().span_id))
        return n

    @tool
    def stare(n: int) -> int:
        seen.append((n, trace.get_current_span().get_span_context().span_id))
        return n

    code = (
        "```python:execute\nfrom concurrent.futures import ThreadPoolExecutor\nfrom lib.tools import look, stare\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(sum(pool.map(lambda n: (look if n % 2 else stare)(n=n), range(16))))\n```"
    )
    model = ScriptModel(code, "Done.")
    async with Session(
        model=model, cwd=tmp_path, tools=[look, stare], executor="subprocess", sinks=[kept.sink]
    ) as session:
        await session.ask("Look.")
    assert sorted(n for n, _ in seen) == list(range(16))
    assert len({span for _, span in seen}) == 16
    exported = {
        s.context.span_id for s in kept._exporter.get_finished_spans() if s.name.startswith("execute_tool")
    }
    assert {span for _, span in seen} == exported


def test_a_native_call_of_the_model_is_a_span_below_its_turn(kept: Kept, tmp_path: Path) -> None:
    found: list[int] = []

    @tool
    def look(n: int) -> int:
        found.append(trace.get_current_span().get_span_context().span_id)
        return n

    model = CallingModel("look", '{"n": 1}', "Done.")
    with SyncSession(model=model, cwd=tmp_path, tools=[look], mode="tools", sinks=[kept.sink]) as session:
        session.ask("Look.")
    assert kept.tree()["execute_tool look"] == "turn 1"
    assert found == [kept.spans["execute_tool look"].context.span_id]
    assert kept.spans["execute_tool look"].status.is_ok


def test_an_mcp_server_is_told_of_the_span_of_the_call(kept: Kept, tmp_path: Path) -> None:
    server = tmp_path / "server.py"
    server.write_text(
        "from mcp.server import MCPServer\n"
        "from opentelemetry import trace\n"
        "server = MCPServer('spans')\n"
        "@server.tool()\n"
        "def current() -> str:\n"
        "    context = trace.get_current_span().get_span_context()\n"
        "    return f'{context.trace_id:032x}'\n"
        "server.run()\n"
    )
    code = "```python:execute\nfrom lib.tools import current\nprint('trace', current())\n```"
    model = ScriptModel(code, "Done.")
    with SyncSession(
        model=model,
        cwd=tmp_path / "w",
        mcp_servers=[f"{sys.executable} {server}"],
        executor="subprocess",
        sinks=[kept.sink],
    ) as session:
        session.ask("Look.")
    ours = kept.spans["execute_tool current"].context.trace_id
    assert f"trace {ours:032x}" in model.results[0]


def events(*, content: str = "x") -> Sequence[Any]:
    denied = f"ToolDeniedError: {content}"
    usage = Usage(input_tokens=10, output_tokens=5, requests=1, cost_usd=0.5)
    return [
        RunStart(task=content, model="m", executor="native"),
        CodeStart(id="c", code=content, target="bash"),
        Approval(id="q", kind="tool", name="f", arguments=content, code_id="c"),
        Approval(id="q", kind="tool", name="f", decision="deny", waited_s=1.0, code_id="c"),
        ToolCall(
            id="1",
            name="f",
            arguments=content,
            result=denied,
            status="failed",
            code_id="c",
        ),
        CodeExecution(
            id="c", code=content, output=content, status="failed", exit_code=3, target="bash", wall_s=2.0
        ),
        TurnEnd(turn=1, usage=usage),
        RunEnd(text=content, turns=1, usage=usage),
    ]


def test_failures_questions_and_figures_are_told(kept: Kept) -> None:
    for event in events():
        kept.sink.emit(event)
    spans = kept.spans
    assert kept.tree()["approval f"] == "execute_code bash"
    assert (spans["approval f"].attributes or {})["agentd.decision"] == "deny"
    assert (spans["execute_tool f"].attributes or {})["error.type"] == "ToolDeniedError"
    assert spans["execute_code bash"].status.description == "exit code 3"
    assert (spans["chat m"].attributes or {})["gen_ai.usage.input_tokens"] == 10
    assert (spans["invoke_agent agentd"].attributes or {})["agentd.cost_usd"] == 0.5
    figures = kept.figures()
    assert sum(point.sum for point in figures["gen_ai.client.token.usage"]) == 15
    assert figures["agentd.block.duration"][0].sum == 2.0
    assert figures["agentd.cost"][0].value == 0.5


@pytest.mark.parametrize("content", [False, True])
def test_what_was_said_is_in_the_spans_only_if_asked_for(content: bool) -> None:
    kept = Kept(content=content)
    for event in events(content="the secret words"):
        kept.sink.emit(event)
    told = [
        s
        for s in kept.spans.values()
        if "the secret words" in f"{s.name} {dict(s.attributes or {})} {s.status.description}"
    ]
    assert bool(told) is content
    kept.sink.close()


@pytest.mark.parametrize("content", [False, True])
def test_files_that_are_created_are_one_kind_of_block_whatever_their_paths(content: bool) -> None:
    kept = Kept(content=content)
    kept.sink.emit(RunStart(model="m"))
    for path in ("one.txt", "two.txt"):
        kept.sink.emit(CodeStart(id=path, code="", action="create", target=path))
        kept.sink.emit(Approval(id=path, kind="create", name=path, decision="allow", code_id=path))
        kept.sink.emit(
            CodeExecution(id=path, code="", output="", status="completed", action="create", target=path)
        )
    attributes = kept.spans["execute_code create"].attributes or {}
    assert attributes["agentd.target"] == "create"
    assert attributes.get("agentd.path") == ("two.txt" if content else None)
    assert kept.tree()["approval create"] == "execute_code create"
    (point,) = kept.figures()["agentd.block.duration"]
    assert (point.count, point.attributes["agentd.target"]) == (2, "create")
    kept.sink.close()


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize(
    ("reason", "error", "kind"),
    [
        ("error", "ModelError: 400 - Invalid prompt: 'the secret words'", "ModelError"),
        ("refused", "the secret words: no", "refused"),
    ],
)
def test_of_the_error_of_a_run_only_the_type_is_told_without_content(
    content: bool, reason: Any, error: str, kind: str
) -> None:
    kept = Kept(content=content)
    kept.sink.emit(RunStart(task="x", model="m"))
    kept.sink.emit(RunEnd(stop_reason=reason, error=error))
    root = kept.spans["invoke_agent agentd"]
    assert (root.attributes or {})["error.type"] == kind
    assert root.status.description == (error if content else kind)
    kept.sink.close()


@pytest.mark.parametrize("breaks_off", [False, True])
def test_a_turn_has_a_span_if_something_happens_in_it(kept: Kept, breaks_off: bool) -> None:
    begun = Begun()
    kept.provider.add_span_processor(begun)
    for event in events()[:-1]:
        kept.sink.emit(event)
    if breaks_off:
        kept.sink.emit(TextDelta(text="But"))
    kept.sink.emit(RunEnd(turns=1))
    assert ("turn 2" in begun.names) is breaks_off
    assert set(begun.names) == set(kept.spans)


class Clock:
    """Time that passes only where a test says so, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000
        monkeypatch.setattr("agentd_sink_otel.sink.time.time_ns", lambda: self.now * 10**9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def wrote_s(kept: Kept, clock: Clock, *steps: Any) -> float:
    """Return the time of the model in one turn of these events, and of the seconds that pass between them."""
    kept.sink.emit(RunStart(model="m"))
    for step in steps:
        if isinstance(step, int):
            clock.now += step
        else:
            kept.sink.emit(step)
    kept.sink.emit(TurnEnd(turn=1))
    kept.sink.emit(RunEnd(turns=1))
    span = kept.spans["chat m"]
    assert span.start_time is not None
    assert span.end_time is not None
    (point,) = kept.figures()["gen_ai.client.operation.duration"]
    assert point.sum == (span.end_time - span.start_time) / 1e9
    return point.sum


def test_a_block_that_waits_for_another_was_written_before(kept: Kept, clock: Clock) -> None:
    steps = (2, CodeDelta(id="a", text="x"), CodeDelta(id="b", text="x"), CodeStart(id="a", code="x"))
    done = CodeExecution(id="a", code="x", output="", status="completed")
    assert wrote_s(kept, clock, *steps, 30, done, CodeStart(id="b", code="x"), 5) == 2


def test_a_native_call_was_written_when_it_began(kept: Kept, clock: Clock) -> None:
    call = ToolCall(id="run1_code1", name="f", wall_s=30.0)
    assert wrote_s(kept, clock, 2, 30, call) == 2


def test_a_native_call_of_code_was_written_when_its_block_starts(kept: Kept, clock: Clock) -> None:
    assert wrote_s(kept, clock, 2, CodeStart(id="a", code="x"), 30) == 2


def test_what_code_calls_is_no_time_of_the_model(kept: Kept, clock: Clock) -> None:
    job = ToolCall(id="call_1", name="f", wall_s=1.0)
    assert wrote_s(kept, clock, 2, TextDelta(text="x"), 30, job) == 2


def test_a_checkpoint_before_a_turn_is_no_time_of_the_model(kept: Kept, clock: Clock) -> None:
    began = datetime.fromtimestamp(clock.now, UTC).isoformat()
    made = SourceLog(source="checkpoints", level="debug", text=f"checkpoint c took 30.000 s from {began}")
    assert wrote_s(kept, clock, 30, made, 2, TextDelta(text="x"), 5) == 2


def test_a_run_without_an_end_has_its_spans_ended_when_the_sink_closes(kept: Kept) -> None:
    for event in events()[:2]:
        kept.sink.emit(event)
    kept.sink.close()
    assert {"invoke_agent agentd", "turn 1", "execute_code bash"} <= set(kept.spans)
    assert not kept.spans["execute_code bash"].status.is_ok


def test_without_a_provider_and_an_endpoint_the_sink_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT, such as http://127\.0\.0\.1:4318"):
        plugin.agentd_create_event_sink({})
    with pytest.raises(ConfigError, match="endpont"):
        plugin.agentd_create_event_sink({"endpont": "http://127.0.0.1:1"})


class _Receiver(BaseHTTPRequestHandler):
    got: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    got: list[tuple[str, bytes]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Receiver", (_Receiver,), {"got": got}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_otlp_receiver_gets_spans_and_metrics(
    receiver: tuple[str, list[tuple[str, bytes]]], tmp_path: Path
) -> None:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    endpoint, got = receiver
    model = ScriptModel("```bash:execute\ntrue\n```", "Done.")
    sinks = [("otel", {"endpoint": endpoint, "service": "shop"})]
    with SyncSession(model=model, cwd=tmp_path, executor="subprocess", sinks=sinks) as session:
        session.ask("Do nothing.")

    def plain(body: bytes) -> bytes:
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body

    spans = [
        (span.name, {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"])
        for path, body in got
        if path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(plain(body)).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert ("invoke_agent agentd", "shop") in spans
    assert ("execute_code bash", "shop") in spans
    figures = [
        metric.name
        for path, body in got
        if path == "/v1/metrics"
        for resource in ExportMetricsServiceRequest.FromString(plain(body)).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]
    assert "gen_ai.client.token.usage" in figures


def test_a_receiver_that_is_not_there_ends_no_run(tmp_path: Path) -> None:
    model = ScriptModel("Done.")
    with SyncSession(
        model=model, cwd=tmp_path, executor="subprocess", sinks=[("otel", {"endpoint": "http://127.0.0.1:9"})]
    ) as session:
        assert session.ask("Do nothing.").text == "Done."
