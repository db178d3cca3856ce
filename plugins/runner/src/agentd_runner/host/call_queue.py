"""The tool calls of one session on their way to its tools: begun as long as their results will find room."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from typing import Final

from agentd_runner.host.held import HeldBytes
from agentd_runner.host.hub import Hub
from agentd_runner.host.line import OnCall, Reply

__all__ = ["CallQueue"]

FEW: Final = 32  # so many blocking tools of a session may run at once
GUESS: Final = 1024 * 1024  # bytes of a result, before the first one is known

QueuedCall = tuple[int, str, bytes, Reply]


class CallQueue:
    """Begins calls at once, or when the code has read more of the answers before.

    How large a result will be, nobody knows before; so the largest of the last ones says how many calls may be under
    way.
    `begin` belongs to the hub's thread.
    """

    def __init__(self, held: HeldBytes, hub: Hub, on_call: OnCall) -> None:
        self._held = held
        self._hub = hub
        self._on_call = on_call
        self._lock = threading.Lock()
        self._under_way = 0
        self._largest = GUESS
        self._queue: deque[QueuedCall] = deque()
        held.on_read = self.go_on

    def begin(self, action: int, name: str, arguments: bytes, reply: Reply) -> None:
        """Have a call carried out, now or later."""
        with self._lock:
            if self._queue or not self._may_begin():
                self._queue.append((action, name, arguments, reply))
                return
            self._under_way += 1
        self._on_call(action, name, arguments, partial(self._reply, reply))

    def _may_begin(self) -> bool:
        limit = self._held.limit
        few = self._under_way < FEW or self._under_way * self._largest <= limit
        return few and self._held.unread <= limit

    def _reply(self, reply: Reply, ok: bool, payload: bytes) -> None:
        reply(ok, payload)
        with self._lock:
            self._under_way -= 1
            self._largest = max(len(payload), self._largest - (self._largest >> 4))
            waiting = bool(self._queue)
        if waiting:
            self.go_on()

    def go_on(self) -> None:
        """Begin what may be begun by now. From any thread."""
        if self._queue:
            self._hub.call(self._begin_more)

    def _begin_more(self) -> None:
        while True:
            with self._lock:
                if not self._queue or not self._may_begin():
                    return
                action, name, arguments, reply = self._queue.popleft()
                self._under_way += 1
            self._on_call(action, name, arguments, partial(self._reply, reply))
