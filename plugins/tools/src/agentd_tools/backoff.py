"""The one back-off: waiting longer and longer between tries."""

from __future__ import annotations

import random
import time

__all__ = ["Backoff"]


class Backoff:
    """Gives the wait before each next try: twice as long each time, a part of it left to chance, so that many who
    failed together do not come back together.

    Ask `next_s` when it is time to wait, or count with `failed` what breaks and ask `remaining_s` later, when it
    is wanted again.

    :param first_s: seconds of the first wait.
    :param longest_s: no wait is longer.
    :param spread: the part of each wait that is left to chance, from 0 to 1.
    :param free: so many tries come without a wait.
    :param well_s: what lived longer than this many seconds before it failed begins anew.
    """

    def __init__(
        self,
        *,
        first_s: float,
        longest_s: float,
        spread: float = 0.2,
        free: int = 0,
        well_s: float = float("inf"),
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._spread = spread
        self._free = free
        self._well_s = well_s
        self._not_before = 0.0
        self.tries = 0
        """How often in a row it has failed."""

    def next_s(self) -> float:
        """Count a failure and return the seconds to wait after it."""
        exponent = self.tries - self._free
        self.tries += 1
        if exponent < 0:
            return 0.0
        # Above 2 ** 60 there is no wait that is not the longest, and at 2 ** 1024 no float.
        wait_s = min(self._first_s * 2.0 ** min(exponent, 60), self._longest_s)
        return wait_s * random.uniform(1.0 - self._spread, 1.0)

    def failed(self, lived_s: float = 0.0) -> None:
        """Count a failed try, or the end of what lived for `lived_s` seconds."""
        if lived_s > self._well_s:
            self.reset()
        self._not_before = time.monotonic() + self.next_s()

    def remaining_s(self) -> float:
        """Return how many seconds of the wait since `failed` are left."""
        return max(0.0, self._not_before - time.monotonic())

    def reset(self) -> None:
        """Begin anew: it worked."""
        self.tries = 0
        self._not_before = 0.0
