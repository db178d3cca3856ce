"""A receiver that takes no spans or no metrics: the person is told once of it, and the run's end does not wait."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from agentd.events import RunEnd, RunStart, TurnEnd
from agentd.types import Usage
from agentd_sink_otel import providers
from agentd_sink_otel.sink import OtelSink
from opentelemetry.exporter.otlp.proto.http import metric_exporter, trace_exporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult


@contextmanager
def receiver(*statuses: int, metrics: int = 0) -> Iterator[tuple[str, list[str]]]:
    """A receiver that answers with these statuses, the last one again and again; yields its address and the paths.

    :param metrics: its answer to metrics, which then take none of `statuses`.
    """
    left, paths = list(statuses), list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            if metrics and self.path == "/v1/metrics":
                self.send_response(metrics)
            else:
                self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def run(sink: OtelSink) -> None:
    sink.emit(RunStart(model="m"))
    sink.emit(TurnEnd(turn=1, usage=Usage(requests=1, input_tokens=3, output_tokens=4)))
    sink.emit(RunEnd(turns=1))


def nowhere() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged, by whomever."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("by", ["option", "OTEL_EXPORTER_OTLP_ENDPOINT"])
def test_an_absent_receiver_is_told_once_with_its_address_and_the_setting(
    by: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = nowhere()
    if by == "option":
        sink = OtelSink(endpoint=endpoint)
    else:
        monkeypatch.setenv(by, endpoint)
        sink = OtelSink()
    run(sink)
    sink.close()
    setting = "the option `endpoint`" if by == "option" else by
    (line,) = told(caplog)
    assert f"the OTLP receiver {endpoint} ({setting}) takes no spans: Connection refused." in line


def test_the_end_of_a_run_asks_a_receiver_that_is_busy_once_and_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with receiver(503) as (endpoint, paths):
        sink = OtelSink(endpoint=endpoint)
        run(sink)
        sink.close()
    assert paths == ["/v1/traces"]  # and not again, nor for the metrics
    (line,) = told(caplog)
    assert "takes no spans" in line


def test_a_receiver_that_takes_no_metrics_gets_all_spans(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(200, metrics=404) as (endpoint, paths):
        sink = OtelSink(endpoint=endpoint)
        run(sink)
        sink._providers.meters.force_flush()  # type: ignore[attr-defined]
        sink.close()
    assert paths == ["/v1/metrics", "/v1/traces"]
    (line,) = told(caplog)
    assert f"{endpoint} (the option `endpoint`) takes no metrics: " in line


def test_each_signal_is_told_with_its_own_address(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    metrics = f"{nowhere()}/m"
    with receiver(200) as (endpoint, paths):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{endpoint}/v1/traces")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", metrics)
        sink = OtelSink()
        run(sink)
        sink.close()
    assert paths == ["/v1/traces"]
    (line,) = told(caplog)
    assert f"the OTLP receiver {metrics} (OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) takes no metrics: " in line


def test_a_receiver_that_comes_back_gets_what_follows(caplog: pytest.LogCaptureFixture) -> None:
    with receiver(400, 200) as (endpoint, paths):
        sink = OtelSink(endpoint=endpoint)
        for _ in range(2):
            run(sink)
            sink._providers.tracers.force_flush()  # type: ignore[attr-defined]
        sink.close()
    assert paths == ["/v1/traces", "/v1/traces", "/v1/metrics"]
    assert len(told(caplog)) == 1


@pytest.mark.parametrize("what", ["spans", "metrics"])
def test_an_answer_that_does_not_end_holds_no_end_up(
    what: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    waited: list[bool] = []
    threads: list[threading.Thread] = []

    def export_spans(*_: object) -> SpanExportResult:
        if what == "spans":
            wait()
        return SpanExportResult.SUCCESS

    def export_metrics(*_: object, **options: object) -> MetricExportResult:
        if what == "metrics":
            wait()
        return MetricExportResult.SUCCESS

    def wait() -> None:
        threads.append(threading.current_thread())
        waited.append(over.wait(10))

    monkeypatch.setattr(trace_exporter.OTLPSpanExporter, "export", export_spans)
    monkeypatch.setattr(metric_exporter.OTLPMetricExporter, "export", export_metrics)
    monkeypatch.setattr(providers, "_LAST_WORD_S", 1.0)
    sink = OtelSink(endpoint="http://127.0.0.1:9")
    run(sink)
    sink.close()
    assert threads
    assert not waited  # it waits still
    (line,) = told(caplog)
    assert f"takes no {what}: no answer within 1 s" in line
    over.set()
    for thread in threads:
        thread.join(10)
    assert waited == [True]
    assert len(told(caplog)) == 1


def test_the_exporters_of_others_say_what_they_always_say(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(trace_exporter.__name__)
    sink = OtelSink(endpoint=nowhere())
    logger.warning("of another exporter")
    run(sink)
    sink.close()
    assert told(caplog)[0] == "of another exporter"
    assert not logger.filters
