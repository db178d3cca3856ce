"""One output stream of an action on its way to the host: head, dropped middle, tail."""

from __future__ import annotations

import os
import struct
import sys

from .frames import DROPPED, STDOUT
from .poller import Poller
from .primitives import deque

READ_SIZE = 256 * 1024
PIPE_READS = 8  # of that size take all that a pipe may hold by then


class OutputPipe:
    """One stream of an action: forwarded as it comes up to half the limit, then only its tail is kept."""

    def __init__(self, poller: Poller, ident: int, kind: int, descriptor: int, limit: int) -> None:
        self.poller = poller
        self.ident = ident
        self.kind = kind
        self.descriptor = descriptor
        self.head_left = limit - limit // 2
        self.tail_limit = limit // 2
        self.tail: deque[bytes] = deque()
        self.tail_size = 0
        self.dropped = 0
        os.set_blocking(descriptor, False)
        poller.watch(descriptor, self.on_ready)

    def on_ready(self, _event: int) -> None:
        self.read_some()

    def read_some(self) -> bool:
        """Take what is there; False at the end of the stream or when nothing is there."""
        if self.descriptor < 0:
            return False
        try:
            data = os.read(self.descriptor, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self.forward(data)
        return True

    def forward(self, data: bytes) -> None:
        """Send what is of the head; keep the rest for the tail."""
        if self.head_left:
            head = data[: self.head_left]
            self.head_left -= len(head)
            self.poller.send(self.kind, self.ident, head)
            data = data[len(head) :]
        if not data:
            return
        self.tail.append(data)
        self.tail_size += len(data)
        while self.tail and self.tail_size - len(self.tail[0]) >= self.tail_limit:
            gone = self.tail.popleft()
            self.tail_size -= len(gone)
            self.dropped += len(gone)

    def finish(self, *, goes_on: bool = False) -> int:
        """Read what is still in the pipe, then send the kept tail. Close the pipe; or, if somebody may still write into
        it, return it, -1 if nobody does."""
        reads = PIPE_READS if goes_on else sys.maxsize
        while reads and self.read_some():
            reads -= 1
        pipe = -1
        if goes_on and self.descriptor >= 0:
            self.poller.unwatch(self.descriptor)
            pipe, self.descriptor = self.descriptor, -1
        self.close()
        tail = b"".join(self.tail)
        extra = max(0, len(tail) - self.tail_limit)
        self.dropped += extra
        if self.dropped:
            stream = 1 if self.kind == STDOUT else 2
            self.poller.send(DROPPED, self.ident, struct.pack("!BQ", stream, self.dropped))
        for start in range(extra, len(tail), READ_SIZE):
            self.poller.send(self.kind, self.ident, tail[start : start + READ_SIZE])
        return pipe

    def close(self) -> None:
        if self.descriptor >= 0:
            self.poller.unwatch(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1
