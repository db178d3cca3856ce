"""The fork server: with the argument `--serve`, this process forks runners for a host that has several."""

from __future__ import annotations

import array
import gc
import os
import socket

from .descriptors import MAX_DESCRIPTOR, send_with_descriptors
from .processes import PR_SET_DUMPABLE, load_prctl, try_fork, wait_status


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
    gc.freeze()
    while True:
        data, ancillary, *_ = sock.recvmsg(16, socket.CMSG_SPACE(4 * 4))
        if not data:
            os._exit(0)
        if data[:1] == b"W":
            sock.send(b"%d" % wait_status(int(data[1:])))
            continue
        received = list(array.array("i", ancillary[0][2]))
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
