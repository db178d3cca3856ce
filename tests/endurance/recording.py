"""What a run has found so far, in a file that the next start goes on from."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import attrs

__all__ = ["Record"]

MOST_WRONG = 200


@attrs.define
class Record:
    """:ivar spent_s: how long the run has worked, without its pauses: the time of its samples.
    :ivar samples: (seconds, what was looked at, which life of it, figures).
    :ivar ledgers: by daemon, what is still to come of what it was sent.
    :ivar pythons: the versions of Python that it has run with.
    :ivar parts: the runs that it is put together of, if it is no run itself. They are not kept in the file.
    """

    hours: float
    seed: int
    works: list[str]
    spent_s: float = 0.0
    starts: int = 0
    finished: bool = False
    counts: Counter[str] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)
    samples: list[tuple[float, str, str, dict[str, float]]] = attrs.field(factory=list)
    ledgers: dict[str, Any] = attrs.field(factory=dict)
    ports: dict[str, str] = attrs.field(factory=dict)
    pythons: list[str] = attrs.field(factory=list)
    parts: list[Record] = attrs.field(factory=list)

    @classmethod
    def load(cls, path: Path) -> Record | None:
        """Read the file; None if there is none, or none that this version has written."""
        try:
            data = json.loads(path.read_text())
            return cls(
                **{**data, "counts": Counter(data["counts"]), "samples": [tuple(s) for s in data["samples"]]}
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    @classmethod
    def of_figures(cls, path: Path) -> Record:
        """Read what `--json` has written of a run. Raises `OSError`, and `ValueError` if the file is none of that."""
        try:
            data = json.loads(path.read_text())
            return cls(
                hours=data["spent_s"] / 3600,
                seed=data["seed"],
                works=data["works"],
                spent_s=data["spent_s"],
                starts=data["starts"],
                finished=data.get("finished", True),
                pythons=data.get("pythons") or [data["machine"]["python"]],
                counts=Counter(data["counts"]),
                wrong=data["wrong"],
                samples=[(at, name, life, dict(figures)) for at, name, life, figures in data["samples"]],
            )
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{path} has no figures of a run: {error!r}") from error

    def behind(self, earlier: list[Record]) -> Record:
        """Return a record of these runs and of this one: their lives one after the other, none of which goes on."""
        runs = [*earlier, self]
        whole = Record(hours=sum(run.spent_s for run in runs) / 3600, seed=self.seed, works=self.works)
        whole.finished = all(run.finished for run in runs)
        whole.parts = runs
        whole.pythons = list(dict.fromkeys(python for run in runs for python in run.pythons))
        for number, run in enumerate(runs):
            whole.samples += [
                (whole.spent_s + at, name, f"{number}:{life}", figures)
                for at, name, life, figures in run.samples
            ]
            whole.spent_s += run.spent_s
            whole.starts += run.starts
            whole.take({"counts": run.counts, "errors": run.wrong})
        return whole

    def is_same(self, other: Record) -> bool:
        """Whether they are of one run, as far as either of them had come."""
        return self.seed == other.seed and self.samples[:1] == other.samples[:1] != []

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        fresh = path.with_suffix(".fresh")
        fresh.write_text(json.dumps(attrs.asdict(self, filter=lambda field, _: field.name != "parts")))
        os.replace(fresh, path)

    def take(self, new: dict[str, Any]) -> list[str]:
        """Add what was counted, and return what is newly wrong."""
        self.counts.update(new["counts"])
        self.wrong += new["errors"]
        del self.wrong[MOST_WRONG:]
        return list(new["errors"])

    def lives(self, role: str, figure: str) -> list[list[tuple[float, float]]]:
        """The points of a figure, a list for each life."""
        found: dict[str, list[tuple[float, float]]] = {}
        for at, name, life, figures in self.samples:
            if name == role and figure in figures:
                found.setdefault(life, []).append((at, figures[figure]))
        return list(found.values())

    def figures(self) -> list[tuple[str, str]]:
        """All pairs of what was looked at and a figure of it, in the order of their first sample."""
        return list(
            dict.fromkeys((name, figure) for _, name, _, figures in self.samples for figure in figures)
        )
