"""One job of the session: its action, what it has printed, who waits for its end."""

from __future__ import annotations

import os
import time

from .action import RunningAction
from .job_output import JobOutput, JobPipe

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SHOWN = 60  # characters of its command in a list


class JobRefused(Exception):
    """A job that cannot be started, or asked for; the message says why."""


class SessionJob:
    """A job: its action, what it has printed, and who waits for its end."""

    def __init__(self, name: str, command: bytes, action: RunningAction, output: JobOutput) -> None:
        self.name = name
        lines = command.decode("utf-8", "replace").strip().splitlines()
        self.command = lines[0][:SHOWN] if lines else ""
        self.action = action
        self.output = output
        self.pipes: list[JobPipe] = []
        self.pid = 0
        self.terminal: tuple[int, int] | None = None  # both ends of it
        self.result: dict[str, Any] | None = None
        self.is_told = False  # the host knows of it
        self.waiting: list[JobWait] = []

    def plain(self) -> dict[str, Any]:
        """Return what the command `job` shows of it."""
        result = self.result or {
            "exit_code": None,
            "message": "",
            "wall_s": time.monotonic() - self.action.started,
        }
        return {
            "name": self.name,
            "command": self.command,
            "pid": self.pid,
            "exit_code": result["exit_code"],
            "message": result["message"],
            "seconds": result["wall_s"],
            "output_bytes": self.output.size,
        }

    def close_terminal(self) -> None:
        if self.terminal is not None:
            os.close(self.terminal[1])
            self.terminal = None


class JobWait:
    """Somebody who waits for a job's end, or for a time: `tell` is called at the first of both."""

    def __init__(self, due: float, tell: Callable[[], None], wants: Callable[[], bool]) -> None:
        self.due = due
        self.tell = tell
        self.wants = wants
