"""What is wanted of agentd beside the others, and whether it was reached: misses show by themselves, with reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rivals.reasons import REASONS
from rivals.rows import ROWS
from rivals.side import Side
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
    return side.is_cpython and bool(report.median(side.name, "bash_keeps"))


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
    `best`'s; without one there is nothing to be measured by, because no other has the row, or because it `failed`."""

    target: RivalTarget
    title: str
    unit: str
    failed: list[str]
    best: Side | None
    value: float | None
    times: dict[str, float]

    @property
    def reached(self) -> str:
        """yes, or which executors miss it."""
        if not self.times:
            return (
                f"not measured: {', '.join(self.failed)}"
                if self.failed
                else "first: no other measured has it"
            )
        missed = [name for name, times in self.times.items() if times > self.target.at_most]
        return f"no: {', '.join(missed)}" if missed else "yes"

    @property
    def reason(self) -> str:
        """Why another is faster, if that is known."""
        if self.best is None or not self.reached.startswith("no:"):
            return ""
        return REASONS.get((self.target.key, self.best.name)) or REASONS.get((self.target.key, ""), "")


def verdicts(report: Report) -> list[Verdict]:
    """What became of each target whose row was measured."""
    figures = {key: (title, unit, more) for row in ROWS for key, title, unit, more in row.figures}
    rows = {figure.key: row.name for row in ROWS for figure in row.figures}
    ours = {s.name.removeprefix("agentd-"): s for s in report.sides if s.name.startswith("agentd")}
    found = []
    for target in TARGETS:
        title, unit, more = figures[target.key]
        own = {name: value for name, s in ours.items() if (value := report.median(s.name, target.key))}
        if not own:
            continue
        others = [s for s in report.sides if s not in ours.values() and target.fits(s, report)]
        first = report.first(target.key, more, others)
        best = next((s for s in others if s.name == first), None)
        value = report.median(best.name, target.key) if best is not None else None
        times = {n: (value / v if more else v / value) for n, v in own.items()} if value else {}
        failed = [
            s.title for s in others if report.remarks.get((s.name, rows[target.key]), "").startswith("failed")
        ]
        found.append(
            Verdict(target=target, title=title, unit=unit, failed=failed, best=best, value=value, times=times)
        )
    return found


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
        f"- {v.title}, {v.reached.removeprefix('no: ')}: {v.reason or 'no reason is known.'}"
        for v in found
        if v.reached.startswith("no:")
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
