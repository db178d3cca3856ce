"""What stands in the log of a conversation: its entries, and the state that they make."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

__all__ = ["CheckpointRecord", "ConversationState", "LogEntry", "PackRecord"]


class CheckpointRecord(msgspec.Struct, omit_defaults=True):
    """A checkpoint: its description, and the names of the objects that it is made of.

    `tree` are objects that make the list of its files: a whole one, and differences to be applied to it in their order.
    `tree_name` is the name of what they make. `needs` are the numbers of the packs with its contents.
    """

    id: str
    label: str | None
    turn: int
    timestamp: float
    tree: list[str]
    tree_name: str
    needs: list[int]
    attachment: str | None = None
    stats: dict[str, Any] = {}


class PackRecord(msgspec.Struct):
    """A pack of agentd-snapshots: its name, and the objects that it is cut into, in their order."""

    name: str
    parts: list[str]


class ConversationState(msgspec.Struct, omit_defaults=True):
    """What a conversation is after an entry of its log.

    `token` is the number of the entry by which the last holder has opened it; `holder` is empty once it was closed.
    """

    checkpoints: list[CheckpointRecord] = []
    packs: dict[int, PackRecord] = {}
    next_pack: int = 1
    token: int = 0
    holder: str = ""

    def take(self, number: int, entry: LogEntry) -> None:
        """Make it what it is after this entry."""
        if entry.kind == "opened":
            self.token, self.holder = number, entry.holder
        elif entry.kind == "closed":
            self.holder = ""
        if entry.deleted:
            self.checkpoints = [one for one in self.checkpoints if one.id not in entry.deleted]
        for gone in entry.packs_gone:
            self.packs.pop(gone, None)
        self.packs.update(entry.packs)
        self.next_pack = max([self.next_pack, *(new + 1 for new in entry.packs)])
        if entry.checkpoint is not None:
            self.checkpoints.append(entry.checkpoint)

    def deletion(self, ids: Collection[str]) -> LogEntry:
        """Return the entry that removes these checkpoints, and the packs that no other one needs."""
        left = [one for one in self.checkpoints if one.id not in ids]
        needed = {number for one in left for number in one.needs}
        return LogEntry("deleted", "", deleted=list(ids), packs_gone=sorted(self.packs.keys() - needed))

    def objects(self) -> set[str]:
        """Return the names of all objects that it needs."""
        found = {part for pack in self.packs.values() for part in pack.parts}
        for one in self.checkpoints:
            found.update(one.tree)
            if one.attachment is not None:
                found.add(one.attachment)
        return found


class LogEntry(msgspec.Struct, omit_defaults=True):
    """One entry: `opened`, `closed`, `checkpoint` or `deleted`, by whom (`token`: the entry that opened it for them).

    `state` is what the entries before it make, in every so many: a reader need not go back further.
    """

    kind: str
    holder: str
    token: int = 0
    checkpoint: CheckpointRecord | None = None
    packs: dict[int, PackRecord] = {}
    packs_gone: list[int] = []
    deleted: list[str] = []
    state: ConversationState | None = None

    def rename(self, names: Mapping[str, str]) -> None:
        """Have it name objects by the names that they were written under."""
        for pack in self.packs.values():
            pack.parts = [names.get(part, part) for part in pack.parts]
        if (one := self.checkpoint) is not None:
            one.tree = [names.get(part, part) for part in one.tree]
            one.attachment = None if one.attachment is None else names.get(one.attachment, one.attachment)
