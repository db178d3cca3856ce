"""What a patched method returns for `stream=True`: the SDK's stream classes over a run of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
from agentd._concurrency.channel import Channel
from agentd._concurrency.waiting import call_quietly
from agentd.errors import ConfigError

from agentd_openai.state import SyncTask

__all__ = ["AgentAsyncStream", "AgentStream", "AsyncTask"]


class AgentStream(openai.Stream[Any]):
    """A stream of the SDK's own objects. Leaving it (`break` and forget, `close()`, `with`) ends the run
    and its code.

    `response` is the HTTP response of the first request, or None before it has come.
    """

    def __init__(self, channel: Channel[Any], task: SyncTask, model: Any) -> None:
        self._channel = channel
        self._task = task
        self._model = model
        self._buffer: list[Any] = []
        self._iterator = self.__stream__()

    @property
    def response(self) -> Any:  # type: ignore[override]
        return self._model.response

    def wait_until_open(self) -> None:
        """Wait for the first object; raises what the provider says to the first request."""
        self._buffer = self._take()

    def _take(self) -> list[Any]:
        if not self._task.is_ours:
            raise ConfigError("this stream was opened in the parent of this process: open another one here")
        try:
            return self._channel.batch_sync()
        except Exception:
            raise
        except BaseException:  # Ctrl-C
            self.close()
            raise

    def __stream__(self) -> Iterator[Any]:
        try:
            while self._buffer:
                yield from self._buffer
                self._buffer = self._take()
        finally:
            self.close()

    def __next__(self) -> Any:
        return next(self._iterator)

    def __iter__(self) -> Iterator[Any]:
        return self

    def close(self) -> None:
        """End the run, if it still goes on, and wait until its code is gone."""
        self._buffer = []
        self._channel.close()
        if not self._task.future.done():
            self._task.stop()
            self._task.join()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None and not task.future.done():
            self._channel.close()
            task.stop()


class AsyncTask:
    """A run on the caller's own event loop."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Cancel it, from any thread. Does not wait."""
        if not self.task.done():
            call_quietly(self._loop.call_soon_threadsafe, self.task.cancel)

    def join(self, timeout_s: float = 0) -> None:
        """It cannot be waited for here: its event loop is the caller's."""


class AgentAsyncStream(openai.AsyncStream[Any]):
    """The same for `AsyncOpenAI` on asyncio."""

    def __init__(self, channel: Channel[Any], task: AsyncTask, model: Any) -> None:
        self._channel = channel
        self._task = task
        self._model = model
        self._buffer: list[Any] = []
        self._iterator = self.__stream__()

    @property
    def response(self) -> Any:  # type: ignore[override]
        return self._model.response

    async def wait_until_open(self) -> None:
        """Wait for the first object; raises what the provider says to the first request."""
        self._buffer = await self._take()

    async def _take(self) -> list[Any]:
        try:
            return await self._channel.batch()
        except Exception:
            raise
        except BaseException:  # cancelled
            await self.close()
            raise

    @property
    def is_over(self) -> bool:
        """Whether the run has ended: what is left of it, and the end, come without a wait."""
        return self._task.task.done()

    async def batch(self) -> list[Any]:
        """Wait and return all objects that are there, in order; an empty list is the end."""
        items, self._buffer = self._buffer, []
        return items or await self._take()

    async def __stream__(self) -> AsyncIterator[Any]:
        while self._buffer:
            for item in self._buffer:
                yield item
            self._buffer = await self._take()

    async def __anext__(self) -> Any:
        return await anext(self._iterator)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def close(self) -> None:
        """End the run, if it still goes on, and wait until its code is gone."""
        self._buffer = []
        self._channel.close()
        task = self._task.task
        if not task.done():
            task.cancel()
            await asyncio.wait([task])

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.close()

    def __del__(self) -> None:
        task = getattr(self, "_task", None)
        if task is not None:
            self._channel.close()
            task.stop()
