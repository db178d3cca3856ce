"""An action that runs, and what the host is told of its end."""

from __future__ import annotations

import os
import time

from .disk_usage import TIDY_UP
from .output import OutputPipe
from .primitives import from_json, signal
from .processes import signal_name
from .timings import WAITING_S
from .workers import SupervisedWorker

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any


class RunningAction:
    """An action that runs: its worker, its streams and its clock."""

    def __init__(self, ident: int, order: int, header: dict[str, Any], worker: SupervisedWorker) -> None:
        self.ident = ident
        self.order = order
        self.worker = worker
        self.outputs: list[OutputPipe] = []
        self.started = time.monotonic()
        self.timeout_s: float | None = header.get("timeout_s")
        self.deadline = None if self.timeout_s is None else self.started + self.timeout_s
        self.waited_s = 0.0  # for tools, as far as we know: that is not its time
        self.asked = False  # for how long
        self.ending = ""  # why it is being ended: timeout, cancelled, limit
        self.excess = ""  # the limit for which it is being ended
        self.passed_on = 0  # channels that the host has
        self.is_fresh = (
            header.get("type") == "bash" and header.get("state") == "fresh"
        )  # apart from the session's shell
        self.lasting = bool(header.get("lasting")) and header.get("state") != "kept"  # what it leaves goes on
        self.lost = False  # a kept interpreter that does not go on after this action
        self.job = -1  # the file that a Python worker begins with to read
        self.again: RunningBlock | None = None  # for another kept interpreter, if this one was dead
        self.note = ""
        self.report: list[Any] | None = None  # the supervisor's

    def take_waited(self, waited_s: float, waits: bool) -> None:
        """The host has said how long it has waited for tools, and whether it does so now: set the deadline anew."""
        if self.timeout_s is None or self.ending:
            return
        now = time.monotonic()
        self.waited_s = waited_s
        self.deadline = self.started + self.timeout_s + waited_s
        if waits:
            self.deadline = max(self.deadline, now + WAITING_S)
        self.asked = self.deadline <= now

    def has_begun(self) -> bool:
        """True if a kept interpreter has begun to read its job; it shares the place in the file with us."""
        return os.lseek(self.job, 0, os.SEEK_CUR) > 0

    def result(self, wall_s: float, limits: dict[str, int], notice: str) -> dict[str, Any]:
        """Return what the EXIT frame carries. `notice` is what else the host must hear of."""
        status, cpu_s, memory, killed, crowd = self.report or [signal.SIGKILL, 0.0, 0, 0, 0]
        code = os.waitstatus_to_exitcode(status)
        by_signal = code < 0
        code = 128 - code if by_signal else code
        messages = []
        if self.ending == "timeout":
            waited = f", not counting {self.waited_s:.1f} s for tools," if self.waited_s >= 0.1 else ""
            messages.append(
                f"timed out after {self.timeout_s:g} s{waited} and was ended with all its processes"
            )
            code = 124  # as timeout(1) has it
        elif self.ending == "cancelled":
            messages.append("cancelled and ended with all its processes")
        elif self.ending:
            messages.append(f"ended with all its processes: {self.excess}. {TIDY_UP}")
            code = 137  # as what runs out of memory ends
        elif crowd:
            messages.append(
                f"ended with all its processes: it had {crowd} processes and threads; "
                f"the limit processes is {limits['processes']}"
            )
            code = 137
        elif self.report is None:
            messages.append(
                "its supervisor was killed from outside, or no process could be made for it; "
                "all its processes were ended"
            )
        elif by_signal:
            messages.append(f"ended by signal {signal_name(code - 128)}")
        elif killed:
            messages.append(f"{killed} background process(es) ended with the block")
        if self.lost:
            messages.append("the kept Python namespace is lost")
        if self.note:
            messages.append(self.note)
        if notice:
            messages.append(f"{notice}. {TIDY_UP}")
        ended = self.ending if self.ending in ("timeout", "cancelled") else ""
        passed_on = {"channels": self.passed_on} if self.passed_on else {}
        return {
            "status": ended or ("failed" if code else "completed"),
            "exit_code": code,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "peak_memory_bytes": memory,
            "message": "; ".join(messages),
            **passed_on,
        }


def read_report(data: bytes) -> list[Any] | None:
    """Return a report of the form of `ActionSupervisor.report`; None for anything else: a kept interpreter is code's
    own, and what it sends may be, too."""
    try:
        report = from_json(data)
        status, cpu_s, *counts = report
        os.waitstatus_to_exitcode(status)
        fits = len(counts) == 3 and all(type(n) is int and 0 <= n < 1 << 53 for n in counts)
        return report if fits and type(cpu_s) in (int, float) and 0 <= cpu_s < 1e12 else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


class RunningBlock:
    """Code that waits for the kept interpreter: the action's number, its place in the order, its header, the code."""

    def __init__(self, ident: int, order: int, header: dict[str, Any], code: bytes) -> None:
        self.ident = ident
        self.order = order
        self.header = header
        self.code = code
        self.has_news = False  # bindings have come since the block before it
