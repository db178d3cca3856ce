"""What a benchmark is: a line with rows, each measured on up to three sides. Standard library only.

A line is a module in `benchmarks.lines` with a constant `LINE` and up to three functions, `ours`,
`theirs` and `floor`. Each runs in a process of its own, takes `quick` and returns its figures by row.
`theirs` runs in the environment of agentd 0.8.6, the others in that of this checkout, so a module
imports neither before one of its functions is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["SIDES", "Figures", "Line", "Row", "Side"]

Side = Literal["ours", "theirs", "floor"]
SIDES: tuple[Side, ...] = ("ours", "theirs", "floor")

Figures = dict[str, float | None]
"""Measured values by row key; None where a side could not be measured (a note says why)."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure and what it must reach.

    `key` is its name in `Figures`. `more` says that larger is better. `ratio` is how many times better
    than 0.8.6 it must be, `floor` how many times the floor it may be at most (or, with `more`, the part of
    the floor that it must reach), `limit` an absolute bound in `unit`. A row without any is information.
    """

    key: str
    title: str
    unit: str
    more: bool = False
    ratio: float | None = None
    floor: float | None = None
    limit: float | None = None


@dataclass(frozen=True, kw_only=True)
class Line:
    """A group of rows that one run of each side measures. `rounds` sides alternate that often.

    `prepare_theirs` is called before 0.8.6 is measured, to install what this line alone needs of it; a
    `RuntimeError` says why that was not possible.
    """

    name: str
    rows: tuple[Row, ...]
    rounds: int = 3
    timeout_s: float = 600.0
    prepare_theirs: Callable[[], object] | None = None
