"""The priority of what sessions start: it gives way to its host, for a host that starves looks like a lost one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

__all__ = ["code_niceness", "have_children_give_way"]

NICE: Final = 5
"""By how much it is below the host's."""


def code_niceness() -> int:
    """Return the niceness of what sessions start."""
    return min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICE)


def have_children_give_way() -> None:
    """Lower the priority of the processes that this one has started, and of all below those, where the system says
    which they are."""
    niceness = code_niceness()
    for pid in _children("self"):
        _lower(pid, niceness)


def _lower(pid: int, niceness: int) -> None:
    with contextlib.suppress(OSError):  # it has ended
        if os.getpriority(os.PRIO_PROCESS, pid) >= niceness:
            return  # and so have those that it has started since
        for thread in os.listdir(f"/proc/{pid}/task"):  # each has its own, and passes that on
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread), niceness)
        for child in _children(str(pid)):
            _lower(child, niceness)


def _children(pid: str) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                yield from map(int, file.read().split())
