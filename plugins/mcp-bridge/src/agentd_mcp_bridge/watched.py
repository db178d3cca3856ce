"""A transport that tells when the other side has ended the connection, and mends what servers leave out."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import anyio

from agentd_mcp_bridge.offered import mend_tools

__all__ = ["Watched"]


class Watched:
    """Wraps a transport of the SDK; `on_end` is called when its messages end, which nobody else is told."""

    def __init__(self, transport: Any, on_end: Callable[[], None]) -> None:
        self._transport = transport
        self._on_end = on_end

    async def __aenter__(self) -> tuple[Any, Any]:
        read, write = await self._transport.__aenter__()
        return _WatchedStream(read, self._on_end), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        result: bool | None = await self._transport.__aexit__(kind, error, traceback)
        return result


class _WatchedStream:
    """The read stream; everything but the end is the inner one's."""

    def __init__(self, stream: Any, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end

    def __getattr__(self, name: str) -> Any:  # `last_context`, where there is one
        return getattr(self._stream, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return _complete(await self._stream.__anext__())
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._on_end()
            raise

    async def receive(self) -> Any:
        try:
            return _complete(await self._stream.receive())
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._on_end()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        result: bool | None = await self._stream.__aexit__(kind, error, traceback)
        return result


def _complete(item: Any) -> Any:
    """Fill in what servers may leave out and the SDK refuses to miss.

    A result without `resultType` counts as complete (SEP-2322); there are 2026-07-28 servers that leave it
    out, and on older connections the SDK drops the field. The answer to a call as a task has no content yet. Tools
    are mended one by one.
    """
    result = getattr(getattr(item, "message", None), "result", None)
    if isinstance(result, dict):
        result.setdefault("resultType", "complete")
        if isinstance(tools := result.get("tools"), list):
            result["tools"] = mend_tools(tools)
        if isinstance(result.get("task"), dict):
            result.setdefault("content", [])
    return item
