"""The benchmarks' report: figures of all sides put side by side, as a table and as JSON."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from typing import TypeGuard

from benchmarks.line import Figures, Line, Row, Side

__all__ = ["Entry", "Result", "as_json", "as_markdown", "print_table"]

HEADINGS = ("line", "ours", "0.8.6", "floor", "vs 0.8.6", "vs floor", "target", "reached")


@dataclass
class Result:
    """The medians of one line over its rounds, by side, how far the rounds lay apart, and what went wrong."""

    line: Line
    figures: dict[Side, Figures] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spreads: dict[Side, dict[str, tuple[float, float]]] = field(default_factory=dict)

    def entries(self) -> list[Entry]:
        """One entry for each row, in order."""
        return [
            Entry(
                self.line.name,
                row,
                *(self.figures.get(s, {}).get(row.key) for s in ("ours", "theirs", "floor")),
            )
            for row in self.line.rows
        ]


@dataclass
class Entry:
    """One row of the table."""

    line: str
    row: Row
    ours: float | None
    theirs: float | None
    floor: float | None

    @property
    def ratio(self) -> float | None:
        """How many times better than 0.8.6; None where one of them is not above zero, as a difference may be."""
        if not _is_above_zero(self.ours) or not _is_above_zero(self.theirs):
            return None
        return self.ours / self.theirs if self.row.more else self.theirs / self.ours

    @property
    def floor_ratio(self) -> float | None:
        """How many times the floor; None where one of them is not above zero."""
        return self.ours / self.floor if _is_above_zero(self.ours) and _is_above_zero(self.floor) else None

    @property
    def target(self) -> str:
        """What the row must reach, in words."""
        row, words = self.row, []
        if row.ratio is not None:
            words.append(f">= {row.ratio:g}x")
        if row.floor is not None:
            words.append(f"{'>=' if row.more else '<='} {row.floor:g}x floor")
        if row.limit is not None:
            words.append(f"{'>=' if row.more else '<='} {row.limit:g} {row.unit}".rstrip())
        return ", ".join(words)

    @property
    def reached(self) -> bool | None:
        """Whether every target holds: False if one is missed, None if none is and a figure is missing."""
        row = self.row
        parts = (
            (row.ratio, self.ratio, True),
            (row.floor, self.floor_ratio, row.more),
            (row.limit, self.ours, row.more),
        )
        verdicts = [
            None if got is None else got >= target if at_least else got <= target
            for target, got, at_least in parts
            if target is not None
        ]
        if False in verdicts:
            return False
        return True if verdicts and None not in verdicts else None

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        verdict = {True: "yes", False: "NO", None: "-" if not self.target else "?"}[self.reached]
        return (
            self.row.title,
            _number(self.ours, self.row.unit),
            _number(self.theirs, self.row.unit),
            _number(self.floor, self.row.unit),
            "-" if self.ratio is None else f"{self.ratio:.3g}x" if self.ratio < 100 else f"{self.ratio:.0f}x",
            "-" if self.floor_ratio is None else f"{self.floor_ratio:.3g}x",
            self.target,
            verdict,
        )


def _is_above_zero(value: float | None) -> TypeGuard[float]:
    return value is not None and value > 0


def _number(value: float | None, unit: str) -> str:
    """A value with its unit: three significant digits, or all digits from 100 on."""
    if value is None:
        return "-"
    text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text} {unit}".rstrip()


def as_json(results: list[Result], machine: dict[str, object]) -> dict[str, object]:
    """Everything that was measured, as JSON-ready data."""
    rows = [
        {
            "line": entry.line,
            **asdict(entry.row),
            "ours": entry.ours,
            "theirs": entry.theirs,
            "floor_value": entry.floor,
            "times_theirs": entry.ratio,
            "times_floor": entry.floor_ratio,
            "reached": entry.reached,
            "spread": {side: of[entry.row.key] for side, of in result.spreads.items() if entry.row.key in of},
        }
        for result in results
        for entry in result.entries()
    ]
    return {"machine": machine, "rows": rows, "notes": {r.line.name: r.notes for r in results if r.notes}}


def print_table(results: list[Result]) -> None:
    """Print the table: drawn with rich on a terminal, plain columns otherwise."""
    rows = [entry.cells() for result in results for entry in result.entries()]
    if sys.stdout.isatty():
        _print_rich(rows)
    else:
        _print_plain(rows)
    for result in results:
        for text in result.notes:
            print(f"{result.line.name}: {text}")


def as_markdown(results: list[Result]) -> str:
    """The table for docs/performance.md: ours, theirs, ratio and target, without the rows that are only information."""
    lines = ["| | ours | 0.8.6 | ratio | target | reached |", "|---|---|---|---|---|---|"]
    for entry in (entry for result in results for entry in result.entries() if entry.target):
        title, ours, theirs, _, ratio, _, target, reached = entry.cells()
        lines.append(f"| {title.strip()} | {ours} | {theirs} | {ratio} | {target} | {reached.lower()} |")
    return "\n".join(lines) + "\n"


def _print_rich(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADINGS, title="agentd against agentd 0.8.6, medians")
    for row in rows:
        table.add_row(*row, style={"NO": "red", "yes": "green"}.get(row[-1], ""))
    Console().print(table)


def _print_plain(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in [HEADINGS, *rows]) for i in range(len(HEADINGS))]
    for row in [HEADINGS, tuple("-" * width for width in widths), *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
