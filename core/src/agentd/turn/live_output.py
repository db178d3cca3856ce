"""Live output: from the executor's I/O thread into the event loop, decoded, in bounded memory."""

from __future__ import annotations

import codecs
import threading
from collections import deque
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter

from agentd._concurrency.waiting import LoopCaller, call_quietly
from agentd.types import ActionResult, OutputChunk, OutputStream

__all__ = ["OutputRelay"]

PENDING_BYTES = 256 * 1024
KEPT_BYTES = 64 * 1024


class OutputRelay:
    """Passes one action's output on as text, and keeps enough of it for the record if the action is cut
    short.

    `feed` is what an executor gets as `on_output`: any thread, never blocks. What arrives between two turns
    of the loop is passed on in one piece per stream. If the reader cannot keep up, at most 256 KiB wait for
    it; what comes on top is left out of the live output (never of the result) with a note.

    :param show: called in the loop with the text and its stream.
    :param is_full: says that the reader is behind; then output waits for the next chunk or the action's end.
    """

    def __init__(
        self, call: LoopCaller, show: Callable[[str, OutputStream], None], is_full: Callable[[], bool]
    ) -> None:
        self._call = call
        self._show = show
        self._is_full = is_full
        self._lock = threading.Lock()
        self._pending: list[OutputChunk] = []
        self._pending_bytes = 0
        self._skipped_bytes = 0
        self._scheduled = False
        self._decoders: dict[OutputStream, codecs.IncrementalDecoder] = {}
        self._head: list[OutputChunk] = []
        self._tail: deque[OutputChunk] = deque()
        self._head_bytes = self._tail_bytes = self._lost_bytes = 0

    def feed(self, chunk: OutputChunk) -> None:
        """Take a chunk, from any thread."""
        with self._lock:
            self._keep(chunk)
            if self._pending_bytes > PENDING_BYTES:
                self._skipped_bytes += len(chunk.data)
                return
            self._pending.append(chunk)
            self._pending_bytes += len(chunk.data)
            if self._scheduled:
                return
            self._scheduled = True
        call_quietly(self._call, self.flush)

    def _keep(self, chunk: OutputChunk) -> None:
        size = len(chunk.data)
        if self._head_bytes < KEPT_BYTES:
            self._head.append(chunk)
            self._head_bytes += size
            return
        self._tail.append(chunk)
        self._tail_bytes += size
        while self._tail_bytes - len(self._tail[0].data) >= KEPT_BYTES:
            lost = len(self._tail.popleft().data)
            self._tail_bytes -= lost
            self._lost_bytes += lost

    def flush(self, *, last: bool = False) -> None:
        """Show what has arrived; in the loop. `last` also shows what is left of a broken character."""
        if not last and self._is_full():
            with self._lock:
                self._scheduled = False
            return
        with self._lock:
            chunks, self._pending = self._pending, []
            skipped, self._skipped_bytes = self._skipped_bytes, 0
            self._pending_bytes = 0
            self._scheduled = False
        for stream, group in groupby(chunks, key=attrgetter("stream")):
            self._decode(stream, b"".join(chunk.data for chunk in group))
        if skipped:
            self._decode("stdout", b"\n[... %d bytes are not shown live ...]\n" % skipped)
        if last:
            for stream in list(self._decoders):
                self._decode(stream, b"", final=True)

    def _decode(self, stream: OutputStream, data: bytes, *, final: bool = False) -> None:
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        if text := decoder.decode(data, final):
            self._show(text, stream)

    def partial(self, message: str) -> ActionResult:
        """Return what is known of an action that was cut short."""
        with self._lock:
            return ActionResult(
                status="cancelled",
                exit_code=130,
                chunks=(*self._head, *self._tail),
                dropped_bytes=self._lost_bytes,
                message=message,
            )
