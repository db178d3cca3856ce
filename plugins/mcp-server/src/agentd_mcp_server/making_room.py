"""Which sandbox makes room for a new one when all places are taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil
from typing import Final

import attrs

__all__ = ["Seat", "who_makes_room"]

_FEWER: Final = 10
"""How many times longer a sandbox must have been idle to make room for an address that has more of them."""
_ASK_AGAIN_S: Final = 15.0


@attrs.frozen
class Seat:
    """A sandbox that is open.

    :ivar address: of whoever had it opened.
    :ivar idle_s: since when nothing of it is in use, in seconds; None while something is.
    """

    name: str
    address: str
    idle_s: float | None


def who_makes_room(seats: Sequence[Seat], address: str, *, grace_s: float) -> tuple[str | None, float]:
    """Return the sandbox that is put away for a newcomer, or None and how many seconds later there may be one.

    It is the one that has been idle for longest, and for `grace_s` at least. An address takes places of those that have
    fewer than itself only after ten times as long: a client that opens one sandbox after the other is soon left with
    displacing its own.

    :param address: of the newcomer.
    """
    counts = Counter(seat.address for seat in seats)
    counts[address] += 1

    def left_s(seat: Seat) -> float:
        has_fewer = seat.address != address and counts[seat.address] < counts[address]
        return grace_s * (_FEWER if has_fewer else 1) - (seat.idle_s or 0.0)

    idle = [seat for seat in seats if seat.idle_s is not None]
    ready = [seat for seat in idle if left_s(seat) <= 0]
    if ready:
        return max(ready, key=lambda seat: seat.idle_s or 0.0).name, 0.0
    soonest_s = min(map(left_s, idle), default=_ASK_AGAIN_S)
    return None, float(max(1, ceil(min(soonest_s, _ASK_AGAIN_S))))
