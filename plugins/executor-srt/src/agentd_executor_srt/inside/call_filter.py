"""A seccomp filter: what code may not ask the kernel for, whatever way it finds to ask.

It is installed in the sandbox before the runner starts, holds for all that the runner starts, and cannot be taken off.
Kernels use the strictest of all filters, so it adds to srt's and takes nothing away. What it refuses fails with EPERM:

* sockets of other families than IPv4, IPv6 and netlink (which tells a program its own interfaces);
* pairs of sockets that are not Unix stream or seqpacket sockets. Those two kinds stay connected to each other for as
  long as they live; a socket of another kind could be given another address;
* io_uring, which does what a filter cannot see;
* the kernel's keyrings: they belong to a user and not to a sandbox, so keys would be shared and would stay behind;
* setuid and setgid bits, wherever a mode is given (chmod and its relatives, creating a file): such a program would give
  the rights of its owner to whoever runs it. `openat2` names its mode where a filter cannot look, and does not exist
  (ENOSYS): programs take `openat` then.

Calls of another ABI have other numbers: those of 32-bit x86 and ARM programs end the program (SIGSYS), those of x32 do
not exist (ENOSYS). The program is classic BPF (Linux, Documentation/userspace-api/seccomp_filter.rst); the numbers are
those of the kernel's tables, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from collections.abc import Sequence

__all__ = ["FilterError", "filter_program", "install_filter"]

# By `uname -m`: AUDIT_ARCH_*, then the numbers of the calls.
_EVERYWHERE = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "openat2": 437,
    "fchmodat2": 452,
}
_MACHINES = {
    "x86_64": (
        0xC000003E,
        {
            "open": 2,
            "creat": 85,
            "chmod": 90,
            "fchmod": 91,
            "mknod": 133,
            "openat": 257,
            "mknodat": 259,
            "fchmodat": 268,
        }
        | {"socket": 41, "socketpair": 53, "add_key": 248, "request_key": 249, "keyctl": 250},
    ),
    "aarch64": (
        0xC00000B7,
        {"mknodat": 33, "fchmod": 52, "fchmodat": 53, "openat": 56}
        | {"socket": 198, "socketpair": 199, "add_key": 217, "request_key": 218, "keyctl": 219},
    ),
}
_X32 = 0x40000000  # the bit of x32's numbers, which have the architecture of x86_64

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_SEQPACKET, SOCK_TYPE_MASK = 1, 5, 0xF
_SET_ID = 0o6000
_MAKES_A_FILE = (
    0o100 | 0o20000000
)  # O_CREAT, and what O_TMPFILE adds to O_DIRECTORY: without them no mode is read
_MODE_AT = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1, "mknod": 1, "mknodat": 2}
_FLAGS_AT = {"open": 1, "openat": 2}  # the mode comes next

# Instructions: load a word of `struct seccomp_data`, compare what was loaded, look for bits in it, mask it, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _ABSENT = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


class FilterError(Exception):
    """The filter cannot be installed here; the message says why."""


def filter_program(machine: str) -> bytes:
    """Return the filter for a machine, as `os.uname` names it, in the form of `struct sock_filter`.

    Raises `FilterError` for one whose calls it does not know.
    """
    if machine not in _MACHINES:
        raise FilterError(
            f"there is no filter of system calls for the processor {machine}, only for x86_64 and aarch64"
        )
    architecture, numbers = _MACHINES[machine]
    program = [
        *(_step(_LOAD, _ARCHITECTURE), _step(_IF_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":
        program += [_step(_IF_AT_LEAST, _X32, 0, 1), _step(_RETURN, _ABSENT)]
    for name, number in sorted({**_EVERYWHERE, **numbers}.items()):
        program += _rule(number, _body(name))
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def install_filter() -> None:
    """Install the filter in this process, which must have a single thread. Raises `FilterError`."""
    program = filter_program(os.uname().machine)
    if sys.maxsize < 1 << 32:
        raise FilterError("the interpreter is a 32-bit program, whose calls the sandbox refuses")
    held = ctypes.create_string_buffer(program, len(program))
    about = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(held))  # struct sock_fprog
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for arguments in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_char_p(about), 0, 0),
    ):
        if prctl(*arguments):
            reason = os.strerror(ctypes.get_errno())
            raise FilterError(
                f"this kernel does not take a filter of system calls (CONFIG_SECCOMP_FILTER): {reason}"
            )


def _body(name: str) -> list[bytes]:
    """What is done for the call of this name; it ends with what the kernel is told."""
    if name == "openat2":
        return [_step(_RETURN, _ABSENT)]
    if name == "socket":
        return _if_among(0, (AF_INET, AF_INET6, AF_NETLINK))
    if name == "socketpair":
        unix = [_step(_LOAD, _ARGUMENTS), _step(_IF_EQUAL, AF_UNIX, 1, 0), _step(_RETURN, _REFUSE)]
        return [*unix, *_if_among(1, (SOCK_STREAM, SOCK_SEQPACKET), SOCK_TYPE_MASK)]
    if name in _MODE_AT:
        return _unless_any(_MODE_AT[name], _SET_ID)
    if name in _FLAGS_AT:
        at = _FLAGS_AT[name]
        makes = [
            _step(_LOAD, _ARGUMENTS + 8 * at),
            _step(_IF_ANY, _MAKES_A_FILE, 1, 0),
            _step(_RETURN, _ALLOW),
        ]
        return [*makes, *_unless_any(at + 1, _SET_ID)]
    return [_step(_RETURN, _REFUSE)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _rule(number: int, body: Sequence[bytes]) -> list[bytes]:
    """What is done for one call. Each body returns; what is loaded for the other rules is still the number."""
    return [_step(_IF_EQUAL, number, 0, len(body)), *body]


def _if_among(argument: int, values: Sequence[int], mask: int = 0) -> list[bytes]:
    """Allow a call whose argument, an `int` and so the lower half of the register, is one of these; refuse others."""
    load = [_step(_LOAD, _ARGUMENTS + 8 * argument)]
    if mask:
        load.append(_step(_AND, mask))
    checks = [_step(_IF_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    return [*load, *checks, _step(_RETURN, _REFUSE), _step(_RETURN, _ALLOW)]


def _unless_any(argument: int, bits: int) -> list[bytes]:
    """Refuse a call whose argument has any of these bits, allow others."""
    load = _step(_LOAD, _ARGUMENTS + 8 * argument)
    return [load, _step(_IF_ANY, bits, 1, 0), _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]
