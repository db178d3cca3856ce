"""How fast a figure grows: Theil-Sen's slope over the lives of a process, its interval, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

__all__ = ["Bound", "Trend", "trend_of"]

Point = tuple[float, float]
Verdict = Literal["flat", "grows", "late", "unclear"]

WARM_UP = 0.3
"""The part of a life that is not looked at: imports, caches that fill, histories that reach their bound."""
WARM_UP_S = 3600.0
LEAST = 6
MOST = 240
_Z = 1.96  # of the interval: 95 %


class Bound(NamedTuple):
    """What counts as flat: a growth per hour of at most `per_hour`, or of at most `floor` in all that was seen, behind
    the first `warm_s` of a life at least."""

    per_hour: float
    floor: float
    warm_s: float = 0.0


class Trend(NamedTuple):
    """A slope per hour with its interval of 95 %, of a figure that was looked at for `span_h` in its longest life.

    `least` is the smallest growth per hour, from beginning to end, that this run could have told from none.
    """

    per_hour: float
    low: float
    high: float
    median: float
    last: float
    most: float
    span_h: float
    least: float
    verdict: Verdict


def trend_of(lives: Sequence[Sequence[Point]], bound: Bound) -> Trend | None:
    """Return the trend of points (seconds, value), of one list for each life of a process; None for too few of them.

    Only points of one life are compared, so that neither a restart nor a pause of the run counts as a change. The
    slope is the median of those of all pairs (Theil, Sen): a third of the points may be anything. Its interval is
    Kendall's, by the variance of the number of rising pairs. What begins to grow in the last third may be anything,
    too, so that is looked at by itself: where it alone grows, the verdict is `late`.
    """
    lives = [kept for life in lives if len(kept := _warm(life, bound.warm_s)) >= LEAST]
    if not lives:
        return None
    slope, low, high = _slope(lives)
    values = sorted(value for life in lives for _, value in life)
    span_h = _span_h(lives)
    least = max(bound.per_hour, bound.floor / span_h, (high - low) / 2)
    verdict = _verdict(slope, low, span_h, bound)
    ends = [end for life in lives if len(end := life[-(len(life) // 3) :]) >= LEAST]
    if verdict == "flat" and ends and _verdict(*_slope(ends)[:2], _span_h(ends), bound) == "grows":
        verdict = "late"
    return Trend(
        slope,
        low,
        high,
        _at(values, (len(values) - 1) / 2),
        lives[-1][-1][1],
        values[-1],
        span_h,
        least,
        verdict,
    )


def _slope(lives: Sequence[Sequence[Point]]) -> tuple[float, float, float]:
    """Return the median slope per hour, and its interval."""
    slopes, variance = [], 0.0
    for life in lives:
        slopes += [
            (later[1] - earlier[1]) / (later[0] - earlier[0])
            for n, earlier in enumerate(life)
            for later in life[n + 1 :]
            if later[0] > earlier[0]
        ]
        variance += len(life) * (len(life) - 1) * (2 * len(life) + 5) / 18
    slopes.sort()
    half = _Z * math.sqrt(variance) / 2
    middle = (len(slopes) - 1) / 2
    slope, low, high = (_at(slopes, place) * 3600 for place in (middle, middle - half, middle + half))
    return slope, low, high


def _span_h(lives: Sequence[Sequence[Point]]) -> float:
    return max(life[-1][0] - life[0][0] for life in lives) / 3600


def _verdict(slope: float, low: float, span_h: float, bound: Bound) -> Verdict:
    if slope <= bound.per_hour or slope * span_h <= bound.floor:
        return "flat"
    return "grows" if low > bound.per_hour else "unclear"


def _warm(life: Sequence[Point], warm_s: float) -> list[Point]:
    if not life:
        return []
    begin, end = life[0][0], life[-1][0]
    since = begin + max(warm_s, min(WARM_UP * (end - begin), WARM_UP_S))
    kept = [point for point in life if point[0] >= since]
    step = max(1, math.ceil(len(kept) / MOST))
    return kept[::step]


def _at(values: Sequence[float], place: float) -> float:
    """Return the value at a place in a sorted list, between two if it lies there."""
    place = min(max(place, 0.0), len(values) - 1.0)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)
