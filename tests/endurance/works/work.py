"""What a kind of work is: one class, whose `once` does a piece of some seconds and raises where it came out wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from endurance.world import Place

__all__ = ["Work"]


class Work:
    """A kind of work.

    :cvar name: what `--only` and the report call it.
    :cvar lane: `host` for what runs in the measured process; else the name of a thread beside the programs.
    :cvar needs: the long-living programs that it talks to.
    :cvar pause_s: about how long its lane rests behind a piece.
    :cvar is_real: False for what tests the harness itself, and needs no sandbox.
    """

    name: ClassVar[str] = ""
    lane: ClassVar[str] = "host"
    needs: ClassVar[tuple[str, ...]] = ()
    pause_s: ClassVar[float] = 0.5
    is_real: ClassVar[bool] = True

    def __init__(self, place: Place) -> None:
        self.place = place
        self.world = place.world
        self.tally = place.tally
        self.dice = place.dice
        self.number = 0

    def once(self) -> None:
        """Do a piece of it, count it, and raise where something is not as it has to be."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what lasts from one piece to the next."""
