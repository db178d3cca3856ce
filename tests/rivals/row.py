"""What a row of the comparison is, how one is declared, and what the functions that measure share.

Standard library only.

@row("flood", Figure("flood_ms", "10 MB of output", "ms"), scaled="2 MB")
async def flood(side, scale): ...
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rivals.side import Box, NotThere, Said, Side

__all__ = [
    "DECLARED",
    "Figure",
    "Figures",
    "Row",
    "Scale",
    "either",
    "median_ms",
    "must",
    "one_more_ms",
    "opened",
    "row",
]

Figures = dict[str, float]


class Figure(NamedTuple):
    """A line of the table. `more`: whether more is better."""

    key: str
    title: str
    unit: str = ""
    more: bool = False


@dataclass(frozen=True)
class Scale:
    """How much: `seconds` is what one side's repetitions of a row may take; `quick` asks for less of all."""

    quick: bool
    seconds: float

    def of(self, full: int, quick: int) -> int:
        """One or the other."""
        return quick if self.quick else full


Measure = Callable[[Side, Scale], Awaitable[Figures]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A group of figures that one function measures.

    :param scaled: what a quick run measures in place of what the titles say; shown beside them.
    :param seconds: what one side's repetitions take in a full run and in a quick one, at most. Slow sides make fewer.
    :param within_s: after so long, the measurement is given up.
    :param last: its process is ended with it, as what it leaves behind would be in the way of others.
    :param once: it is measured in the first round alone: it takes long, or gives the same each time.
    """

    name: str
    figures: tuple[Figure, ...]
    measure: Measure
    scaled: str = ""
    seconds: tuple[float, float] = (2.0, 0.35)
    within_s: tuple[float, float] = (60.0, 12.0)
    last: bool = False
    once: bool = False

    def scale(self, quick: bool) -> Scale:
        """How much is measured."""
        return Scale(quick, self.seconds[quick])


DECLARED: list[Row] = []
"""The rows in the order in which they were declared, which is that of the tables."""


def row(
    name: str,
    *figures: Figure,
    scaled: str = "",
    seconds: tuple[float, float] = Row.seconds,
    within_s: tuple[float, float] = Row.within_s,
    last: bool = False,
    once: bool = False,
) -> Callable[[Measure], Measure]:
    """Declare what a function measures as a row; see `Row`."""

    def declared(measure: Measure) -> Measure:
        DECLARED.append(
            Row(
                name=name, figures=figures, measure=measure, scaled=scaled,
                seconds=seconds, within_s=within_s, last=last, once=once,
            )
        )  # fmt: skip
        return measure

    return declared


# --- what they share


@contextlib.asynccontextmanager
async def opened(side: Side, name: str = "work") -> AsyncIterator[Box]:
    """A session in a folder of its own."""
    box = await side.open(new_folder(name))
    try:
        yield box
    finally:
        await box.close()


def new_folder(name: str) -> Path:
    """Make a folder that nothing else has."""
    folder = Path.cwd() / f"{name}-{time.monotonic_ns()}"
    folder.mkdir()
    return folder


async def must(said: Awaitable[Said]) -> Said:
    """What a block said, which must have ended well."""
    result = await said
    if not result.ok:
        lines = result.text.strip().splitlines()
        raise RuntimeError(lines[-1] if lines else "it failed without a word")
    return result


async def either(box: Box, code: str, *, timeout_s: float | None = None) -> Said:
    """Run a block in a fresh namespace, or in the kept one where there is no other."""
    try:
        return await box.python(code, timeout_s=timeout_s)
    except NotThere:
        return await box.python(code, kept=True, timeout_s=timeout_s)


async def median_ms(
    call: Callable[[], Awaitable[object]], *, count: int, at_most_s: float, warm: int = 1
) -> float:
    """The median of up to `count` calls; a side that is slow makes fewer, at least one."""
    for _ in range(warm):
        await call()
    times: list[float] = []
    until = time.perf_counter() + at_most_s
    while len(times) < count and (not times or time.perf_counter() < until):
        begin = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


async def one_more_ms(box: Box, code: Callable[[int], str], many: int, scale: Scale) -> float:
    """What one more call in a block costs, by the host's clock: blocks of one and of many, and their difference.

    :param code: the block with so many calls.
    """
    few_ms = await median_ms(lambda: must(box.python(code(1))), count=5, at_most_s=scale.seconds / 3)
    many_ms = await median_ms(lambda: must(box.python(code(many + 1))), count=5, at_most_s=scale.seconds)
    return max(0.0, many_ms - few_ms) / many
