"""Hints that something may have changed in a folder, by watchfiles; also one that comes, goes and comes again."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

import anyio
import anyio.abc
from agentd._concurrency.pool import call_in_thread

__all__ = ["ChangeHints"]

log = logging.getLogger("agentd.daemon.file")

ABSENT_S: Final = 2.0
"""So often, whether a folder is there (again) is looked at, where nothing tells of it."""
MOST_FOLDERS: Final = 4_000
"""With more of them, nothing is heard: for each watch, the whole process stands still for 20 microseconds."""
CROWDED_S: Final = 60.0
LONGEST_DEBOUNCE: Final = 10
"""Of the time of quiet: a folder in which it is never quiet is looked at, too."""


class ChangeHints:
    """Says when to look again. A context manager; its task ends with it.

    :param debounce_s: a hint comes after so many seconds of quiet, or ten times as many without.
    """

    def __init__(self, folder: Path, debounce_s: float) -> None:
        self._folder = folder
        self._quiet_ms = max(1, int(debounce_s * 1000))
        self._due = anyio.Event()
        self._stop = anyio.Event()
        self._told = ""
        self._group: anyio.abc.TaskGroup

    async def __aenter__(self) -> Self:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._watch)
        self._group.start_soon(self._end_with_us)
        return self

    async def __aexit__(self, *exc: object) -> bool | None:
        self._group.cancel_scope.cancel()
        return await self._group.__aexit__(*exc)  # type: ignore[arg-type]

    def clear(self) -> None:
        """Forget the hints that came so far."""
        self._due = anyio.Event()

    async def wait(self, seconds: float) -> bool:
        """Wait for a hint, or so long; tell whether there was one."""
        with anyio.move_on_after(seconds):
            await self._due.wait()
        return self._due.is_set()

    async def _end_with_us(self) -> None:
        """watchfiles waits in a thread, which hears of no cancellation but by this event."""
        try:
            await anyio.sleep_forever()
        finally:
            self._stop.set()

    async def _watch(self) -> None:
        from watchfiles._rust_notify import WatchfilesRustInternalError

        while True:
            known = _identity(self._folder)
            if known is not None:
                try:
                    await self._hear_on(known)
                except FileNotFoundError:  # it, or a folder in it, has gone meanwhile
                    pass
                # There are no watches left (OSError), or no inotify instance (the other one).
                except (OSError, WatchfilesRustInternalError) as error:
                    self._warn(str(error))
            await anyio.sleep(ABSENT_S)
            if _identity(self._folder) != known:
                self._due.set()

    def _warn(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            log.warning(
                "the system does not tell of changes in %s (%s): they are found by looking, every `poll_s`",
                *(self._folder, reason),
            )

    async def _hear_on(self, known: tuple[int, int]) -> None:
        """Pass on hints, as long as the folder is the same one, whatever becomes of the folders in it."""
        while _identity(self._folder) == known:
            folders = await call_in_thread(lambda: _folders_of(self._folder), abandon=True)
            if folders is None:
                self._warn(f"it has more than {MOST_FOLDERS} folders")
                await anyio.sleep(CROWDED_S)
            else:
                await self._hear(known, folders)

    async def _hear(self, known: tuple[int, int], folders: Sequence[str]) -> None:
        """Pass on hints, as long as there are the same folders.

        watchfiles could find them itself, but it goes through links, to wherever they lead, and holds the interpreter's
        lock meanwhile: one link to `/` would stop the daemon for minutes.
        """
        from watchfiles import Change, awatch

        watched = set(folders)
        is_first = True  # what changed before the watch stood is told by nobody
        async for changes in awatch(
            *folders,
            watch_filter=None,
            debounce=self._quiet_ms * LONGEST_DEBOUNCE,
            step=self._quiet_ms,
            stop_event=self._stop,
            rust_timeout=int(ABSENT_S * 1000),
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        ):
            is_same = _identity(self._folder) == known
            if changes or is_first or not is_same:
                self._due.set()
            is_first = False
            moved = {path for change, path in changes if change is not Change.modified}
            if not is_same or any(path in watched or _is_folder(path) for path in moved):
                return


def _folders_of(folder: Path) -> list[str] | None:
    """Return the folder and those in it, without those behind links; None if they are too many. Blocks."""
    found = [os.fspath(folder)]
    for path in found:
        try:
            with os.scandir(path) as entries:
                found += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        if len(found) > MOST_FOLDERS:
            return None
    return [path for path in found if _is_text(path)]


def _is_text(path: str) -> bool:
    """Tell whether watchfiles takes a path: what is in others is found by looking."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)
    except OSError:
        return None
    return found.st_dev, found.st_ino
