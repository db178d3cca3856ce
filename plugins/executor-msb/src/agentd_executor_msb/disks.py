"""`VmSnapshot`: the disk of a microVM as msb keeps it. The functions run in the SDK's thread.

msb's names may be a few ASCII letters, and a label is any text. So each snapshot is a group of its own in msb, with
a made-up name, and the label stands in msb's labels beside it.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable
from typing import Any, TypeVar

import attrs
from agentd.errors import ConfigError, ExecutorError, SandboxUnavailableError, UnknownSnapshotError

__all__ = ["VmSnapshot", "all_disks", "check_disk", "discard_disk", "find_disk", "keep_disk"]

LABEL = "agentd.label"
GROUP = "agentd.disk-"
CAPTURE_S = 600.0  # a disk of some GiB is copied where the file system cannot share it
_ID = re.compile(r"snap_[0-9a-f]{16,64}")
T = TypeVar("T")


@attrs.frozen
class VmSnapshot:
    """The kept disk of a microVM, without the workspace and other mounts, processes and memory.

    `id` is msb's, `image` the image under the disk, `timestamp` in seconds since the epoch.
    """

    id: str
    label: str | None
    image: str
    timestamp: float


def check_disk(wanted: VmSnapshot | str | None) -> str | None:
    """Return the id or label that an option names. :raises ConfigError: if it is neither."""
    if isinstance(wanted, VmSnapshot):
        return wanted.id
    if wanted is not None and (not isinstance(wanted, str) or not wanted.strip()):
        raise ConfigError(f"vm_snapshot: must be a VmSnapshot, its id or its label, got {wanted!r}")
    return wanted


async def keep_disk(vm_name: str, label: str | None) -> VmSnapshot:
    """Have msb keep the disk of a microVM.

    :raises SandboxUnavailableError: if msb cannot do that to this microVM, with its reason.
    """
    from microsandbox import Snapshot

    labels = {} if label is None else {LABEL: label}
    group = GROUP + secrets.token_hex(8)
    kept = await _told(
        Snapshot.create("disk", from_sandbox=vm_name, group=group, labels=labels),
        f"the disk of the microVM {vm_name!r} cannot be kept",
        SandboxUnavailableError,
    )
    return await find_disk(kept.id)


async def all_disks() -> list[VmSnapshot]:
    """All that agentd has kept here, the oldest first."""
    from microsandbox import Snapshot

    what = "the snapshots of microVMs cannot be listed"
    handles = [one for one in await _told(Snapshot.list(), what) if (one.group or "").startswith(GROUP)]
    found = [(one, await _told(one.open(), what)) for one in handles]
    return sorted((_value(one, opened.labels) for one, opened in found), key=lambda disk: disk.timestamp)


async def find_disk(wanted: str) -> VmSnapshot:
    """Return the one with this id, or the newest with this label. :raises UnknownSnapshotError: if there is none."""
    known = await all_disks()
    found = [disk for disk in known if disk.id == wanted] or [disk for disk in known if disk.label == wanted]
    if found:
        return found[-1]
    raise UnknownSnapshotError(wanted, [name for disk in known for name in (disk.id, disk.label) if name])


async def discard_disk(wanted: str) -> VmSnapshot:
    """Remove it. microVMs that were made from it keep disks of their own.

    :raises UnknownSnapshotError: if there is none; `ExecutorError` if msb refuses.
    """
    from microsandbox import Snapshot

    disk = await find_disk(wanted)
    await _told(Snapshot.remove(disk.id, force=True), f"the snapshot {disk.id} cannot be removed")
    return disk


def _value(handle: Any, labels: dict[str, str]) -> VmSnapshot:
    return VmSnapshot(
        handle.id, labels.get(LABEL), handle.image_ref, handle.created_at / 1000
    )  # from milliseconds


async def _told(work: Awaitable[T], problem: str, kind: type[ExecutorError] = ExecutorError) -> T:
    from microsandbox import MicrosandboxError

    try:
        return await asyncio.wait_for(work, CAPTURE_S)
    except (MicrosandboxError, OSError) as error:  # OSError: TimeoutError, and what is not found
        said = str(error).rstrip(".") or f"no answer within {CAPTURE_S:g} s"
        raise kind(f"{problem}: {said}") from error
