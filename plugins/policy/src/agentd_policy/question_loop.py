"""The one event loop thread in which approvers are waited for: a thousand questions share it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final

from agentd._concurrency.pool import call_in_thread

__all__ = ["MOST_THREADS", "call_in_turn", "run_soon"]

_log: Final = logging.getLogger("agentd.policy")
MOST_THREADS: Final = 32
"""Of the process, in which plain functions are asked; further questions wait their turn."""


class _QuestionLoop:
    """A daemon thread with an event loop, started with the first question of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.turns = asyncio.Semaphore(MOST_THREADS)

    def run_soon(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._serve, args=(self._loop,), name="agentd-approvals", daemon=True
                ).start()
        self._loop.call_soon_threadsafe(self._begin, work, context=_own_context())

    def _begin(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(_contained(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        loop.run_forever()


async def _contained(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let nothing out that would end the loop for all: an approver may raise `SystemExit`."""
    try:
        await work()
    except asyncio.CancelledError:
        raise
    except BaseException:
        _log.exception("an approver has raised what ends programs; the question was answered with no")


def _own_context() -> Context:
    """Return the caller's context without its event loop: which one runs the caller says nothing of this one."""
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None and context.get(sniffio.current_async_library_cvar) is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


_questions = _QuestionLoop()


def run_soon(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an async function there. From any thread; never blocks."""
    _questions.run_soon(work)


async def call_in_turn(function: Callable[[], Any]) -> Any:
    """Call a function in a thread, when fewer than `MOST_THREADS` do so. To be awaited there."""
    async with _questions.turns:
        return await call_in_thread(function, abandon=True, unbounded=True)


def _forget_in_child() -> None:
    global _questions
    _questions = _QuestionLoop()


os.register_at_fork(after_in_child=_forget_in_child)
