"""The file of a page: it is replaced as a whole, and what is no file (a link, a device, a FIFO) stays what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from agentd_sink_html.trace import RunTrace

__all__ = ["is_stream", "write_page"]


def write_page(path: Path, runs: list[RunTrace], **options: object) -> None:
    """Write the page of these runs: into a device or a FIFO as it comes, to a file whole or not at all.

    The file that a link names is replaced, not the link. A FIFO is waited for until somebody reads it.

    :raises OSError: if it cannot be written.
    """
    from agentd_sink_html.page import page

    text = page(runs, **options).encode("utf-8", "replace")  # type: ignore[arg-type]
    if is_stream(path):
        with open(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC), "wb") as stream:
            stream.write(text)
    else:
        _replace(Path(os.path.realpath(path)), text)


def is_stream(path: Path) -> bool:
    """Tell whether a path takes what is written to it and keeps no page: a device, a FIFO, an open file (/dev/stdout).

    :raises OSError: if it leads nowhere, as a link that names itself.
    """
    folder = os.path.realpath(path.parent)
    if folder == "/dev" or folder.startswith("/proc/"):
        return True  # /dev/stdout may be a file that others write to as well (`>> FILE`)
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False


def _replace(path: Path, text: bytes) -> None:
    # A short name: that of the page may be as long as names can be.
    beside = path.with_name(f".agentd-{os.urandom(8).hex()}")
    try:
        # 0600: a page holds whatever the person and the code said.
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(text)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
