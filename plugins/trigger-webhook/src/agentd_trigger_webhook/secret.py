"""The secrets that a webhook's sender and we share: from the configuration's environment, or a private file."""

from __future__ import annotations

import os
import stat
from typing import Final

from agentd.errors import ConfigError

__all__ = ["read_secrets", "stamp_of"]

_WHAT: Final = "the trigger 'webhook'"
_LONGEST: Final = 4096
_MOST: Final = 4


def stamp_of(file: str) -> tuple[int, int, int] | None:
    """Return what changes when the file does; None if it is not there."""
    try:
        found = os.stat(os.path.expanduser(file))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_secrets(file: str) -> list[str]:
    """Return the secrets of a file, one a line.

    :raises ConfigError: it has none, or others may read or write it.
    """
    what = f"option 'secret_file' of {_WHAT}"
    path = os.path.expanduser(file)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{what}: must be a file, got {file!r}")
            if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (os.geteuid(), 0):
                raise ConfigError(f"{what}: others can read or write it; chmod 600 {file}")
            content = opened.read(_LONGEST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{what}: cannot be read: {reason}, got {file!r}") from None
    try:
        lines = [line.strip() for line in content.decode().splitlines() if line.strip()]
    except UnicodeDecodeError:
        lines = []
    if not 1 <= len(lines) <= _MOST or len(content) > _LONGEST:
        raise ConfigError(
            f"{what}: must hold a secret, or up to {_MOST}, one a line, in at most {_LONGEST} bytes, got {file!r}"
        )
    return lines
