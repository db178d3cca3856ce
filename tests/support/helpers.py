"""Sources over the scripted server, and what tests ask about its processes."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_mcp_bridge.source import McpSource
from agentd_testing.subscriptions import RecordingSubscriber as Told

__all__ = [
    "Host",
    "Told",
    "entry",
    "is_alive",
    "numbers",
    "secret_free",
    "source",
    "wait_for_line",
    "wait_until_gone",
]

SCRIPT = Path(__file__).with_name("scripted.py")


def entry(start: str = "well", journal: Path | None = None, **options: Any) -> dict[str, Any]:
    """Return the dict of a scripted server."""
    args = ["-S", str(SCRIPT), start]
    if journal is not None:
        args += ["--journal", str(journal)]
    return {"name": "scripted", "command": sys.executable, "args": args, **options}


def source(start: str = "well", journal: Path | None = None, **options: Any) -> McpSource:
    """Return a source over a scripted server."""
    [made] = agentd_create_tool_sources(entry(start, journal, **options), {}) or []
    return made


def is_alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError:
        return False
    return state not in (b"Z", b"X")


def numbers(journal: Path, word: str) -> list[int]:
    """Return the numbers in the journal's lines that begin with `word`."""
    lines = journal.read_text().splitlines() if journal.exists() else []
    return [int(line.split()[1]) for line in lines if line.split()[0] == word]


def wait_for_line(journal: Path, line: str) -> None:
    """Wait until a server, which is a process of its own, has written the line."""
    deadline = time.monotonic() + 10
    while line not in journal.read_text().splitlines():
        assert time.monotonic() < deadline, f"no line {line!r} in the journal"
        time.sleep(0.02)


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    """Wait for processes of others, which no event tells of; return those that are still there."""
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


class Host:
    """A `SourceHost` that keeps what it is told."""

    def __init__(self) -> None:
        self.changes = 0
        self.logged: list[tuple[str, str]] = []

    def changed(self) -> None:
        self.changes += 1

    def log(self, level: str, text: str) -> None:
        self.logged.append((level, text))


def secret_free(environment: dict[str, str]) -> bool:
    """Tell whether the host's environment stayed outside."""
    return "HOST_SECRET" not in environment and set(environment) <= {*os.environ, "GIVEN", "LC_CTYPE"}
