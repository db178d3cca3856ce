"""What comes out of the replays of the curve: ratios by tools and calls, and where JSON wins."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from evidence.plan import CALLS, OFFERED
from evidence.ways import Way

__all__ = ["CACHED_PRICE", "MEASURES", "WRITTEN_PRICE", "Cell", "cells", "crossing", "measure_of"]

CACHED_PRICE: Final = 0.1
WRITTEN_PRICE: Final = 5.0
"""What a cached token, and one of the output, cost beside a new one of the input, about as with large providers."""

Entry = Mapping[str, Any]


def _all(spent: Mapping[str, float]) -> float:
    return spent["sent"] + spent["written"]


def _priced(spent: Mapping[str, float]) -> float:
    return spent["sent"] - (1 - CACHED_PRICE) * spent["cached"] + WRITTEN_PRICE * spent["written"]


def _typescript(spent: Mapping[str, float]) -> float:
    return spent["sent"] - spent["tools"] + spent["tools_ts"] + spent["written"]


MEASURES: Final[dict[str, Callable[[Mapping[str, float]], float]]] = {
    "requests": lambda spent: spent["requests"],
    "bytes": lambda spent: spent["bytes"],
    "tokens": _all,
    "price": _priced,
    "tokens, tools as TypeScript": _typescript,
}


def measure_of(entries: Sequence[Entry], measure: str) -> float:
    """Return the sum over results of what a measure makes of each."""
    return sum(MEASURES[measure](entry["spent"]) for entry in entries)


@attrs.frozen
class Cell:
    """The cases with about so many calls, with so many tools on offer; results by way, of the same cases."""

    offered: int
    column: int
    results: Mapping[Way, Sequence[Entry]]

    @property
    def cases(self) -> int:
        return len(self.results["json"])

    @property
    def mean_calls(self) -> float:
        """How many calls a case has on average."""
        return sum(entry["calls"] for entry in self.results["json"]) / self.cases

    def ratio(self, measure: str, above: Way = "code", below: Way = "json") -> float:
        """Return how much one way takes of what another takes."""
        return measure_of(self.results[above], measure) / measure_of(self.results[below], measure)


def cells(found: Sequence[tuple[int, int, Way, Entry]]) -> list[Cell]:
    """Group results, each given as tools, column, way and result; cells without any are left out."""
    made = []
    for offered in OFFERED:
        for column in CALLS:
            by_way: dict[Way, list[Entry]] = {}
            for tools, calls, way, entry in found:
                if (tools, calls) == (offered, column):
                    by_way.setdefault(way, []).append(entry)
            if by_way:
                made.append(Cell(offered, column, by_way))
    return made


def crossing(points: Sequence[tuple[float, float]]) -> float | None:
    """Return where a ratio falls to 1, between two measured points on a line of logarithms; None if it does not.

    :param points: (where, ratio), rising in where.
    """
    for (x1, y1), (x2, y2) in itertools.pairwise(points):
        if y1 > 1 >= y2:
            share = math.log(y1) / (math.log(y1) - math.log(y2))
            return math.exp(math.log(x1) + share * (math.log(x2) - math.log(x1)))
    return None
