"""Checkpoints, rewinds and forks of a session, out of what its timeline logs (`agentd_snapshots.timeline`)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

import attrs
from agentd.events import SourceLog

__all__ = ["Moment", "read_moment"]

_TEXT: Final = re.compile(
    r"(?P<what>checkpoint|rewind|fork)( (?P<id>\S+))? (took|failed \((?P<error>\w+)\) after) (?P<wall_s>\d+\.\d+) s "
    r"from (?P<began>\S+)"
)


@attrs.frozen
class Moment:
    """What was done, to which checkpoint, when (nanoseconds since 1970), and what failed."""

    what: str
    id: str
    began: int
    ended: int
    error: str


def read_moment(event: SourceLog) -> Moment | None:
    """Return what an event tells of the timeline; None for any other log message."""
    found = _TEXT.fullmatch(event.text) if event.source == "checkpoints" else None
    if found is None:
        return None
    began = int(datetime.fromisoformat(found["began"]).timestamp() * 1e9)
    ended = began + int(float(found["wall_s"]) * 1e9)
    return Moment(found["what"], found["id"] or "", began, ended, found["error"] or "")
