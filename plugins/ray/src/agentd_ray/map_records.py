"""What stands in the journal of a map."""

from __future__ import annotations

import msgspec
from agentd.types import Usage
from agentd_store.errors import StoreError

__all__ = ["JournalEntry", "ResultRecord"]


class ResultRecord(msgspec.Struct, omit_defaults=True):
    """What a task has come to, as `MapResult` has it; `usage` by the names of `Usage`."""

    id: str
    digest: str
    status: str
    text: str = ""
    stop_reason: str = ""
    error: str = ""
    turns: int = 0
    attempts: int = 0
    seconds: float = 0.0
    conversation: str = ""
    usage: dict[str, int | float | None] = {}

    def used(self) -> Usage:
        """Return its usage."""
        return Usage(**self.usage)  # type: ignore[arg-type]


class JournalEntry(msgspec.Struct, omit_defaults=True):
    """One entry: `opened`, `results` or `closed`, by whom (`token`: the number of the entry that opened it for them).

    `tasks` are the digests of the map's tasks by their ids, where they are others than before.
    """

    kind: str
    holder: str
    token: int = 0
    nonce: str = ""  # or two maps of one process could take each other's entry for their own
    tasks: dict[str, str] | None = None
    results: list[ResultRecord] = []

    def encode(self) -> bytes:
        """Return it as MessagePack."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, where: str, data: bytes) -> JournalEntry:
        """Return an entry.

        :param where: the object that it is from.
        :raises StoreError: if it is none.
        """
        try:
            entry = msgspec.msgpack.decode(data, type=cls)
            for record in entry.results:
                record.used()
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"the object {where!r} is damaged: {error}") from None
        return entry
