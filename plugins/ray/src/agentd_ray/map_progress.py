"""The progress bar of a map, on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agentd_ray.map_results import MapCounts

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["MapProgress"]


class MapProgress:
    """Draws one line on standard error: how many of the tasks are done, at work, failed, and what they cost.

    :param shown: None for: if standard error is a terminal.
    """

    def __init__(self, name: str, counts: MapCounts, *, shown: bool | None = None) -> None:
        self._name = name
        self._counts = counts
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._bar: Progress | None = None
        self._row: TaskID | None = None

    def begin(self) -> None:
        """Begin to draw."""
        if not self._shown or self._bar is not None:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
        self._row = self._bar.add_task(
            self._name, total=self._counts.total, completed=self._counts.done, said=""
        )
        self._bar.start()

    def update(self) -> None:
        """Take in what the counts say."""
        if self._bar is not None and self._row is not None:
            self._bar.update(self._row, completed=self._counts.done, said=self.said())

    def end(self) -> None:
        """Draw it for the last time."""
        if self._bar is not None:
            self.update()
            self._bar.stop()
            self._bar = None

    def said(self) -> str:
        """Return the words behind the bar."""
        counts = self._counts
        named = (
            ("running", counts.running),
            ("failed", counts.failed),
            ("stopped", counts.stopped),
            ("not done", counts.not_done),
        )
        parts = [f"{number} {what}" for what, number in named if number]
        if counts.usage.cost_usd is not None:
            parts.append(
                f"{'at least ' if counts.usage.unpriced_requests else ''}${counts.usage.cost_usd:.2f}"
            )
        return ", ".join(parts)
