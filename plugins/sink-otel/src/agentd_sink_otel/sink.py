"""The sink `otel`: a run as spans, by OpenTelemetry's conventions for generative AI, and metrics.

    invoke_agent agentd            the run; below the span that is current where it is asked for
      turn 1
        chat MODEL                 the model writes
        execute_code python        a block
          execute_tool NAME        a call from it; current in the tool, and what an MCP server's own spans belong below
          approval NAME            somebody is asked
      checkpoint, rewind, fork     of the session; one that was made between two runs is told with the next

Names: the semantic conventions for GenAI of OpenTelemetry (gen_ai.*, development status, 2026-11); what they have no
name for is `agentd.*`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd.events import (
    Approval,
    CodeDelta,
    CodeExecution,
    CodeStart,
    Event,
    ReasoningDelta,
    RunEnd,
    RunStart,
    SourceLog,
    TextDelta,
    ToolCall,
    TurnEnd,
)
from agentd_tools.call_begins import call_begins
from opentelemetry import context as contexts
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from agentd_sink_otel.moments import read_moment
from agentd_sink_otel.providers import find_providers

if TYPE_CHECKING:
    from agentd.types import Usage
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

__all__ = ["OtelSink"]

_NAME: Final = "agentd"
_WRITING: Final = (TextDelta, ReasoningDelta, CodeDelta)
_CALL_OF_CODE: Final = "call_"
"""Begins the id of a tool call that code makes; the model's own have the id of an action."""


class OtelSink:
    """Make spans and metrics of a session's runs. One session at a time: name the sink `"otel"`, and each has its own.

    :param content: spans have the task, the answer, code, output, arguments and results; else names and figures alone.
    :param endpoint: an OTLP receiver (http://HOST:4318) of this sink alone; default: what the program has set up, or
        OTEL_EXPORTER_OTLP_ENDPOINT.
    :param service: what the receiver calls the program, unless OTEL_SERVICE_NAME does.
    :raises ConfigError: if all would go nowhere, or packages for an endpoint are missing.
    """

    def __init__(
        self,
        *,
        content: bool = False,
        endpoint: str = "",
        service: str = _NAME,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._content = content
        self._providers = find_providers(tracer_provider, meter_provider, endpoint, service)
        self._tracer = self._providers.tracers.get_tracer(_NAME)
        self._figures = _Figures(self._providers.meters)
        self._run: _RunSpans | None = None

    def emit(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, RunStart):
            self._end_run()
            self._run = _RunSpans(event, self._tracer.start_span, self._figures, content=self._content)
        elif self._run is not None:
            self._run.take(event)
            if isinstance(event, RunEnd):
                self._run = None

    def _end_run(self) -> None:
        if self._run is not None:
            self._run.break_off()
            self._run = None

    def close(self) -> None:
        """End what is open, and send what waits: spans, and metrics if that went well; for 5 seconds at most in all."""
        self._end_run()
        self._providers.close()


class _Figures:
    """The metrics."""

    def __init__(self, meters: MeterProvider) -> None:
        meter = meters.get_meter(_NAME)
        self.tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}", "Tokens of a request")
        self.requests = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Time in which a model wrote"
        )
        self.blocks = meter.create_histogram("agentd.block.duration", "s", "Time in which a block ran")
        self.calls = meter.create_histogram("agentd.tool_call.duration", "s", "Time in which a tool worked")
        self.cost = meter.create_counter("agentd.cost", "USD", "What requests cost")

    def count(self, usage: Usage, model: str) -> None:
        known = {"gen_ai.operation.name": "chat", "gen_ai.request.model": model}
        for kind, tokens in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            self.tokens.record(tokens, {**known, "gen_ai.token.type": kind})
        if usage.cost_usd:
            self.cost.add(usage.cost_usd, {"gen_ai.request.model": model})


@attrs.define(eq=False)
class _OpenSpan:
    """A span, and the context of those below it, which is made with the first of them."""

    span: Span
    context: Context | None = None

    def within(self, before: Context) -> Context:
        if self.context is None:
            self.context = set_span_in_context(self.span, before)
        return self.context


class _RunSpans:
    """The spans of one run. Events come in order; `_call_begins` comes from any thread."""

    def __init__(self, event: RunStart, start_span: Any, figures: _Figures, *, content: bool) -> None:
        self._start_span = start_span
        self._figures = figures
        self._content = content
        self._model = event.model
        self._open: dict[str, _OpenSpan] = {}
        self._calls: dict[str, Span] = {}  # those that have begun, and whose event has not come
        self._seen_written: set[str] = set()  # blocks of this turn: they may wait before they start
        self._turn_lock = threading.Lock()
        self._is_over = False
        self._before: Context = contexts.get_current()
        self._turns = 0
        self._turn_began = self._wrote = time.time_ns()
        known = self._known(executor=event.executor, task=event.task if content else None)
        known |= {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": _NAME}
        known["gen_ai.request.model"] = event.model
        self._root = self._begin("run", f"invoke_agent {_NAME}", None, known)
        # In the run's own context: its requests and its tools find the run, and each call its own span.
        contexts.attach(set_span_in_context(self._root, self._before))
        call_begins.set(self._call_begins)
        self._begin_turn()

    # --- events --------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        if isinstance(event, _WRITING):  # most events
            self._wrote = time.time_ns()
            if "turn" not in self._open:
                self._open_turn()
            if isinstance(event, CodeDelta):
                self._seen_written.add(event.id)
        elif isinstance(event, CodeStart):
            if event.id not in self._seen_written:  # a native call: nothing tells of it while it is written
                self._wrote = time.time_ns()
            target = _target(event)
            known = self._known(action=event.action, target=target, turn=event.turn)
            known["gen_ai.operation.name"] = "execute_tool"
            known |= self._said(code=event.code)
            if target != event.target:
                known |= self._said(path=event.target)
            self._begin(event.id, f"execute_code {target}", "turn", known)
        elif isinstance(event, CodeExecution):
            self._figures.blocks.record(
                event.wall_s, {"agentd.target": _target(event), "agentd.status": event.status}
            )
            known = self._known(exit_code=event.exit_code) | self._said(output=event.output)
            self._end(event.id, known, "" if event.status == "completed" else f"exit code {event.exit_code}")
        elif isinstance(event, ToolCall):
            self._end_call(event)
        elif isinstance(event, Approval):
            self._take_approval(event)
        elif isinstance(event, SourceLog):
            self._take_log(event)
        elif isinstance(event, TurnEnd):
            self._end_turn(event)
        elif isinstance(event, RunEnd):
            self._end_run(event)

    def _begin_turn(self) -> None:
        self._turns += 1
        self._turn_began = self._wrote = time.time_ns()
        self._seen_written.clear()

    def _open_turn(self) -> None:
        """Start the turn's span with the first thing in it: what follows the last turn is the end of the run."""
        with self._turn_lock:
            if "turn" not in self._open and not self._is_over:
                known = self._known(turn=self._turns)
                self._begin("turn", f"turn {self._turns}", "run", known, self._turn_began)

    def _end_turn(self, event: TurnEnd) -> None:
        usage = event.usage
        wrote = self._wrote if self._wrote > self._turn_began else time.time_ns()
        known: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": self._model,
            **_tokens(usage),
        }
        name, within = f"chat {self._model}", self._within("turn")
        self._start_span(name, within, SpanKind.CLIENT, known, start_time=self._turn_began).end(wrote)
        seconds = (wrote - self._turn_began) / 1e9
        self._figures.requests.record(
            seconds, {"gen_ai.operation.name": "chat", "gen_ai.request.model": self._model}
        )
        self._figures.count(usage, self._model)
        self._end("turn", {})
        self._begin_turn()

    def _end_run(self, event: RunEnd) -> None:
        turn = self._pop("turn")
        if turn is not None:
            turn.end()  # it broke off
        known = self._known(stop_reason=event.stop_reason, turns=event.turns) | _tokens(event.usage)
        known |= self._said(answer=event.text)
        kind = _run_error_type(event)
        if kind:
            known["error.type"] = kind
        self._close(event.error if self._content else kind, known)  # a provider's words may quote the prompt

    def break_off(self) -> None:
        """End the spans of a run whose end is not known."""
        self._close("the run's end is not known", {})

    def _close(self, error: str, known: Mapping[str, AttributeValue]) -> None:
        with self._turn_lock:
            self._is_over = True
        root = self._open.pop("run").span
        still = [known.span for known in reversed(self._open.values())]
        for span in [*self._calls.values(), *still]:
            span.set_status(Status(StatusCode.ERROR, "did not end before the run"))
            span.end()
        self._calls.clear()
        self._open.clear()
        root.set_attributes(dict(known))
        if error:
            root.set_status(Status(StatusCode.ERROR, error))
        root.end()
        if call_begins.get() == self._call_begins:  # not so where the end is told from another context
            call_begins.set(None)
            contexts.attach(self._before)

    # --- tool calls and questions --------------------------------------------------------------------

    def _call_begins(self, id: str, name: str, block: str) -> None:
        if self._is_over:
            return
        known: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.call.id": id,
        }
        span = self._start_span(f"execute_tool {name}", self._within(block or "turn"), attributes=known)
        self._calls[id] = span
        contexts.attach(set_span_in_context(span))

    def _end_call(self, event: ToolCall) -> None:
        self._figures.calls.record(
            event.wall_s, {"gen_ai.tool.name": event.name, "agentd.status": event.status}
        )
        if not event.code_id and not event.id.startswith(_CALL_OF_CODE):  # it was written when it began
            self._wrote = max(self._wrote, time.time_ns() - int(event.wall_s * 1e9))
        span = self._calls.pop(event.id, None)
        if span is None:  # it was refused before it began
            start = time.time_ns() - int(event.wall_s * 1e9)
            known: dict[str, AttributeValue] = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": event.name,
            }
            span = self._start_span(
                f"execute_tool {event.name}",
                self._within(event.code_id or "turn"),
                attributes=known,
                start_time=start,
            )
        if event.decision:
            span.set_attribute("agentd.policy.decision", event.decision)
        if self._content:
            span.set_attribute("gen_ai.tool.call.arguments", event.arguments)
            span.set_attribute("gen_ai.tool.call.result", event.result)
        if event.status != "completed":
            kind = _error_type(event.result)
            span.set_attribute("error.type", kind)
            span.set_status(Status(StatusCode.ERROR, event.result[:200] if self._content else kind))
        span.end()

    def _take_approval(self, event: Approval) -> None:
        key = f"approval {event.id}"
        if key not in self._open:
            known = self._known(kind=event.kind) | self._said(arguments=event.arguments)
            name = event.name
            if event.kind == "create":
                known |= self._said(path=name)
                name = "create"
            start = time.time_ns() - int(event.waited_s * 1e9)
            self._begin(key, f"approval {name}", event.code_id or "turn", known, start)
        if event.decision:
            self._end(key, self._known(decision=event.decision))

    def _take_log(self, event: SourceLog) -> None:
        """Make a span of what the session's timeline says that it has done; other messages are no spans."""
        moment = read_moment(event)
        if moment is None:
            return
        if "turn" not in self._open:  # the model is asked when this is over
            self._turn_began = self._wrote = max(self._turn_began, min(moment.ended, time.time_ns()))
        known = self._known(checkpoint=moment.id or None)
        span = self._begin(moment.what, moment.what, "run", known, moment.began)
        self._pop(moment.what)
        if moment.error:
            span.set_attribute("error.type", moment.error)
            span.set_status(Status(StatusCode.ERROR, moment.error))
        span.end(moment.ended)

    # --- spans ---------------------------------------------------------------------------------------

    def _within(self, key: str) -> Context:
        if key != "run" and key not in self._open:
            self._open_turn()
        around = self._open.get(key) or self._open.get("turn") or self._open.get("run")
        return self._before if around is None else around.within(self._before)

    def _begin(
        self,
        key: str,
        name: str,
        parent: str | None,
        known: dict[str, AttributeValue],
        start: int | None = None,
    ) -> Span:
        around = self._before if parent is None else self._within(parent)
        span: Span = self._start_span(name, around, attributes=known, start_time=start)
        self._open[key] = _OpenSpan(span)
        return span

    def _pop(self, key: str) -> Span | None:
        known = self._open.pop(key, None)
        return None if known is None else known.span

    def _end(self, key: str, known: dict[str, AttributeValue], error: str = "") -> None:
        span = self._pop(key)
        if span is None:
            return  # a block that was refused has not begun
        if known:
            span.set_attributes(known)
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end()

    def _known(self, **values: AttributeValue | None) -> dict[str, AttributeValue]:
        return {f"agentd.{name}": value for name, value in values.items() if value is not None}

    def _said(self, **texts: str) -> dict[str, AttributeValue]:
        return {f"agentd.{name}": text for name, text in texts.items()} if self._content else {}


def _target(event: CodeStart | CodeExecution) -> str:
    """Return the language of a block, or `create`: a path would make a time series for each file, and may tell much."""
    return "create" if event.action == "create" else event.target


def _tokens(usage: Usage) -> dict[str, AttributeValue]:
    known: dict[str, AttributeValue] = {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
    }
    if usage.cost_usd is not None:
        known["agentd.cost_usd"] = usage.cost_usd
    if usage.unpriced_requests:
        known["agentd.unpriced_requests"] = usage.unpriced_requests
    return known


def _run_error_type(event: RunEnd) -> str:
    """Return the class of the exception that ended a run, else why it stopped; "" if there was no error."""
    name, _, said = event.error.partition(":")
    if event.stop_reason == "error" and said and name.isidentifier():
        return name
    return event.stop_reason if event.error else ""


def _error_type(result: str) -> str:
    try:
        found = json.loads(result)
    except (ValueError, RecursionError):
        found = None
    name = found.get("type") if isinstance(found, dict) else result.partition(":")[0]
    return name if isinstance(name, str) and name.isidentifier() else "ToolError"
