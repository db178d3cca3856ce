"""What a host has to tell its driver, in order: taken as a batch, whatever is there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from agentd_ray.carrying import unpack, unpack_error
from agentd_ray.wire import HostBeat

__all__ = ["HostOutbox"]

MOST_ITEMS: Final = 512


class HostOutbox:
    """One queue for all runs of a host: a driver reads it as one stream, which costs less than a stream for each.

    :param beat: makes what is told when there was nothing else for `beat_s` seconds, and at least as often.
    """

    def __init__(self, beat: Callable[[float], HostBeat], beat_s: float) -> None:
        self._beat = beat
        self._beat_s = beat_s
        self._items: list[Any] = []
        self._news = asyncio.Event()
        self._ids = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    def put(self, item: object) -> None:
        """Append an item. In the host's event loop."""
        self._items.append(item)
        self._news.set()

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Yield what there is, and a beat in between; for ever."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            now = loop.time()
            if now >= due:
                self.put(self._beat(now - due))
                due = now + self._beat_s
            if not self._items:
                self._news.clear()
                waking = loop.call_at(due, self._news.set)
                await self._news.wait()
                waking.cancel()
                continue
            batch, self._items = self._items[:MOST_ITEMS], self._items[MOST_ITEMS:]
            yield batch

    async def ask(self, make: Callable[[int], object]) -> Any:
        """Tell the driver something that it answers, and return the answer; raises the error that it answers with.

        :param make: returns the item for a number.
        """
        number = next(self._ids)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.put(make(number))
            return await answer
        finally:
            self._asked.pop(number, None)

    def answer(self, number: int, ok: bool, data: bytes) -> None:
        """Take the driver's answer. Nobody may wait for it any more."""
        future = self._asked.get(number)
        if future is None or future.done():
            return
        if ok:
            future.set_result(unpack(data))
        else:
            future.set_exception(unpack_error(data))
