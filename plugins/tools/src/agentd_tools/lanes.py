"""How many blocking calls of one tool set run at once."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from agentd_tools.threads import tool_pool

if TYPE_CHECKING:
    from agentd_tools.call import PendingCall

__all__ = ["Lanes"]


class Lanes:
    """Lets at most `limit` blocking calls of one set into the pool; the rest wait in order."""

    def __init__(self, limit: int) -> None:
        self._limit = self._free = limit
        self._lock = threading.Lock()
        self._waiting: deque[PendingCall] = deque()

    def anew(self) -> Lanes:
        """Return as many, all of them free."""
        return Lanes(self._limit)

    def start(self, call: PendingCall) -> None:
        """Have the pool run a call, now or when its turn has come."""
        with self._lock:
            if call.answered:  # its time was up meanwhile
                return
            if self._free <= 0:
                self._waiting.append(call)
                return
            self._free -= 1
            call.has_lane = True
        tool_pool.submit(call)

    def take(self, call: PendingCall) -> bool:
        """Give a lane to a call that the caller runs itself, if it is not answered yet; False if none is free."""
        with self._lock:
            if self._free <= 0:
                return call.answered
            if not call.answered:
                self._free -= 1
                call.has_lane = True
            return True

    def release(self, call: PendingCall) -> None:
        """Take back the lane of an answered call, if it had one, and give it to the next that waits."""
        following = None
        with self._lock:
            call.answered = True
            if not call.has_lane:
                return
            while self._waiting and following is None:
                candidate = self._waiting.popleft()
                following = None if candidate.answered else candidate
            if following is None:
                self._free += 1
            else:
                following.has_lane = True
        if following is not None:
            tool_pool.submit(following)
