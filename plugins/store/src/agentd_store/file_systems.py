"""The file systems of fsspec that the places of a process share.

The client of an S3 server has connections of its own and the description of the service: 11 MiB and a fifth of a second
of CPU, too much for each of some hundred sessions. fsspec's own cache goes by threads, and not by the environment.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["renewed_file_system", "shared_file_system"]

_CONNECTIONS: Final = 64  # to a server, of all sessions of a process; the SDK's own limit is 10
RENEW_S: Final = 5.0
"""How old one that is refused must be to be made anew."""
_VARIABLES: Final = ("AWS_", "BOTO_", "FSSPEC_", "GCSFS_", "GOOGLE_", "STORAGE_EMULATOR_")

_lock = threading.Lock()
_shared: Final[weakref.WeakValueDictionary[tuple[object, ...], AbstractFileSystem]] = (
    weakref.WeakValueDictionary()
)
_made_at: Final[dict[tuple[object, ...], float]] = {}


def shared_file_system(protocol: str, options: Mapping[str, Any]) -> AbstractFileSystem:
    """Return the file system of this process for a protocol with these options, as the environment is now.

    :raises ImportError: if its package is not there; `TypeError` or `ValueError` for options that it does not take.
    """
    import fsspec

    given: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        given["config_kwargs"] = {"max_pool_connections": _CONNECTIONS}
    given |= options
    said = sorted(item for item in os.environ.items() if item[0].startswith(_VARIABLES))
    key = (os.getpid(), protocol, repr(sorted(given.items())), *said)
    with _lock:
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = fsspec.filesystem(protocol, **given)
            _made_at[key] = time.monotonic()
        return found


def renewed_file_system(
    refused: AbstractFileSystem, protocol: str, options: Mapping[str, Any]
) -> AbstractFileSystem:
    """Return one in place of one that was refused: it reads the credentials anew, which may be others by now. One that
    is new itself is returned again: hundreds of sessions may be refused at once, again and again."""
    with _lock:
        now = time.monotonic()
        for key in [key for key, value in _shared.items() if value is refused]:
            if now >= _made_at[key] + RENEW_S:
                del _shared[key]
    return shared_file_system(protocol, options)


def _begin_in_child() -> None:
    """A thread of the parent that a forked child comes from may have had the lock."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_begin_in_child)
