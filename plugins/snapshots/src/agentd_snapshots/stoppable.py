"""Blocking work in a thread that ends soon when its caller is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from agentd_snapshots.content import Poll

__all__ = ["StoppedError", "run_stoppable"]

T = TypeVar("T")


class StoppedError(Exception):
    """The caller was cancelled."""


class _Job(Generic[T]):
    """Work in a thread, which is begun once or, if it was stopped before, never."""

    def __init__(self, work: Callable[[Poll], T]) -> None:
        self._work = work
        self._state = threading.Lock()
        self._begun = False
        self._stopped = False
        self.ended = threading.Event()
        self.results: list[T] = []
        self.failures: list[BaseException] = []

    def run(self) -> None:
        with self._state:
            self._begun = True
            if self._stopped:
                return
        try:
            self.results.append(self._work(self._poll))
        except BaseException as exc:
            self.failures.append(exc)
        finally:
            self.ended.set()

    def stop(self) -> bool:
        """Have the next poll raise; say whether there is an end to wait for."""
        with self._state:
            self._stopped = True
            return self._begun

    def _poll(self) -> None:
        if self._stopped:
            raise StoppedError


async def run_stoppable(work: Callable[[Poll], T]) -> T:
    """Run `work(poll)` in a thread and return its result.

    When the caller is cancelled, the next `poll()` raises, and the cancellation goes on once the thread has
    ended: the work is then done or undone, and nothing of it goes on behind the caller's back.
    """
    import anyio
    import anyio.lowlevel

    job = _Job(work)

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            job.stop()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await _in_thread(job)
        group.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint_if_cancelled()
    if job.failures:
        try:
            raise job.failures[0]
        finally:
            job.failures.clear()  # or the exception and this frame keep each other alive
    return job.results[0]


async def _in_thread(job: _Job[T]) -> None:
    import anyio
    import anyio.to_thread

    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(job.run)
        except BaseException:  # asyncio's own `Task.cancel` comes through the shield
            if job.stop():
                await anyio.to_thread.run_sync(job.ended.wait)
            raise
