"""The dumb prompt: for terminals that cannot move their cursor (TERM=dumb)."""

from __future__ import annotations

from collections.abc import Callable

from agentd_sink_console.neutral import neutral
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.output import Output

__all__ = ["DumbPrompt"]


class DumbPrompt:
    """Shows what is typed as it grows; whatever changes otherwise is shown anew on a line of its own.

    :param output: the terminal.
    :param buffer: what is typed.
    :param prompt: returns what stands before it.
    """

    def __init__(self, output: Output, buffer: Buffer, prompt: Callable[[], str]) -> None:
        self._output = output
        self._buffer = buffer
        self._prompt = prompt
        self._shown: str | None = None  # nothing was shown yet, not even the prompt
        buffer.on_text_changed += self._on_text_changed

    def draw(self, rows: str) -> None:
        """Write rows, each with its end, and the prompt again below them."""
        self._output.write_raw(rows if self._shown is None else f"\r\n{rows}")
        self._again()

    def _on_text_changed(self, buffer: Buffer) -> None:
        if self._shown is not None and buffer.text.startswith(self._shown):
            self._write(buffer.text[len(self._shown) :])
            self._shown = buffer.text
        else:
            self._output.write_raw("\r\n")
            self._again()

    def _again(self) -> None:
        self._shown = self._buffer.text
        self._write(self._prompt() + self._shown)

    def _write(self, text: str) -> None:
        self._output.write_raw(neutral(text).replace("\n", "\r\n"))
        self._output.flush()
