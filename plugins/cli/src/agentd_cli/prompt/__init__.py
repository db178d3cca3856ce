"""What the daemon's prompt and `agentd chat` have in common: lines, keys, the past, and whether there is a person."""

from __future__ import annotations

import os
from typing import TextIO

__all__ = ["prompt_possible"]


def prompt_possible(stdin: TextIO | None, stdout: TextIO | None) -> bool:
    """Tell whether a person sits at both ends: open terminals, and this process in their foreground."""
    if stdin is None or stdout is None or stdin.closed or stdout.closed:
        return False
    if not (stdin.isatty() and stdout.isatty()):
        return False
    try:
        # Started with `&`: the first look at the terminal would stop the process (SIGTTIN, SIGTTOU).
        return os.tcgetpgrp(stdin.fileno()) == os.getpgrp()
    except OSError:
        return True  # a terminal that does not control this session sends no such signals
