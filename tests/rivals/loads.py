"""Rows of much at a time. A quick run has less of it. Standard library only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from benchmarks.kit import descendants, pss_mib

from rivals.row import Figure, Figures, Scale, either, median_ms, must, new_folder, opened, row
from rivals.side import Box, NotThere, Side

__all__: list[str] = []


@row(
    "flood",
    Figure("flood_ms", "10 MB of output", "ms"),
    Figure("flood_live", "it is seen while the block runs", "yes", True),
    Figure("flood_whole", "it is seen whole", "yes", True),
    scaled="2 MB",
)
async def flood(side: Side, scale: Scale) -> Figures:
    """How long printing takes, when the first of it was there, and how much of it."""
    megabytes = scale.of(10, 2)
    async with opened(side) as box:
        begin = time.perf_counter()
        said = await must(either(box, side.printing(megabytes)))
        took = time.perf_counter() - begin
    live = said.first_s is not None and said.first_s < took / 2
    whole = said.whole and len(said.text) >= megabytes * 1_000_000 - 1  # without the last line's end
    return {"flood_ms": took * 1000, "flood_live": float(live), "flood_whole": float(whole)}


@row(
    "sessions",
    Figure("session_ms", "many open sessions: start of each, with a block", "ms"),
    Figure("session_mib", "memory of each (PSS)", "MiB"),
    Figure("session_close_ms", "close of each", "ms"),
    Figure("session_count", "how many", "", True),
    scaled="at most 10",
    seconds=(40.0, 1.5),
    within_s=(120.0, 20.0),
    once=True,
)
async def sessions(side: Side, scale: Scale) -> Figures:
    """Many sessions open at a time: start with a first block, memory after half a second, close.

    A side opens as many as its time allows. Where a session is nothing without a namespace that lasts, the block makes
    one.
    """
    below = set(descendants())
    own = pss_mib(os.getpid())
    boxes: list[Box] = []
    begin = time.perf_counter()
    try:
        while len(boxes) < min(scale.of(200, 10), side.fewer) and time.perf_counter() - begin < scale.seconds:
            boxes.append(await side.open(new_folder("many")))
            try:
                await must(boxes[-1].python(side.empty, kept=side.holds_by_kept))
            except NotThere:
                await must(boxes[-1].python(side.empty))
        each_ms = (time.perf_counter() - begin) * 1000 / len(boxes)
        await asyncio.sleep(0.5)
        memory = sum(pss_mib(pid) for pid in descendants() if pid not in below) + pss_mib(os.getpid()) - own
    finally:
        begin = time.perf_counter()
        for box in boxes:
            await box.close()
        close_ms = (time.perf_counter() - begin) * 1000 / max(1, len(boxes))
    return {
        "session_ms": each_ms,
        "session_mib": max(0.0, memory) / len(boxes),
        "session_close_ms": close_ms,
        "session_count": len(boxes),
    }


@row(
    "sleeping",
    Figure("sleeping_ms", "16 sessions that sleep 0.1 s at once", "ms"),
    scaled="4 sessions",
    within_s=(90.0, 12.0),
)
async def sleeping(side: Side, scale: Scale) -> Figures:
    """Sessions with a block each that sleeps 0.1 s, at once."""
    async with contextlib.AsyncExitStack() as stack:
        boxes = [
            await stack.enter_async_context(opened(side, f"sleep-{number}"))
            for number in range(scale.of(16, 4))
        ]
        run = lambda: asyncio.gather(*(must(either(box, side.sleeping)) for box in boxes))  # noqa: E731
        return {"sleeping_ms": await median_ms(run, count=scale.of(7, 2), at_most_s=scale.seconds)}
