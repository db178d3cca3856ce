"""The log of a conversation: entries with consecutive numbers, each created once.

Whoever creates the next one first has the conversation. So nobody needs a clock, and a process that was taken over
finds out at the latest when it writes. Old entries are removed from the first one on, so an entry counts if the one
before it is there.
"""

from __future__ import annotations

import logging
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec
from agentd.errors import ConfigError

from agentd_store.checking import LONGEST, check_entry, is_conversation
from agentd_store.errors import ConversationInUseError, LeaseLostError, StoreError
from agentd_store.holder import StoreHolder
from agentd_store.objects import Hold
from agentd_store.place import ObjectPlace
from agentd_store.records import ConversationState, LogEntry
from agentd_store.seal import ObjectSeal

__all__ = ["CheckpointLog", "check_conversation", "conversations_of"]

log: Final = logging.getLogger("agentd.store")
STATE_EVERY: Final = 32
_READERS: Final = 8
_FOLDER: Final = "conversations"
_NUMBER: Final = re.compile("[0-9]{10}")
_MAX_NUMBER: Final = 9_999_999_999
_TRIES: Final = 20
_PAUSE_S: Final = 0.1


def check_conversation(name: str) -> str:
    """Return a conversation's name.

    :raises ConfigError: if it is no name.
    """
    if not isinstance(name, str) or not is_conversation(name):
        raise ConfigError(
            f"conversation {str(name)[:60]!r}: must have 1 to {LONGEST} letters, digits, '.', '_' or '-', and begin "
            "with a letter or a digit"
        )
    return name


def conversations_of(place: ObjectPlace) -> list[str]:
    """Return the names of all conversations of a store."""
    names = {name.split("/")[1] for name in place.names(_FOLDER)}
    return sorted(name for name in names if is_conversation(name))


class _EntryLostError(StoreError):
    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class CheckpointLog:
    """The log of one conversation, and this process's hold on it.

    :param conversation: its name.
    """

    def __init__(self, place: ObjectPlace, seal: ObjectSeal, conversation: str) -> None:
        self.conversation = check_conversation(conversation)
        self._place = place
        self._seal = seal
        self._folder = f"{_FOLDER}/{self.conversation}/log"
        self.last = 0
        self._sure = 0  # the newest entry of which it is certain that it stands in its order
        self.state = ConversationState()
        self.holder = ""  # ours, while it is open
        self.token = 0
        self._pid = 0

    @property
    def hold(self) -> Hold:
        """This process's hold on it, as pins are named."""
        return self.conversation, self.token

    @property
    def is_held(self) -> bool:
        """True while this process has it, as far as it knows. What a fork has made has none of its parent's."""
        return bool(self.holder) and self._pid == os.getpid()

    def is_still_held(self) -> bool:
        """Look whether nobody has taken it over."""
        if self.is_held and self.read().token != self.token:
            self.holder = ""
        return self.is_held

    # --- reading

    def read(self) -> ConversationState:
        """Read what is new, and return the state."""
        while True:
            listed = [number for number in self._numbers() if number > self.last]
            try:
                return self._read(listed)
            except _EntryLostError as error:
                if error.number not in listed or error.number in self._numbers():
                    raise
                # It was removed meanwhile: the conversation is being forgotten, or this reader was slow.

    def _read(self, listed: list[int]) -> ConversationState:
        begin = max((number for number in listed if number % STATE_EVERY == 0), default=self.last + 1)
        # A folder that somebody writes to while it is listed may leave one out and name the next.
        new = range(begin, max(listed, default=begin - 1) + 1)
        if len(new) > len(listed) + STATE_EVERY:
            raise StoreError(f"the store {self._place.url!r} has lost entries of {self._folder!r}")
        with ThreadPoolExecutor(max(1, min(_READERS, len(new)))) as pool:
            for number, entry in zip(new, pool.map(self._entry, new), strict=True):
                self._take(number, entry)
                self._sure = number
        return self.state

    def _numbers(self) -> list[int]:
        """Return the numbers of the entries that are listed; what else lies there is not ours."""
        names = (name.rpartition("/")[2] for name in self._place.names(self._folder))
        return [int(name) for name in names if _NUMBER.fullmatch(name)]

    def _entry(self, number: int) -> LogEntry:
        name = self._name(number)
        data = self._place.read(name)
        if data is None:
            raise _EntryLostError(f"the store {self._place.url!r} has lost {name!r}, which it lists", number)
        try:
            entry = msgspec.msgpack.decode(self._seal.open(name, data), type=LogEntry)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise StoreError(f"the object {name!r} is damaged: {error}") from None
        if number % STATE_EVERY == 0 and entry.state is None:
            raise StoreError(f"the object {name!r} is damaged: it does not say what is before it")
        return check_entry(name, entry)

    def _take(self, number: int, entry: LogEntry) -> None:
        if entry.state is not None:
            self.state = entry.state
        self.state.take(number, entry)
        self.last = number

    def _name(self, number: int) -> str:
        return f"{self._folder}/{number:010d}"

    # --- writing

    def open(self, holder: StoreHolder) -> ConversationState:
        """Take the conversation, if nobody has it who is alive.

        :raises ConversationInUseError: if somebody has.
        """
        tries = 0
        while True:
            state = self.read()
            is_left = state.holder == holder.id and holder.has_let_go(self.conversation)
            if state.holder and not is_left and holder.is_alive(state.holder):
                raise ConversationInUseError(self.conversation, holder.describe(state.holder))
            seen, tries = self.last, tries + 1
            if self._create(LogEntry("opened", holder.id)):
                self.holder, self.token, self._pid = holder.id, self.last, os.getpid()
                holder.takes_again(self.conversation)
                return self.state
            self.read()
            if self.last == seen:  # a server may refuse two at the same moment, of which neither is written
                if tries > _TRIES:
                    raise StoreError(f"the object {self._name(seen + 1)!r} is neither written nor listed")
                time.sleep(_PAUSE_S)

    def append(self, entry: LogEntry) -> None:
        """Write the next entry.

        :raises LeaseLostError: if somebody else has taken the conversation.
        """
        if not self.is_held:
            raise LeaseLostError(self.conversation, "it is not open here")
        entry.holder, entry.token = self.holder, self.token
        # Whoever has read what another one has written must not write behind it.
        if self.state.token != self.token or not self._create(entry):
            self.holder = ""
            self.read()
            raise LeaseLostError(
                self.conversation, f"entry {self.last} of its log is by {self.state.holder or 'another'}"
            )

    def close(self) -> None:
        """Let it go."""
        self.append(LogEntry("closed", self.holder))
        self.holder = ""

    def forget(self) -> None:
        """Close it, and leave nothing of it but its last entry, behind which a process that was cut off cannot write.

        It must be open here, and have no checkpoints any more."""
        while (self.last + 1) % STATE_EVERY:
            self.append(LogEntry("deleted", self.holder))
        self.close()  # by an entry that says what is before it: nothing
        self._remove_before(self.last)

    def trim(self) -> int:
        """Remove the entries that no reader needs, also none who began a while ago; return how many."""
        self.read()
        return self._remove_before((self.last // STATE_EVERY - 1) * STATE_EVERY)

    def _remove_before(self, number: int) -> int:
        old = [one for one in self._numbers() if one < number]
        for one in sorted(old):  # see `_create`
            self._place.remove(self._name(one))
        return len(old)

    def evict(self) -> bool:
        """Close it in the place of a holder that is dead; False if somebody was faster."""
        return self._create(LogEntry("closed", ""))

    def _create(self, entry: LogEntry) -> bool:
        number = self.last + 1
        if number > _MAX_NUMBER:
            raise StoreError(f"the log {self._folder!r} is damaged: no entry can come after {self.last}")
        if number % STATE_EVERY == 0:
            entry.state = msgspec.msgpack.decode(msgspec.msgpack.encode(self.state), type=ConversationState)
        name = self._name(number)
        if not self._place.create(name, self._seal.close(name, msgspec.msgpack.encode(entry))):
            return False
        try:
            is_next = not self._sure or self._place.has(self._name(self._sure))
        except StoreError as error:  # the entry is written; the next one finds out
            log.debug("%s", error)
        else:
            if not is_next:
                # Entries go in their order: the log has gone on, and those of then were removed.
                self._place.remove(name)
                return False
            self._sure = number
        self._take(number, entry)
        return True
