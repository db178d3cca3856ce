"""Calling in a thread, and the pools behind it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import anyio
import pytest
from agentd._concurrency import pool as pools
from agentd._concurrency.pool import WorkerPool, call_in_thread

LEFT: ContextVar[str] = ContextVar("LEFT", default="nothing")


class Errand:
    """A job that waits until it may end."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.thread = 0

    def run(self) -> None:
        self.thread = threading.get_ident()
        self.begun.set()
        self.may_end.wait(10)


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> WorkerPool:
    """Have calls share a single thread."""
    pool = WorkerPool("agentd-test", max_threads=1)
    monkeypatch.setattr(pools, "bounded_pool", pool)
    return pool


@pytest.mark.anyio
async def test_calls_reuse_their_thread_and_errors_are_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "unbounded_pool", WorkerPool("agentd-test"))
    first = await call_in_thread(threading.get_ident, unbounded=True)
    again = {await call_in_thread(threading.get_ident, unbounded=True) for _ in range(50)}
    assert again == {first} != {threading.get_ident()}
    with pytest.raises(ZeroDivisionError):
        await call_in_thread(lambda: 1 / 0)


@pytest.mark.anyio
async def test_what_one_call_sets_is_not_there_in_the_next(one_thread: WorkerPool) -> None:
    await call_in_thread(lambda: LEFT.set("a secret"))
    assert await call_in_thread(LEFT.get) == "nothing"


@pytest.mark.anyio
async def test_a_cancelled_call_is_waited_for_unless_it_is_abandoned(one_thread: WorkerPool) -> None:
    for abandon in (False, True):
        errand = Errand()

        async def call(errand: Errand = errand, abandon: bool = abandon) -> None:
            await call_in_thread(errand.run, abandon=abandon, stop=errand.may_end.set)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(call)
                while not errand.begun.is_set():
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert errand.may_end.is_set() is not abandon  # stopped, and waited for; or left alone
        errand.may_end.set()


@pytest.mark.anyio
async def test_a_call_that_is_cancelled_before_it_has_begun_never_begins(one_thread: WorkerPool) -> None:
    blocker, calls = Errand(), []
    one_thread.submit(blocker)
    with anyio.move_on_after(0.01):
        await call_in_thread(lambda: calls.append(1))
    blocker.may_end.set()
    await call_in_thread(lambda: calls.append(2))
    assert calls == [2]


@pytest.mark.anyio
async def test_a_cancelled_task_does_not_call(one_thread: WorkerPool) -> None:
    calls: list[int] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call_in_thread(lambda: calls.append(1))
    assert not calls
    assert not one_thread.threads


def test_asyncios_own_cancel_waits_once() -> None:
    async def main() -> None:
        errand = Errand()
        task = asyncio.create_task(call_in_thread(errand.run, stop=errand.may_end.set))
        while not errand.begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert errand.may_end.is_set()

    asyncio.run(main())


def test_a_pool_has_no_more_threads_than_it_may() -> None:
    pool = WorkerPool("agentd-test", max_threads=2)
    errands = [Errand() for _ in range(3)]
    for errand in errands:
        pool.submit(errand)
    assert errands[0].begun.wait(10)
    assert errands[1].begun.wait(10)
    assert (pool.threads, errands[2].begun.is_set()) == (2, False)
    pool.write_off(errands[0])  # it hangs: another thread may start
    assert errands[2].begun.wait(10)
    for errand in errands:
        errand.may_end.set()


def test_no_thread_stays_behind_for_long() -> None:
    pool = WorkerPool("agentd-test-worker", idle_s=0.01)
    errand = Errand()
    errand.may_end.set()
    pool.submit(errand)
    assert errand.begun.wait(5)
    for thread in threading.enumerate():
        if thread.name == "agentd-test-worker":
            thread.join(5)
            assert not thread.is_alive()


HANGING = """
import threading, anyio
from agentd._concurrency.pool import call_in_thread

async def main():
    with anyio.move_on_after(0.05):
        await call_in_thread(threading.Event().wait, abandon=True, unbounded=True)
    print("over", flush=True)

anyio.run(main)
"""


def test_a_call_that_hangs_does_not_keep_the_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"over\n", b"")
