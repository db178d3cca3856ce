"""A sink that makes spans of runs, blocks and tool calls, for OpenTelemetry."""

from time import time_ns

from agentd import SyncSession
from opentelemetry import trace


class Spans:
    """Spans of one session; `tracer` is one of OpenTelemetry."""

    def __init__(self, tracer):
        self.tracer = tracer
        self.open = {}

    def begin(self, id, name, parent=None, start=None, **known):
        around = self.open.get(parent)
        place = trace.set_span_in_context(around) if around else None
        more = {"attributes": known, "start_time": start}
        self.open[id] = self.tracer.start_span(name, place, **more)

    def end(self, id, **known):
        span = self.open.pop(id, None)
        if span is not None:  # a block that was refused has not begun
            known = {k: v for k, v in known.items() if v is not None}
            span.set_attributes(known)
            span.end()

    def emit(self, event):
        match event.type:
            case "run_start":
                self.begin("run", "agent run", model=event.model)
            case "code_start":
                name = f"{event.target}:{event.action}"
                self.begin(event.id, name, "run", turn=event.turn)
            case "code_execution":
                code = event.exit_code
                self.end(event.id, status=event.status, exit_code=code)
            case "tool_call":
                start = time_ns() - int(event.wall_s * 1e9)
                self.begin("tool", event.name, event.code_id or "run", start)
                self.end("tool", status=event.status)
            case "run_end":
                tokens = event.usage.total_tokens
                self.end("run", stop_reason=event.stop_reason, tokens=tokens)

    def close(self):
        for id in list(self.open):
            self.end(id)


if __name__ == "__main__":
    tracer = trace.get_tracer("agentd")
    with SyncSession("gpt-4.1", sinks=[Spans(tracer)]) as session:
        print(session.ask("Count the lines of the Python files here."))
