"""The processes of this machine."""

from __future__ import annotations

from pathlib import Path

__all__ = ["command_lines"]


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
