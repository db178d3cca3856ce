"""A socket that listens where an option says; what is in the way is told with what to do about it."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from agentd.errors import ConfigError

__all__ = ["listen"]

_NEXT: Final = {
    errno.EADDRINUSE: "something listens there already; take another port, or 0 for a free one",
    errno.EADDRNOTAVAIL: "this machine has no such address; take one of its own, or 0.0.0.0 for all of them",
    errno.EACCES: "this user may not listen there; take a port from 1024 on, or 0 for a free one",
}


def listen(host: str, port: int, *, said: str) -> socket.socket:
    """Return a socket that listens.

    :param said: the options that say where, for messages.
    :raises ConfigError: if that cannot be.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        number = error.errno or 0
        if number < 0:  # of getaddrinfo, which create_server makes an OSError of
            raise ConfigError(f"{said}: no address of {host!r} is known") from error
        why = _NEXT.get(number) or os.strerror(number)
        raise ConfigError(f"{said}: cannot listen on port {port} of {host}: {why}") from error
