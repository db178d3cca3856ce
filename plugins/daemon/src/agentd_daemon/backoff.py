"""Waiting longer and longer between tries."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """Gives the seconds to wait before each next try: twice as long each time, with a little chance in it, so that many
    who failed together do not come again together."""

    def __init__(self, *, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self.tries = 0

    def next_s(self) -> float:
        """Return the next wait, in seconds."""
        wait_s = min(self._first_s * 2.0 ** min(self.tries, 60), self._longest_s)
        self.tries += 1
        return wait_s * random.uniform(0.8, 1.0)

    def reset(self) -> None:
        """Begin anew: it worked."""
        self.tries = 0
