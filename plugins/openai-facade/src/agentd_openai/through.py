"""The SDK's other methods over a run of ours: it sends its request to a transport that answers with the run.

`parse`, the helpers `stream`, and calls through `with_raw_response` and `with_streaming_response` do more than ask:
they make schemas of types, wrap the HTTP response, put a stream's events together. All of that stays the SDK's own
code. It works on a copy of the client whose HTTP transport is a `RunTransport`: that reads the request, lets the model
act, and answers as the provider would have answered had it done all of that itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cache, wraps
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentd_openai.raw import without_raw_header
from agentd_openai.record import http_library
from agentd_openai.sse import LAST_OF_CHAT, as_event, as_json

if TYPE_CHECKING:
    from agentd_openai.calls import PatchedCall

__all__ = ["KeptResponse", "RunTransport"]

_PASSED: Final = ("extra_headers", "extra_query", "extra_body", "timeout")
"""Arguments of a call that are no part of the body."""
_OF_THE_BODY: Final = (
    "content-length",
    "content-encoding",
    "content-type",
    "transfer-encoding",
    "connection",
)
"""Headers of the provider's response that say nothing about ours."""


@attrs.define(eq=False)
class KeptResponse:
    """The SDK's own `create`, which remembers the HTTP response that it got last.

    :param resource: the SDK's resource, not patched.
    """

    resource: Any
    is_async: bool
    http: Any = None

    def create(self) -> Callable[..., Any]:
        """Return a method like the resource's `create`."""
        ask = self.resource.with_raw_response.create

        @wraps(self.resource.create)
        def create(**kwargs: Any) -> Any:
            raw = ask(**kwargs)
            self.http = raw.http_response
            return raw.parse()

        @wraps(self.resource.create)
        async def async_create(**kwargs: Any) -> Any:
            raw = await ask(**kwargs)
            self.http = raw.http_response
            parsed = raw.parse()
            return await parsed if isawaitable(parsed) else parsed

        return async_create if self.is_async else create


class RunTransport:
    """A transport for the SDK's HTTP client, for one call.

    :param make_call: makes the run of the arguments that a request holds.
    :param given: what the caller passed to the SDK's method.
    """

    def __init__(
        self, make_call: Callable[[dict[str, Any]], PatchedCall], kept: KeptResponse, given: dict[str, Any]
    ) -> None:
        self._make_call = make_call
        self._kept = kept
        self._given = given
        self.error: Exception | None = None
        """What ended the run: the SDK takes every error of a transport for one of the connection."""

    def view(self, client: Any) -> Any:
        """Return a copy of a client that asks this transport, and repeats nothing."""
        import openai

        made: Any = openai.DefaultAsyncHttpxClient if self._kept.is_async else openai.DefaultHttpxClient
        return type(client).copy(client, http_client=made(transport=self), max_retries=0)

    def handle_request(self, request: Any) -> Any:
        """Answer a request of a sync client."""
        try:
            streamed, call = self._read(json.loads(request.read()))
            answer = call.sync_stream() if streamed else call.sync_whole()
        except Exception as exc:
            self.error = exc
            raise
        return self._response(request, call, answer, streamed=streamed)

    async def handle_async_request(self, request: Any) -> Any:
        """Answer a request of an async client."""
        try:
            streamed, call = self._read(json.loads(await request.aread()))
            answer = await (call.async_stream() if streamed else call.async_whole())
        except Exception as exc:
            self.error = exc
            raise
        return self._response(request, call, answer, streamed=streamed)

    def close(self) -> None:
        """Nothing is held: the run belongs to the response."""

    async def aclose(self) -> None:
        """Nothing is held."""

    def _read(self, body: dict[str, Any]) -> tuple[bool, PatchedCall]:
        """Return whether the request asks for a stream, and its run."""
        passed = {name: self._given[name] for name in _PASSED if self._given.get(name) is not None}
        for name in passed.get("extra_body") or ():
            if name not in self._given:
                body.pop(name, None)  # else the SDK's method would be given what it does not know
        if "extra_headers" in passed:
            passed["extra_headers"] = without_raw_header(passed["extra_headers"])
        streamed = bool(body.pop("stream", False))
        return streamed, self._make_call({**body, **passed})

    def _response(self, request: Any, call: PatchedCall, answer: Any, *, streamed: bool) -> Any:
        httpx, sync_bytes, async_bytes = _http()
        theirs = getattr(self._kept.http, "headers", None)
        headers = [(k, v) for k, v in (theirs.multi_items() if theirs else ()) if k not in _OF_THE_BODY]
        kind = "text/event-stream; charset=utf-8" if streamed else "application/json"
        headers.append(("content-type", kind))
        if not streamed:
            return httpx.Response(200, headers=headers, content=as_json(answer), request=request)
        made = async_bytes if self._kept.is_async else sync_bytes
        return httpx.Response(200, headers=headers, stream=made(answer, call.api), request=request)


def _last(api: str) -> bytes:
    return LAST_OF_CHAT if api == "chat" else b""


@cache
def _http() -> tuple[Any, type, type]:
    """Return the HTTP library that the SDK uses, and the two kinds of a response's body in it."""
    httpx: Any = http_library()

    class RunBytes(httpx.SyncByteStream):  # type: ignore[misc]
        """The events of a run, as bytes. Closing it ends the run."""

        def __init__(self, stream: Any, api: str) -> None:
            self._stream, self._api = stream, api

        def __iter__(self) -> Iterator[bytes]:
            for item in self._stream:
                yield as_event(self._api, item)
            yield _last(self._api)

        def close(self) -> None:
            self._stream.close()

    class AsyncRunBytes(httpx.AsyncByteStream):  # type: ignore[misc]
        """The same for an async client."""

        def __init__(self, stream: Any, api: str) -> None:
            self._stream, self._api = stream, api

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for item in self._stream:
                yield as_event(self._api, item)
            yield _last(self._api)

        async def aclose(self) -> None:
            await self._stream.close()

    return httpx, RunBytes, AsyncRunBytes
