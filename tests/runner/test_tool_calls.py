"""How many calls of one session are begun: as many as may be, or as the code reads answers."""

from __future__ import annotations

from typing import cast

from agentd_runner.host.held import HeldBytes
from agentd_runner.host.hub import Hub
from agentd_runner.host.pending import Reply
from agentd_runner.host.tool_calls import FEW, CallQueue


class SameThread:
    """A hub whose thread is this one."""

    def call(self, function: object) -> None:
        function()  # type: ignore[operator]


def make(held: HeldBytes, answers: int | None = None) -> tuple[CallQueue, list[Reply]]:
    begun: list[Reply] = []

    def on_call(_action: int, _name: str, _arguments: bytes, reply: Reply) -> None:
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
