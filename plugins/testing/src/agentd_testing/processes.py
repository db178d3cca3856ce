"""Processes of this host, found by a word in their command line. Where there is no /proc, none are found."""

from __future__ import annotations

import time
from pathlib import Path

__all__ = ["living_with", "wait_until_gone"]


def living_with(word: str) -> list[int]:
    """Return the pids of living processes (zombies are not) whose command line contains the word."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes()
            state = (directory / "stat").read_bytes().rpartition(b")")[2].split()[0]
        except OSError:
            continue
        if word.encode() in line and state not in (b"Z", b"X"):
            found.append(int(directory.name))
    return found


def wait_until_gone(word: str, seconds: float) -> list[int]:
    """Wait for processes of others, which no event tells of; return those that are still there in the end."""
    deadline = time.monotonic() + seconds
    while (left := living_with(word)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
