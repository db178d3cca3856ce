"""How long to wait before a server is started again."""

from __future__ import annotations

import random
import time
from typing import Final

__all__ = ["Backoff"]

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 10.0
_WELL_S: Final = 30.0  # who lived that long starts with a clean slate


class Backoff:
    """Doubles the wait with every failure in a row; half of it is random, so that many do not return at once.

    The first restart is immediate.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._not_before = 0.0

    def failed(self, lived_s: float) -> None:
        """Count a failed start, or a death after `lived_s` seconds."""
        self._failures = 1 if lived_s > _WELL_S else self._failures + 1
        # above 2 ** 10 all waits are the longest
        longest = min(_LONGEST_S, _FIRST_S * 2 ** min(self._failures - 2, 10)) if self._failures > 1 else 0.0
        self._not_before = time.monotonic() + longest * random.uniform(0.5, 1.0)

    def remaining_s(self) -> float:
        """Return the seconds to wait from now."""
        return max(0.0, self._not_before - time.monotonic())
