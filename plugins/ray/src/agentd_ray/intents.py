"""What calls of a turn were begun that must not be made twice: written to the store before each of them."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any, Final

import attrs
from agentd_store import StoreError
from agentd_store.opened import OpenedStore

__all__ = ["CallIntent", "CallIntents"]

_FOLDER: Final = "intents"
_ARGUMENT_CHARS: Final = 2000


@attrs.frozen(kw_only=True)
class CallIntent:
    """A call that was begun.

    :ivar after: the newest checkpoint when it was begun; a newer one has its result.
    :ivar is_held: the turn that it belongs to was lost: it may have been done, and nobody has said what is to happen.
    """

    object: str
    tool: str
    arguments: str
    after: str
    host: str
    at: float
    is_held: bool = False

    def __str__(self) -> str:
        when = time.strftime("%H:%M:%S UTC", time.gmtime(self.at))
        return f"{self.tool}({self.arguments[:300]}) was begun at {when} on {self.host}"


class CallIntents:
    """Those of one conversation. Blocking; from any thread.

    :param store: where the conversation is.
    """

    def __init__(self, store: OpenedStore, conversation: str) -> None:
        self._store = store
        self._folder = f"{_FOLDER}/{conversation}"
        self._lock = threading.Lock()
        self._count = 0
        self._begun: list[CallIntent] = []
        self.held: list[CallIntent] = []

    def take_up(self, newest: str) -> None:
        """Look what an earlier host has left: what no checkpoint has the result of is held.

        :param newest: the id of the newest checkpoint; empty if there is none.
        """
        for name in self._store.place.names(self._folder):
            intent = self._read(name)
            if intent is None:
                continue
            if not intent.is_held and intent.after != newest:
                self._store.place.remove(name)
                continue
            if not intent.is_held:  # a second loss must not forget it, whatever is kept until then
                intent = attrs.evolve(intent, is_held=True)
                self._write(intent)
            self.held.append(intent)

    def begin(self, tool: str, content: bytes, newest: str) -> None:
        """Keep that a call is begun. Raises `StoreError`: it must not be made then."""
        with self._lock:
            self._count += 1
            number = self._count
        intent = CallIntent(
            object=f"{self._folder}/{time.time_ns():020d}-{number:06d}",
            tool=tool,
            arguments=_readable(content),
            after=newest,
            host=socket.gethostname(),
            at=time.time(),
        )
        self._write(intent)
        with self._lock:
            self._begun.append(intent)

    def held_for(self, tool: str, content: bytes) -> CallIntent | None:
        """Return a call of this tool that may have been done already: one with the same arguments, if there is one."""
        arguments = _readable(content)
        with self._lock:
            mine = [intent for intent in self.held if intent.tool == tool]
        return next((i for i in mine if i.arguments == arguments), mine[0] if mine else None)

    def resolve(self, intent: CallIntent) -> None:
        """Forget one that somebody has decided about."""
        with self._lock:
            if intent in self.held:
                self.held.remove(intent)
        self._store.place.remove(intent.object)

    def settle(self) -> None:
        """Forget all: the run has ended, and what it did is kept."""
        with self._lock:
            old, self._begun, self.held = [*self._begun, *self.held], [], []
        for intent in old:
            self._store.place.remove(intent.object)

    def _write(self, intent: CallIntent) -> None:
        data = json.dumps(attrs.asdict(intent)).encode()
        self._store.place.write(intent.object, self._store.seal.close(intent.object, data))

    def _read(self, name: str) -> CallIntent | None:
        data = self._store.place.read(name)
        if data is None:
            return None
        try:
            said: dict[str, Any] = json.loads(self._store.seal.open(name, data))
            return CallIntent(**{**said, "object": name})
        except (ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"the object {name!r} is damaged: {error!r:.200}") from None


def _readable(content: bytes) -> str:
    return content.decode("utf-8", "replace")[:_ARGUMENT_CHARS]
