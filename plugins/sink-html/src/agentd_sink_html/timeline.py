"""When what ran: bars in rows, and how much of the time each kind of work took."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs

from agentd_sink_html.trace import BlockTrace, CallTrace, QuestionTrace, RunTrace

__all__ = ["KINDS", "Bar", "Row", "Share", "rows", "shares", "ticks"]

KINDS: Final = {"wait": "waiting for a person", "tool": "tools", "code": "code", "model": "model"}
"""Kinds of work and their names, the innermost first: where several go on at once, the time counts for the first."""

_MOST_ROWS: Final = 12  # of one kind; what runs at once beyond that shares the last

Span = tuple[float, float]


@attrs.define(eq=False)
class _Lane:
    until: float = 0.0
    bars: list[Bar] = attrs.field(factory=list)


@attrs.frozen(kw_only=True)
class Bar:
    """Something that ran. `start` and `width` are thousandths of the run; `anchor` is where the page tells of it."""

    start: float
    width: float
    title: str
    anchor: str
    failed: bool


@attrs.frozen(kw_only=True)
class Row:
    """Bars of a kind that do not overlap."""

    kind: str
    bars: list[Bar]


@attrs.frozen(kw_only=True)
class Share:
    """How many seconds of the run a kind of work took, and which share of it, in per cent."""

    kind: str
    name: str
    seconds: float
    percent: float


def rows(run: RunTrace, anchors: dict[int, str]) -> list[Row]:
    """Return the bars of a run, the model's row first. `anchors` has the places of parts, by `id()`."""
    result = []
    for kind in reversed(KINDS):
        lanes: list[_Lane] = []
        for start, end, title, anchor, failed in sorted(_spans(run, kind, anchors)):
            lane = next((lane for lane in lanes if lane.until <= start), None)
            if lane is None:
                lane = _Lane() if len(lanes) < _MOST_ROWS else lanes[-1]
                if lane not in lanes:
                    lanes.append(lane)
            lane.until = max(lane.until, end)
            left, width = _thousandths(run, start - run.start), max(_thousandths(run, end - start), 1.0)
            lane.bars.append(Bar(start=left, width=width, title=title, anchor=anchor, failed=failed))
        result += [Row(kind=kind, bars=lane.bars) for lane in lanes]
    return result


def _spans(
    run: RunTrace, kind: str, anchors: dict[int, str]
) -> Iterable[tuple[float, float, str, str, bool]]:
    """Yield what ran, each within the run and with its end behind its start: a clock may be set back."""
    for start, end, title, anchor, failed in _told_spans(run, kind, anchors):
        start = min(max(start, run.start), run.end)
        yield start, min(max(end, start), run.end), title, anchor, failed


def _told_spans(
    run: RunTrace, kind: str, anchors: dict[int, str]
) -> Iterable[tuple[float, float, str, str, bool]]:
    if kind == "model":
        for turn in run.turns:
            yield turn.start, turn.written, f"turn {turn.number}: the model", anchors.get(id(turn), ""), False
        return
    parts: list[BlockTrace] | list[CallTrace] | list[QuestionTrace]
    parts = run.blocks() if kind == "code" else run.calls() if kind == "tool" else run.questions()
    for part in parts:
        name = (part.target or "block") if isinstance(part, BlockTrace) else part.name
        failed = (
            part.status != "completed"
            if isinstance(part, BlockTrace | CallTrace)
            else part.decision.startswith("den")
        )
        end = run.end if isinstance(part, BlockTrace) and part.status == "unfinished" else part.end
        yield part.start, end, name, anchors.get(id(part), ""), failed


def _thousandths(run: RunTrace, seconds: float) -> float:
    whole = run.end - run.start
    return round(min(max(seconds / whole, 0.0), 1.0) * 1000, 2) if whole > 0 else 0.0


def shares(run: RunTrace) -> list[Share]:
    """Return where the time of a run went, the largest share first, what is left over (agentd itself) last."""
    taken: list[Span] = []
    result = []
    for kind, name in KINDS.items():
        spans = [(start, end) for start, end, *_ in _spans(run, kind, {})]
        before = _length(taken)
        taken = _union([*taken, *spans])
        result.append((kind, name, _length(taken) - before))
    whole = run.end - run.start
    result.sort(key=lambda item: -item[2])
    result.append(("rest", "agentd", max(whole - _length(taken), 0.0)))
    return [
        Share(
            kind=kind, name=name, seconds=seconds, percent=round(100 * seconds / whole, 1) if whole > 0 else 0
        )
        for kind, name, seconds in result
        if seconds > 0
    ]


def _union(spans: Iterable[Span]) -> list[Span]:
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result


def _length(spans: Iterable[Span]) -> float:
    return sum(end - start for start, end in spans)


def ticks(run: RunTrace, count: int = 5) -> list[str]:
    """Return labels for `count` + 1 points in time, evenly from the start to the end."""
    whole = run.end - run.start
    digits = 0 if whole >= 10 * count else 1 if whole >= count else 2
    return [f"{whole * number / count:.{digits}f} s" for number in range(count + 1)]
