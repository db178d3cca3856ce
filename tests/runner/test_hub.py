"""The I/O thread: whose callback is called for which descriptor."""

from __future__ import annotations

import os
import selectors
import threading

from agentd_runner.host.hub import Hub


def test_a_descriptor_that_another_callback_has_closed_is_not_read_although_it_was_ready_as_well() -> None:
    """Its number may belong to a new pipe by then: a read of that would block the thread of all sessions."""
    hub = Hub()
    pipes = [os.pipe(), os.pipe()]
    called: list[int] = []
    first, done = threading.Event(), threading.Event()

    def close_the_other(mine: int) -> None:
        other = 1 - mine
        called.append(mine)
        first.set()
        hub.forget(pipes[other][0], lambda: os.close(pipes[other][0]))
        hub.forget(pipes[mine][0], lambda: os.close(pipes[mine][0]))

    def begin() -> None:  # in the hub's thread: both become ready in one round
        for number, (read, write) in enumerate(pipes):
            os.write(write, b"x")
            hub.watch(read, selectors.EVENT_READ, lambda _events, number=number: close_the_other(number))  # type: ignore[misc]

    hub.call(begin)
    assert first.wait(5)
    hub.call(done.set)
    assert done.wait(5)
    assert len(called) == 1
    for _, write in pipes:
        os.close(write)
