"""The terminal as prompt_toolkit's output."""

from __future__ import annotations

import os
from typing import Any

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output.vt100 import Vt100_Output

__all__ = ["terminal_output"]


def terminal_output(stream: Any, fd: int) -> Vt100_Output:
    """Return the output that writes to `stream`; the terminal's size is that of the descriptor `fd`."""

    def size() -> Size:
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            columns, rows = 0, 0
        return Size(rows=rows or 24, columns=columns or 80)

    # Answers to cursor position requests arrive among the keys and, when the program ends, in the shell; what
    # is printed above the prompt does not need them.
    return Vt100_Output(stream, size, term=os.environ.get("TERM"), enable_cpr=False)
