"""What is wanted of agentd beside the others, and whether it was reached: misses show by themselves, with reasons."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rivals.reasons import REASONS
from rivals.rows import ROWS
from rivals.side import Side
from rivals.sides import sides
from rivals.tables import Report

__all__ = ["TARGETS", "Verdict", "as_target_table", "as_target_text", "verdicts"]

NEAR = 1.2
HEAD = (
    "",
    "of the best of",
    "wanted",
    "the best there",
    "agentd, `subprocess`",
    "`native`",
    "`srt`",
    "reached",
)


def _cpython(side: Side, report: Report) -> bool:
    return side.is_cpython


def _keeps(side: Side, report: Report) -> bool:
    return side.is_cpython and report.median(side.name, "bash_keeps") != 0  # not measured is no "no"


def _monty(side: Side, report: Report) -> bool:
    return side.name == "pydantic-ai"


def _python_interpreter(side: Side, report: Report) -> bool:
    return side.name in ("pydantic-ai", "smolagents")


@dataclass(frozen=True, kw_only=True)
class RivalTarget:
    """A figure of each of agentd's executors beside the best of some others.

    :param at_most: how many times the best figure of the others agentd's may be.
    """

    key: str
    others: str
    fits: Callable[[Side, Report], bool]
    at_most: float = NEAR

    @property
    def wanted(self) -> str:
        """In words."""
        return f"at most {self.at_most}x" if self.at_most >= 1 else f"{1 / self.at_most:g}x as fast"


CPYTHON = "all with CPython"
TARGETS = (
    RivalTarget(key="fresh_ms", others=CPYTHON, fits=_cpython),
    RivalTarget(key="kept_ms", others=CPYTHON, fits=_cpython),
    RivalTarget(key="numpy_ms", others=CPYTHON, fits=_cpython),
    RivalTarget(key="bash_ms", others="those whose folder and variables last", fits=_keeps),
    RivalTarget(key="calls_per_s", others=CPYTHON, fits=_cpython),
    RivalTarget(key="big_call_ms", others=CPYTHON, fits=_cpython),
    RivalTarget(key="turn_ms", others=CPYTHON, fits=_cpython),
    RivalTarget(key="call_ms", others="Monty", fits=_monty),
    RivalTarget(
        key="loop_ms", others="Monty and smolagents' interpreter", fits=_python_interpreter, at_most=0.4
    ),
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a target. `times` are the executors' figures as multiples of the best of the others', which is
    `best`'s; without one there is nothing to be measured by, because no other has the row, or because it `failed` or
    was left out. `lacking` are executors that were to be measured and have no figure: of these, nothing is reached."""

    target: RivalTarget
    title: str
    unit: str
    failed: list[str]
    lacking: list[str]
    best: Side | None
    value: float | None
    times: dict[str, float]

    @property
    def reached(self) -> str:
        """yes, or which executors miss it or have no figure, and which others have none."""
        without = f"not measured: {', '.join(self.failed)}" if self.failed else ""
        if not self.times and not self.lacking:
            return without or "first: no other measured has it"
        no = [*self.missed, *(f"{name} (no figure)" for name in self.lacking)]
        said = f"no: {', '.join(no)}" if no else "yes"
        return f"{said}; {without}" if without else said

    @property
    def missed(self) -> list[str]:
        """The executors that are slower than is wanted."""
        return [name for name, times in self.times.items() if not times <= self.target.at_most]

    @property
    def reason(self) -> str:
        """Why another is faster, if that is known."""
        if self.best is None or not self.missed:
            return ""
        return REASONS.get((self.target.key, self.best.name)) or REASONS.get((self.target.key, ""), "")


def verdicts(report: Report) -> list[Verdict]:
    """What became of each target whose row was measured."""
    figures = {key: (title, unit, more) for row in ROWS for key, title, unit, more in row.figures}
    rows = {figure.key: row.name for row in ROWS for figure in row.figures}
    left_out = [side for side in sides().values() if side.title in report.left_out]
    ours = {s.name.removeprefix("agentd-"): s for s in report.sides if s.name.startswith("agentd")}
    found = []
    for target in TARGETS:
        title, unit, more = figures[target.key]
        known = {name: report.median(s.name, target.key) for name, s in ours.items()}
        own = {name: value for name, value in known.items() if value is not None}
        lacking = [name for name in known if _failed(report, ours[name], rows[target.key], target.key)]
        if not own and not lacking:
            continue
        others = [s for s in report.sides if s not in ours.values() and target.fits(s, report)]
        first = report.first(target.key, more, others)
        best = next((s for s in others if s.name == first), None)
        value = report.median(best.name, target.key) if best is not None else None
        pairs = {} if value is None else {n: (value, v) if more else (v, value) for n, v in own.items()}
        times = {n: above / below if below else math.inf for n, (above, below) in pairs.items()}
        failed = [s.title for s in others if _failed(report, s, rows[target.key], target.key)]
        failed += [s.title for s in left_out if target.fits(s, report)]
        found.append(
            Verdict(
                target=target, title=title, unit=unit, failed=failed, lacking=lacking, best=best, value=value,
                times=times,
            )
        )  # fmt: skip
    return found


def _failed(report: Report, side: Side, row: str, key: str) -> bool:
    """Whether a side was to be measured and has no figure."""
    return report.median(side.name, key) is None and report.remarks.get((side.name, row), "").startswith(
        "failed"
    )


def _cells(verdict: Verdict) -> list[str]:
    best = "none has a figure" if verdict.best is None else verdict.best.title
    shown = [
        f"{verdict.times[n]:.2g}x" if n in verdict.times else "-" for n in ("subprocess", "native", "srt")
    ]
    if verdict.value is not None:
        best = f"{best}, {verdict.value:,.3g} {verdict.unit}"
    return [verdict.title, verdict.target.others, verdict.target.wanted, best, *shown, verdict.reached]


def _misses(found: list[Verdict]) -> list[str]:
    return [
        f"- {v.title}, {', '.join(v.missed)}: {v.reason or 'no reason is known.'}" for v in found if v.missed
    ]


def as_target_table(report: Report) -> str:
    """The targets as Markdown, and below them why some were missed."""
    found = verdicts(report)
    lines = [list(HEAD), ["---"] * len(HEAD), *map(_cells, found)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    seconds = f"The run took {report.took_s / 60:.0f} minutes, environments apart; at most 25 were wanted.\n"
    missed = _misses(found)
    return "\n".join([rows, "", *(["Missed:", "", *missed, ""] if missed else []), seconds])


def as_target_text(report: Report) -> str:
    """The same for the terminal: a line for each."""
    found = verdicts(report)
    lines = []
    for verdict in found:
        title, others, wanted, best, *_, reached = _cells(verdict)
        times = ", ".join(f"{name} {times:.2g}x" for name, times in verdict.times.items())
        if times:
            lines.append(f"{title}: {wanted} (of {others}: {best}); {times}: {reached}")
        else:
            lines.append(f"{title}: {reached.removeprefix('first: ')}")
    return "\n".join([*lines, *_misses(found)])
