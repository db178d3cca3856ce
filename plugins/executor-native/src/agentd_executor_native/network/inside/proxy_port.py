"""The proxy's port: made inside the sandbox, whose loopback it belongs to, and accepted from outside.

A socket stays in the network namespace that it was made in, whoever holds it. So this makes the listening socket before
any of the code runs and gives it away; no process of the sandbox has it then, and no port of the host is opened.

As a program, `FD COMMAND...`: hands the socket over and becomes the command.
"""

from __future__ import annotations

import os
import socket
import sys

__all__ = ["PORT", "hand_over_port"]

PORT = 3128
"""Of HTTP and SOCKS5 both. Nothing else listens in the sandbox yet, so it is free."""

_BACKLOG = 128


def hand_over_port(descriptor: int) -> None:
    """Listen on 127.0.0.1 and send the socket to the other end of a Unix socket pair; close what was used.

    :raises OSError: if the loopback is down or the host's end is closed: code must not run then.
    """
    with socket.socket(fileno=descriptor) as channel, socket.socket() as listener:
        listener.bind(("127.0.0.1", PORT))
        listener.listen(_BACKLOG)
        socket.send_fds(channel, [b"\0"], [listener.fileno()])


if __name__ == "__main__":
    hand_over_port(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
