"""The runner's descriptors: who is told when one is ready, and the frames that are on their way to the host."""

from __future__ import annotations

import os
import select
import time

from .frames import HEADER
from .primitives import to_json
from .timings import SPIN_S

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable


class Poller:
    """What sockets and outputs need: watch, unwatch, send."""

    def __init__(self, descriptor_in: int, descriptor_out: int) -> None:
        self.descriptor_in = descriptor_in
        self.descriptor_out = descriptor_out
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.outbox: list[bytes] = []
        self.spin_until = 0.0

    def watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        """Call `handler` with the event whenever there is something to read."""
        self.handlers[descriptor] = handler
        self.poll.register(descriptor, select.POLLIN)

    def change_events(self, descriptor: int, events: int) -> None:
        """Watch for other events than those to read."""
        self.poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        if self.handlers.pop(descriptor, None) is not None:
            self.poll.unregister(descriptor)

    def send(self, kind: int, ident: int, payload: bytes) -> None:
        """Put a frame into the outbox."""
        self.outbox.append(HEADER.pack(len(payload), kind, ident))
        self.outbox.append(payload)

    def send_json(self, kind: int, ident: int, value: object) -> None:
        self.send(kind, ident, to_json(value))

    def flush(self) -> None:
        """Write the outbox to the host. Raises `BrokenPipeError` if it has gone.

        A host that holds too much of this session reads on when we have taken its answers. So what it sends is taken
        meanwhile, and nothing else: the code's calls wait in their sockets.
        """
        while self.outbox:
            data = memoryview(b"".join(self.outbox))
            self.outbox.clear()
            while data:
                try:
                    data = data[os.write(self.descriptor_out, data) :]
                except BlockingIOError:
                    self.wait_for_host()

    def wait_for_host(self) -> None:
        handler = self.handlers.get(self.descriptor_in)
        host = select.poll()
        host.register(self.descriptor_out, select.POLLOUT)
        if handler is None:  # it has said that this is the end
            raise BrokenPipeError
        host.register(self.descriptor_in, select.POLLIN)
        for descriptor, event in host.poll():
            if descriptor == self.descriptor_in:
                handler(event)

    def spin(self) -> None:
        """Look for events without sleeping for a moment from now on."""
        self.spin_until = time.perf_counter() + SPIN_S

    def wait(self, timeout_ms: Callable[[], int | None]) -> list[tuple[int, int]]:
        """Wait for events. Just after an answer, the next call is likely to come within microseconds: look
        for it a moment before going to sleep, for being woken takes longer than all else on an idle machine."""
        while self.spin_until:
            events = self.poll.poll(0)
            if events:
                return events
            if time.perf_counter() > self.spin_until:
                self.spin_until = 0.0
            else:
                os.sched_yield()
        return self.poll.poll(timeout_ms())

    def handle(self, events: list[tuple[int, int]]) -> None:
        """Tell each event to whoever watches its descriptor by then."""
        for descriptor, event in events:
            handler = self.handlers.get(descriptor)
            if handler is not None:
                handler(event)
