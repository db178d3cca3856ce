"""Works that do wrong on purpose, for the tests of the harness; no run does them unless `--only` names them."""

from __future__ import annotations

import os
import uuid

from endurance.works.work import Work

__all__ = ["LeakyWork", "LosingWork"]


class LeakyWork(Work):
    """Opens a descriptor and keeps it."""

    name = "leaks-on-purpose"
    pause_s = 0.05
    is_real = False

    def once(self) -> None:
        os.open(os.devnull, os.O_RDONLY)


class LosingWork(Work):
    """Says of a webhook that it was accepted, and it never was."""

    name = "loses-on-purpose"
    lane = "daemons"
    needs = ("daemon",)
    pause_s = 60.0
    is_real = False

    def once(self) -> None:
        self.place.ledgers["daemon"].accepted(f"zz{uuid.uuid4().hex[:9]}")
