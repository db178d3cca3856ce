"""How snapshots are named: ids, labels, turns. None of them is ever part of a path that a user has chosen."""

from __future__ import annotations

from agentd.errors import ConfigError

__all__ = ["check_turn"]


def check_turn(turn: int | None) -> None:
    """Refuse what is no turn. :raises ConfigError: with the reason."""
    if turn is not None and (not isinstance(turn, int) or isinstance(turn, bool) or not 0 <= turn < 10**15):
        raise ConfigError(f"turn {turn!r}: must be a whole number from 0 on")
