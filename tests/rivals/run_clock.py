"""How long measurements may take, so that a run ends in time and each row has its share."""

from __future__ import annotations

import time

__all__ = ["RunClock"]

EASY = 2.5  # a measurement may take so many times its share: most take a fraction of theirs
LEAST_S = 1.0


class RunClock:
    """The time of a run. Making environments is not part of it.

    :param seconds: when the run is to be over.
    """

    def __init__(self, seconds: float) -> None:
        self._begin = time.monotonic()
        self._seconds = seconds

    @property
    def now_s(self) -> float:
        """How long it has run."""
        return time.monotonic() - self._begin

    @property
    def left_s(self) -> float:
        """How long it may still run; below zero if it is over its time."""
        return self._seconds - self.now_s

    def within_s(self, wanted_s: float, all_wanted_s: float) -> float:
        """How long a measurement may take: what its row wants, or less where that would leave too little for the rest.

        Nothing where the time is up.

        :param all_wanted_s: what it and all that come after it in this round want.
        """
        left_s = self.left_s
        if left_s <= 0:
            return 0.0
        return max(LEAST_S, wanted_s * min(1.0, EASY * left_s / all_wanted_s))
