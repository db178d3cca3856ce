"""Requests of an HTTP client of ours over its wire, and how the HTTP library would tell what comes of them."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from functools import cache, lru_cache, partial
from types import FunctionType
from typing import Any, Final

from agentd_model_openai.quick_events import QuickEventStream
from agentd_model_openai.wire import ModelWire, WireAnswer, WireError, WireRequest

__all__ = ["ClientWire", "wired_client"]

_HOOKS: Final = ("send", "build_request", "_send_single_request", "_send_handling_auth", "_transport_for_url")
"""Methods of the HTTP library that tracing libraries put something in the place of."""
_ERRORS: Final = {
    "connect": "ConnectError",
    "connect_timeout": "ConnectTimeout",
    "read": "ReadError",
    "read_timeout": "ReadTimeout",
    "protocol": "RemoteProtocolError",
}


def wired_client(openai: Any, context: Any) -> Any:
    """Return an HTTP client for an `AsyncOpenAI`, as the SDK makes its own, that has a wire, too.

    :param context: of TLS, for both.
    """
    made = _wired_type(openai.DefaultAsyncHttpxClient)(verify=context)
    made.wire = ClientWire(made, ModelWire(context))
    return made


@cache
def _wired_type(made: Any) -> Any:
    class WiredHttpClient(made):  # type: ignore[misc]
        """An HTTP client that closes its wire with itself."""

        wire: ClientWire

        async def aclose(self) -> None:
            try:
                await super().aclose()  # first: then nothing is asked any more
            finally:
                await self.wire.aclose()

    return WiredHttpClient


class ClientWire:
    """The wire of an HTTP client."""

    def __init__(self, http: Any, wire: ModelWire) -> None:
        self._http = http
        self._wire = wire

    async def aclose(self) -> None:
        """Close its connections."""
        await self._wire.aclose()

    def is_open(self, url: Any) -> bool:
        """Tell whether a request may go over it, for nobody has to see it in the HTTP library: the client is as it was
        made, and there is no proxy."""
        http = self._http
        if http.is_closed or http.auth is not None or any(http.event_hooks.values()):
            return False
        kind: Any = type(http)
        transport = http._transport
        if http._mounts and http._transport_for_url(url) is not transport:
            return False
        hooks = type(transport).handle_async_request, *(getattr(kind, name, None) for name in _HOOKS)
        return _are_the_librarys(hooks) and not any(log.isEnabledFor(level) for log, level in _logs(kind))

    def request(self, request: Any) -> WireRequest:
        """Return a request of the HTTP library as `ask` takes it."""
        return WireRequest.of(request)

    async def ask(self, client: Any, request: Any, known: WireRequest | None, body: bytes) -> Any:
        """Send a request, and return the stream of its chunks.

        Of anything else, the HTTP library's response or error; None for a redirection, which that is to follow.

        :param client: an `AsyncOpenAI`.
        :param request: the HTTP library's own, but for the body; `known`: the same for the wire, if there is one.
        """
        try:
            answer = await self._wire.ask(known or self.request(request), body)
        except WireError as error:
            return _error(self._http, request, error)
        if answer.status // 100 == 3:
            answer.close()
            return None
        events = QuickEventStream(answer, partial(_response, self._http, request, answer), client)
        names = {name.lower() for name, _ in answer.headers}
        if answer.status // 100 != 2 or b"content-encoding" in names:
            return events.response
        if b"set-cookie" in names:
            _ = events.response  # which keeps them
        return events


@cache
def _library(kind: Any) -> str:
    """Return the name of the HTTP library that a type of client is of."""
    client = next(base for base in kind.__mro__ if base.__name__ == "AsyncClient")
    return str(client.__module__).partition(".")[0]


@lru_cache(maxsize=8)
def _are_the_librarys(hooks: tuple[Any, ...]) -> bool:
    """Tell whether nobody has put another function in the place of one of the HTTP library's."""
    for hook in hooks:
        if hook is None:
            continue
        if type(hook) is not FunctionType or hasattr(hook, "__wrapped__"):
            return False
        home = hook.__module__.partition(".")[0]
        if home not in ("httpx", "httpx2") or f"/{home}/" not in hook.__code__.co_filename:
            return False
    return True


@cache
def _logs(kind: Any) -> tuple[tuple[logging.Logger, int], ...]:
    """Return the logs in which the library tells of each request, with their levels."""
    name = _library(kind)
    return (logging.getLogger(name), logging.INFO), (
        logging.getLogger(name.replace("httpx", "httpcore")),
        logging.DEBUG,
    )


# --- what comes ----------------------------------------------------------------------------------------------


def _response(http: Any, request: Any, answer: WireAnswer, body: AsyncIterator[bytes]) -> Any:
    """Return the HTTP library's response. It takes what the server has set as cookies.

    :param body: the body's bytes, which has `aclose`; errors of the wire become the library's.
    """
    kind: Any = type(http)
    library = sys.modules[_library(kind)]
    response = library.Response(
        answer.status,
        headers=answer.headers,
        stream=_body_type(library)(http, request, body),
        request=request,
        extensions={"http_version": b"HTTP/1.1"},
    )
    http.cookies.extract_cookies(response)
    return response


@cache
def _body_type(library: Any) -> Any:
    class WireBody(library.AsyncByteStream):  # type: ignore[misc]
        """A body that comes over a wire."""

        def __init__(self, http: Any, request: Any, body: Any) -> None:
            self._http = http
            self._request = request
            self._body = body

        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> bytes:
            try:
                data: bytes = await anext(self._body)
            except WireError as error:
                raise _error(self._http, self._request, error) from None
            return data

        async def aclose(self) -> None:
            await self._body.aclose()

    return WireBody


def _error(http: Any, request: Any, error: WireError) -> Exception:
    """Return the HTTP library's error."""
    kind: Any = type(http)
    library = sys.modules[_library(kind)]
    made: Exception = getattr(library, _ERRORS[error.kind])(str(error), request=request)
    made.__cause__ = error
    return made
