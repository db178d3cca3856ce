"""The journal of a map: what its tasks have come to, in a store, so that a second run goes on where the first one died.

    maps/NAME/log/0000000001        entries with consecutive numbers, each created once

An entry is `opened` (with the tasks, if they are others than before), `results`, or `closed`. Whoever creates the next
one first has the map: a driver that was taken over finds out with its next result. Results that come while an entry is
written go into the next one together, so that a thousand sessions do not wait for a thousand requests one by one.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import anyio
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ConfigError
from agentd_store.errors import StoreError
from agentd_store.holder import LEASE_S, StoreHolder
from agentd_store.opened import open_store

from agentd_ray.map_records import JournalEntry, ResultRecord

if TYPE_CHECKING:
    from agentd_ray.map_tasks import MapTask

__all__ = ["MapInUseError", "MapJournal", "MapTakenOverError"]

_FOLDER: Final = "maps"
_NUMBER: Final = re.compile("[0-9]{10}")
_READERS: Final = 16
_TRIES: Final = 4  # of an entry that the store does not take
_OPENINGS: Final = 20  # times that another process may be faster
_PAUSE_S: Final = 0.5  # before the second one; twice as long before each further one


class MapInUseError(StoreError):
    """A map of this name runs in another process, which is alive."""

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(
            f"the map {name!r} runs in another process ({holder}): wait for its end, end it, or choose another name"
        )
        self.name = name


class MapTakenOverError(AgentdError):
    """Another process has begun the map of this name, as this one seemed to be dead. This one ends."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the map {name!r} was taken over by another process: this one ends; begin it again to go on"
        )
        self.name = name


class MapJournal:
    """The journal of one map, and this process's hold on it. `open` it first; blocking, but for `add`.

    :ivar results: what is known of tasks, by their ids: the newest.
    :param url: of the store; made if it is not there.
    :param lease_s: how long this process is taken to be alive without a sign of it.
    :raises ConfigError: for a URL or options that cannot be meant; `StoreError` if the store cannot be reached.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        key: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        store = open_store(url, key=key, storage_options=storage_options)
        self.name = name
        self.results: dict[str, ResultRecord] = {}
        self._place, self._seal = store.place, store.seal
        self._folder = f"{_FOLDER}/{name}/log"
        self._tasks: dict[str, str] = {}  # digests, by id
        self._last = self._token = self._seen_token = 0
        self._seen_holder = ""
        self._lease_s = lease_s
        self._holder: StoreHolder | None = None
        self._waiting: list[tuple[ResultRecord, anyio.Event]] = []
        self._writing: anyio.Lock | None = None

    # --- to open and to close

    def open(self, tasks: Sequence[MapTask], *, changed: str = "refuse") -> None:
        """Read what there is, and take the map.

        :param changed: `allow`: the tasks may be others than those that the map was begun with.
        :raises ConfigError: if they are others, with what has changed.
        :raises MapInUseError: if another process has it. That takes up to its lease to find out.
        """
        self._holder = StoreHolder.enter(self._place, self._lease_s)
        try:
            for tried in range(_OPENINGS):
                time.sleep(_PAUSE_S if tried > 1 else 0.0)
                self.read()
                if self._seen_holder and self._holder.is_alive(self._seen_holder):
                    raise MapInUseError(self.name, self._holder.describe(self._seen_holder))
                now = {task.id: task.digest for task in tasks}
                if self._tasks and now != self._tasks and changed != "allow":
                    raise ConfigError(self._difference(now))
                entry = JournalEntry("opened", self._holder.id, nonce=secrets.token_hex(8))
                entry.tasks = None if now == self._tasks else now
                if self._create(entry):
                    self._token = self._last
                    return
            raise StoreError(f"the object {self._name(self._last + 1)!r} is neither written nor listed")
        except BaseException:
            self._leave()
            raise

    def close(self) -> None:
        """Let the map go. May be called again; raises `StoreError` if that cannot be said."""
        if self._holder is None:
            return
        try:
            if self._seen_token == self._token:
                self._create(JournalEntry("closed", self._holder.id, token=self._token))
        finally:
            self._leave()

    def _leave(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.leave()

    def _difference(self, now: Mapping[str, str]) -> str:
        added, gone = [id for id in now if id not in self._tasks], [id for id in self._tasks if id not in now]
        other = [id for id in now if self._tasks.get(id, now[id]) != now[id]]
        kinds = (("are new", added), ("are gone", gone), ("say something else", other))
        said = [f"{len(ids)} {what} (such as {ids[0]!r:.60})" for what, ids in kinds if ids]
        return (
            f"map {self.name!r}: was begun with {len(self._tasks)} tasks, and these are others: {'; '.join(said)}. "
            "Give the tasks that it was begun with, another name, or changed='allow', which takes the answers of those "
            "that are the same and asks the others"
        )

    # --- results

    def known(self, task: MapTask) -> ResultRecord | None:
        """Return what is known of a task; nothing of another one that had its id."""
        record = self.results.get(task.id)
        return record if record is not None and record.digest == task.digest else None

    async def add(self, record: ResultRecord) -> None:
        """Keep a result; it is in the store when this returns.

        :raises MapTakenOverError: if another process has the map.
        :raises StoreError: if the store cannot be written.
        """
        if self._writing is None:
            self._writing = anyio.Lock()
        written = anyio.Event()
        self._waiting.append((record, written))
        async with self._writing:
            if written.is_set():
                return
            batch, self._waiting = self._waiting, []
            with anyio.CancelScope(shield=True):  # half a result would be asked for again
                await call_in_thread(lambda: self._append([one for one, _ in batch]), unbounded=True)
            for _, event in batch:
                event.set()

    def _append(self, records: list[ResultRecord]) -> None:
        if self._holder is None or self._seen_token != self._token:
            raise MapTakenOverError(self.name)
        entry = JournalEntry("results", self._holder.id, token=self._token, results=records)
        sealed = self._sealed(entry)  # once: by this, a second try knows what the first one has written
        for number in range(_TRIES):
            try:
                if not self._create(entry, sealed):
                    raise MapTakenOverError(self.name)
                return
            except StoreError:
                if number == _TRIES - 1:
                    raise
                time.sleep(_PAUSE_S * 2**number)

    # --- the log

    def read(self) -> None:
        """Take in what is new."""
        names = (name.rpartition("/")[2] for name in self._place.names(self._folder))
        listed = sorted(int(name) for name in names if _NUMBER.fullmatch(name))
        new = range(self._last + 1, max(listed, default=0) + 1)
        if missing := set(new) - set(listed):
            raise StoreError(
                f"the store {self._place.url!r} has lost {self._name(min(missing))!r} of the map {self.name!r}"
            )
        with ThreadPoolExecutor(max(1, min(_READERS, len(new)))) as pool:
            for number, entry in zip(new, pool.map(self._entry, new), strict=True):
                self._take(number, entry)

    def _entry(self, number: int) -> JournalEntry:
        name = self._name(number)
        data = self._place.read(name)
        if data is None:
            raise StoreError(f"the store {self._place.url!r} has lost {name!r}, which it has listed")
        return JournalEntry.decode(name, self._seal.open(name, data))

    def _sealed(self, entry: JournalEntry) -> bytes:
        return self._seal.close(self._name(self._last + 1), entry.encode())

    def _create(self, entry: JournalEntry, sealed: bytes | None = None) -> bool:
        number = self._last + 1
        sealed = sealed or self._sealed(entry)
        name = self._name(number)
        # An earlier try may have written it, though the store did not confirm it.
        if not self._place.create(name, sealed) and self._place.read(name) != sealed:
            return False
        self._take(number, entry)
        return True

    def _take(self, number: int, entry: JournalEntry) -> None:
        self._last = number
        if entry.kind == "opened":
            self._seen_holder, self._seen_token = entry.holder, number
        elif entry.kind == "closed":
            self._seen_holder = ""
        if entry.tasks is not None:
            self._tasks = entry.tasks
        # What was written behind the back of a newer one counts for nothing.
        if entry.token == self._seen_token:
            self.results.update((record.id, record) for record in entry.results)

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:010d}"
