"""The fork server: with the argument `--serve`, this process forks runners for a host that has several."""

from __future__ import annotations

import gc
import io
import os
import sys

from .descriptors import MAX_DESCRIPTOR, receive, send_with_descriptors
from .primitives import socket
from .processes import PR_SET_DUMPABLE, load_prctl, try_fork, wait_status
from .python import import_common


def fork_runners() -> None:
    """Fork runners for the host; return in each of them.

    Standard input is a socket of messages. `F` with the descriptors of standard input, output and errors and of the
    direct line forks a runner, which has the line as descriptor 3; the answer is its pid, with a pidfd, or 0. `W` and
    the pid of a runner that has ended ask for its wait status. The end of the socket ends this process, and no runner.
    """
    os.dup2(0, 3, inheritable=False)
    sock = socket.socket(fileno=3)
    prctl = load_prctl()
    if prctl is not None:
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    import_common()  # once for all sessions, in memory that they share
    gc.freeze()
    while True:
        data, received = receive(sock, 16, 4)
        if not data:
            os._exit(0)
        if data[:1] == b"W":
            sock.send(b"%d" % wait_status(int(data[1:])))
            continue
        pid = try_fork()
        if pid == 0:
            sock.detach()
            for source, target in zip(received, (0, 1, 2, 3), strict=True):  # they have larger numbers
                os.dup2(source, target)
            os.closerange(4, MAX_DESCRIPTOR)
            os.setsid()
            return
        for descriptor in received:
            os.close(descriptor)
        if pid < 0:
            sock.send(b"0")
        else:
            pidfd = os.pidfd_open(pid)
            send_with_descriptors(sock, b"%d" % pid, [pidfd])
            os.close(pidfd)


def open_streams() -> None:
    """Make the standard streams anew, as the interpreter makes them: it did so with what its descriptors were then."""
    for number, name, errors in (
        (0, "stdin", "surrogateescape"),
        (1, "stdout", "surrogateescape"),
        (2, "stderr", "backslashreplace"),
    ):
        raw = open(number, "wb" if number else "rb", closefd=False)  # noqa: SIM115
        raw.raw.name = f"<{name}>"  # type: ignore[attr-defined]
        stream = io.TextIOWrapper(raw, "utf-8", errors, newline="\n", line_buffering=number == 2)
        stream.mode = "w" if number else "r"  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
