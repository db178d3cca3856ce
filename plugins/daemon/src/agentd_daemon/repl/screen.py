"""The screen: finished rows scroll by above the prompt, unfinished ones stand right above it until they end.

Rows come at any time and from several agents. They are collected for some milliseconds and then written in one
go: the prompt is erased, the rows are written in its place, and it is drawn again below them. So no row is ever
torn by another one or by what the person types. An unfinished row belongs to the drawn area, which is drawn
again as it grows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import anyio
import attrs

if TYPE_CHECKING:
    from prompt_toolkit.application import Application
    from prompt_toolkit.output import Output

    from agentd_daemon.repl.terminal import TerminalStream

__all__ = ["LiveRow", "Screen"]

_GATHER_S = 0.03  # a person sees no difference, and a flood of events draws the prompt 30 times a second
_MAX_WAITING_ROWS = 2_000  # while the terminal takes nothing; the oldest go


@attrs.frozen
class LiveRow:
    """A row that is not finished: the agent's name before it, in one of `AGENT_COLOURS`, and its text."""

    prefix: str
    text: str
    colour: str


class Screen:
    """Rows above a prompt.

    :param output: the terminal.
    :param color: whether rows may have colours.
    :param stream: below `output`, if writing may have to wait.
    """

    def __init__(self, output: Output, *, color: bool, stream: TerminalStream | None = None) -> None:
        self.color = color
        self.live: dict[str, LiveRow] = {}
        self._output = output
        self._stream = stream
        self._rows: list[str] = []
        self._dropped = 0
        self._changed = anyio.Event()

    @property
    def columns(self) -> int:
        """The terminal's width now, in columns."""
        return self._output.get_size().columns

    @property
    def rows(self) -> int:
        """The terminal's height now, in rows."""
        return self._output.get_size().rows

    def show(self, rows: Iterable[str]) -> None:
        """Let finished rows scroll by. They may contain colours (SGR) and no other control characters."""
        self._rows += rows
        excess = len(self._rows) - _MAX_WAITING_ROWS
        if excess > 0:
            self._dropped += excess
            del self._rows[:excess]
        self._changed.set()

    def show_live(self, agent: str, row: LiveRow | None) -> None:
        """Show the row that an agent has not finished yet, or None."""
        if row is not None:
            self.live[agent] = row
        else:
            self.live.pop(agent, None)
        self._changed.set()

    async def run(self, app: Application[str], draw: Callable[[str], None] | None = None) -> None:
        """Write what is to be shown, until cancelled.

        :param app: draws the prompt.
        :param draw: writes rows above the prompt, for terminals on which `app` cannot draw.
        """
        while True:
            await self._changed.wait()
            self._changed = anyio.Event()
            self.flush(app, draw)
            await anyio.sleep(_GATHER_S)

    def flush(self, app: Application[str], draw: Callable[[str], None] | None = None) -> None:
        """Write what is to be shown now, unless the terminal still has to take what was written before."""
        if self._stream is not None and self._stream.clogged:
            self._changed.set()  # look again
            return
        text = self._taken()
        if draw is not None:
            if text:
                draw(text)
            return
        if text:
            self._replace_prompt(app, text)
        app.invalidate()

    def _replace_prompt(self, app: Application[str], text: str) -> None:
        if self._stream is not None:
            self._stream.held = True  # sent together with the prompt that is drawn next: nothing flickers
        if app.is_running:
            app.renderer.erase()
        self._write(text)
        if app.is_running:
            app.renderer.request_absolute_cursor_position()
        if self._stream is not None:
            self._stream.held = False

    def _taken(self) -> str:
        rows, self._rows = self._rows, []
        if self._dropped:
            rows.insert(0, f"… {self._dropped:,} rows that this terminal was too slow for")
            self._dropped = 0
        return "".join(f"{row}\r\n" for row in rows)

    def _write(self, text: str) -> None:
        self._output.write_raw(text)
        self._output.flush()
