"""Installing a seccomp filter that the host has made (`agentd_runner.call_filter`), in the process that asks for it."""

from __future__ import annotations

import ctypes
import os
import struct
import sys

__all__ = ["FilterError", "install_filter"]

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


class FilterError(Exception):
    """The filter cannot be installed here; the message says why."""


def install_filter(program: bytes) -> None:
    """Install a filter, in the form of `struct sock_filter`, in this process, which must have a single thread.

    Raises `FilterError`.
    """
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
