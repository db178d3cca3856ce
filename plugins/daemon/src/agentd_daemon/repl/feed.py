"""The feed: the events of all agents, painted onto one screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentd.events import Event, RunStart
from agentd_sink_console.console import ConsoleSink
from agentd_sink_console.neutral import one_line

from agentd_daemon.repl.painter import AGENT_COLOURS, AgentPainter
from agentd_daemon.repl.screen import Screen
from agentd_daemon.repl.wrapping import width_of

__all__ = ["Feed"]

_MAX_OUTPUT_LINES = 200  # of one block: other agents want to be read as well
_MAX_TASK_CHARS = 200
_MAX_NAME_COLUMNS = 16


class Feed:
    """Paints events as the console sink does, each agent's in rows of its own."""

    def __init__(self, screen: Screen, names: Callable[[], Sequence[str]]) -> None:
        self._screen = screen
        self._names = names
        self._agents: dict[str, tuple[AgentPainter, ConsoleSink]] = {}

    def on_event(self, agent: str, event: Event) -> None:
        """Paint an event of an agent."""
        if agent not in self._agents:
            self._agents[agent] = self._painters(agent)
        painter, sink = self._agents[agent]
        if isinstance(event, RunStart):
            sink.close()  # an unfinished row of a run whose end was not seen
            sink.emit(RunStart())
            painter.line(f"▸ {_shortened(event.task)}", "note")
        else:
            sink.emit(event)

    def _painters(self, agent: str) -> tuple[AgentPainter, ConsoleSink]:
        longest = max(map(width_of, {*self._names(), agent}))
        painter = AgentPainter(
            self._screen,
            agent,
            colour=AGENT_COLOURS[len(self._agents) % len(AGENT_COLOURS)],
            name_columns=min(longest, _MAX_NAME_COLUMNS),
        )
        return painter, ConsoleSink(painter=painter, max_output_lines=_MAX_OUTPUT_LINES)


def _shortened(task: str) -> str:
    text = one_line(task[: _MAX_TASK_CHARS * 4])
    return text if len(text) <= _MAX_TASK_CHARS else f"{text[:_MAX_TASK_CHARS]}…"
