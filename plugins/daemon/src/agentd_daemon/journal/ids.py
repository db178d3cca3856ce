"""The triggers' ids: the time in microseconds, in an alphabet that sorts as the numbers do."""

from __future__ import annotations

import time

__all__ = ["TriggerIds"]

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing that is misread
LENGTH = 11  # 55 bits: enough until the year 3111


class TriggerIds:
    """Makes ids that rise, also when the clock is set back or asked twice in a microsecond.

    :param last: the highest id that there is already, or an empty string.
    """

    def __init__(self, last: str = "") -> None:
        self._last = _decode(last)

    def new(self) -> str:
        """Return the next id."""
        self._last = max(time.time_ns() // 1000, self._last + 1)
        return _encode(self._last)


def _encode(number: int) -> str:
    return "".join(ALPHABET[number >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))


def _decode(text: str) -> int:
    number = 0
    for char in text:
        number = number << 5 | ALPHABET.find(char) & 31
    return number
