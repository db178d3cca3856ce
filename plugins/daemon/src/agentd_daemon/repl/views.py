"""Views: what commands answer, as rows for the screen."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Sequence

from agentd.turn.transcript import Message
from agentd.types import ToolSpec, Usage
from agentd_cli.prompt.lines import CommandSpec
from agentd_sink_console.neutral import neutral, one_line
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from agentd_daemon.control import AgentStatus
from agentd_daemon.journal import JournalledQuestion

__all__ = ["agents", "commands", "messages", "note", "questions", "rows", "tools"]

_STATES = {
    "idle": "green",
    "running": "cyan",
    "waiting": "bold yellow",
    "retrying": "yellow",
    "parked": "bold red",
}
_WAITS = {"open": "a call waits", "parked": "its task waits", "lost": "its call is gone"}
_ROLES = {"task": "bold", "answer": "", "results": "dim", "withdrawn": "dim"}
_MAX_MESSAGE_LINES = 12
_MAX_MESSAGE_CHARS = 1_500
_KEYS = (
    ("Enter", "send; behind a backslash: a new line"),
    ("Alt-Enter", "a new line"),
    ("Tab", "complete"),
    ("Ctrl-C", "clear the input; on an empty one: cancel the agent's turn"),
    ("Ctrl-D", "on an empty input: quit"),
    ("Ctrl-R", "search what was typed before"),
    ("NAME: TEXT", "tell another agent"),
)


def rows(shown: RenderableType, *, columns: int, color: bool) -> list[str]:
    """Return something of rich's as rows of at most `columns` columns."""
    stream = io.StringIO()
    console = Console(
        file=stream,
        width=columns,
        force_terminal=color,
        no_color=not color,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    console.print(shown)
    return [row.rstrip() for row in stream.getvalue().splitlines()]


def note(text: str, style: str = "dim") -> Text:
    """Return a sentence to the person."""
    return Text(neutral(text), style=style)


def agents(statuses: Sequence[AgentStatus], current: str) -> RenderableType:
    """Return how every agent is."""
    table = _table(
        "", "agent", "state", "asks", "queued", "turns", "tokens", "cost", "last", "servers", "model"
    )
    for status in statuses:
        table.add_row(
            Text("*" if status.name == current else ""),
            _cell(status.name, "bold"),
            Text(_state(status), style=_STATES.get(status.state, "dim")),
            Text(" ".join(status.questions), style="bold yellow"),
            Text(str(status.queued)),
            Text(f"{status.turns:,}"),
            Text(f"{status.usage.total_tokens:,}"),
            Text(_cost(status.usage)),
            Text(_clock(status.last_at)),
            _cell(" ".join(f"{s.name}:{s.state}" for s in status.servers)),
            _cell(status.model),
        )
    return _stack([table, *_errors(statuses)])


def _cost(usage: Usage) -> str:
    if usage.cost_usd is None:
        return ""
    return f"{'at least ' if usage.unpriced_requests else ''}${usage.cost_usd:.4f}"


def _state(status: AgentStatus) -> str:
    if status.state == "retrying" and status.next_try_at is not None:
        return f"retrying in {max(0.0, status.next_try_at - time.time()):.0f} s"
    return f"{status.state} on {one_line(status.node[:12])}" if status.node else status.state


def _errors(statuses: Iterable[AgentStatus]) -> Iterable[Text]:
    for status in statuses:
        if status.last_error:
            yield Text(f"{one_line(status.name)}: {one_line(status.last_error)}", style="red")
        for server in status.servers:
            if server.error:
                yield Text(
                    f"{one_line(status.name)}, {one_line(server.name)}: {one_line(server.error)}", style="red"
                )


def questions(asked: Sequence[JournalledQuestion]) -> RenderableType:
    """Return the questions, each with its arguments, bounded."""
    if not asked:
        return note("no questions")
    parts: list[RenderableType] = []
    for question in asked:
        head = Text(question.id, style="bold yellow")
        head.append(f"  {one_line(question.agent)}: {question.kind} {one_line(question.name)}", style="bold")
        if question.kind == "tool" and question.source not in ("", "local"):
            head.append(f" of {one_line(question.source)}", style="bold")
        head.append(
            f"  {_WAITS[question.state]} since {_clock(question.asked_at)}; asked by {one_line(question.why)}",
            style="dim",
        )
        parts.append(head)
        if question.arguments:
            parts.append(Text(_bounded(neutral(question.arguments))))
    parts.append(note("/allow ID [once|session|always], or /deny ID [REASON]"))
    return _stack(parts)


def tools(specs: Sequence[ToolSpec]) -> RenderableType:
    """Return the tools, by their source."""
    if not specs:
        return note("no tools")
    table = _table("source", "tool", "what it does")
    for spec in sorted(specs, key=lambda s: (s.source, s.name)):
        about = spec.description.strip().partition("\n")[0]
        table.add_row(_cell(spec.source, "dim"), _cell(spec.name, "bold"), _cell(about))
    return table


def messages(said: Sequence[Message]) -> RenderableType:
    """Return messages, each bounded."""
    if not said:
        return note("nothing was said yet")
    parts: list[RenderableType] = []
    for message in said:
        parts.append(Text(f"{message.role}:", style="dim"))
        calls = [f"[{call.name}] {call.output or call.arguments}" for call in message.calls]
        text = "\n".join(part for part in [message.content, *calls] if part.strip())
        parts.append(Text(_bounded(neutral(text)), style=_ROLES[message.role]))
    return _stack(parts)


def _bounded(text: str) -> str:
    lines = text[:_MAX_MESSAGE_CHARS].strip("\n").split("\n")[:_MAX_MESSAGE_LINES]
    shown = "\n".join(f"  {line}" for line in lines)
    hidden = len(text.strip("\n")) - len("\n".join(lines))
    return f"{shown}\n  … {hidden:,} more characters" if hidden > 0 else shown


def commands(specs: Sequence[CommandSpec]) -> RenderableType:
    """Return what the commands do, and the keys if these are all commands."""
    table = _table()
    for spec in specs:
        table.add_row(Text(spec.usage, style="bold"), Text(spec.help))
    if len(specs) > 1:
        for key, about in _KEYS:
            table.add_row(Text(key, style="bold"), Text(about))
    return table


def _table(*headings: str) -> Table:
    table = Table(
        box=None, show_header=bool(headings), header_style="dim", pad_edge=False, padding=(0, 2, 0, 0)
    )
    for heading in headings or ("", ""):
        table.add_column(Text(heading), overflow="fold")
    return table


def _cell(text: str, style: str = "") -> Text:
    return Text(one_line(text), style=style)


def _clock(at: float | None) -> str:
    return "" if at is None else time.strftime("%H:%M:%S", time.localtime(at))


def _stack(parts: Iterable[RenderableType]) -> RenderableType:
    from rich.console import Group

    return Group(*parts)
