"""A task group in a task of its own: anyio lets only the task that has entered a group leave it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

import anyio

from agentd._concurrency.waiting import loop_caller

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

__all__ = ["GroupOwner"]

_owners: Final[set[object]] = set()  # asyncio itself refers to its tasks weakly


class GroupOwner:
    """Opened in one task and closed in another one of the same event loop; when that ends first, it closes by itself.

    :ivar group: None before it is opened, and when it has ended.
    :param at_end: called, shielded, when the tasks of the group are gone.
    """

    group: TaskGroup | None = None
    failed = False
    _error: BaseException | None = None

    def __init__(self, at_end: Callable[[], Awaitable[None]]) -> None:
        self._at_end = at_end
        self._entered, self._leave, self._left = anyio.Event(), anyio.Event(), anyio.Event()

    async def open(self, then: Callable[[], Awaitable[None]]) -> None:
        """Start the group and await `then`. If that raises, or this is cancelled, it is closed: `failed`."""
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            task = asyncio.create_task(self._own())
            _owners.add(task)
            task.add_done_callback(_owners.discard)
        else:
            sys.modules["trio"].lowlevel.spawn_system_task(self._own, context=copy_context())
        try:
            await self._entered.wait()
            await then()
        except BaseException:  # cancelled, say
            await self.aclose()
            self.failed = True
            raise

    def starter(self) -> Callable[[Callable[[], Coroutine[Any, Any, None]]], object]:
        """Return what starts an async function in the group, from any thread. Nothing starts once that has ended."""
        call, context = loop_caller(), copy_context()  # the caller's may not know which library runs the loop
        if sniffio := sys.modules.get("sniffio"):  # nor may this: `asyncio.run` names none
            context.run(sniffio.current_async_library_cvar.set, sniffio.current_async_library())
        return lambda work: call(lambda: self.group and context.copy().run(self.group.start_soon, work))

    async def aclose(self) -> None:
        """Cancel the tasks of the group, wait for the end and raise what went wrong, once."""
        self._leave.set()
        with anyio.CancelScope(shield=True):
            await self._left.wait()
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def _own(self) -> None:
        try:
            try:
                async with anyio.create_task_group() as self.group:
                    self._entered.set()
                    await self._leave.wait()
                    self.group.cancel_scope.cancel()
            finally:
                self.group = None
                with anyio.CancelScope(shield=True):
                    await self._at_end()
        except anyio.get_cancelled_exc_class():  # the loop ends
            raise
        except BaseException as error:
            self._error = error
        finally:
            self._left.set()
