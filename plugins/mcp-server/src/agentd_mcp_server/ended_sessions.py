"""Requests that are under way when their session ends: each is answered, and none is left behind.

The SDK closes a session's streams under them. What it has begun to dispatch then fails, or begins a stream that nobody
ends any more; it logs a traceback of each.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

__all__ = ["ClosedStreams", "SessionRequests"]

_log = logging.getLogger("agentd.mcp")
_CLOSED: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError)
Send = Callable[[Any], Awaitable[None]]


class _SentAnswer:
    """What has been sent of an answer; nothing comes behind its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False
        self.is_complete = False

    async def send(self, message: Any) -> None:
        """See ASGI."""
        if self.is_complete:
            return
        self.has_begun = True
        self.is_complete = message["type"] == "http.response.body" and not message.get("more_body")
        await self._send(message)


class SessionRequests:
    """The requests under way, by their session."""

    def __init__(self) -> None:
        self._scopes: defaultdict[str, set[anyio.CancelScope]] = defaultdict(set)

    async def serve(
        self,
        session: str,
        is_over: Callable[[], bool],
        application: Callable[[Send], Awaitable[None]],
        send: Send,
    ) -> None:
        """Serve a request of a session.

        :param is_over: tells whether the session has ended.
        :param application: answers the request, with a refusal if the session has ended.
        """
        answer = _SentAnswer(send)
        scope = anyio.CancelScope()
        self._scopes[session].add(scope)
        try:
            with scope:
                await application(answer.send)
        except Exception:
            if not is_over():
                raise
            _log.debug("a request has ended with its session", exc_info=True)
        finally:
            self._scopes[session].discard(scope)
            if not self._scopes[session]:
                del self._scopes[session]
        if answer.is_complete or not is_over():
            return
        if answer.has_begun:
            await answer.send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await application(answer.send)

    def end(self, session: str) -> None:
        """End those of a session that is over."""
        for scope in self._scopes.get(session, ()):
            scope.cancel()


class ClosedStreams(logging.Filter):
    """Leaves out what the SDK logs of streams that were closed: that is how it hears that a session has ended."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        error = None if record.exc_info is None else record.exc_info[1]
        return error is None or not _is_closed(error)


def _is_closed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_closed(one) for one in error.exceptions)
    return isinstance(error, _CLOSED)
