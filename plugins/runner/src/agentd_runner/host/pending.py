"""What was asked of a runner and has not ended: who waits for it, its output so far, the tools that it waits for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

import anyio
from agentd._concurrency.waiting import AsyncWaiter
from agentd.protocols import OnOutput
from agentd.types import ActionResult, OutputChunk, OutputStream

from agentd_runner.inside import frames

__all__ = ["OpenAction", "OpenActions", "Pending", "Reply", "Waiter", "is_set_in_time", "is_set_in_time_sync"]

log = logging.getLogger("agentd.execution")

JOINED: Final = 8192  # bytes, up to which output joins the chunk before it; more would be copied twice again
MAX_CHUNKS: Final = 4096  # of one action; more than these would cost the host a multiple of what they hold

Reply = Callable[[bool, bytes], None]
"""Answers a tool call, once, from any thread: whether it went well, and JSON."""


class Waiter(Protocol):
    def set(self) -> None: ...


class KeptOutput:
    """An action's output in the order of arrival. Code that writes byte by byte costs bytes here, not objects.

    From `MAX_CHUNKS` on, output joins the newest chunk of its stream: the order within a stream stays.
    """

    def __init__(self) -> None:
        self._chunks: list[tuple[OutputStream, bytes | bytearray]] = []
        self._newest: dict[OutputStream, int] = {}

    def add(self, stream: OutputStream, data: bytes) -> None:
        chunks = self._chunks
        at = self._newest.get(stream, -1) if len(chunks) >= MAX_CHUNKS else len(chunks) - 1
        if at >= 0 and chunks[at][0] == stream:
            last = chunks[at][1]
            if len(chunks) >= MAX_CHUNKS or len(last) + len(data) <= JOINED:
                if not isinstance(last, bytearray):
                    last = bytearray(last)
                    chunks[at] = stream, last
                last += data
                return
        self._newest[stream] = len(chunks)
        chunks.append((stream, data))

    def chunks(self) -> tuple[OutputChunk, ...]:
        """Return it as a result has it."""
        chunks = self._chunks
        return tuple(OutputChunk(stream, bytes(data)) for stream, data in chunks) if chunks else ()


class Pending:
    """An action, or another request, that was sent and has not ended.

    :param ended_by: the kind of frame that ends it.
    :param output_bytes: what a healthy runner passes on of each stream, at most; more is a breach of the protocol.
    """

    def __init__(
        self,
        waiter: Waiter,
        on_output: OnOutput | None = None,
        *,
        ended_by: int = frames.EXIT,
        output_bytes: int = 0,
    ) -> None:
        self.waiter = waiter
        self.ended_by = ended_by
        self.on_output = on_output
        self.result: ActionResult | None = None
        self.outlasts = False
        """True if threads of the action go on when it has ended: those of a kept interpreter."""
        self.answer: dict[str, Any] | None = None
        """For a request that is no action: what the runner answered."""
        self.left_out = ""
        self.error: Exception | None = None
        self.kept_bytes = 0
        self._kept = KeptOutput()
        self._left = {"stdout": output_bytes, "stderr": output_bytes}
        self._cut: set[OutputStream] = set()
        self._dropped = 0
        self._refused = 0

    @property
    def has_ended(self) -> bool:
        """Whether nobody has to wait for it any more."""
        return self.result is not None or self.answer is not None or self.error is not None

    def output(self, stream: OutputStream, data: bytes, room: int) -> None:
        """Take output. What is beyond `room` bytes is shown, but not kept: other actions hold too much already."""
        if not data:
            raise frames.FrameError("output without a byte")
        self._left[stream] -= len(data)
        if self._left[stream] < 0:
            raise frames.FrameError(f"more output on {stream} than the limit allows")
        if len(data) <= room:
            self.kept_bytes += len(data)
            self._kept.add(stream, data)
        else:
            self._refused += len(data)
        self._show(stream, data)

    def drop(self, stream: OutputStream, count: int) -> None:
        """Take notice of the bytes that the runner has left out of a stream."""
        if stream in self._cut:
            raise frames.FrameError(f"what was left out of {stream} is told twice")
        self._cut.add(stream)
        self._leave_out(stream, count)

    def _leave_out(self, stream: OutputStream, count: int) -> None:
        note = b"\n[... %d bytes left out ...]\n" % count
        self._dropped += count
        self._kept.add(stream, note)
        self._show(stream, note)

    def _show(self, stream: OutputStream, data: bytes) -> None:
        if self.on_output is not None:
            try:
                self.on_output(OutputChunk(stream, data))
            except BaseException:  # the caller's own trouble: neither the runner's fault nor the I/O thread's
                log.exception("on_output of an action raised")

    def end(self, end: Mapping[str, Any]) -> None:
        if self._refused:
            self._leave_out("stdout", self._refused)
        fields = dict(end)
        self.left_out = fields.pop("left_out", "")
        self.result = ActionResult(chunks=self._kept.chunks(), dropped_bytes=self._dropped, **fields)
        self.waiter.set()

    def reply(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.waiter.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.waiter.set()

    def partial(self, message: str) -> ActionResult:
        """What there is so far, as the result of an action that was cut off."""
        return ActionResult(
            status="failed",
            exit_code=137,
            chunks=self._kept.chunks(),
            dropped_bytes=self._dropped + self._refused,
            message=message,
        )


# --- tools


class OpenAction:
    """An action: what the session calls it, the context in which it was sent, and how long it has waited for tools."""

    def __init__(self, name: str, context: Context) -> None:
        self.name = name
        self.context = context
        self.calls = 0
        self.since = 0.0
        self.waited_s = 0.0


class OpenActions:
    """Those of one executor, by number. An action's clock stands still while it waits for a tool. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[int, OpenAction] = {}

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, action: int, name: str) -> None:
        self._actions[action] = OpenAction(name, copy_context())

    def remove(self, action: int) -> OpenAction | None:
        return self._actions.pop(action, None)

    def begin_call(self, action: int) -> OpenAction:
        """Return the action, whose clock stands still until `end_call`; one without a name if it has ended.

        A tool's own time-out bounds the wait.
        """
        found = self._actions.get(action) or OpenAction("", Context())
        with self._lock:
            found.calls += 1
            if found.calls == 1:
                found.since = time.monotonic()
        return found

    def end_call(self, found: OpenAction) -> None:
        with self._lock:
            found.calls -= 1
            if not found.calls:
                found.waited_s += time.monotonic() - found.since

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
    deadline, left_s = time.monotonic() + patience_s, patience_s
    while left_s > 0:
        with anyio.move_on_after(left_s) as scope:
            await waiter.wait()
        if not scope.cancelled_caught:
            return True
        left_s = actions.left_s(action, deadline)
    return False


def is_set_in_time_sync(
    waiter: threading.Event, actions: OpenActions, action: int, patience_s: float | None
) -> bool:
    """The same for callers without an event loop."""
    if patience_s is None:
        return waiter.wait()
    deadline, left_s = time.monotonic() + patience_s, patience_s
    while left_s > 0:
        if waiter.wait(left_s):
            return True
        left_s = actions.left_s(action, deadline)
    return False
