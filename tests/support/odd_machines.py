"""Machines that lack something, made of this one for a single program: `python odd_machines.py RULES -- COMMAND`.

A rule is `NUMBER=ERRNO` (of x86-64): this system call fails so; `namespaces=ERRNO` is clone with any flag for a new
namespace. Nothing outside of the program changes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
FAIL, ALLOW = 0x00050000, 0x7FFF0000
NEW_NAMESPACE = 0x7E020000
CLONE = 56


def _statement(code: int, value: int) -> bytes:
    return struct.pack("HBBI", code, 0, 0, value)


def _jump(code: int, value: int, yes: int, no: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def filter_of(rules: str) -> bytes:
    """Return the program of a filter (seccomp(2))."""
    number = _statement(LOAD, 0)
    program = [number]
    for call, _, error in (rule.partition("=") for rule in rules.split(",")):
        fail = _statement(RETURN, FAIL | int(error))
        if call == "namespaces":
            flags = [_statement(LOAD, 16), _jump(ANY_BIT, NEW_NAMESPACE, 0, 1)]
            program += [_jump(EQUAL, CLONE, 0, 4), *flags, fail, number]
        else:
            program += [_jump(EQUAL, int(call), 0, 1), fail]
    return b"".join([*program, _statement(RETURN, ALLOW)])


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]


def main() -> None:
    rules, _, *command = sys.argv[1:]
    data = ctypes.create_string_buffer(filter_of(rules))
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 and libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    program = Program(len(data.raw) // 8, ctypes.addressof(data))
    if libc.prctl(22, 2, ctypes.byref(program), 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "no filter")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
