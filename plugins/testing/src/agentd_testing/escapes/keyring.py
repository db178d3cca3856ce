"""A key in this session's keyring of the kernel: bait for code that must not share the session."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["bait_key", "has_keyrings"]

SESSION: Final = -3
GET_ID, UNLINK = 0, 9
# add_key and keyctl; libc has no function for them
_NUMBERS: Final = {"x86_64": (248, 250), "aarch64": (217, 219)}


def has_keyrings() -> bool:
    """Tell whether this process has a session keyring to put a key into (many containers forbid it)."""
    return _call(1, GET_ID, ctypes.c_long(SESSION), 0) >= 0


@contextmanager
def bait_key(name: str, secret: str) -> Iterator[str]:
    """Hold a key of that name; yield the name, or an empty string where it could not be made."""
    data = secret.encode()
    key = _call(0, b"user", name.encode(), data, ctypes.c_size_t(len(data)), ctypes.c_long(SESSION))
    try:
        yield name if key >= 0 else ""
    finally:
        if key >= 0:
            _call(1, UNLINK, ctypes.c_long(key), ctypes.c_long(SESSION))


def _call(which: int, *arguments: object) -> int:
    numbers = _NUMBERS.get(os.uname().machine)
    if sys.platform != "linux" or numbers is None:
        return -1
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(numbers[which]), *arguments))
