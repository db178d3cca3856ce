"""Waiters: set from anywhere."""

from __future__ import annotations

import threading

import anyio
import pytest
from agentd._concurrency.waiting import AsyncWaiter


@pytest.mark.anyio
@pytest.mark.parametrize("thread", [False, True])
async def test_a_task_is_woken_from_its_own_loop_and_from_a_thread(thread: bool) -> None:
    waiter = AsyncWaiter()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(waiter.wait)
            await anyio.wait_all_tasks_blocked()
            if thread:
                threading.Thread(target=waiter.set).start()
            else:
                waiter.set()
        waiter.set()
        await waiter.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_setting_the_waiter_of_a_loop_that_is_over_is_silent(backend: str) -> None:
    async def make() -> AsyncWaiter:
        return AsyncWaiter()

    waiter = anyio.run(make, backend=backend)
    waiter.set()
    thread = threading.Thread(target=waiter.set)
    thread.start()
    thread.join()
