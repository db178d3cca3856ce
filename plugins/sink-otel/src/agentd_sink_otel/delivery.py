"""Senders to an OTLP receiver that say once, in a line of ours, if it takes no spans (or metrics), and hold up no end.

OpenTelemetry's exporters try again for ten seconds, and log a line for each attempt.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http import metric_exporter, trace_exporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

__all__ = ["Delivery", "FigureSender", "SpanSender"]

_log = logging.getLogger("agentd.sinks.otel")
_ATTEMPT_S: Final = 5.0
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_{}_TIMEOUT")
_SYSTEM_SAYS: Final = re.compile(r"\[Errno -?\d+\] ([^\"')\]]+)")
_MOST_CHARS: Final = 160
_LOGGERS: Final = (trace_exporter.__name__, metric_exporter.__name__)


class Delivery(logging.Filter):
    """What is known of a receiver. As a filter of OpenTelemetry's loggers, it hears what they say of its attempts.

    :param what: spans or metrics: a receiver may take the one and not the other.
    :param where: the receiver, for people; `setting`: what has named it.
    """

    def __init__(self, what: str, where: str, setting: str) -> None:
        super().__init__()
        self.where = where
        self._what = what
        self._setting = setting
        self._attempt = threading.local()
        self._lock = threading.Lock()
        self._is_told = False
        self.is_failing = False
        self.is_closing = False
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def close(self) -> None:
        """Hear no more."""
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self)

    @contextmanager
    def attempt(self, give_up: Callable[[], object]) -> Iterator[None]:
        """While something is sent. `give_up` ends the attempts."""
        self._attempt.give_up = give_up
        try:
            yield
        finally:
            self._attempt.give_up = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Hear a line, and keep it from being shown if it is of an attempt of ours."""
        give_up = getattr(self._attempt, "give_up", None)
        if give_up is None:
            return True
        if record.levelno >= logging.WARNING:
            self.fail(record.getMessage())
            if self.is_closing:
                give_up()
        return False

    def fail(self, why: str) -> None:
        """Something was not delivered. Told once."""
        self.is_failing = True
        with self._lock:
            is_told, self._is_told = self._is_told, True
        if not is_told:
            _log.warning(
                "otel sink: the OTLP receiver %s (%s) takes no %s: %s. The run goes on, and they are lost meanwhile; "
                "start a receiver there, or name another one",
                self.where,
                self._setting,
                self._what,
                _reason(why),
            )

    def timeout_s(self, signal: str) -> float | None:
        """Return how long one attempt may take; None if a variable says it."""
        names = [name.format(signal) for name in _TIMEOUTS]
        return None if any(map(os.environ.get, names)) else _ATTEMPT_S

    def is_hopeless(self) -> bool:
        """Tell whether to try once more would only hold up the end."""
        return self.is_closing and self.is_failing


def _reason(why: str) -> str:
    """Return what counts of a line of OpenTelemetry's."""
    if found := _SYSTEM_SAYS.search(why):
        return found[1]
    late = "timeout" in why.lower() or "timed out" in why.lower()
    return "no answer in time" if late else " ".join(why.split())[:_MOST_CHARS].rstrip(".")


class SpanSender(trace_exporter.OTLPSpanExporter):
    """Sends spans."""

    def __init__(self, delivery: Delivery, **options: Any) -> None:
        super().__init__(timeout=delivery.timeout_s("TRACES"), **options)
        self._delivery = delivery
        self._is_shut = False

    def export(self, spans: Any) -> SpanExportResult:
        """Send spans."""
        if self._delivery.is_hopeless():
            return SpanExportResult.FAILURE
        with self._delivery.attempt(self.shutdown):
            result = super().export(spans)
        self._delivery.is_failing = result is not SpanExportResult.SUCCESS
        return result

    def shutdown(self) -> None:
        """Give up what is tried again."""
        if not self._is_shut:
            self._is_shut = True
            super().shutdown()  # type: ignore[no-untyped-call]


class FigureSender(metric_exporter.OTLPMetricExporter):
    """Sends metrics."""

    def __init__(self, delivery: Delivery, **options: Any) -> None:
        super().__init__(timeout=delivery.timeout_s("METRICS"), **options)
        self._delivery = delivery
        self._is_shut = False

    def export(self, *given: Any, **options: Any) -> MetricExportResult:
        """Send metrics."""
        if self._delivery.is_hopeless():
            return MetricExportResult.FAILURE
        with self._delivery.attempt(self.shutdown):
            result = super().export(*given, **options)
        self._delivery.is_failing = result is not MetricExportResult.SUCCESS
        return result

    def shutdown(self, timeout_millis: float = 30_000, **options: Any) -> None:
        """Give up what is tried again."""
        if not self._is_shut:
            self._is_shut = True
            super().shutdown(timeout_millis, **options)
