"""This process as others see it: an object that it writes again and again while it lives."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from agentd_store.errors import StoreError
from agentd_store.place import ObjectPlace

__all__ = ["LEASE_S", "MAX_LEASE_S", "HolderGone", "StoreHolder", "take_as_gone"]

MAX_LEASE_S: Final = 3600.0
_MOST_BYTES: Final = 4096  # of what a process says
LEASE_S: Final = 30.0  # how long a process that says nothing is taken to be alive
_BEATS: Final = 3  # how often it says so in that time
_LOOKS: Final = 12  # how often another one looks in that time

_holders: dict[tuple[int, str], StoreHolder] = {}
log = logging.getLogger("agentd.store")

_lock = threading.Lock()
_gone: dict[str, Mapping[str, Any] | None] = {}
"""Holders that are dead, by id: what each said last; None for one whose process has ended."""


@attrs.frozen
class HolderGone:
    """A holder that is known to be dead, so that nobody has to wait for its lease once more.

    :ivar said: what it had said when its lease ran out: should it say more, it lives. None: its process has
        ended, that is certain.
    """

    id: str
    said: Mapping[str, Any] | None = None


def take_as_gone(gone: HolderGone) -> None:
    """Have all holders of this process believe what another process has seen."""
    _gone[gone.id] = gone.said


class StoreHolder:
    """One process on one store, for all conversations that it has there.

    `StoreHolder.enter` gives the one of this process; `leave` it when it is not needed any more. Whether another one is
    alive is seen by what it writes, and measured by this process's own clock that never is set: the clocks of two
    machines are not compared.
    """

    def __init__(self, place: ObjectPlace, lease_s: float) -> None:
        self.id = secrets.token_hex(12)
        self.lease_s = lease_s
        self._place = place
        self._count = 0
        self._users = 0
        self._ended = threading.Event()
        self._sure_until = 0.0
        self._unclosed: dict[str, Callable[[], object]] = {}
        self._pid = os.getpid()
        self.lapses = 0
        """How often it has said nothing for so long that others may have taken it for dead."""
        self._beat()
        self._thread = threading.Thread(target=self._run, name="agentd-store-lease", daemon=True)
        self._thread.start()

    @classmethod
    def enter(cls, place: ObjectPlace, lease_s: float) -> StoreHolder:
        """Return this process's holder of a store; there is one for each lease time."""
        key = (os.getpid(), f"{place.url} {lease_s}")
        with _lock:
            holder = _holders.get(key)
            if holder is None:
                holder = _holders[key] = cls(place, lease_s)
            holder._users += 1
            return holder

    def leave(self) -> None:
        """Say that one conversation less needs it; the last one ends it."""
        with _lock:
            self._users -= 1
            if self._users or not self.is_ours:
                return
            for key in [key for key, holder in _holders.items() if holder is self]:
                del _holders[key]
        self._ended.set()
        self._thread.join()
        try:
            self._place.remove(self._name(self.id))
        except StoreError as error:  # it says nothing any more; who has closed nothing is waited for anyway
            log.debug("%s", error)

    def close_later(self, conversation: str, close: Callable[[], object]) -> None:
        """Have a conversation closed with the next sign of life: this process does not use it any more, but could not
        say so. As long as it lives, others would wait for that.

        :param close: raises `StoreError` if it is to be tried again.
        """
        self._unclosed[conversation] = close

    def has_let_go(self, conversation: str) -> bool:
        """Tell whether this process does not use a conversation any more that others take for its."""
        return conversation in self._unclosed

    def takes_again(self, conversation: str) -> None:
        """Note that this process uses such a conversation again: nothing of it is left to be closed."""
        self._unclosed.pop(conversation, None)

    @property
    def is_ours(self) -> bool:
        """False in what a fork has made of the process."""
        return self._pid == os.getpid()

    @property
    def is_sure(self) -> bool:
        """False if this process could not say for so long that it lives that another one may have taken over."""
        return time.monotonic() < self._sure_until

    def describe(self, id: str) -> str:
        """Return which process a holder is, for people."""
        said = self._said(id)
        pid, host = str(said.get("pid"))[:20], str(said.get("host"))[:255]
        return f"process {pid} on {host}" if said and (pid + host).isprintable() else id

    def is_alive(self, id: str) -> bool:
        """Return whether a holder says anything within its lease. Blocks: until it does, or for that long."""
        return id == self.id or self.watch(id) is None

    def watch(self, id: str) -> HolderGone | None:
        """Return what is known of a holder that says nothing within its lease; None if it does. Blocks that long."""
        if id in _gone and _gone[id] is None:
            return HolderGone(id)
        first = self._said(id)
        if id in _gone and first == _gone[id]:  # it has said nothing since
            return HolderGone(id, first)
        wait_s = _lease_of(first, self.lease_s) if first else 0.0
        due = time.monotonic() + wait_s
        while first and time.monotonic() < due:
            time.sleep(wait_s / _LOOKS)
            now = self._said(id)
            if not now:
                break
            if now != first:
                return None
        _gone[id] = first
        return HolderGone(id, first)

    def _run(self) -> None:
        while not self._ended.wait(self.lease_s / _BEATS):
            try:
                self._beat()
                self._close_left()
            except StoreError:
                continue  # `is_sure` says it when it matters

    def _close_left(self) -> None:
        for conversation, close in list(self._unclosed.items()):
            close()
            if self._unclosed.get(conversation) is close:
                self._unclosed.pop(conversation, None)

    def _beat(self) -> None:
        begin = time.monotonic()
        self._count += 1
        said = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "lease_s": self.lease_s,
            "count": self._count,
        }
        self._place.write(self._name(self.id), json.dumps(said).encode())
        if 0.0 < self._sure_until < time.monotonic():
            self.lapses += 1
        self._sure_until = begin + self.lease_s

    def _said(self, id: str) -> dict[str, Any]:
        data = self._place.read(self._name(id), most=_MOST_BYTES)
        try:
            said = json.loads(data) if data is not None else {}
            return said if isinstance(said, dict) else {}
        except (ValueError, RecursionError):
            return {}

    @staticmethod
    def _name(id: str) -> str:
        return f"holders/{id}"


def _lease_of(said: dict[str, Any], default: float) -> float:
    """Return the lease that a holder says it has. Whoever writes to the store could have others wait for ever."""
    lease_s = said.get("lease_s")
    if not isinstance(lease_s, int | float) or not lease_s > 0:
        return default
    return float(min(lease_s, MAX_LEASE_S))


def _begin_in_child() -> None:
    """A forked child has none of these holders, and a thread of its parent may have had the lock."""
    global _lock
    _lock = threading.Lock()
    _holders.clear()
    _gone.clear()


os.register_at_fork(after_in_child=_begin_in_child)
