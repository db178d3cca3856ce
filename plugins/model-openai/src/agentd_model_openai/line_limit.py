"""How long an event of a provider's stream may be, and all of them together.

Libraries put an event together in memory until its end comes. A provider, or somebody in between, that sends none would
fill that memory; compressed, it takes a thousandth of the bytes on the network. So would a stream that never ends.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

__all__ = [
    "MOST_BYTES",
    "MOST_STREAM_BYTES",
    "EventMeter",
    "LineTooLongError",
    "limit_lines",
    "unlimit_lines",
]

MOST_BYTES: Final = 16 * 1024 * 1024
MOST_STREAM_BYTES: Final = 1024 * 1024 * 1024
"""Three million tokens with their JSON around them, one by one."""
SLICE_BYTES: Final = 4096
"""How much of a compressed body is decompressed at once: deflate makes at most 1,032 times as much of it."""
_ENDS: Final = (b"\n\n", b"\r\r", b"\r\n\r\n")


class LineTooLongError(ValueError):
    """An event of a stream, or all of it, is too long. The provider would send it again, so it is not asked again."""

    code = "line_too_long"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"{what} is longer than {limit // 1024**2} MiB")


class EventMeter:
    """Counts the bytes of the stream, and of the event that has not ended yet."""

    def __init__(self) -> None:
        self._all = self._open = 0
        self._tail = b""

    def add(self, data: bytes) -> bytes:
        """Take the next bytes and return them."""
        seen = self._tail + data
        # Most pieces end with an event. The search is for those that do not.
        end = len(seen) - 2 if seen.endswith(_ENDS[:2]) else max([seen.rfind(mark) for mark in _ENDS])
        self._open = len(seen) - end if end >= 0 else self._open + len(data)
        self._all += len(data)
        if self._open > MOST_BYTES:
            raise LineTooLongError("a line of the stream", MOST_BYTES)
        if self._all > MOST_STREAM_BYTES:
            raise LineTooLongError("the stream of one answer", MOST_STREAM_BYTES)
        self._tail = seen[-3:]
        return data


def limit_lines(response: Any) -> None:
    """Have an HTTP response of httpx raise `LineTooLongError` while it is read, if it or an event in it is too long.

    Something else than such a response stays as it is.
    """
    if not hasattr(response, "iter_bytes") or not hasattr(response, "aiter_bytes"):
        return
    if response.headers.get("content-encoding", "identity") != "identity":
        response.iter_raw = _sliced(response.iter_raw)
        response.aiter_raw = _async_sliced(response.aiter_raw)
    response.iter_bytes = _metered(response.iter_bytes)
    response.aiter_bytes = _async_metered(response.aiter_bytes)


def unlimit_lines(response: Any) -> None:
    """Take that back: the response is closed, and would else stay until the garbage collector comes."""
    for name in ("iter_raw", "aiter_raw", "iter_bytes", "aiter_bytes"):
        getattr(response, "__dict__", {}).pop(name, None)


def _slices(data: bytes) -> Iterator[bytes]:
    return (data[start : start + SLICE_BYTES] for start in range(0, len(data), SLICE_BYTES))


def _sliced(read: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    def sliced(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        for data in read(*args, **kwargs):
            yield from _slices(data)

    return sliced


def _async_sliced(read: Callable[..., AsyncIterator[bytes]]) -> Callable[..., AsyncIterator[bytes]]:
    async def sliced(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        async for data in read(*args, **kwargs):
            for piece in _slices(data):
                yield piece

    return sliced


def _metered(read: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    def metered(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        meter = EventMeter()
        for data in read(*args, **kwargs):
            yield meter.add(data)

    return metered


class _AsyncMetered:
    """Not an asynchronous generator: the SDK leaves those unfinished, and an event loop makes a task to end each."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._meter = EventMeter()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return self._meter.add(await anext(self._pieces))

    async def aclose(self) -> None:
        """End the reading, as that of a generator does."""
        await self._pieces.aclose()  # type: ignore[attr-defined]  # httpx's are generators


def _async_metered(read: Callable[..., AsyncIterator[bytes]]) -> Callable[..., AsyncIterator[bytes]]:
    return lambda *args, **kwargs: _AsyncMetered(aiter(read(*args, **kwargs)))
