"""What a job has printed: head and tail, kept by the runner; and the pipes that it comes from."""

from __future__ import annotations

from .frames import STDOUT
from .output import OutputPipe
from .poller import Poller
from .primitives import deque

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable


class JobOutput:
    """Both streams of a job in the order of arrival, at most `limit` bytes: half of it head, half of it tail."""

    def __init__(self, limit: int) -> None:
        self.head = bytearray()
        self.head_limit = limit - limit // 2
        self.tail: deque[bytes] = deque()
        self.tail_limit = limit // 2
        self.tail_size = 0
        self.size = 0  # of all that came
        self.dropped = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        left = self.head_limit - len(self.head)
        if left:
            self.head += data[:left]
            data = data[left:]
        if not data:
            return
        self.tail.append(data)
        self.tail_size += len(data)
        # A byte at a time would cost a hundred.
        if len(self.tail) > 256 and self.tail_size < len(self.tail) * 1024:
            joined = b"".join(self.tail)
            self.tail = deque([joined])
        while self.tail_size > self.tail_limit:
            first = self.tail.popleft()
            extra = self.tail_size - self.tail_limit
            gone = min(extra, len(first))
            if gone < len(first):
                self.tail.appendleft(first[gone:])
            self.tail_size -= gone
            self.dropped += gone

    def text(self, lines: int | None = None) -> bytes:
        """Return what is kept, with a note of what is left out; or the last lines of it."""
        note = b"\n[... %d bytes left out ...]\n" % self.dropped if self.dropped else b""
        text = bytes(self.head) + note + b"".join(self.tail)
        if lines is None:
            return text
        return b"".join(text.splitlines(keepends=True)[-lines:] if lines > 0 else [])


class JobPipe(OutputPipe):
    """One stream of a job: what comes is kept, and nothing of it is sent to the host."""

    def __init__(
        self, poller: Poller, descriptor: int, kept: JobOutput, on_flood: Callable[[JobPipe], None]
    ) -> None:
        super().__init__(poller, 0, STDOUT, descriptor, 0)
        self.kept = kept
        self.on_flood = on_flood

    def on_ready(self, event: int) -> None:
        self.read_some()
        if self.kept.dropped and self.descriptor >= 0:
            self.poller.unwatch(self.descriptor)
            self.on_flood(self)

    def read_again(self) -> None:
        """Go on after a flood."""
        if self.descriptor >= 0:
            self.poller.watch(self.descriptor, self.on_ready)

    def forward(self, data: bytes) -> None:
        self.kept.add(data)
