"""Event loops for async tools: work is posted from any thread and runs as tasks of one loop.

A session serves its tool set on its own loop, so that async tools can use what belongs to that loop. Where
nobody serves, one daemon thread of the process runs a loop for all tool sets.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final

import anyio
from agentd._concurrency.waiting import loop_caller
from anyio.abc import TaskStatus

__all__ = ["TaskLoop", "shared_loop"]

_log: Final = logging.getLogger("agentd.tools")

Work = Callable[[], Coroutine[Any, Any, None]]
Lost = Callable[[], None]


class TaskLoop:
    """Runs posted work as tasks while `serve` runs. What is posted before that waits for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Work, Lost, Context | None]] = deque()
        self._arrived: deque[tuple[Work, Lost, Context | None]] = deque()
        self._woken: anyio.Event | None = None
        self._call_soon: Callable[..., object] | None = None
        self._closed = False
        self._thread: int | None = None

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run what is posted until cancelled; then the tasks are cancelled too."""
        async with anyio.create_task_group() as group:
            self._woken = anyio.Event()
            self._thread = threading.get_ident()
            with self._lock:
                self._call_soon = loop_caller()
                self._arrived.extend(self._waiting)
                self._waiting.clear()
            task_status.started()
            try:
                while True:
                    # In a task: from a callback, anyio 4.16 starts none in a loop that asyncio.run has made.
                    while self._arrived:
                        work, _, context = self._arrived.popleft()
                        # The task has a copy of the context that it was started in.
                        (context or copy_context()).run(group.start_soon, _contained, work)
                    await self._woken.wait()
                    self._woken = anyio.Event()
            finally:
                self._closed = True
                for _, lost, _ in self._arrived:
                    lost()

    @property
    def is_over(self) -> bool:
        """Whether it has been served, and is no more."""
        return self._closed

    def post(self, work: Work, lost: Lost, context: Context | None = None) -> None:
        """Start `work` in the loop, from any thread; returns at once. `lost` is called if there is no loop.

        :param context: what `work` runs in a copy of; by default, of the loop's own.
        """
        with self._lock:
            if self._call_soon is None:
                self._waiting.append((work, lost, context))
                return
        self.call_soon(self._spawn, work, lost, context, lost=lost)

    def call_soon(self, function: Callable[..., object], *args: object, lost: Lost | None = None) -> None:
        """Call `function` in the loop. It must not raise."""
        try:
            if self._call_soon is not None:
                self._call_soon(function, *args)
        except RuntimeError:  # the loop is closed; trio's RunFinishedError is one too
            if lost is not None:
                lost()

    def is_here(self) -> bool:
        """Tell whether the calling thread is the loop's own, which must not wait for its work."""
        return self._thread == threading.get_ident()

    def _spawn(self, work: Work, lost: Lost, context: Context | None) -> None:
        if self._closed or self._woken is None:
            lost()
            return
        self._arrived.append((work, lost, context))
        self._woken.set()


async def _contained(work: Work) -> None:
    """Do the work of one tool. Whatever it raises is its own: here it would end the loop, and with it all others'.

    That includes a cancellation. If it is the loop's, it ends this task like any other; if it is not, the tool has
    cancelled itself.
    """
    try:
        await work()
    except BaseException:
        _log.debug("a tool's task was ended", exc_info=True)


_shared_lock = threading.Lock()
_shared: TaskLoop | None = None


def shared_loop() -> TaskLoop:
    """Return the loop of the process, run by a daemon thread that starts with the first call."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared.is_over:
            loop = TaskLoop()
            threading.Thread(
                target=anyio.run, args=(loop.serve,), name="agentd-async-tools", daemon=True
            ).start()
            _shared = loop
        return _shared


def _forget_shared_loop() -> None:
    """Start anew in a forked child, which has no thread that would run the loop."""
    global _shared, _shared_lock
    _shared, _shared_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_shared_loop)
