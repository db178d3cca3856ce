"""How snapshots are named: ids, labels, turns. None of them is ever part of a path that a user has chosen."""

from __future__ import annotations

import re

from agentd.errors import ConfigError

__all__ = ["check_label", "check_turn"]

_ID = re.compile(r"turn_(\d{4,})(?:_(\d+))?")
_MAX_LABEL = 200


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


def check_turn(turn: int | None) -> None:
    """Refuse what is no turn. :raises ConfigError: with the reason."""
    if turn is not None and (not isinstance(turn, int) or isinstance(turn, bool) or not 0 <= turn < 10**15):
        raise ConfigError(f"turn {turn!r}: must be a whole number from 0 on")
