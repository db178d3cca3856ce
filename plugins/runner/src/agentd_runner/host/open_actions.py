"""The actions that were sent and have not ended: what their tool calls belong to, and how long they take."""

from __future__ import annotations

import threading
import time
from contextvars import Context, copy_context
from functools import partial

import anyio
from agentd._concurrency.waiting import AsyncWaiter

from agentd_runner.host.call_queue import Reply

__all__ = ["OpenActions", "is_set_in_time", "is_set_in_time_sync"]


class _OpenAction:
    def __init__(self, name: str) -> None:
        self.name = name
        self.context = copy_context()
        self.calls = 0
        self.since = 0.0
        self.waited_s = 0.0


class OpenActions:
    """Those of one executor, by number. An action's clock stands still while it waits for a tool. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[int, _OpenAction] = {}

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, action: int, name: str) -> None:
        self._actions[action] = _OpenAction(name)

    def remove(self, action: int) -> None:
        self._actions.pop(action, None)

    def name(self, action: int) -> str:
        """Return what the session calls it; empty if it has ended."""
        found = self._actions.get(action)
        return found.name if found is not None else ""

    def context(self, action: int) -> Context:
        """Return a copy of the context in which it was sent: its tools run there."""
        found = self._actions.get(action)
        return found.context.copy() if found is not None else Context()

    def timed(self, action: int, reply: Reply) -> Reply:
        """Begin a call; return who answers it and ends the wait. A tool's own time-out bounds that."""
        found = self._actions.get(action)
        if found is None:
            return reply
        with self._lock:
            found.calls += 1
            if found.calls == 1:
                found.since = time.monotonic()
        return partial(self._answer, found, reply)

    def _answer(self, found: _OpenAction, reply: Reply, ok: bool, payload: bytes) -> None:
        with self._lock:
            found.calls -= 1
            if not found.calls:
                found.waited_s += time.monotonic() - found.since
        reply(ok, payload)

    def waited(self, action: int) -> tuple[float, bool]:
        """Return for how many seconds an action has waited, and whether it does so now."""
        found = self._actions.get(action)
        if found is None:
            return 0.0, False
        with self._lock:
            now_s = time.monotonic() - found.since if found.calls else 0.0
            return found.waited_s + now_s, found.calls > 0

    def left_s(self, action: int, deadline: float) -> float:
        """Return the seconds until then, and those for which it has waited on top."""
        waited_s, _ = self.waited(action)
        return deadline + waited_s - time.monotonic()


async def is_set_in_time(
    waiter: AsyncWaiter, actions: OpenActions, action: int, patience_s: float | None
) -> bool:
    """Wait for an action's end; False if that takes longer than `patience_s`, not counting its wait for tools."""
    if patience_s is None:
        await waiter.wait()
        return True
    deadline = time.monotonic() + patience_s
    while (left_s := actions.left_s(action, deadline)) > 0:
        with anyio.move_on_after(left_s) as scope:
            await waiter.wait()
        if not scope.cancelled_caught:
            return True
    return False


def is_set_in_time_sync(
    waiter: threading.Event, actions: OpenActions, action: int, patience_s: float | None
) -> bool:
    """The same for callers without an event loop."""
    if patience_s is None:
        return waiter.wait()
    deadline = time.monotonic() + patience_s
    while (left_s := actions.left_s(action, deadline)) > 0:
        if waiter.wait(left_s):
            return True
    return False
