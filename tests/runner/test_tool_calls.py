"""How many calls of one session are begun: as many as may be, or as the code reads answers."""

from __future__ import annotations

import json
import os
import threading
from typing import cast

from agentd_runner.host.connection import FREE_CALLS, READ_SIZE, Connection
from agentd_runner.host.held import HeldBytes
from agentd_runner.host.hub import Hub, shared_hub
from agentd_runner.host.pending import Reply
from agentd_runner.host.tool_calls import FEW, CallQueue
from agentd_runner.inside import frames


class SameThread:
    """A hub whose thread is this one."""

    def call(self, function: object) -> None:
        function()  # type: ignore[operator]


def make(held: HeldBytes, answers: int | None = None) -> tuple[CallQueue, list[Reply]]:
    begun: list[Reply] = []

    def on_call(_action: int, _name: str, _arguments: bytes, reply: Reply, _queue: CallQueue) -> None:
        begun.append(reply)
        if answers is not None:
            queue.end(answers)

    queue = CallQueue(held, cast(Hub, SameThread()), on_call)
    return queue, begun


def ask(queue: CallQueue, count: int) -> None:
    for _ in range(count):
        queue.begin(1, "tool", b"{}", lambda _ok, _payload: None)


def test_nothing_is_begun_while_too_much_waits_to_be_read_and_all_is_once_it_was() -> None:
    held = HeldBytes(1000)
    queue, begun = make(held, answers=1)
    held.add(1001, unread=True)
    ask(queue, 5000)
    assert begun == []
    held.give(1, unread=True)
    assert len(begun) == 5000  # one after the other: each was answered while the one before was begun


def test_large_results_let_few_calls_be_under_way_and_small_ones_many() -> None:
    queue, begun = make(HeldBytes(64 * 1024 * 1024))
    ask(queue, 10 * FEW)
    assert len(begun) == 2 * FEW  # as if each gave 1 MiB
    for _ in range(10):
        queue.end(8 * 1024 * 1024)
    assert len(begun) == 2 * FEW  # too many for results of that size
    for _ in range(400):
        queue.end(10)
    assert len(begun) == 10 * FEW


def test_what_does_not_fit_waits_for_its_turn_and_what_is_too_large_goes_alone() -> None:
    held = HeldBytes(100)
    turns: list[str] = []
    assert held.take(60, lambda: None)
    assert not held.take(500, lambda: turns.append("large"))
    assert not held.take(10, lambda: turns.append("small"))
    held.give(60)
    assert turns == ["large"]
    held.give(500)
    assert turns == ["large", "small"]
    assert held.size == 10


class PipedRunner:
    """The two pipes of a runner, which this test speaks for."""

    pid, stderr = 0, -1

    def __init__(self) -> None:
        self.read_end, self.stdin = os.pipe()
        self.stdout, self.write_end = os.pipe()

    def kill(self) -> None:
        """What it reads ends when the host closes its own end."""

    def wait(self, timeout_s: float) -> int | None:
        return 0


def test_many_small_calls_that_wait_for_people_are_held_in_bounded_memory_and_all_have_their_turn() -> None:
    """A runner whose 2,000 calls all wait for somebody: what the host holds of them has a limit."""
    asked: list[Reply] = []
    stalled, done = threading.Event(), threading.Event()
    held_bytes, size, count = 1024 * 1024, 3000, 2000
    most = FREE_CALLS + held_bytes // size + READ_SIZE // size + 1

    def on_call(_action: int, _name: str, _arguments: bytes, reply: Reply, queue: CallQueue) -> None:
        queue.park()
        asked.append(reply)
        if len(asked) >= FREE_CALLS + held_bytes // size:
            stalled.set()
        if len(asked) == count:
            done.set()

    runner, ready = PipedRunner(), threading.Event()
    connection = Connection(runner, shared_hub(), on_call, ready, held_bytes=held_bytes, output_bytes=1024)
    hello = {"version": frames.VERSION, "release": frames.RELEASE, "pid": 1}
    hello |= {"python": "3", "bash": "5", "subreaper": True}

    def speak() -> None:
        with open(os.dup(runner.write_end), "wb") as pipe:
            pipe.write(frames.pack(frames.READY, 0, json.dumps(hello).encode()))
            body = frames.U32.pack(1) + (4).to_bytes(2, "big") + b"tool" + b" " * size
            for call in range(1, count + 1):
                pipe.write(frames.pack(frames.CALL, call, body))

    def listen() -> None:
        while os.read(runner.read_end, 1 << 16):
            pass

    threads = [threading.Thread(target=target, daemon=True) for target in (speak, listen)]
    for thread in threads:
        thread.start()
    assert stalled.wait(30)
    through = threading.Event()
    shared_hub().call(through.set)  # what was read in that turn is asked about by then
    assert through.wait(30)
    assert len(asked) <= most
    assert not done.is_set()
    for reply in asked.copy():
        reply(True, b"null")
    assert done.wait(30)
    connection.kill("the test is over")
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    os.close(runner.read_end)
    os.close(runner.write_end)
