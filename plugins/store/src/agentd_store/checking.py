"""What records of a store may hold. Whoever can write to a store without a key writes them as they like, and ids and
names in them become names of files here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Final

import msgspec
from agentd.errors import ConfigError
from agentd.selectors import check_label
from agentd_snapshots.names import check_turn
from agentd_snapshots.tree import DIGEST, KEPT_BITS, File, FileTree, Folder

from agentd_store.errors import StoreError
from agentd_store.records import CheckpointRecord, ConversationState, LogEntry, PackRecord

__all__ = ["LONGEST", "MAX_DELTAS", "check_entry", "check_tree", "is_conversation", "is_object_name"]

MAX_DELTAS: Final = 16  # differences that a list of files is made of, before it is written whole again
LONGEST: Final = 128  # name of a conversation
_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_ID: Final = re.compile(r"turn_[0-9]{4,15}(?:_[0-9]{1,15})?")
_OBJECT: Final = re.compile(r"[0-9a-f]{32}(?:-[0-9a-f]{8})?")
_PACK: Final = re.compile(r"[0-9a-f]{32}\.pack")
_HOLDER: Final = re.compile(r"[0-9A-Za-z_-]{0,64}")
_MAX_NUMBER: Final = 1 << 53
_MAX_USER: Final = (1 << 32) - 1
_MAX_SIZE: Final = 1 << 63
_MAX_TIMESTAMP: Final = 1e11  # seconds


def is_conversation(name: str) -> bool:
    """Return whether a conversation may have this name."""
    return 0 < len(name) <= LONGEST and _LETTERS.issuperset(name) and name[0] not in "._-"


def is_object_name(name: str) -> bool:
    """Return whether an object may have this name."""
    return _OBJECT.fullmatch(name) is not None


def check_entry(where: str, entry: LogEntry) -> LogEntry:
    """Return an entry of a log.

    :param where: the object that it is from.
    :raises StoreError: if it holds what no agentd writes.
    """
    try:
        _check_holder(entry.holder)
        _check_packs(entry.packs)
        if entry.checkpoint is not None:
            _check_checkpoint(entry.checkpoint)
        if entry.state is not None:
            _check_state(entry.state)
    except (ValueError, ConfigError) as error:
        raise StoreError(f"the object {where!r} is damaged: {error}") from None
    return entry


def check_tree(id: str, encoded: bytes) -> None:
    """Refuse a list of files that no agentd writes; names that lead elsewhere are refused by all who read one.

    :raises StoreError: with the reason.
    """
    try:
        tree = FileTree.decode(encoded)
        for index, folder in enumerate(tree.folders):
            names = [file.name for file in folder.files]
            if len(set(names)) < len(names) or not tree.children[index].keys().isdisjoint(names):
                raise ValueError(f"folder {index} has two entries of one name")
            _check_entry_of_tree(folder)
            for file in folder.files:
                _check_entry_of_tree(file)
                _check_file(file)
        if sum(map(len, tree.children)) != len(tree.folders) - 1:
            raise ValueError("a folder has two folders of one name")
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise StoreError(f"the checkpoint {id!r} is damaged: {error}") from None


def _check_entry_of_tree(entry: File | Folder) -> None:
    if (
        entry.mode & ~KEPT_BITS  # setuid, for one
        or not (0 <= entry.uid < _MAX_USER and 0 <= entry.gid < _MAX_USER)
        or not -_MAX_SIZE <= entry.mtime_ns < _MAX_SIZE
    ):
        raise ValueError(f"{entry.name!r:.80} has a mode, owner or time that none is kept with")


def _check_file(file: File) -> None:
    chunks, rest = divmod(len(file.digests), DIGEST)
    counts, firsts = file.runs[1::2], file.runs[::2]
    if (
        rest
        or not 0 <= file.size < _MAX_SIZE
        or len(counts) != len(firsts)
        or (file.runs and (min(counts) < 1 or sum(counts) != chunks))
        or any(first < 0 for first in firsts)
        or (file.target is not None and (not file.target or b"\0" in file.target))
    ):
        raise ValueError(f"{file.name!r:.80} is no file as they are kept")


def _check_state(state: ConversationState) -> None:
    _check_holder(state.holder)
    _check_packs(state.packs)
    _check_number("next_pack", state.next_pack)
    for one in state.checkpoints:
        _check_checkpoint(one)


def _check_holder(holder: str) -> None:
    if not _HOLDER.fullmatch(holder):
        raise ValueError(f"{holder!r:.80} is no name of a process")


def _check_packs(packs: dict[int, PackRecord]) -> None:
    for number, pack in packs.items():
        _check_number("the number of a pack", number)
        if not _PACK.fullmatch(pack.name):
            raise ValueError(f"{pack.name!r:.80} is no name of a pack")
        _check_objects(pack.parts)


def _check_checkpoint(one: CheckpointRecord) -> None:
    if not _ID.fullmatch(one.id):
        raise ValueError(f"{one.id!r:.80} is no id of a checkpoint")
    check_label(one.label)
    check_turn(one.turn)
    if not math.isfinite(one.timestamp) or abs(one.timestamp) > _MAX_TIMESTAMP:
        raise ValueError(f"the checkpoint {one.id!r} has an impossible time")
    if not 1 <= len(one.tree) <= MAX_DELTAS + 1:
        raise ValueError(f"the checkpoint {one.id!r} has a list of files of {len(one.tree)} parts")
    _check_objects([*one.tree, *([] if one.attachment is None else [one.attachment])])


def _check_objects(names: Iterable[str]) -> None:
    for name in names:
        if not _OBJECT.fullmatch(name):
            raise ValueError(f"{name!r:.80} is no name of an object")


def _check_number(what: str, number: int) -> None:
    if not 0 <= number < _MAX_NUMBER:
        raise ValueError(f"{what} cannot be {number}")
