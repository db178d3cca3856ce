"""Calling into an event loop from other threads."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import anyio
import pytest
from agentd._concurrency.waiting import LoopCaller, call_quietly, loop_caller


@pytest.mark.anyio
async def test_a_thread_calls_into_the_loop() -> None:
    call, called = loop_caller(), anyio.Event()
    thread = threading.Thread(target=call, args=(called.set,))
    thread.start()
    with anyio.fail_after(10):
        await called.wait()
    thread.join()


@pytest.mark.parametrize("is_begun", [False, True])
def test_it_works_while_another_thread_is_importing_trio(
    is_begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = ModuleType("trio")
    if is_begun:
        half.lowlevel = ModuleType("trio.lowlevel")  # type: ignore[attr-defined]

    async def ask() -> None:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "trio", half)
            call = loop_caller()
        called = anyio.Event()
        call(called.set)
        with anyio.fail_after(10):
            await called.wait()

    anyio.run(ask, backend="asyncio")


def test_a_loop_that_is_gone_is_told_nothing() -> None:
    async def ask() -> LoopCaller:
        return loop_caller()

    call = anyio.run(ask, backend="asyncio")
    with pytest.raises(RuntimeError, match="closed"):
        call(lambda: None)
    call_quietly(call, lambda: None)
