"""Where a model's answers come from: one method of an SDK client, sync or async, asked without blocking the
loop."""

from __future__ import annotations

import inspect
import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from anyio.lowlevel import RunVar

from agentd.eventloop import loop_caller
from agentd.models.plain import is_sdk_method, past_transformation
from agentd.threads import Worker, call_quietly

__all__ = ["Opener", "Source"]

Opener = Callable[[], Awaitable[tuple[Callable[..., Any], bool]]]

READ_AHEAD = 4096
HANG_UP_S = 0.5


class Source:
    """Calls `create` and reads what it returns.

    A sync `create` runs in a thread, and its stream is read there: a model that is slow to write does not
    hold up anything else, and what has come in the meantime is handed over in one go.

    :param create: a method like `client.chat.completions.create`.
    :param is_async: whether it returns an awaitable; found out from its definition if None.
    :param opener: in place of `create`: awaited before the first request, returns both.
    """

    def __init__(
        self,
        create: Callable[..., Any] | None = None,
        *,
        is_async: bool | None = None,
        opener: Opener | None = None,
    ) -> None:
        self._create: Callable[..., Any] = create or _nothing
        self._opener = opener
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(self._create))
        if is_async is not None:
            self.is_async = is_async
        self._worker = Worker()
        self._takes_plain: bool | None = None
        self.response: Any = None
        """The HTTP response of the first stream, once it is there."""

    async def _open(self) -> None:
        if self._opener is not None:
            self._create, self.is_async = await self._opener()
            self._opener = None

    def _ask(self, kwargs: Mapping[str, Any]) -> Any:
        if self._takes_plain is None:
            self._takes_plain = is_sdk_method(self._create)
        return self._create(**(past_transformation(kwargs) if self._takes_plain else kwargs))

    async def request(self, kwargs: Mapping[str, Any]) -> Any:
        """Return the whole answer."""
        await self._open()
        if self.is_async:
            await _take_turn()
            return await self._ask(kwargs)
        return await self._worker.run(lambda: self._ask(kwargs))

    @asynccontextmanager
    async def stream(self, kwargs: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """Ask for a stream and give its items. Leaving the context closes the connection."""
        await self._open()
        if self.is_async:
            await _take_turn()
            stream = await self._ask(kwargs)
            self.response = self.response or getattr(stream, "response", None)
            try:
                yield aiter(stream)
            finally:
                await _aclose(stream)
            return
        pipe = _Pipe(lambda: self._ask(kwargs))
        self._worker.submit(pipe.read)
        try:
            await pipe.opened()
            self.response = self.response or getattr(pipe.stream, "response", None)
            yield pipe
        finally:
            await pipe.hang_up()


_turn: RunVar[anyio.Lock] = RunVar("agentd_request_turn")


async def _take_turn() -> None:
    """Wait until this is the only request that starts in this pass of the event loop.

    An SDK keeps the loop for a millisecond or two to make a request. Where many sessions share a loop, those
    that ask at the same time would hold it up together.
    """
    try:
        lock = _turn.get()
    except LookupError:
        lock = anyio.Lock()
        _turn.set(lock)
    async with lock:
        await anyio.lowlevel.checkpoint()


def _nothing(**_: Any) -> Any:
    raise TypeError("neither a client nor a create method was given")


async def _aclose(stream: Any) -> None:
    """Close an async SDK stream, also when this task is cancelled."""
    close = getattr(stream, "close", None) or getattr(stream, "aclose", None)
    if close is None:
        return
    with anyio.CancelScope(shield=True), anyio.move_on_after(HANG_UP_S):
        try:
            await close()
        except Exception:  # the connection is given up: how it broke does not matter
            pass


class _Pipe:
    """The items of a blocking stream, on their way from the thread that reads it to the event loop."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self._ask: Callable[[], Any] | None = ask
        self._call = loop_caller()
        self._items: deque[Any] = deque()
        self._lock = threading.Lock()
        self._room = threading.Event()
        self._news = anyio.Event()
        self._scheduled = False
        self.stream: Any = None
        self._error: BaseException | None = None
        self._ended = False
        self._stopped = False

    # --- in the thread ---------------------------------------------------------------------------

    def read(self) -> None:
        """Ask and read until the end, an error, or `hang_up`."""
        try:
            assert self._ask is not None
            stream = self.stream = self._ask()
            self._wake()
            if not self._stopped:
                for item in stream:
                    self._items.append(item)
                    self._wake()
                    while len(self._items) >= READ_AHEAD and not self._stopped:
                        self._room.wait()
                        self._room.clear()
                    if self._stopped:
                        break
        except BaseException as exc:
            self._error = exc
        finally:
            self._ask = None
            with self._lock:
                self._ended = True
                try:
                    if hasattr(self.stream, "close"):
                        self.stream.close()
                except Exception:  # given up: how it broke does not matter
                    pass
            self._scheduled = False
            self._wake()

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            call_quietly(self._call, self._ring)

    # --- in the loop -------------------------------------------------------------------------------

    def _ring(self) -> None:
        self._news.set()

    async def _wait(self) -> None:
        await self._news.wait()
        self._news = anyio.Event()
        self._scheduled = False

    async def opened(self) -> None:
        """Wait until the provider has accepted the request; raises what the SDK raised."""
        while self.stream is None and not self._ended:
            await self._wait()
        if self.stream is None and self._error is not None:
            raise self._error

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while True:
            if self._items:
                item = self._items.popleft()
                if len(self._items) < READ_AHEAD // 2:
                    self._room.set()
                return item
            if self._ended and not self._items:
                if self._error is not None and not self._stopped:
                    raise self._error
                raise StopAsyncIteration
            await self._wait()

    async def hang_up(self) -> None:
        """Close the connection, and wait a moment for the thread to let go of it."""
        self._stopped = True
        self._room.set()
        with self._lock:
            if not self._ended and self.stream is not None:
                _shut(self.stream)
        if self.stream is None:
            return  # the provider has not even answered: the thread closes what comes
        with anyio.CancelScope(shield=True), anyio.move_on_after(HANG_UP_S):
            while not self._ended:
                await self._wait()


def _shut(stream: Any) -> None:
    """Wake the thread that waits for the provider's next bytes: closing a socket under it would not."""
    response = getattr(stream, "response", None)
    if response is None or getattr(response, "is_closed", False):
        return
    network = getattr(response, "extensions", {}).get("network_stream")
    connection = network.get_extra_info("socket") if network is not None else None
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already
