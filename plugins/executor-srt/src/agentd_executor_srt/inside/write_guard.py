"""Landlock: what is mounted read-only is read-only for FIFOs and devices, too.

A read-only mount refuses to change what the file system stores. To open a FIFO or a device for writing changes nothing
there, so the kernel allows it, and code would reach whatever reads from it. Landlock refuses it by path
(Linux, Documentation/userspace-api/landlock.rst): writing is allowed below what is mounted writable, and nowhere else.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Iterator

__all__ = ["can_guard_writes", "guard_writes", "writable_mounts"]

# The same numbers on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _REFER = (
    1 << 1,
    1 << 13,
)  # REFER: to move between folders, which every set of rules refuses if it is silent
_FIRST_VERSION = 2  # before, nothing could be moved from folder to folder
_PR_SET_NO_NEW_PRIVS = 38


def can_guard_writes() -> bool:
    """Tell whether this kernel has Landlock, in a version that lets files be moved."""
    return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION) >= _FIRST_VERSION


def guard_writes() -> bool:
    """Refuse this process and all that it starts to write elsewhere; return whether the kernel can."""
    if not can_guard_writes():
        return False
    handled = struct.pack("Q", _WRITE_FILE | _REFER)
    rules = _call(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0)
    if rules < 0:
        return False
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            for path in writable_mounts(file.read()):
                _allow(rules, path)
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return _call(_RESTRICT_SELF, rules, 0) == 0
    finally:
        os.close(rules)


def writable_mounts(mountinfo: bytes) -> Iterator[bytes]:
    """Yield the places that something is mounted at writable, by a text as in /proc/self/mountinfo (proc(5))."""
    options: dict[bytes, bytes] = {}
    for line in mountinfo.splitlines():
        fields = line.split(b" ")
        options[fields[4]] = fields[5]  # of several in one place, the last one counts
    for place, given in options.items():
        if b"rw" in given.split(b","):
            yield place.decode("unicode_escape").encode("latin-1")  # blanks are written as \040


def _allow(rules: int, path: bytes) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # another mount covers it
        return
    try:
        allowed = _WRITE_FILE | (_REFER if stat.S_ISDIR(os.fstat(place).st_mode) else 0)
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
    finally:
        os.close(place)


def _call(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None).syscall(ctypes.c_long(number), *arguments))
