"""Which replays are made: every case with its own tools, and samples for the curve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from evidence.cases import Case
from evidence.ways import USUAL, WAYS, Way

__all__ = ["CALLS", "EXPLAINED", "OFFERED", "Job", "curve_jobs", "table_jobs"]

OFFERED: Final = (3, 10, 30, 100, 1000)
EXPLAINED: Final = (10, 100)
"""With so many tools, all four ways are replayed."""
CALLS: Final = {1: (1, 1), 3: (3, 3), 10: (9, 11), 30: (24, 36)}
"""How many calls a task of each column of the curve has: there are few with just 10 or 30."""


@attrs.frozen
class Job:
    """One replay. `offered` is how many tools are on offer, 0 for the case's own, as the data set has it."""

    case: Case
    way: Way
    offered: int = 0
    column: int = 0

    @property
    def key(self) -> str:
        """What names it in the file of results."""
        return f"{self.case.id}/{self.way}/{self.offered}"


def table_jobs(cases: Sequence[Case], each: int | None) -> Iterator[Job]:
    """Give the replays with each case's own tools, in the two ways that are usual.

    :param each: how many cases of a data set; None for all.
    """
    for case in spread(cases, each):
        if case.calls:
            yield from (Job(case, way) for way in USUAL)


def curve_jobs(cases: Sequence[Case], each: int) -> Iterator[Job]:
    """Give the replays of the curve.

    :param each: how many cases of a data set for each number of calls.
    """
    for column, (least, most) in CALLS.items():
        fitting = [case for case in cases if least <= case.calls <= most]
        for case in spread(fitting, each):
            for offered in OFFERED:
                ways = WAYS if offered in EXPLAINED else USUAL
                yield from (Job(case, way, offered, column) for way in ways)


def spread(cases: Sequence[Case], number: int | None) -> list[Case]:
    """Return so many of the cases, evenly taken."""
    if number is None or number >= len(cases):
        return list(cases)
    return [cases[len(cases) * place // number] for place in range(number)]
