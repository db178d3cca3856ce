"""The loopback listener that receives a person's authorisation: for one request, on 127.0.0.1 alone.

The single place where the host listens: RFC 8252 (OAuth for native apps, section 7.3) has the browser bring
the code to a loopback address. It lasts from the moment the person is sent to the browser until the answer
or the time-out, and exists only for servers with `auth="oauth"`.
"""

from __future__ import annotations

import html
import secrets
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qs, urlsplit

import anyio
import attrs
from agentd.errors import AgentdError
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

__all__ = ["Answer", "AuthorizationError", "receive_answer"]

_REQUEST_BYTES: Final = 16 * 1024
_REQUEST_S: Final = 10.0
_CONNECTIONS: Final = 16
_NO_BROWSER: Final = (
    anyio.DelimiterNotFound,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    TimeoutError,
    ValueError,  # a target that is no URL
)
_PAGE: Final = (
    "<!doctype html><meta charset=utf-8><title>agentd</title>"
    "<body style='font: 1.1em system-ui; margin: 4em auto; max-width: 32em'><p>{}"
)


class AuthorizationError(AgentdError):
    """A person's authorisation did not come about."""


@attrs.frozen
class Answer:
    """What the authorisation server sent back by the browser. `issuer` as RFC 9207 has it."""

    code: str = attrs.field(repr=False)
    state: str = attrs.field(repr=False)
    issuer: str | None = None


async def receive_answer(
    authorization_url: str,
    redirect_uri: str,
    *,
    announce: Callable[[str], Awaitable[None]],
    timeout_s: float,
) -> Answer:
    """Listen, send the person to `authorization_url`, and return the first answer that carries its state.

    Requests with another path or state are refused and change nothing: any local program and any web page
    can make them.

    :param announce: shows the address to the person or opens it; awaited once, when the listener is ready.
    :raises AuthorizationError: if it is refused, does not come in time, or the port is taken.
    """
    state = parse_qs(urlsplit(authorization_url).query).get("state", [""])[0]
    redirect = urlsplit(redirect_uri)
    waiting = _Waiting(state, redirect.path or "/")
    try:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=redirect.port or 80)
    except OSError as error:
        raise AuthorizationError(
            f"cannot listen on 127.0.0.1:{redirect.port} for the browser's answer: {error.strerror}; "
            "free that port, or set another 'redirect_uri'"
        ) from error
    failed = None
    async with listener:
        with anyio.move_on_after(timeout_s):
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, waiting.handle)
                failed = await _announced(announce, authorization_url)
                if failed is None:
                    await waiting.done.wait()
                group.cancel_scope.cancel()
    if failed is not None:
        raise AuthorizationError(
            f"the address for the authorisation could not be opened: {failed}"
        ) from failed
    if waiting.error:
        raise AuthorizationError(f"the authorisation was refused: {waiting.error}")
    if waiting.answer is None:
        raise AuthorizationError(
            f"nobody authorised within {timeout_s:g} s at {urlsplit(authorization_url).netloc}; try again, "
            "or set a longer 'timeout_s'"
        )
    return waiting.answer


async def _announced(announce: Callable[[str], Awaitable[None]], url: str) -> Exception | None:
    """Return what went wrong: raised inside the task group, it would come out wrapped."""
    try:
        await announce(url)
    except Exception as error:  # the user's own function
        return error
    return None


class _Waiting:
    """Answers the browser's requests until one of them is the right one."""

    def __init__(self, state: str, path: str) -> None:
        self.done = anyio.Event()
        self.answer: Answer | None = None
        self.error = ""
        self._state = state
        self._path = path
        self._limit = anyio.CapacityLimiter(_CONNECTIONS)

    async def handle(self, stream: SocketStream) -> None:
        async with stream, self._limit:
            try:
                with anyio.fail_after(_REQUEST_S):
                    buffered = BufferedByteReceiveStream(stream)
                    head = await buffered.receive_until(b"\r\n\r\n", _REQUEST_BYTES)
                    status, text = self._judge(head)
                    await stream.send(_response(status, text))
            except _NO_BROWSER:
                return
            finally:
                if self.answer is not None or self.error:
                    self.done.set()

    def _judge(self, head: bytes) -> tuple[str, str]:
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        target = urlsplit(rest.partition(" ")[0])
        if method != "GET" or target.path != self._path:
            return "404 Not Found", "There is nothing here."
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        if not self._state or not secrets.compare_digest(
            query.get("state", "").encode(), self._state.encode()
        ):
            return "400 Bad Request", "This is not the answer to the question that agentd asked."
        if self.answer is not None or self.error:
            return "400 Bad Request", "This question has been answered already."
        if code := query.get("code", ""):
            self.answer = Answer(code, query["state"], query.get("iss"))
            return "200 OK", "agentd has received the authorisation. You may close this tab."
        self.error = _readable(f"{query.get('error', 'no code')}: {query.get('error_description', '')}")
        return "200 OK", f"The authorisation was refused ({self.error}). You may close this tab."


def _response(status: str, text: str) -> bytes:
    body = _PAGE.format(html.escape(text)).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
        "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n\r\n"
    )
    return head.encode() + body


def _readable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:300].strip(": ")
