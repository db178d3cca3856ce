"""Which descriptors are ready: the same by epoll as by `selectors`."""

from __future__ import annotations

import os
import select
import selectors
import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest
from agentd_runner.host.readiness import MAX_MISSES, EpollReadiness, Readiness

NO_EPOLL = pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's")
KINDS = [Readiness, pytest.param(EpollReadiness, marks=NO_EPOLL)]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def called(_events: int) -> None:
    raise AssertionError("who waits calls")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("events", [selectors.EVENT_READ, selectors.EVENT_WRITE, 3])
def test_only_what_is_waited_for_is_told(
    kind: type[Readiness], events: int, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    number = near.fileno()
    ready = kind()
    ready.watch(number, selectors.EVENT_READ, print)
    ready.watch(number, events, called)  # replaces that
    far.send(b"x")
    assert ready.wait() == [(number, called, events)]
    near.recv(1)
    if events & selectors.EVENT_WRITE:
        assert ready.wait() == [(number, called, selectors.EVENT_WRITE)]
    far.close()
    assert ready.wait() == [(number, called, events)]  # an end concerns whoever waits for anything
    other, writer = os.pipe()
    ready.forget(number)
    ready.forget(number)
    ready.watch(other, selectors.EVENT_READ, called)
    os.write(writer, b"x")
    assert ready.wait() == [(other, called, selectors.EVENT_READ)]
    ready.forget(other)
    os.close(other)
    os.close(writer)


@NO_EPOLL
def test_staying_awake_in_vain_makes_it_rare_and_one_hit_makes_it_usual_again(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    near, far = pair
    ready = EpollReadiness()
    looks: list[bool] = []
    real = ready._epoll

    class Looking:
        """epoll, which has something only when it is waited for, as on a busy machine."""

        finds_at_once = False

        def poll(self, timeout: float, count: int) -> list[tuple[int, int]]:
            if timeout == 0 and not self.finds_at_once:
                looks.append(True)
                return []
            return real.poll(timeout, count)

    looking = Looking()
    ready.watch(near.fileno(), selectors.EVENT_READ, called)
    far.send(b"x")
    ready._epoll = looking  # type: ignore[assignment]
    awake = []
    for _ in range(600):
        looks.clear()
        assert ready.wait(1e-9)
        awake.append(bool(looks))
    those = [number for number, was in enumerate(awake) if was]
    gaps = [later - earlier - 1 for earlier, later in pairwise(those)]
    assert gaps[:MAX_MISSES] == [1, 3, 7, 15, 31, 63]
    assert set(gaps[MAX_MISSES:]) == {63}
    looking.finds_at_once = True
    for _ in range(2**MAX_MISSES):
        assert ready.wait(1e-9)
    looking.finds_at_once = False
    looks.clear()
    assert ready.wait(1e-9)
    assert looks
