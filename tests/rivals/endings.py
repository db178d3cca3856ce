"""Rows of what runs at all, and of what does not end by itself. Standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.kit import descendants

from rivals.row import Figure, Figures, Scale, either, opened, row
from rivals.side import Box, Said, Side
from rivals.snippets import SNIPPETS

__all__ = ["WORDS"]

WORDS: dict[str, str] = {}
"""Why a snippet did not run, by its name: the last line of what was said. Filled by `snippets`."""

PREFIXES = ("due to: ", "InterpreterError: ", "Error calling tool 'execute': ")
"""What all errors of a side begin with."""


@row(
    "snippets",
    *(Figure(f"snippet_{number}", snippet.name, "", True) for number, snippet in enumerate(SNIPPETS)),
    within_s=(120.0, 40.0),
    once=True,
)
async def snippets(side: Side, scale: Scale) -> Figures:
    """Each of the fifteen in a session of its own: 1 if it ran and gave what CPython gives."""
    figures: Figures = {}
    WORDS.clear()
    for number, snippet in enumerate(SNIPPETS):
        async with opened(side, "snippet") as box:
            try:
                said = await either(box, side.shown(snippet.code))
            except Exception as error:
                said = Said(str(error), False)
        ran = said.ok and snippet.expected in said.text
        figures[f"snippet_{number}"] = float(ran)
        if not ran:
            WORDS[snippet.name] = _reason(said.text)
    return figures


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    for before in PREFIXES:
        last = last.rpartition(before)[2]
    return last if len(last) <= 120 else f"{last[:117]}..."


@row(
    "limit",
    Figure("limit_over_ms", "time-out of 1 s: how much later it returns", "ms"),
    Figure("limit_left", "processes left a second later"),
    Figure("limit_busy", "the block's loop goes on", "no"),
    scaled="given up after 4 s, not 10",
    within_s=(60.0, 16.0),
    last=True,
)
async def limit(side: Side, scale: Scale) -> Figures:
    """A block that starts a process and then loops without end, with a time-out of 1 s: what is left a second later."""
    mark = f"347.{os.getpid()}"
    try:
        async with opened(side) as box:
            over = await _ended(box, side.endless.replace("347", mark), scale.of(10, 4))
            await asyncio.sleep(1.0)
            left = _marked(mark)
            before = _cpu_s(left)
            await asyncio.sleep(0.5)
            busy = _cpu_s(left) - before > 0.15
    finally:
        for pid in _marked(mark):  # ours: the mark has this process's id
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
    return {"limit_over_ms": over * 1000, "limit_left": len(left), "limit_busy": float(busy)}


async def _ended(box: Box, code: str, patience_s: float) -> float:
    """Run a block with a time-out of 1 s; how many seconds later than that it returned."""
    begin = time.perf_counter()
    try:
        async with asyncio.timeout(patience_s) as clock:
            said = await either(box, code, timeout_s=1.0)
    except TimeoutError:
        if clock.expired():
            raise RuntimeError(f"with a time-out of 1 s it had not returned after {patience_s:g} s") from None
        return max(0.0, time.perf_counter() - begin - 1.0)
    raise RuntimeError(f"it ended without a time-out: {said.text.strip()[-200:]}")


def _marked(mark: str) -> list[int]:
    """Processes whose command line has this, as an argument or in a block's text, wherever they were moved to."""
    wanted = re.compile(re.escape(mark.encode()) + rb"(?!\d)")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if wanted.search(path.read_bytes()):
                found.append(int(path.parent.name))
    return found


def _cpu_s(others: Iterable[int]) -> float:
    """What this process, all below it and others that it has lost have used so far."""
    ticks = 0
    for pid in {os.getpid(), *descendants(), *others}:
        with contextlib.suppress(OSError):
            columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(columns[11]) + int(columns[12])
    return ticks / os.sysconf("SC_CLK_TCK")
