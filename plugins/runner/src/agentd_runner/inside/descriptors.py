"""The numbers of a worker's descriptors, and how a worker comes to have these and no others."""

from __future__ import annotations

import os
import signal

# Descriptors of a worker, above those that scripts use by number (`exec 3>log`).
BROKER_FD, CODE_FD, JOB_FD, SAVE_FD, META_FD, GATE_FD, BASE_FD = 90, 91, 92, 93, 94, 95, 96
MAX_DESCRIPTOR = 1 << 16


def settle(moves: dict[int, int]) -> None:
    """Lead a session of one's own, with the descriptors `moves` (number: from where) and no others."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(moves.get(descriptor, null), descriptor)
    start = 3
    kept = sorted(target for target in moves if target > 2)
    for target in kept:
        os.dup2(moves[target], target, inheritable=True)
    for target in kept:
        os.closerange(start, target)
        start = target + 1
    os.closerange(start, MAX_DESCRIPTOR)
