"""An attack on the host by a runner that was taken over, beside a session that must not notice."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hostile_runner
from agentd.errors import ProtocolError, RunnerDiedError, RunnerStartError
from agentd.types import ActionResult, BashAction, Limits
from agentd_runner.host import RunnerExecutor
from agentd_tools import ToolSet

__all__ = ["HostileExecutor", "attack"]

MIB = 1024 * 1024
MOST_MIB = 64
# Alone, a case takes a tenth of a second, a silent one one, and 120 MB of calls three. With other work beside it, it
# may take many times as long; what hangs takes `hostile_runner.HANG_S`.
SOON_S = 90.0


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def large() -> str:
    """More than a pipe holds, and all copies of a few dozen far less than `MOST_MIB`."""
    return "x" * 200_000


class HostileExecutor(RunnerExecutor):
    """Starts the hostile process where the runner would be; subclasses say how."""

    case = ""

    def runner_command(self) -> list[str]:
        return [sys.executable, "-X", "utf8", hostile_runner.__file__, self.case]


def give_freed_blocks_back() -> None:
    """Have the C library give large blocks back to the system when they are freed: glibc keeps them, for each thread
    that had some, and how many threads that are depends on what else the machine does."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 128 * 1024)  # M_MMAP_THRESHOLD; to set it ends that it grows by itself


class Growth(threading.Thread):
    """Looks how much memory this process has in use, and keeps the most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        give_freed_blocks_back()
        self.over = threading.Event()
        self.before = self.most = self.now()

    def now(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def run(self) -> None:
        while not self.over.wait(0.005):
            self.most = max(self.most, self.now())

    def mib(self) -> float:
        self.over.set()
        return (self.most - self.before) / MIB


def ask(hostile: RunnerExecutor) -> ActionResult | Exception:
    try:
        return hostile.run_sync(BashAction(command="true"))
    except Exception as error:
        return error


def check_end(case: str, ended: ActionResult | Exception) -> None:
    expected = hostile_runner.ENDS[case]
    if expected == "breach":
        assert type(ended) is ProtocolError
        assert "it broke the protocol: " in str(ended)
        assert "next action starts a new one" in str(ended)
        assert len(str(ended)) < 1000
        assert str(ended).isprintable()
    elif expected == "start":
        assert type(ended) is RunnerStartError
        assert "it broke the protocol: " in str(ended)
        assert len(str(ended)) < 1000
    elif expected in ("died", "ended"):
        kinds = (RunnerDiedError, ProtocolError) if expected == "ended" else (RunnerDiedError,)
        assert type(ended) in kinds
    else:
        assert isinstance(ended, ActionResult)
        assert ended.status == "completed"
        assert expected in ended.output
        ended.output.encode()  # valid Unicode


def attack(make: Callable[..., Any], case: str, workspace: Path, neighbour: RunnerExecutor) -> None:
    """Run the case in what `make(workspace, limits=...)` gives, and a session beside it all the time."""
    release = threading.Event()

    def waits(x: str = "") -> None:
        """Answer when the case is over; large calls one after the other, for the clock stands still meanwhile."""
        release.wait(0.1 if x else 30)

    tools = ToolSet([double, large, waits])
    timeout_s = 0.5 if case in hostile_runner.SILENT else 8.0
    hostile = make(workspace, limits=Limits(timeout_s=timeout_s, grace_s=0.2, output_bytes=MIB, host_mib=16))
    hostile.case = case
    hostile.attach(tools=tools, layout=None)
    ended: list[ActionResult | Exception] = []
    growth = Growth()
    growth.start()
    thread = threading.Thread(target=lambda: ended.append(ask(hostile)), daemon=True)
    began = time.monotonic()
    thread.start()
    try:
        for _ in forever_until(lambda: not thread.is_alive()):
            assert neighbour.execute_bash("echo here") == ("here\n", 0)
            assert time.monotonic() - began < SOON_S
        assert growth.mib() < MOST_MIB
        check_end(case, ended[0])
    finally:
        release.set()
        tools.close()
        hostile.close()


def forever_until(over: Callable[[], bool]) -> Iterator[None]:
    """Go on until it is over, and once more: what a runner sends after an action's end harms nobody either."""
    while not over():
        yield
    yield
