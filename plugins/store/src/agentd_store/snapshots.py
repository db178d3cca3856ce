"""The snapshots of one conversation in a store, with a local store of agentd-snapshots as its cache."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentd.errors import ConfigError, UnknownSnapshotError
from agentd.selectors import Selector, pick
from agentd.statedir import user_state_dir
from agentd_snapshots import Snapshots
from agentd_snapshots.values import Snapshot

from agentd_store.checking import MAX_DELTAS
from agentd_store.delta import MAX_DELTA, make_delta
from agentd_store.errors import LeaseLostError, StoreError
from agentd_store.fetching import CacheFiller, parts_of
from agentd_store.holder import LEASE_S, MAX_LEASE_S, StoreHolder
from agentd_store.log import CheckpointLog, check_conversation
from agentd_store.opened import open_store
from agentd_store.records import CheckpointRecord, LogEntry, PackRecord

__all__ = ["StoredSnapshots"]

MAX_CHECKPOINTS: Final = 1000


class StoredSnapshots:
    """The snapshots of a conversation. Implements `agentd.protocols.SnapshotStore`.

    What is taken lies in the local cache first and counts once it is in the store as a whole; if that fails, it is gone
    here, too. One process has a conversation at a time, from the making of this object until `close`.

    :param workspace: the folder that is kept.
    :param url: the store, `conversation` the name in it.
    :param base_dir: where the cache lies; None for the user's state folder.
    :param exclude: as for `agentd_snapshots.Snapshots`.
    :param key, storage_options: see `open_store`.
    :param lease_s: how long this process is taken to be alive without a sign of it.
    :param max_checkpoints: that a conversation has; with one more, the oldest without a label is removed.
    :param durable_cache: False: what lies on this machine need not outlive a crash of the machine.
    :raises ConversationInUseError: if another process has it. That takes up to its lease to find out.
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str],
        url: str,
        conversation: str,
        *,
        base_dir: str | os.PathLike[str] | None = None,
        exclude: Sequence[str] | Callable[[], Sequence[str]] = (),
        ignore: Iterable[str] = (),
        key: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        lease_s: float = LEASE_S,
        max_checkpoints: int = MAX_CHECKPOINTS,
        durable_cache: bool = True,
    ) -> None:
        check_conversation(conversation)
        if max_checkpoints < 1:
            raise ConfigError(f"max_checkpoints: must be at least 1, got {max_checkpoints}")
        if not 1 <= lease_s <= MAX_LEASE_S:
            raise ConfigError(f"lease_s: must be 1 to {MAX_LEASE_S:g}, got {lease_s}")
        self._max_checkpoints = max_checkpoints
        self._lock = threading.RLock()
        self._store = open_store(url, key=key, storage_options=storage_options)
        self._log = CheckpointLog(self._store.place, self._store.seal, conversation)
        base = Path(base_dir) if base_dir is not None else user_state_dir() / "store"
        cache = base / self._store.seal.name_of(f"{self._store.place.url} {conversation}".encode())
        self._exclude = exclude
        self._local = Snapshots(workspace, cache, exclude=exclude, ignore=ignore, durable=durable_cache)
        self._cache = CacheFiller(self._local.store, self._store.objects, self._store.seal)
        self._holder: StoreHolder | None = StoreHolder.enter(self._store.place, lease_s)
        try:
            self._lapses = self._holder.lapses
            self._log.open(self._holder)
            self._drop_unknown()
        except BaseException:
            with contextlib.suppress(StoreError, LeaseLostError):
                self.close()
            raise

    # --- the hold

    @property
    def conversation(self) -> str:
        return self._log.conversation

    @property
    def holder_id(self) -> str:
        """The id under which this process shows that it lives; empty when it has not the conversation."""
        return self._log.holder

    @property
    def is_open(self) -> bool:
        """True while this process has the conversation, as far as it knows."""
        return self._holder is not None and self._log.is_held

    @property
    def is_sure(self) -> bool:
        """False if another process may have taken the conversation over: begin nothing that cannot be undone then."""
        holder = self._holder
        if holder is None or not self._log.is_held or not holder.is_sure:
            return False
        if self._lapses != (lapses := holder.lapses):  # it was stopped for a while, and goes on: look once
            if not self.is_still_held():
                return False
            self._lapses = lapses
        return True

    def is_still_held(self) -> bool:
        """Look into the store whether nobody has taken the conversation over. Raises `StoreError`."""
        with self._lock:
            return self._log.is_still_held()

    def close(self) -> None:
        """Let the conversation go, for the next process. May be called again.

        :raises StoreError: if that cannot be said. It is said as soon as the store can be written, if this process has
            other conversations there; else the lease runs out.
        """
        if self._holder is not None and not self._holder.is_ours:  # a fork's, whose lock may never be free
            self._holder = None
            return
        with self._lock:
            try:
                self._let_go()
            except StoreError:
                if self._holder is not None:
                    self._holder.close_later(self.conversation, self._let_go_later)
                raise
            finally:
                self._leave()

    def _let_go(self) -> None:
        if self._log.is_held:
            self._log.close()
            self._store.objects.unpin(self._log.hold)

    def _let_go_later(self) -> None:
        with contextlib.suppress(LeaseLostError):  # this process has opened it again
            self._let_go()

    def _leave(self) -> None:
        self._local.store.packs.forget()
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.leave()

    def _drop_unknown(self) -> None:
        """Remove from the cache what never came to the store as a whole."""
        known = {one.id for one in self._log.state.checkpoints}
        for id in set(self._local.store.ids()) - known:
            self._local.delete_snapshot(id, collect=False)

    # --- what a snapshot store does

    def snapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> Snapshot:
        """Keep the workspace as it is now, here and in the store.

        :raises LeaseLostError: if another process has taken the conversation over.
        :raises StoreError: if the store cannot be written; nothing of it counts then.
        """
        with self._lock:
            if not self._log.is_held:
                raise LeaseLostError(self.conversation, "it is not open here")
            known = self._log.state.checkpoints
            turn = max((one.turn for one in known), default=0) + 1 if turn is None else turn
            for one in known:  # or an id would be given twice
                if one.turn == turn:
                    self._cache.fetch_manifest(one)
            made = self._local.snapshot(label, turn=turn, attachment=attachment)
            try:
                self._send(made, attachment)
            except BaseException:
                self._local.delete_snapshot(made.id, collect=False)
                raise
            return made

    def restore(self, wanted: Selector | Snapshot) -> Snapshot:
        """Make the workspace what it was.

        :raises ConfigError: if it has files, and the cache knows of no checkpoint of this conversation there.
        """
        with self._lock:
            self._find(wanted)
            if not self._local.store.ids() and self._has_files():
                raise ConfigError(
                    f"workspace '{self._local.workspace_dir}': it has files that going on with the conversation "
                    f"{self.conversation!r} would remove, and it was never that conversation's here; "
                    "give an empty folder as cwd"
                )
            return self._local.restore(self._fetched(wanted))

    def copy_to(self, wanted: Selector | Snapshot, folder: str | os.PathLike[str]) -> Path:
        """Put a snapshot into another, empty folder."""
        with self._lock:
            return self._local.copy_to(self._fetched(wanted), folder)

    def list_snapshots(self) -> list[Snapshot]:
        """All of the conversation, the oldest first."""
        with self._lock:
            return [self._described(one) for one in self._log.state.checkpoints]

    def has_attachment(self, id: str) -> bool:
        return any(one.id == id and one.attachment is not None for one in self._log.state.checkpoints)

    def attachment(self, wanted: Selector | Snapshot) -> bytes | None:
        """What was handed over with a snapshot, or None."""
        with self._lock:
            record = self._find(wanted)
            return None if record.attachment is None else self._store.objects.get(record.attachment)

    def delete_snapshot(self, wanted: Selector | Snapshot) -> Snapshot:
        """Remove a snapshot. What no other one needs is removed from the store by a collection."""
        with self._lock:
            record = self._find(wanted)
            described = self._described(record)
            self._log.append(self._log.state.deletion([record.id]))
            self._store.objects.unpin(self._log.hold)  # the log names all that is needed
            if record.id in self._local.store.ids():
                self._local.delete_snapshot(record.id, collect=False)
            return described

    # --- the work

    def _find(self, wanted: Selector | Snapshot) -> CheckpointRecord:
        known = self._log.state.checkpoints
        found = pick(wanted.id if isinstance(wanted, Snapshot) else wanted, known)
        if found is None:
            raise UnknownSnapshotError(
                wanted, [name for one in known for name in (one.id, one.label) if name]
            )
        return found

    def _has_files(self) -> bool:
        """Tell whether the workspace has something that a restore would remove."""
        workspace = self._local.workspace_dir
        left = {".agentd", *(self._exclude() if callable(self._exclude) else self._exclude)}
        for folder, folders, files in os.walk(workspace):
            within = Path(folder).relative_to(workspace)
            folders[:] = [name for name in folders if (within / name).as_posix() not in left]
            links = [name for name in folders if (Path(folder) / name).is_symlink()]
            if links or any((within / name).as_posix() not in left for name in files):
                return True
        return False

    def _described(self, record: CheckpointRecord) -> Snapshot:
        path = self._local.store.path(record.id)
        return Snapshot(record.id, record.label, record.turn, path, record.timestamp)

    def _fetched(self, wanted: Selector | Snapshot) -> str:
        record = self._find(wanted)
        try:
            packs = [self._log.state.packs[number] for number in record.needs]
        except KeyError as error:
            raise StoreError(f"the checkpoint {record.id!r} is damaged: there is no pack {error}") from None
        self._cache.fetch(record, packs)
        return record.id

    def _send(self, made: Snapshot, attachment: bytes | None) -> None:
        """Bring a snapshot of the cache into the store: what it is made of, then the entry that names it."""
        contents, entry = dict[str, Callable[[], bytes]](), LogEntry("checkpoint", "")
        name_of, state = self._store.seal.name_of, self._log.state
        encoded = self._local.store.encoded_tree(made.id)
        chain, change = self._change_of_tree(encoded)
        if attachment is not None:
            contents[name_of(attachment)] = lambda: attachment
        contents[name_of(change)] = lambda: change
        entry.checkpoint = CheckpointRecord(
            id=made.id,
            label=made.label,
            turn=made.turn,
            timestamp=made.timestamp,
            tree=[*chain, name_of(change)],
            tree_name=name_of(encoded),
            needs=self._add_packs(made, entry, contents),
            attachment=None if attachment is None else name_of(attachment),
        )
        self._drop_oldest(entry)
        known = state.objects()
        new = {name: make for name, make in contents.items() if name not in known}
        entry.rename(self._store.objects.put(self._log.hold, new))
        self._log.append(entry)
        for id in set(entry.deleted) & set(self._local.store.ids()):
            self._local.delete_snapshot(id, collect=False)

    def _drop_oldest(self, entry: LogEntry) -> None:
        """Have the entry of a checkpoint remove the oldest ones without a label that are too many with it."""
        state, new = self._log.state, entry.checkpoint
        if new is None or (too_many := len(state.checkpoints) + 1 - self._max_checkpoints) <= 0:
            return
        gone = state.deletion([one.id for one in state.checkpoints if one.label is None][:too_many])
        entry.deleted = gone.deleted
        entry.packs_gone = sorted(set(gone.packs_gone) - set(new.needs))

    def _change_of_tree(self, encoded: bytes) -> tuple[list[str], bytes]:
        """Return which objects make the list of files of the last checkpoint, and what makes this one of that; no
        objects, and the whole, if that is as good."""
        last = next(reversed(self._log.state.checkpoints), None)
        before = None if last is None or len(last.tree) > MAX_DELTAS else self._cache.tree_here(last)
        if last is None or before is None:
            return [], encoded
        change = make_delta(before, encoded)
        return (last.tree, change) if len(change) < min(len(encoded) // 4, MAX_DELTA) else ([], encoded)

    def _add_packs(
        self, made: Snapshot, entry: LogEntry, contents: dict[str, Callable[[], bytes]]
    ) -> list[int]:
        """Return the numbers of the packs that a snapshot needs. New ones come into the entry and the contents."""
        local, state = self._local.store, self._log.state
        needed = local.packs.names_for(local.tree(made.id).digests())
        numbers = {pack.name: number for number, pack in state.packs.items()}
        for number, name in enumerate(sorted(needed - numbers.keys()), state.next_pack):
            parts = parts_of(local.packs.folder / name, self._store.seal)
            contents.update(parts)
            entry.packs[number] = PackRecord(name, [part for part, _ in parts])
            numbers[name] = number
        return sorted(numbers[name] for name in needed)
