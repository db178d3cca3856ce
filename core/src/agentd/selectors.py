"""How snapshots and checkpoints are named: by id, label or turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from agentd.errors import ConfigError

__all__ = ["KeptSnapshot", "Selector", "check_label", "pick"]

Selector = str | int
"""An id, a label, or a turn (an `int`, or its digits)."""


class KeptSnapshot(Protocol):
    """One kept state of a workspace. `timestamp` is in seconds since the epoch."""

    @property
    def id(self) -> str: ...

    @property
    def label(self) -> str | None: ...

    @property
    def turn(self) -> int: ...

    @property
    def timestamp(self) -> float: ...


T = TypeVar("T", bound=KeptSnapshot)

_MAX_LABEL = 200

_ID = re.compile(r"turn_(\d{4,})(?:_(\d+))?")
_OLD_ID = re.compile(r"turn_(\d{4,})_(.+)", re.DOTALL)


def pick(wanted: object, known: Sequence[T]) -> T | None:
    """Return the newest of `known` (the oldest first) with this id, label or turn, tried in this order."""
    for fits in _readings(wanted):
        for snapshot in reversed(known):
            if fits(snapshot):
                return snapshot
    return None


def _readings(wanted: object) -> list[Callable[[KeptSnapshot], bool]]:
    """Return the ways to understand a selector; the first one that fits counts."""
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        return [lambda one: one.turn == wanted]
    if not isinstance(wanted, str):
        return []
    readings: list[Callable[[KeptSnapshot], bool]] = [
        lambda one: one.id == wanted,
        lambda one: one.label == wanted,
    ]
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
        readings.append(lambda one: one.turn == int(wanted))
    if old := _OLD_ID.fullmatch(wanted):  # how 0.8 wrote an id with a label
        readings.append(lambda one: (f"{one.turn:04d}", one.label) == old.groups())
    return readings


def check_label(label: str | None) -> None:
    """Refuse what would confuse people or terminals. :raises ConfigError: with the reason."""
    if label is None:
        return
    problem = ""
    if not isinstance(label, str):
        problem = f"must be a text, got {type(label).__name__}"
    elif not label.strip() or len(label) > _MAX_LABEL:
        problem = f"must have 1 to {_MAX_LABEL} characters, got {len(label)}"
    elif not label.isprintable():
        problem = "must not have control characters"
    elif _ID.fullmatch(label):
        problem = "looks like the id of a snapshot; choose another one"
    if problem:
        raise ConfigError(f"label {str(label)[:40]!r}: {problem}")
