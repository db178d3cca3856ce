"""`SubscriptionSourceContract`: what a source that tells of changed resources promises, as tests."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from agentd._concurrency.pool import call_in_thread
from agentd_tools.sources import SubscriptionSource

__all__ = ["RecordingSubscriber", "SubscriptionSourceContract"]


class RecordingSubscriber:
    """An `on_event` that keeps what it is told, in order."""

    def __init__(self) -> None:
        self._states: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.seen: list[str] = []
        """What `until` has given."""

    def __call__(self, state: str) -> None:
        self._states.put(state)

    def until(self, wanted: str, seconds: float = 30.0) -> list[str]:
        """Wait for a state; returns what was told up to it.

        :raises AssertionError: if it is not told in time.
        """
        deadline = time.monotonic() + seconds
        told: list[str] = []
        while not told or told[-1] != wanted:
            try:
                told.append(self._states.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"waited for {wanted!r}, was told {told} after {self.seen}") from None
        self.seen += told
        return told

    def nothing_more(self) -> bool:
        """Tell whether everything that was told has been looked at."""
        return self._states.empty()


class SubscriptionSourceContract:
    """Subclass it beside `ToolSourceContract`; say how a source is made, which resource it has, how that changes:

    class TestMySubscriptions(SubscriptionSourceContract):
        uri = "rates://EUR"

        def make_source(self):
            return MySource()

        async def change(self, source):
            await source.call("set_rate", {"currency": "EUR", "rate": 1.25})
    """

    uri = ""

    def make_source(self) -> Any:
        """Return a new source, not started."""
        pytest.fail("override make_source() in the subclass", pytrace=False)

    async def change(self, source: Any) -> None:
        """Make the resource change."""
        pytest.fail("override change() in the subclass", pytrace=False)

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Both event loops: a source may be used from either."""
        backend = request.param
        assert isinstance(backend, str)
        return backend

    async def _until(self, told: RecordingSubscriber, wanted: str) -> list[str]:
        return await call_in_thread(lambda: told.until(wanted), unbounded=True)

    async def _close(self, source: Any) -> None:
        with anyio.fail_after(15, shield=True):
            await source.aclose()

    def test_it_has_the_method(self) -> None:
        assert self.uri, "set `uri`: a resource that the source tells of"
        assert isinstance(self.make_source(), SubscriptionSource)

    @pytest.mark.anyio
    async def test_active_is_told_first_and_then_each_change(self) -> None:
        source, told = self.make_source(), RecordingSubscriber()
        try:
            source.subscribe(self.uri, told)
            assert (await self._until(told, "active")) == ["active"]
            for _ in range(3):
                await self.change(source)
                assert (await self._until(told, "changed")) == ["changed"]
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_of_two_subscriptions_to_one_resource_each_has_an_end_of_its_own(self) -> None:
        source, first, second = self.make_source(), RecordingSubscriber(), RecordingSubscriber()
        try:
            end = source.subscribe(self.uri, first)
            source.subscribe(self.uri, second)
            await self._until(first, "active")
            await self._until(second, "active")
            end()
            end()
            await self.change(source)
            await self._until(second, "changed")
            assert first.nothing_more(), "a subscription that was ended was told of a change"
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_it_may_be_called_in_any_thread_and_may_raise(self) -> None:
        source, told = self.make_source(), RecordingSubscriber()
        ends: list[Callable[[], None]] = []

        def raising(state: str) -> None:
            told(state)
            raise ValueError("an on_event that raises")

        try:
            thread = threading.Thread(target=lambda: ends.append(source.subscribe(self.uri, raising)))
            thread.start()
            thread.join(5)
            assert ends, "subscribe must return at once"
            await self._until(told, "active")
            await self.change(source)
            await self._until(told, "changed")
            ends[0]()
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_a_closed_source_tells_nothing_more(self) -> None:
        source, told = self.make_source(), RecordingSubscriber()
        end = source.subscribe(self.uri, told)
        await self._until(told, "active")
        await self._close(source)
        assert told.nothing_more(), "closing a source is no news for its subscribers"
        end()
