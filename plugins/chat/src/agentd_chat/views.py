"""Views: what is shown of a talk: the events of its turns, and what commands answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import attrs
from agentd.events import Event, RunEnd, RunStart
from agentd.types import Usage
from agentd_cli.views import Progress, make_view
from agentd_sink_console.neutral import neutral, one_line
from agentd_sink_console.painters import wants_color
from agentd_sink_console.terminal import sink_for
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from agentd.turn.transcript import Execution
    from agentd_cli.prompt.lines import CommandSpec

    from agentd_chat.kept import KeptConversation

__all__ = [
    "ChatView",
    "SparseView",
    "conversations",
    "cost",
    "help_of",
    "jobs",
    "last_said",
    "not_finished",
    "note",
    "turns_of",
]

_KEYS = (
    ("Enter", "send; behind a backslash: a new line"),
    ("Alt-Enter", "a new line"),
    ("Tab", "complete commands, and paths behind @"),
    ("@PATH", "in a message: put this file, text or an image, into it"),
    (
        "Ctrl-C",
        "while the agent works: stop it; at the prompt: clear the input, twice on an empty one: leave",
    ),
    ("Ctrl-D", "on an empty input: leave"),
    ("Ctrl-R", "search what was typed before"),
)
_MAX_NAMED = 8
_LAST_LINES = 12


class ChatView:
    """Shows events and answers on a stream. Whatever comes while somebody is asked is shown after the answer.

    :param fold_lines: lines of one block's output on a terminal; None for all.
    """

    def __init__(self, stream: TextIO, *, fold_lines: int | None) -> None:
        self._sink = sink_for(stream, fold_lines=fold_lines)
        color = wants_color(stream)
        self._console = Console(
            file=stream,
            force_terminal=color,
            no_color=not color,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
            soft_wrap=True,
        )
        self._held: list[Event] | None = None
        self.header = ("", "")
        """The model and the executor that were named last."""

    def emit(self, event: Event) -> None:
        """Show an event. The model and the executor are named when they are others than before."""
        if self._held is not None:
            self._held.append(event)
            return
        if isinstance(event, RunStart):
            header = (event.model, event.executor)
            if header == self.header:
                event = attrs.evolve(event, model="")
            self.header = header
        if isinstance(event, RunEnd):
            event = attrs.evolve(event, error="")  # whoever has it says it
        self._sink.emit(event)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While entered, nothing is shown: the terminal belongs to a question."""
        outermost = self._held is None
        if outermost:
            self._held = []
            self._sink.pause()
        try:
            yield
        finally:
            if outermost:
                held, self._held = self._held or [], None
                for event in held:
                    self.emit(event)

    def say(self, shown: RenderableType) -> None:
        """Print what a command answers."""
        self._sink.close()
        self._console.print(shown)

    def close(self) -> None:
        """End what is unfinished."""
        self._sink.close()


class SparseView:
    """Prints the final answer of a turn alone, or its events as JSON lines; what else there is to say goes to standard
    error."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._progress = Progress(make_view(stream, as_json=as_json, quiet=not as_json))

    def emit(self, event: Event) -> None:
        """Print an event, if it is one that is printed."""
        self._progress.emit(event)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """While entered, the terminal belongs to a question: nothing is drawn on it anyway."""
        yield

    def say(self, shown: Text) -> None:
        """Print what is said of a turn."""
        print(f"agentd: {one_line(shown.plain)}", file=sys.stderr)

    def close(self) -> None:
        """End what is unfinished."""
        self._progress.view.close()


def note(text: str, style: str = "dim") -> Text:
    """Return a sentence to the person."""
    return Text(neutral(text), style=style)


def cost(spent: Usage, *, turns: int, limit_usd: float | None, unpriced: int = 0) -> RenderableType:
    """Return what a conversation has cost; `unpriced` of its turns had a model without a known price."""
    money = "unknown: no price of the model is known" if spent.cost_usd is None else f"${spent.cost_usd:.4f}"
    if not spent.requests:
        money = "$0.0000"
    if limit_usd is not None:
        money += f" of ${limit_usd:.4f} (--max-cost)"
    if unpriced and spent.cost_usd is not None:
        money += f", and {unpriced} turn{'' if unpriced == 1 else 's'} with a model whose price is unknown"
    cached = f" ({spent.cached_input_tokens:,} of them cached)" if spent.cached_input_tokens else ""
    reasoning = f" ({spent.reasoning_tokens:,} of them reasoning)" if spent.reasoning_tokens else ""
    rows = (
        ("money", money),
        ("tokens", f"{spent.input_tokens:,} in{cached}, {spent.output_tokens:,} out{reasoning}"),
        ("turns", f"{turns:,}, {spent.requests:,} request{'' if spent.requests == 1 else 's'} to the model"),
    )
    return _table(rows)


def jobs(found: Sequence[tuple[str, str]]) -> RenderableType:
    """Return jobs, each with the end of its output."""
    if not found:
        return note("no jobs")
    lines: list[Text] = []
    for number, (line, tail) in enumerate(found):
        # Its columns are under those of the heading: blanks stay.
        lines.append(Text(neutral(line).replace("\n", " "), style="bold" if number else "dim"))
        lines += [Text(f"  │ {part}", style="dim") for part in neutral(tail).rstrip("\n").split("\n") if part]
    return Group(*lines)


def not_finished(done: Sequence[Execution], stopped: Sequence[Execution]) -> Text:
    """Return what of a turn that was stopped was done, and what was not."""
    parts = [f"{_counted(len(done))} ran to the end and counts" if done else "no block had ended"]
    if stopped:
        parts.append(f"not finished: {_named(stopped)}")
    parts.append("/undo takes the turn back, its files too")
    return note("; ".join(parts), "yellow")


def _counted(number: int) -> str:
    return "1 block" if number == 1 else f"{number} blocks"


def _named(stopped: Sequence[Execution]) -> str:
    names = [f"{one_line(one.header)} ({one_line(one.code)[:40]})" for one in stopped[:_MAX_NAMED]]
    more = len(stopped) - len(names)
    return ", ".join([*names, *([f"{more} more"] if more else [])])


def help_of(specs: Sequence[CommandSpec], *, keys: bool) -> RenderableType:
    """Return what commands do, and the keys if asked."""
    rows = [(spec.usage, spec.help) for spec in specs]
    return _table([*rows, *(_KEYS if keys else ())])


def turns_of(kept: KeptConversation) -> str:
    """Return how many turns it has, in words."""
    return "1 turn" if len(kept.turns) == 1 else f"{len(kept.turns)} turns"


def last_said(kept: KeptConversation) -> RenderableType:
    """Return the end of the last answer, for a person who comes back."""
    lines = neutral(kept.transcript.last_answer).strip().splitlines()
    cut = ["…", *lines[-_LAST_LINES:]] if len(lines) > _LAST_LINES else lines
    return Text("\n".join(f"  {line}" for line in cut), style="dim")


def conversations(kept: Iterable[KeptConversation]) -> RenderableType:
    """Return the conversations of a folder, numbered."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number, one in enumerate(kept, 1):
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.updated_at))
        table.add_row(
            f"{number}", Text(one.id, style="bold"), at, turns_of(one), Text(one_line(one.title), style="dim")
        )
    return table


def _table(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, about in rows:
        table.add_row(Text(name, style="bold"), Text(about))
    return table
