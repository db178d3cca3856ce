"""Where a model's answers come from: one method of an SDK client, sync or async, asked without blocking the
loop."""

from __future__ import annotations

import inspect
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
from agentd._concurrency.channel import Channel
from agentd._concurrency.pool import call_in_thread, unbounded_pool
from agentd._concurrency.waiting import AsyncWaiter
from anyio.lowlevel import RunVar

from agentd_model_openai.line_limit import limit_lines, unlimit_lines
from agentd_model_openai.plain import is_sdk_method, past_transformation
from agentd_model_openai.quick_chat import is_chat_method, is_quick_method, quick_stream
from agentd_model_openai.retry import (
    HEAD,
    BrokenBeginning,
    Repeatable,
    is_preamble,
    is_transient_event,
    repeated,
    retries_for,
)

__all__ = ["Opener", "Source"]

Opener = Callable[[], Awaitable[tuple[Callable[..., Any], bool]]]

READ_AHEAD = 4096
HANG_UP_S = 0.5
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class Source:
    """Calls `create` and reads what it returns.

    A sync `create` runs in a thread, and its stream is read there: a model that is slow to write does not
    hold up anything else, and what has come in the meantime is handed over in one go. Where it may be asked
    again (`agentd_model_openai.retry`), the items before a stream's first content are held back until that comes.

    :param create: a method like `client.chat.completions.create`.
    :param is_async: whether it returns an awaitable; found out from its definition if None.
    :param opener: in place of `create`: awaited before the first request, returns both.
    :param whole_opener: the same for requests that are no streams, where what `opener` returns is sync.
    :param base_url: the address that it will ask, where that is known.
    """

    def __init__(
        self,
        create: Callable[..., Any] | None = None,
        *,
        is_async: bool | None = None,
        opener: Opener | None = None,
        whole_opener: Opener | None = None,
        base_url: str = "",
    ) -> None:
        self._known_url = base_url
        self._whole_opener = whole_opener
        self._create: Callable[..., Any] = create or _nothing
        self._opener = opener
        if is_async is None:
            is_async = inspect.iscoroutinefunction(inspect.unwrap(self._create))
        self.is_async = is_async
        self._opening: anyio.Lock | None = None
        self._takes_plain: bool | None = None
        self._response: Any = None
        self._wired: Any = None
        self.broken = 0
        """How many streams of the last request broke before they showed something, and were asked for again."""

    @property
    def response(self) -> Any:
        """The HTTP response of the first stream, once it is there."""
        if self._response is None and self._wired is not None:
            self._response = self._wired.response
        return self._response

    async def open(self) -> None:
        """Make what is asked, unless it is there. Raises what `opener` raises."""
        if self._opener is None:
            return
        self._opening = self._opening or anyio.Lock()
        async with self._opening:  # several conversations may share what is made here
            if self._opener is not None:
                self._create, self.is_async = await self._opener()
                self._opener = None

    def twin(self, *, streamed: bool = True) -> Source:
        """Return another one that asks the same, for requests at the same time.

        :param streamed: False if it is asked for whole answers alone.
        """
        whole = None if streamed else self._whole_opener
        if self._opener is None and (whole is None or self.is_async):
            return Source(self._create, is_async=self.is_async)

        async def opened() -> tuple[Callable[..., Any], bool]:
            await self.open()
            return (self._create, self.is_async) if whole is None or self.is_async else await whole()

        made = Source(opener=opened)
        made._known_url = self._known_url
        return made

    @property
    def base_url(self) -> str:
        """The address that is asked, or an empty text if nobody knows it."""
        client = getattr(getattr(self._method, "__self__", None), "_client", None)
        return self._known_url or str(getattr(client, "base_url", ""))

    @property
    def _method(self) -> Callable[..., Any]:
        return self._create.create if isinstance(self._create, Repeatable) else self._create

    def _call(self, kwargs: Mapping[str, Any]) -> Any:
        create = self._method
        if self._takes_plain is None:
            self._takes_plain = is_sdk_method(create)
        if not self._takes_plain:
            return self._create(**kwargs)
        if kwargs.get("stream") is True and is_chat_method(create):
            return quick_stream(create, {name: kwargs[name] for name in kwargs if name != "max_retries"})
        return self._create(**past_transformation(kwargs))

    async def request(self, kwargs: Mapping[str, Any]) -> Any:
        """Return the whole answer."""
        await self.open()
        retries = retries_for(self._create, kwargs)
        return await repeated(partial(self._ask, kwargs), retries, str(kwargs.get("model")))

    async def _ask(self, kwargs: Mapping[str, Any]) -> Any:
        if self.is_async:
            await _take_turn()
            return _checked(await self._call(kwargs))
        return _checked(await call_in_thread(partial(self._call, kwargs), abandon=True, unbounded=True))

    @asynccontextmanager
    async def stream(self, kwargs: Mapping[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """Ask for a stream and give its items. Leaving the context closes the connection."""
        await self.open()
        self.broken = 0
        retries = retries_for(self._create, kwargs)
        opened: _Items | None = None
        try:
            try:
                begin = partial(self._begin, kwargs, ahead=retries.count > 0)
                items = opened = await repeated(begin, retries, str(kwargs.get("model")))
            except BrokenBeginning as exc:  # as often as it was asked: the reader gets what there was
                items = _Direct(_broken(exc.error))
                items.put_back(exc.head)
            yield items
        finally:
            if opened is not None:
                await opened.hang_up()

    async def _begin(self, kwargs: Mapping[str, Any], *, ahead: bool) -> _Items:
        """Ask, and return the items of the stream, with `ahead` of one that has shown something.

        Raises what the SDK raises for a refused request, and `BrokenBeginning`.
        """
        items = await (self._asked(kwargs) if self.is_async else self._asked_in_thread(kwargs))
        try:
            items.put_back(await _head(items) if ahead else [])
        except BaseException as exc:
            self.broken += isinstance(exc, BrokenBeginning)
            await items.hang_up()
            raise
        return items

    async def _asked(self, kwargs: Mapping[str, Any]) -> _Items:
        if not is_quick_method(self._method):
            await _take_turn()
        stream = await self._call(kwargs)
        if getattr(stream, "is_bounded", False):  # and makes its response when it is asked for
            self._wired = self._wired or stream
            return _Direct(stream)
        response = getattr(stream, "response", None)
        self._response = self._response or response
        limit_lines(response)
        try:
            return _Direct(stream, response)
        except TypeError:  # it is no async stream
            await _aclose(stream)
            raise

    async def _asked_in_thread(self, kwargs: Mapping[str, Any]) -> _Items:
        await anyio.lowlevel.checkpoint_if_cancelled()  # who is cancelled asks nothing more
        pipe = _Pipe(lambda: self._call(kwargs))
        unbounded_pool.submit(pipe)
        try:
            await pipe.opened()
        except BaseException:
            await pipe.hang_up()
            raise
        self._response = self._response or getattr(pipe.stream, "response", None)
        return pipe


async def _head(items: AsyncIterator[Any]) -> list[Any]:
    """Read until the first item that shows something of the answer, and return all that were read."""
    head: list[Any] = []
    try:
        async for item in items:
            head.append(item)
            if is_transient_event(item):
                raise BrokenBeginning(head, None)
            if not is_preamble(item) or len(head) == HEAD:
                return head
    except BrokenBeginning:
        raise
    except Exception as exc:
        raise BrokenBeginning(head, exc) from exc
    raise BrokenBeginning(head, None)


async def _broken(error: Exception | None) -> AsyncIterator[Any]:
    if error is not None:
        raise error
    return
    yield  # makes it an iterator without items


class _Items(ABC):
    """The items of a stream, and what it takes to leave it."""

    def __init__(self) -> None:
        self._taken: deque[Any] = deque()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    @abstractmethod
    async def __anext__(self) -> Any: ...

    def put_back(self, items: Sequence[Any]) -> None:
        """Have these items come first again."""
        self._taken.extendleft(reversed(items))

    @abstractmethod
    async def hang_up(self) -> None:
        """Close the connection, also if this task is cancelled."""


class _Direct(_Items):
    """The items of an async stream.

    :param response: the HTTP response that it reads.
    """

    def __init__(self, stream: Any, response: Any = None) -> None:
        super().__init__()
        self._stream = stream
        self._response = response
        self._rest = aiter(stream)

    async def __anext__(self) -> Any:
        if self._taken:
            return self._taken.popleft()
        return await anext(self._rest)

    async def hang_up(self) -> None:
        """See `_Items`."""
        await _aclose(self._stream)
        unlimit_lines(self._response)


def _checked(answer: Any) -> Any:
    """The SDK hands on a body that is not JSON (a proxy's page, say) as text, and `{}` as an empty object."""
    if isinstance(answer, (str, bytes)):
        raise ValueError(f"the answer is no JSON object but {answer[:80]!r}")
    if getattr(answer, "output", ()) is None:
        raise ValueError("the answer has no output")
    return answer


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
    try:
        lock.acquire_nowait()  # to wait for a free one takes a pass of its own
    except anyio.WouldBlock:
        await lock.acquire()
    try:
        await anyio.lowlevel.checkpoint()
    finally:
        lock.release()


def _nothing(**_: Any) -> Any:
    raise TypeError("neither a client nor a create method was given")


async def _aclose(stream: Any) -> None:
    """Close an async SDK stream, also when this task is cancelled."""
    close = getattr(stream, "close", None) or getattr(stream, "aclose", None)
    if close is None:
        return
    with anyio.move_on_after(HANG_UP_S, shield=True):
        try:
            await close()
        except Exception:  # the connection is given up: how it broke does not matter
            pass


class _Pipe(_Items):
    """The items of a blocking stream, on their way from the thread that reads it to the event loop. A job for the
    pool of what waits for somebody else."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        super().__init__()
        self._ask: Callable[[], Any] | None = ask
        # The reader takes everything at once: as much may wait here as it has taken before.
        self._channel: Channel[Any] = Channel(limit=READ_AHEAD // 2)
        self._lock = threading.Lock()
        self._opened = AsyncWaiter()
        self._gone = AsyncWaiter()
        self.stream: Any = None
        self._error: BaseException | None = None
        self._ended = False
        self._stopped = False

    # --- in the thread ---------------------------------------------------------------------------

    def run(self) -> Callable[[], object]:
        """Ask and read until the end, an error, or `hang_up`."""
        try:
            assert self._ask is not None
            stream = self.stream = self._ask()
            limit_lines(getattr(stream, "response", None))
            self._opened.set()
            if not self._stopped:
                for item in stream:
                    self._channel.put(item)
                    self._channel.flow_sync()
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
                unlimit_lines(getattr(self.stream, "response", None))
        return self._tell

    def _tell(self) -> None:
        self._channel.close(self._error)
        self._opened.set()
        self._gone.set()

    # --- in the loop -------------------------------------------------------------------------------

    async def opened(self) -> None:
        """Wait until the provider has accepted the request; raises what the SDK raised."""
        await self._opened.wait()
        if self.stream is None and self._error is not None:
            raise self._error

    async def __anext__(self) -> Any:
        if not self._taken:
            self._taken.extend(await self._channel.batch())
            if not self._taken:
                raise StopAsyncIteration
        return self._taken.popleft()

    async def hang_up(self) -> None:
        """See `_Items`; wait a moment for the thread to let go of it."""
        self._stopped = True
        self._channel.close()
        with self._lock:
            if not self._ended and self.stream is not None:
                _shut(self.stream)
        if self.stream is None:
            return  # the provider has not even answered: the thread closes what comes
        with anyio.move_on_after(HANG_UP_S, shield=True):
            await self._gone.wait()


def _shut(stream: Any) -> None:
    """Wake the thread that waits for the provider's next bytes: closing a socket under it would not."""
    response = getattr(stream, "response", None)
    if response is None or getattr(response, "is_closed", False):
        return
    network = getattr(response, "extensions", {}).get("network_stream")
    connection = network.get_extra_info("socket") if network is not None else None
    if connection is not None:
        try:
            # Closed like this, it is reset. Else a provider that waits because our buffer was full would not hear
            # of the end: the thread may read the buffer to its end first, and after a shutdown nobody is told that
            # there is room again.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already
