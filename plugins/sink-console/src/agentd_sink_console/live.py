"""The last rows of a terminal, which are drawn anew: what is unfinished, and what is being waited for."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

__all__ = ["LiveRows", "Unfinished"]

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_A_SECOND = 8
_MAX_CHARS = 8_000  # of unfinished text that are looked at


@attrs.frozen
class Unfinished:
    """What the rows show: text that may still grow (`is_dim` if it is what the model thinks), lines of their own, and
    what is awaited since when."""

    text: str = ""
    lines: tuple[str, ...] = ()
    awaited: str = ""
    since: float = 0.0
    is_dim: bool = False


class LiveRows:
    """Draws the rows below everything that the console prints, eight times a second, until `close`.

    Whoever prints on the console holds `lock` meanwhile: what is drawn and what is printed are one movement of the
    cursor each.
    """

    def __init__(self, console: Console) -> None:
        self.lock = threading.RLock()
        self._console = console
        self._live: Live | None = None
        self._over = threading.Event()
        self._shown = Unfinished()

    def show(self, unfinished: Unfinished) -> None:
        """Show this from now on."""
        with self.lock:
            before, self._shown = self._shown, unfinished
            if self._live is None:
                self._begin()
            elif before.lines != unfinished.lines or not unfinished.text.startswith(before.text):
                self._live.refresh()  # or what has been printed by now would stand there twice

    def _begin(self) -> None:
        from rich.live import Live

        self._live = Live(
            console=self._console,
            transient=True,
            auto_refresh=False,  # its thread does not wait for what others print
            redirect_stdout=False,
            redirect_stderr=False,
            get_renderable=self._rows,
        )
        self._live.start()
        # A process that is killed could not show it again.
        self._console.show_cursor(True)
        self._over = threading.Event()
        threading.Thread(
            target=self._draw_until, args=(self._over, self._live), name="agentd-rows", daemon=True
        ).start()

    def _draw_until(self, over: threading.Event, live: Live) -> None:
        while not over.wait(1 / _FRAMES_A_SECOND):
            with self.lock:
                if not over.is_set():
                    live.refresh()

    def close(self) -> None:
        """Take the rows away. `show` brings them back."""
        with self.lock:
            live, self._live = self._live, None
            if live is not None:
                self._over.set()
                self._shown = Unfinished()
                live.stop()

    def _rows(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        shown = self._shown
        width, height = self._console.size
        rows = [_cut(line, width, "dim") for line in shown.lines[-8:]]
        room = max(1, height - len(rows) - 3)
        text = Text(shown.text[-_MAX_CHARS:], style="dim" if shown.is_dim else "")
        rows = [*text.wrap(self._console, width)[-room:], *rows] if shown.text.strip() else rows
        if shown.awaited:
            seconds = time.monotonic() - shown.since
            frame = _FRAMES[int(time.monotonic() * _FRAMES_A_SECOND) % len(_FRAMES)]
            clock = f" · {seconds:.0f} s" if seconds >= 1 else ""
            rows.append(_cut(f"{frame} {shown.awaited}{clock}", width, "cyan"))
        return Group(*rows)


def _cut(line: str, width: int, style: str) -> Text:
    from rich.text import Text

    text = Text(line, style=style, no_wrap=True)
    text.expand_tabs(8)
    text.truncate(width, overflow="ellipsis")
    return text
