"""What a store holds, for people and programs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import UnknownSnapshotError
from agentd.selectors import pick

from agentd_store.errors import StoreError
from agentd_store.holder import LEASE_S, StoreHolder
from agentd_store.log import CheckpointLog, conversations_of
from agentd_store.objects import UPLOADS

if TYPE_CHECKING:
    from agentd_store.opened import OpenedStore
    from agentd_store.records import CheckpointRecord, ConversationState

__all__ = ["conversation_rows", "delete_checkpoints", "find_damage", "forget_conversation", "store_rows"]

_SHOWN: Final = 20


def store_rows(store: OpenedStore) -> list[dict[str, Any]]:
    """Return a row for each conversation: `conversation`, `checkpoints`, `turn`, `at` (seconds since the epoch) and
    `open` (by which process, as it was last said). One that has nothing and is not open is none."""
    rows = []
    for name in conversations_of(store.place):
        state = CheckpointLog(store.place, store.seal, name).read()
        if not state.checkpoints and not state.holder:
            continue
        last = state.checkpoints[-1] if state.checkpoints else None
        rows.append(
            {
                "conversation": name,
                "checkpoints": len(state.checkpoints),
                "turn": last.turn if last else 0,
                "at": last.timestamp if last else 0.0,
                "open": state.holder,
            }
        )
    return rows


def conversation_rows(store: OpenedStore, conversation: str) -> list[dict[str, Any]]:
    """Return a row for each checkpoint: `id`, `label`, `turn`, `at`.

    :raises StoreError: if there is no such conversation.
    """
    return [
        {"id": one.id, "label": one.label, "turn": one.turn, "at": one.timestamp}
        for one in _known(store, conversation).checkpoints
    ]


def _known(store: OpenedStore, conversation: str) -> ConversationState:
    log = CheckpointLog(store.place, store.seal, conversation)
    state = log.read()
    if not log.last:
        known = conversations_of(store.place)
        shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
        raise StoreError(
            f"there is no conversation {conversation!r} in {store.place.url!r}; there are: {shown or 'none'}"
        )
    return state


def delete_checkpoints(store: OpenedStore, conversation: str, wanted: Iterable[str]) -> None:
    """Remove checkpoints, by id, label or turn.

    :raises ConversationInUseError: if a process has the conversation that is alive.
    :raises UnknownSnapshotError: if there is none of such a name; nothing is removed then.
    """
    with _opened(store, conversation) as log:
        log.append(log.state.deletion([_chosen(log.state.checkpoints, one).id for one in wanted]))


def forget_conversation(store: OpenedStore, conversation: str) -> None:
    """Remove a conversation: its checkpoints and its log, but for an entry with nothing but its number, so that a
    process that had it and was cut off cannot go on with it. What it alone needed goes with the next collection.

    :raises ConversationInUseError: if a process has the conversation that is alive.
    :raises StoreError: if there is no such conversation.
    """
    with _opened(store, conversation) as log:
        log.append(log.state.deletion([one.id for one in log.state.checkpoints]))
        log.forget()


@contextlib.contextmanager
def _opened(store: OpenedStore, conversation: str) -> Iterator[CheckpointLog]:
    _known(store, conversation)
    holder = StoreHolder.enter(store.place, LEASE_S)
    try:
        log = CheckpointLog(store.place, store.seal, conversation)
        log.open(holder)
        try:
            yield log
        finally:
            if log.is_held:
                log.close()
    finally:
        holder.leave()


def _chosen(known: list[CheckpointRecord], wanted: str) -> CheckpointRecord:
    found = pick(wanted, known) or (pick(int(wanted), known) if wanted.isdecimal() else None)
    if found is None:
        raise UnknownSnapshotError(wanted, [name for one in known for name in (one.id, one.label) if name])
    return found


def find_damage(store: OpenedStore, progress: Callable[[int, int], None]) -> list[str]:
    """Read all that checkpoints need; return what is lost or damaged, a sentence each."""
    found, needed = [], dict[str, str]()
    for name in conversations_of(store.place):
        try:
            state = CheckpointLog(store.place, store.seal, name).read()
        except StoreError as error:
            found.append(f"conversation {name}: {error}")
            continue
        needed |= dict.fromkeys(state.objects(), name)
    with ThreadPoolExecutor(UPLOADS) as pool:
        for done, told in enumerate(pool.map(lambda one: _damage(store, one), needed), 1):
            progress(done, len(needed))
            if told is not None:
                found.append(f"conversation {needed[told[0]]}: {told[1]}")
    return found


def _damage(store: OpenedStore, name: str) -> tuple[str, str] | None:
    try:
        store.objects.get(name)
    except StoreError as error:
        return name, str(error)
    return None
