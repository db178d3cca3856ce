"""The seccomp filter of sandboxes: what code may not ask the kernel for, whatever way it finds to ask.

The sandbox installs it before the runner starts: `native` has bubblewrap do it, in `srt` the runner's own process does.
It holds for all that the runner starts, and cannot be taken off. Kernels use the strictest of all filters, so it adds
to others and takes nothing away. A call that is refused fails with EPERM; one that "does not exist" fails with ENOSYS,
so that programs take another way:

* keyrings, which belong to a user and not to a sandbox; io_uring, which does what a filter cannot see; userfaultfd,
  bpf, performance events, fanotify, looking into other processes (ptrace); System V IPC, unless it is asked for;
* new namespaces, mounts, modules, other kernels, clocks, swap, the kernel's log. Most of it needs capabilities that
  code has not; refused here, the kernel's code for it cannot be attacked either. `clone3` does not exist: its flags
  lie where a filter cannot look, and programs take `clone`;
* sockets other than IPv4, IPv6 (TCP and UDP) and netlink's about routes, which tells a program its own interfaces;
  pairs of sockets that are not tied to each other for life;
* setuid and setgid bits, wherever a mode is given: such a program would give the rights of its owner to whoever runs
  it. `openat2` names its mode where a filter cannot look: it does not exist;
* typing into a terminal (TIOCSTI, TIOCLINUX), and other personalities than the ordinary one;
* calls that are newer than this list do not exist. Those of 32-bit programs end the program (SIGSYS), those of x32
  do not exist.

The program is classic BPF (Linux, Documentation/userspace-api/seccomp_filter.rst); the numbers are those of the
kernel's tables, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h. A library (pyseccomp)
would need the system's libseccomp, which knows no calls that are newer than itself.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
from collections.abc import Sequence
from typing import Final

__all__ = ["MACHINES", "UnknownMachineError", "filter_program", "lacking_filter"]


def _numbers(*lines: str) -> dict[str, tuple[int | None, int | None]]:
    """Read `NAME X86_64 AARCH64` with commas between; `-` where there is none."""
    entries = [entry.split() for line in lines for entry in line.split(",")]
    return {name: (_number(first), _number(second)) for name, first, second in entries}


def _number(word: str) -> int | None:
    return None if word == "-" else int(word)


# Refused whatever the arguments are.
_SYSTEM_V: Final = _numbers(
    "shmget 29 194, shmat 30 196, shmctl 31 195, shmdt 67 197, semget 64 190, semop 65 193, semctl 66 191",
    "semtimedop 220 192, msgget 68 186, msgsnd 69 189, msgrcv 70 188, msgctl 71 187",
)
_REFUSED: Final = _numbers(
    # keyrings, io_uring, and parts of the kernel that are attacked often
    "add_key 248 217, request_key 249 218, keyctl 250 219, io_uring_setup 425 425, io_uring_enter 426 426",
    "io_uring_register 427 427, userfaultfd 323 282, bpf 321 280, perf_event_open 298 241, fanotify_init 300 262",
    # other processes
    "ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272, pidfd_getfd 438 438",
    "process_madvise 440 440, move_pages 279 239, migrate_pages 256 238",
    # namespaces and mounts
    "unshare 272 97, setns 308 268, mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51",
    "open_tree 428 428, move_mount 429 429, fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433",
    "mount_setattr 442 442, open_by_handle_at 304 265, statmount 457 457, listmount 458 458, open_tree_attr 467 467",
    # the machine
    "init_module 175 105, finit_module 313 273, delete_module 176 106, kexec_load 246 104, kexec_file_load 320 294",
    "reboot 169 142, swapon 167 224, swapoff 168 225, acct 163 89, settimeofday 164 170, clock_settime 227 112",
    "clock_adjtime 305 266, syslog 103 116, vhangup 153 58, quotactl 179 60, quotactl_fd 443 443",
    "sethostname 170 161, setdomainname 171 162, lookup_dcookie 212 18, nfsservctl 180 42",
    "iopl 172 -, ioperm 173 -, modify_ldt 154 -",
)
_CHECKED: Final = _numbers(
    "socket 41 198, socketpair 53 199, clone 56 220, clone3 435 435, ioctl 16 29, personality 135 92",
    "openat2 437 437, openat 257 56, open 2 -, creat 85 -, chmod 90 -, fchmod 91 52, fchmodat 268 53",
    "fchmodat2 452 452, mknod 133 -, mknodat 259 33",
)
MACHINES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""By `uname -m`: the column of the numbers, and AUDIT_ARCH_*."""

_NEWEST: Final = 469  # where the tables of Linux 6.18 end; the numbers of x32 are far above, too

_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM, _SEQPACKET, _TYPE_MASK = 1, 2, 5, 0xF
_PROTOCOLS: Final = (0, 6, 17)  # TCP and UDP; 0 is also netlink's protocol about routes
# CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET; NEWTIME is for unshare and clone3 alone
_NEW_NAMESPACES: Final = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_ASKS_PERSONALITY: Final = 0xFFFFFFFF
_SET_ID: Final = 0o6000
_MAKES_A_FILE: Final = 0o100 | 0o20000000  # O_CREAT, and what O_TMPFILE adds: without them no mode is read
_MODE_AT: Final = {
    "chmod": 1,
    "fchmod": 1,
    "fchmodat": 2,
    "fchmodat2": 2,
    "creat": 1,
    "mknod": 1,
    "mknodat": 2,
}
_FLAGS_AT: Final = {"open": 1, "openat": 2}  # the mode comes next

# Instructions: load a word of `struct seccomp_data`, compare what was loaded, look for bits in it, mask it, return.
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = (
    0,
    4,
    16,
)  # an argument that is an `int` is the lower half of its register
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _ABSENT = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


class UnknownMachineError(Exception):
    """There is no filter for this machine; the message says why."""


@functools.cache
def filter_program(machine: str, *, system_v: bool = False) -> bytes:
    """Return the filter for a machine, as `os.uname` names it, in the form of `struct sock_filter`.

    :param system_v: leave System V shared memory, queues and semaphores, in a sandbox that has its own.
    :raises UnknownMachineError: for a machine whose calls it does not know.
    """
    if machine not in MACHINES:
        raise UnknownMachineError(
            f"there is no filter of system calls for the processor {machine}, only for {' and '.join(MACHINES)}"
        )
    column, architecture = MACHINES[machine]
    program = [
        *(_step(_LOAD, _ARCHITECTURE), _step(_IF_EQUAL, architecture, 1, 0), _step(_RETURN, _KILL)),
        *(_step(_LOAD, _NUMBER), _step(_IF_AT_LEAST, _NEWEST + 1, 0, 1), _step(_RETURN, _ABSENT)),
    ]
    for name, numbers in {**_CHECKED, **_REFUSED, **({} if system_v else _SYSTEM_V)}.items():
        number = numbers[column]
        if number is not None:
            body = _body(name)
            program += [_step(_IF_EQUAL, number, 0, len(body)), *body]
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def lacking_filter() -> str:
    """Say what this machine lacks for the filter, or nothing."""
    try:
        filter_program(os.uname().machine)
    except UnknownMachineError as error:
        return str(error)
    if os.path.exists("/proc/sys/kernel/seccomp/actions_avail"):
        return ""
    return "this kernel has no filters of system calls (CONFIG_SECCOMP_FILTER)"


def _body(name: str) -> list[bytes]:
    """What is done for the call of this name. It ends with what the kernel is told, and never goes on to the next."""
    if name in ("clone3", "openat2"):
        return [_step(_RETURN, _ABSENT)]
    if name == "socket":
        return _socket()
    if name == "socketpair":
        return [*_only(0, (_AF_UNIX,)), *_only(1, (_STREAM, _SEQPACKET), _TYPE_MASK), _step(_RETURN, _ALLOW)]
    if name == "clone":
        return _unless_any(0, _NEW_NAMESPACES)
    if name == "ioctl":
        return _unless_among(1, (_TIOCSTI, _TIOCLINUX))
    if name == "personality":
        return [*_only(0, (0, _ASKS_PERSONALITY)), _step(_RETURN, _ALLOW)]
    if name in _MODE_AT:
        return _unless_any(_MODE_AT[name], _SET_ID)
    if name in _FLAGS_AT:
        at = _FLAGS_AT[name]
        makes = [_argument(at), _step(_IF_ANY, _MAKES_A_FILE, 1, 0), _step(_RETURN, _ALLOW)]
        return [*makes, *_unless_any(at + 1, _SET_ID)]
    return [_step(_RETURN, _REFUSE)]


def _socket() -> list[bytes]:
    netlink = [*_only(2, (0,)), _step(_RETURN, _ALLOW)]
    is_netlink = [_argument(0), _step(_IF_EQUAL, _AF_NETLINK, 0, len(netlink)), *netlink]
    types = _only(1, (_STREAM, _DATAGRAM), _TYPE_MASK)
    return [
        *is_netlink,
        *_only(0, (_AF_INET, _AF_INET6)),
        *types,
        *_only(2, _PROTOCOLS),
        _step(_RETURN, _ALLOW),
    ]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def _argument(at: int) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * at)


def _only(at: int, values: Sequence[int], mask: int = 0) -> list[bytes]:
    """Refuse a call whose argument is not one of these; go on otherwise."""
    load = [_argument(at), *([_step(_AND, mask)] if mask else [])]
    checks = [_step(_IF_EQUAL, value, len(values) - number, 0) for number, value in enumerate(values)]
    return [*load, *checks, _step(_RETURN, _REFUSE)]


def _unless_among(at: int, values: Sequence[int]) -> list[bytes]:
    """Refuse a call whose argument is one of these, allow others."""
    checks = [_step(_IF_EQUAL, value, len(values) - number, 0) for number, value in enumerate(values)]
    return [_argument(at), *checks, _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]


def _unless_any(at: int, bits: int) -> list[bytes]:
    """Refuse a call whose argument has any of these bits, allow others."""
    return [_argument(at), _step(_IF_ANY, bits, 1, 0), _step(_RETURN, _ALLOW), _step(_RETURN, _REFUSE)]
