"""A shared memory segment, a queue and a semaphore of System V: bait for code that must not share this machine's."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs

__all__ = ["SystemV", "bait_system_v", "has_system_v"]

# As in <sys/ipc.h> and <sys/sem.h> of Linux.
_NEW: Final = 0
_CREATE: Final = 0o1000
_EVERYBODY: Final = 0o666
_REMOVE: Final = 0
_SET_VALUE: Final = 16
_SIZE: Final = 4096
_VALUE: Final = 4711


@attrs.frozen
class SystemV:
    """The ids, each -1 where it could not be made. The memory holds the secret, the semaphore `value`."""

    memory: int = -1
    queue: int = -1
    semaphore: int = -1
    value: int = _VALUE


def has_system_v() -> bool:
    """Tell whether this process can make a segment (some containers and systems have none)."""
    with bait_system_v("") as made:
        return made.memory >= 0 and made.queue >= 0 and made.semaphore >= 0


@contextmanager
def bait_system_v(secret: str) -> Iterator[SystemV]:
    """Hold one of each, open to every user of this machine, and remove them at the end."""
    if sys.platform != "linux":
        yield SystemV()
        return
    libc = ctypes.CDLL(None)
    made = SystemV(
        memory=libc.shmget(_NEW, ctypes.c_size_t(_SIZE), _CREATE | _EVERYBODY),
        queue=libc.msgget(_NEW, _CREATE | _EVERYBODY),
        semaphore=libc.semget(_NEW, 1, _CREATE | _EVERYBODY),
    )
    try:
        if made.memory >= 0:
            _fill(libc, made.memory, secret.encode())
        if made.semaphore >= 0:
            libc.semctl(made.semaphore, 0, _SET_VALUE, ctypes.c_long(_VALUE))
        yield made
    finally:
        if made.memory >= 0:
            libc.shmctl(made.memory, _REMOVE, None)
        if made.queue >= 0:
            libc.msgctl(made.queue, _REMOVE, None)
        if made.semaphore >= 0:
            libc.semctl(made.semaphore, 0, _REMOVE, ctypes.c_long(0))


def _fill(libc: ctypes.CDLL, memory: int, data: bytes) -> None:
    libc.shmat.restype = ctypes.c_void_p
    address = libc.shmat(memory, None, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        return
    ctypes.memmove(address, data, len(data))
    libc.shmdt(ctypes.c_void_p(address))
