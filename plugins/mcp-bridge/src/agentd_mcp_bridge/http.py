"""The HTTP transports: streamable HTTP and, for older servers, SSE. Both are the SDK's, within limits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx2
from agentd.errors import ToolError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import MCP_DEFAULT_SSE_READ_TIMEOUT, MCP_DEFAULT_TIMEOUT

from agentd_mcp_bridge.config import HttpTarget
from agentd_mcp_bridge.hearing import Hearing, ListeningClient
from agentd_mcp_bridge.lenient import valid_line

__all__ = ["kinds_to_try", "sse_transport", "streamable_transport"]

_AS_JSON: Final = "application/json"
_SESSION: Final = "mcp-session-id"


def kinds_to_try(target: HttpTarget) -> tuple[str, ...]:
    """Return `http` and `sse` in the order in which to try them."""
    if target.kind != "auto":
        return (target.kind,)
    path = httpx2.URL(target.url).path.rstrip("/")
    return ("sse", "http") if path.endswith("/sse") else ("http", "sse")


@asynccontextmanager
async def streamable_transport(
    target: HttpTarget, max_message_bytes: int, hearing: Hearing | None = None
) -> AsyncGenerator[Any]:
    """Connect by streamable HTTP. `hearing` learns what becomes of the stream beside the requests."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_client(target, max_message_bytes, hearing))
        yield await stack.enter_async_context(
            streamable_http_client(target.url, http_client=client, max_sse_event_size=max_message_bytes)
        )


@asynccontextmanager
async def sse_transport(target: HttpTarget, max_message_bytes: int) -> AsyncGenerator[Any]:
    """Connect by SSE, as servers before 2025-03-26 have it. The SDK limits a message to 1 MiB there."""

    def client(
        headers: Mapping[str, str] | None = None, timeout: Any = None, auth: Any = None
    ) -> httpx2.AsyncClient:
        return _client(target, max_message_bytes)

    async with sse_client(target.url, httpx_client_factory=client) as streams:
        yield streams


def _client(target: HttpTarget, max_message_bytes: int, hearing: Hearing | None = None) -> httpx2.AsyncClient:
    async def limit(response: httpx2.Response) -> None:
        if response.status_code == 401 and target.auth is None:  # the SDK would not say which error it was
            raise ToolError(
                'wants to know who asks (HTTP 401): set "auth": "oauth", or a token as "bearer_token" or in '
                f'"headers"{_wrong_token(target)}'
            )
        _tell_lost_session(response)
        kind = response.headers.get("content-type", "").lower()
        if kind.startswith(_AS_JSON):
            _limit_body(response, max_message_bytes)
        elif kind.startswith("text/event-stream"):
            _make_valid(response, max_message_bytes)

    return ListeningClient(
        hearing=hearing,
        headers=dict(target.headers),
        auth=target.auth,
        timeout=httpx2.Timeout(MCP_DEFAULT_TIMEOUT, read=MCP_DEFAULT_SSE_READ_TIMEOUT),
        event_hooks={"response": [limit]},
    )


def _wrong_token(target: HttpTarget) -> str:
    given = any(name.lower() == "authorization" for name in target.headers)
    return "; it does not take the one that is set" if given else ""


def _tell_lost_session(response: httpx2.Response) -> None:
    """Have the SDK say that the session has ended, whatever words the server has for that: 404 to a request with a
    session's id means it (MCP 2025-11-25, "Session Management"), but a JSON-RPC error in the body would hide it."""
    request = response.request
    if response.status_code == 404 and request.method == "POST" and _SESSION in request.headers:
        response.headers["content-type"] = "text/plain"


def _limit_body(response: httpx2.Response, max_bytes: int) -> None:
    """Have reading the whole body fail beyond `max_bytes`, counted after decompression."""

    async def bounded() -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > max_bytes:
                raise httpx2.StreamError(
                    f"the server sent a message of more than {max_bytes} bytes, which is not allowed "
                    "(max_message_mib)"
                )
        # What aread leaves there, for .content, .text and .json().
        response._content = bytes(valid_line(body))
        return response._content

    response.aread = bounded  # type: ignore[method-assign]


def _make_valid(response: httpx2.Response, max_bytes: int) -> None:
    """Have the text of a stream be valid, line by line; the SDK ends one whose lines are too long."""
    read = response.aiter_text

    async def valid(*arguments: Any) -> AsyncIterator[str]:
        pieces: list[str] = []
        size = 0
        async for chunk in read(*arguments):
            end = max(chunk.rfind("\n"), chunk.rfind("\r")) + 1
            pieces.append(chunk[:end] if end else chunk)
            size += len(pieces[-1])
            if end or size > max_bytes:
                yield _valid_text("".join(pieces))
                pieces = [chunk[end:]] if end else []
                size = sum(map(len, pieces))
        yield _valid_text("".join(pieces))

    response.aiter_text = valid  # type: ignore[method-assign, assignment]


def _valid_text(text: str) -> str:
    return valid_line(text.encode()).decode() if "\\u" in text else text
