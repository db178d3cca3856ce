"""Where spans and metrics go: to what the program has set up, or to an OTLP receiver of this sink alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
from agentd.errors import ConfigError
from opentelemetry import metrics, trace

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Providers", "find_providers"]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_DEFAULT: Final = "http://localhost:4318"  # OpenTelemetry's
_LAST_WORD_S: Final = 5.0  # how long the end of a sink waits for a receiver


@attrs.frozen(kw_only=True)
class Providers:
    """What makes tracers and meters. `close` sends what waits; providers of the program are left to it."""

    tracers: TracerProvider
    meters: MeterProvider
    close: Callable[[], None] = lambda: None


def find_providers(
    tracers: TracerProvider | None, meters: MeterProvider | None, endpoint: str, service: str
) -> Providers:
    """Return what was given; else, with an endpoint, senders of our own; else what the program has set up.

    :raises ConfigError: if that is nothing, so that all would go nowhere.
    """
    if tracers is not None or meters is not None:
        return Providers(
            tracers=tracers if tracers is not None else trace.get_tracer_provider(),
            meters=meters if meters is not None else metrics.get_meter_provider(),
        )
    is_set_up = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    if endpoint or (not is_set_up and any(map(os.environ.get, _ENDPOINTS))):
        return _senders(endpoint, service)
    if not is_set_up:
        raise ConfigError(
            "otel sink: its spans would go nowhere, as this program has set no tracer provider; set one (with "
            "opentelemetry-sdk, or `opentelemetry-instrument`), or name an OTLP receiver by the option `endpoint` or "
            "OTEL_EXPORTER_OTLP_ENDPOINT, such as http://127.0.0.1:4318"
        )
    return Providers(tracers=trace.get_tracer_provider(), meters=metrics.get_meter_provider())


def _named(root: str, signal: str) -> tuple[str, str]:
    """Return the receiver of a signal (TRACES, METRICS) for people, and what has named it."""
    if root:
        return root, "the option `endpoint`"
    own = f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
    for name in (own, "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if value := os.environ.get(name):
            return value, name
    return _DEFAULT, f"the default, as {own} is not set"


def _senders(endpoint: str, service: str) -> Providers:
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from agentd_sink_otel.delivery import Delivery, FigureSender, SpanSender
    except ImportError as error:
        raise ConfigError(
            f'otel sink: an endpoint needs more packages ({error}): pip install "agentd-sink-otel[otlp]"'
        ) from error
    root = endpoint.rstrip("/")
    resource = Resource.create({} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service})
    # Ours alone, never the process's: two sinks may send to two receivers, and other libraries' spans are not ours.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    of_spans, of_figures = (
        Delivery("spans", *_named(root, "TRACES")),
        Delivery("metrics", *_named(root, "METRICS")),
    )
    spans = SpanSender(of_spans, **({"endpoint": f"{root}/v1/traces"} if root else {}))
    tracers.add_span_processor(BatchSpanProcessor(spans))
    figures = FigureSender(of_figures, **({"endpoint": f"{root}/v1/metrics"} if root else {}))
    meters = MeterProvider([PeriodicExportingMetricReader(figures)], resource, shutdown_on_exit=False)

    waits_for = of_spans

    def send_last() -> None:
        nonlocal waits_for
        if of_spans.is_failing:
            spans.shutdown()  # it may be about to try again
        tracers.force_flush()
        tracers.shutdown()
        waits_for = of_figures
        if of_spans.is_failing and of_spans.where == of_figures.where:
            of_figures.is_failing = True  # it is not asked again
        if of_figures.is_failing:
            figures.shutdown()
        meters.shutdown()
        of_spans.close()
        of_figures.close()

    def close() -> None:
        of_spans.is_closing = of_figures.is_closing = True
        # OpenTelemetry bounds the wait for each piece of an answer: what comes drop by drop has no end.
        last = threading.Thread(target=send_last, name="agentd-otel-close", daemon=True)
        last.start()
        last.join(_LAST_WORD_S)
        if last.is_alive():
            waits_for.fail(f"no answer within {_LAST_WORD_S:g} s")
            of_figures.is_failing = True  # nothing more is begun
            spans.shutdown()
            figures.shutdown()

    return Providers(tracers=tracers, meters=meters, close=close)
