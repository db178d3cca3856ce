"""A run of a session, seen by its reader: the events as they happen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from agentd._concurrency.channel import Channel
from agentd._concurrency.waiting import call_quietly, loop_caller
from agentd.events import Event

__all__ = ["Run", "RunState"]


class RunState:
    """What a run and its reader share. The run does not know the reader, so that a dropped one ends the run."""

    def __init__(self) -> None:
        self.channel: Channel[Event] = Channel()
        self.scope = anyio.CancelScope()
        self.done = anyio.Event()
        self.call = loop_caller()

    async def drive(self, work: Callable[[Channel[Event]], Awaitable[object]]) -> None:
        """Do the run's work, and tell its reader what ended it."""
        error: BaseException | None = None
        try:
            with self.scope:
                await work(self.channel)
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as exc:  # Ctrl-C on trio, too: it is for whoever reads
            error = exc
        finally:
            self.channel.close(error)
            self.done.set()


class Run(AsyncIterator[Event]):
    """The events of one run, as they happen.

    Leaving the iteration early ends the run and all code that it has started; so does cancelling the task
    that waits for the next event. After the last event the run's error is raised, if one ended it.
    """

    def __init__(self, launch: Callable[[RunState], object]) -> None:
        self._launch = launch
        self._state: RunState | None = None
        self._items: list[Event] = []

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Event:
        if not self._items:
            self._items = (await self.batch())[::-1]
            if not self._items:
                raise StopAsyncIteration
        return self._items.pop()

    async def batch(self) -> list[Event]:
        """Wait and return all events that are there, in order; an empty list is the end."""
        if self._state is None:
            self._state = RunState()
            self._launch(self._state)
        try:
            return await self._state.channel.batch()
        except anyio.get_cancelled_exc_class():
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the run, if it still goes on, and wait until its code is gone. One that has not begun never does."""
        if self._state is None:
            self._state = RunState()
            self._state.channel.close()
            self._state.done.set()
        self._state.scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._state.done.wait()

    async def __aenter__(self) -> Run:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if (state := self._state) is not None and not state.done.is_set():
            call_quietly(state.call, state.scope.cancel)
