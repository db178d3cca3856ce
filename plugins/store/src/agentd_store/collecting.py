"""Removing what no checkpoint needs any more, while others write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from agentd_store.holder import LEASE_S, StoreHolder
from agentd_store.log import CheckpointLog, conversations_of

if TYPE_CHECKING:
    from agentd_store.opened import OpenedStore

__all__ = ["Collected", "collect_garbage"]


@attrs.frozen
class Collected:
    """What a collection has removed: objects, entries of logs, and holds of processes that are dead."""

    objects: int
    entries: int
    holds: int


def collect_garbage(store: OpenedStore, *, lease_s: float = LEASE_S) -> Collected:
    """Remove what no checkpoint of any conversation needs. Any number of processes may write, or collect, meanwhile.

    Blocks up to the lease of a process that has died with a checkpoint half written.

    :raises StoreError: if the store cannot be read or written; what was removed until then was garbage.
    """
    holder = StoreHolder.enter(store.place, lease_s)
    try:
        unused = store.objects.names() - _needed(store)
        note = store.objects.doom(unused)
        try:
            pinned, holds = _pinned(store, holder)
            doomed = unused - pinned - _needed(store)
            store.objects.remove(doomed)
        finally:
            store.objects.forget(note)
        entries = sum(_log(store, name).trim() for name in conversations_of(store.place))
        return Collected(len(doomed), entries, holds)
    finally:
        holder.leave()


def _log(store: OpenedStore, conversation: str) -> CheckpointLog:
    return CheckpointLog(store.place, store.seal, conversation)


def _needed(store: OpenedStore) -> set[str]:
    found: set[str] = set()
    for name in conversations_of(store.place):
        found |= _log(store, name).read().objects()
    return found


def _pinned(store: OpenedStore, holder: StoreHolder) -> tuple[set[str], int]:
    """Return what those have pinned who live, and how many holds of others were ended: their next write is refused."""
    found, ended = set[str](), 0
    for hold, names in store.objects.pinned().items():
        log = _log(store, hold[0])
        state = log.read()
        holds = state.token == hold[1] and bool(state.holder)
        if holds and not holder.is_alive(state.holder) and log.evict():
            holds, ended = False, ended + 1
        if holds:
            found |= names
        else:
            store.objects.unpin(hold)
    return found, ended
