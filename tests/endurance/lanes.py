"""Lanes: threads that do their kinds of work in turn, and rest in between so that a small machine keeps up."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Sequence

from endurance.works.work import Work
from endurance.world import Place

__all__ = ["Lane"]

BUSY_PER_CPU = 3.0
LOOK_S = 1.0
WAIT_S = 5.0
"""How long a lane waits at most for a machine that is busy with something else."""
END_S = 150.0


class Lane:
    """A thread that does some works, one after the other, until it is stopped."""

    def __init__(self, name: str, place: Place, works: Sequence[Work]) -> None:
        self.name = name
        self._place = place
        self._works = works
        self._is_patient = any(work.is_real for work in works)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.now = ""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Wait for the piece of work at hand, once the place is stopped."""
        if self._thread.ident is None:
            return
        self._thread.join(END_S)
        if self._thread.is_alive():
            self._place.tally.wrong(f"{self.now}: it does not end")

    def _run(self) -> None:
        stop = self._place.stop
        while not stop.is_set():
            for work in self._works:
                if stop.is_set():
                    break
                self._do(work)
                stop.wait(work.pause_s * self._place.dice.uniform(0.5, 1.5))
                if self._is_patient:
                    self._let_others_work()
        for work in self._works:
            try:
                work.close()
            except Exception:
                self._place.tally.wrong(f"{work.name}, at its end: {_short()}")

    def _do(self, work: Work) -> None:
        self.now = work.name
        try:
            work.once()
            self._place.tally.add(**{f"work {work.name}": 1})
        except Exception:
            self._place.tally.wrong(f"{work.name}: {_short()}")
            self._place.stop.wait(2)  # what is broken is not tried a hundred times a second

    def _let_others_work(self) -> None:
        end = time.monotonic() + WAIT_S
        while os.getloadavg()[0] > BUSY_PER_CPU * (os.cpu_count() or 1) and time.monotonic() < end:
            if self._place.stop.wait(LOOK_S):
                return


def _short() -> str:
    lines = traceback.format_exc().strip().splitlines()
    return "\n".join(lines[-12:])[-1500:]
