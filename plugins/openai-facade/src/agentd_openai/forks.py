"""Patched clients in forked processes: no connection to a provider serves two of them.

The SDK keeps connections open (httpx), and a fork copies them: parent and child would write into the same one, and each
might read the other's answers.
"""

from __future__ import annotations

import os
import weakref
from typing import Any, Final

__all__ = ["guard_connections"]

_clients: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def guard_connections(client: object) -> None:
    """Have the client open connections of its own in forked children."""
    _clients.add(client)


def _forget_in_child() -> None:
    for client in list(_clients):
        http = getattr(client, "_client", None)
        mounts = getattr(http, "_mounts", {}).values()
        for transport in (getattr(http, "_transport", None), *mounts):
            _forget_connections(getattr(transport, "_pool", None))


def _forget_connections(pool: Any) -> None:
    """httpcore has no way to tell a pool of a fork; closing its connections would say goodbye in the parent's name."""
    for name in ("_connections", "_requests"):
        if isinstance(getattr(pool, name, None), list):
            setattr(pool, name, [])
    lock = getattr(pool, "_optional_thread_lock", None)
    if lock is not None:  # a thread of the parent may have held it
        pool._optional_thread_lock = type(lock)()


os.register_at_fork(after_in_child=_forget_in_child)
