"""The way from any thread into the running event loop."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType

import anyio
import pytest
from agentd._concurrency.eventloop import loop_caller


@pytest.mark.anyio
async def test_a_call_arrives_in_the_running_loop() -> None:
    called = anyio.Event()
    await anyio.to_thread.run_sync(loop_caller(), called.set)
    await called.wait()


def test_a_trio_that_another_thread_is_just_importing_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "trio", ModuleType("trio"))  # as it is at first: nothing in it yet

    async def main() -> None:
        called = asyncio.Event()
        loop_caller()(called.set)
        await called.wait()

    asyncio.run(main())


def test_without_a_loop_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        loop_caller()
