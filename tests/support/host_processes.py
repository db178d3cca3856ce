"""The processes of this machine."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["OWN", "command_lines"]

OWN = f".{os.getpid():07d}"
"""A fraction of a second that makes `sleep 987101` one of this test process: a test that several executors have in
common may run in another one just now."""


def command_lines(word: str) -> list[str]:
    """List the command lines of living processes that contain a word."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if word in line and state != "Z":
            found.append(line)
    return found
