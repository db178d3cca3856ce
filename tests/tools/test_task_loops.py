"""The event loops that async tools run in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest
from agentd_tools.loops import TaskLoop


def by_trio(main: Callable[[], Awaitable[None]]) -> None:
    import trio

    trio.run(main)


@pytest.mark.parametrize(
    "run",
    [lambda main: asyncio.run(main()), anyio.run, partial(anyio.run, backend="trio"), by_trio],
    ids=["asyncio.run", "anyio.run", "anyio.run-trio", "trio.run"],
)
def test_what_a_thread_posts_runs_in_the_loop_whoever_has_made_that(
    run: Callable[[Callable[[], Awaitable[None]]], None],
) -> None:
    loop = TaskLoop()
    told: list[str] = []

    async def main() -> None:
        here = threading.get_ident()
        all_told = anyio.Event()

        def tell(what: str) -> None:
            told.append(what)
            if len(told) == 2:
                all_told.set()

        async def work() -> None:
            await anyio.sleep(0)
            tell("done" if threading.get_ident() == here else "elsewhere")

        def lost() -> None:
            loop.call_soon(tell, "lost")

        loop.post(work, lost)  # before the loop is served
        async with anyio.create_task_group() as group:
            await group.start(loop.serve)
            await anyio.to_thread.run_sync(loop.post, work, lost)
            with anyio.fail_after(10):
                await all_told.wait()
            group.cancel_scope.cancel()
        refused = anyio.Event()
        loop.post(work, refused.set)  # after the end
        with anyio.fail_after(10):
            await refused.wait()

    run(main)
    assert told == ["done", "done"]
