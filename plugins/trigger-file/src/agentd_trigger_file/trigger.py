"""The trigger: waits until something changes, looks, and tells of what is another since the last event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError
from agentd_daemon.triggers import TriggerEvent, TriggerHost

from agentd_trigger_file.hints import ChangeHints
from agentd_trigger_file.listing import (
    FolderFiles,
    FolderListing,
    ListingChanges,
    TooManyFilesError,
    readable,
)

__all__ = ["FileTrigger", "LookFailedError"]

SHOWN: Final = 200
"""Paths of an event, of each sort; the rest is counted."""
RETRY_S: Final = 5.0


class LookFailedError(AgentdError):
    """The folder could not be looked at."""


class FileTrigger:
    """Wakes an agent when files of a folder are created, changed or deleted.

    What the operating system says of changes is only a hint to look. What counts is the listing, which is the cursor:
    so what has changed while nobody watched is seen at the next start.

    :param debounce_s: seconds of quiet before a look.
    :param poll_s: seconds between two looks without a hint.
    """

    def __init__(self, files: FolderFiles, *, debounce_s: float, poll_s: float) -> None:
        self._files = files
        self._debounce_s = debounce_s
        self._poll_s = poll_s

    async def run(self, host: TriggerHost) -> None:
        """Watch the folder; see `agentd_daemon.triggers.TriggerSource`."""
        if host.once:
            await self._tell(host)
            return
        async with ChangeHints(self._files.folder, self._debounce_s) as hints:
            seen_at, is_told = anyio.current_time(), False
            while True:
                hints.clear()  # before the look: what comes during it leads to one more
                now = anyio.current_time()
                # Without a hint, it may have happened at any time since the look before.
                age_s, is_told = (self._debounce_s if is_told else now - seen_at), False
                try:
                    await self._tell(host, age_s)
                except LookFailedError as failed:
                    host.report(str(failed))
                    await anyio.sleep(RETRY_S)
                    continue
                host.report("")
                seen_at, is_told = now, await hints.wait(self._poll_s)

    async def _tell(self, host: TriggerHost, age_s: float = 0.0) -> None:
        """Tell of what is another since the last event; it may be so old."""
        cursor, once = host.cursor, host.once
        # With many files, to read and to compare listings takes as long as to make them.
        found = await call_in_thread(lambda: self._look(cursor, once=once), abandon=True)
        if isinstance(found, TriggerEvent):
            await host.accept(attrs.evolve(found, age_s=age_s))
        elif found is not None:
            host.note(found)

    def _look(self, cursor: str | None, *, once: bool) -> TriggerEvent | str | None:
        """Return an event, or a new cursor, if the folder is another one than at `cursor`. Blocks.

        :raises LookFailedError: there are too many files, or they cannot be read.
        """
        try:
            now = self._files.look()
        except (TooManyFilesError, OSError) as error:
            raise LookFailedError(str(error)) from error
        before = FolderListing.load(cursor)
        if before is None or before.watched != now.watched:
            if not once:  # with `once`, the first look counts
                return now.dump()
            before = FolderListing(now.watched, {})
        changes = now.since(before)
        if changes:
            now = attrs.evolve(now, number=before.number + 1)
            # One number has one event: killed in between, the next start tells of all that is another by then.
            return TriggerEvent(
                id=f"{now.watched}:{now.number}",
                text=_text(self._files.folder, changes, there=now.files is not None),
                cursor=now.dump(),
                may_be_own=True,
            )
        if (now.files is None) != (before.files is None):
            return attrs.evolve(now, number=before.number).dump()
        return None


def _text(folder: Path, changes: ListingChanges, *, there: bool) -> str:
    lines = [f"Files have changed in {json.dumps(readable(str(folder)), ensure_ascii=False)}:"]
    if not there:
        lines.append("(the folder itself is gone)")
    for what, paths in attrs.asdict(changes, recurse=False).items():
        # a name may have line breaks in it
        lines += [f"{what}: {json.dumps(path, ensure_ascii=False)}" for path in paths[:SHOWN]]
        if len(paths) > SHOWN:
            lines.append(f"{what}: {len(paths) - SHOWN} more")
    return "\n".join(lines)
