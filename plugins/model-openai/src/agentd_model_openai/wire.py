"""Requests of a model client over aiohttp, as the SDK's HTTP library would send them, with an answer that streams.

That library passes a request and its answer through a dozen generators and as many locks, which takes longer than all
else that a request to a model costs; aiohttp takes a fifth of it. Nothing is added to a request, and an answer's bytes
are as they came. Who asks leaves to the HTTP library what is not that simple (`agentd_model_openai.quick_chat`).
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Mapping
from typing import Any, Final, Literal

import aiohttp
import attrs
from multidict import CIMultiDict
from yarl import URL

__all__ = ["ModelWire", "WireAnswer", "WireError", "WireRequest"]

_MOST_CONNECTIONS: Final = 1000
"""As the SDK has it."""
_IDLE_S: Final = 5.0
"""So long a connection without a request is kept, as the HTTP library keeps its own."""
_MOST_HEAD: Final = 100 * 1024
"""Bytes of a line of an answer's head: as many as the HTTP library takes of all of it."""
_MOST_HELD: Final = 128 * 1024
"""Bytes of an answer that wait for their reader; aiohttp holds up to twice as many."""
_LARGE_BODY: Final = 1024 * 1024
"""Bytes of a body that aiohttp wants as a file, to write it piece by piece."""
_NOT_ADDED: Final = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

WireErrorKind = Literal["connect", "connect_timeout", "read", "read_timeout", "protocol"]


class WireError(Exception):
    """A request has failed on its way. `kind` says where."""

    def __init__(self, kind: WireErrorKind, message: str) -> None:
        self.kind: WireErrorKind = kind
        super().__init__(message)


@attrs.frozen
class WireRequest:
    """What is sent, and where to, but for the body and its length.

    :ivar headers: all of them, with `Content-Length` where it belongs.
    """

    method: str
    url: URL
    headers: CIMultiDict[str]
    timeout: aiohttp.ClientTimeout

    @classmethod
    def of(cls, request: Any) -> WireRequest:
        """Return it of a request of the HTTP library."""
        url = request.url
        address = b"%b://%b%b" % (url.raw_scheme, url.netloc, url.raw_path)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        return cls(
            request.method,
            URL(address.decode(), encoded=True),
            CIMultiDict(headers),
            _timeout(request.extensions.get("timeout") or {}),
        )


class WireAnswer:
    """An answer whose head is there. Close it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response: aiohttp.ClientResponse | None = response
        self.status = response.status
        self.headers = response.raw_headers

    async def read(self) -> bytes:
        """Wait for more of the body and return all that has come; nothing at its end. :raises WireError:"""
        if self._response is None:
            return b""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _wire_error(error) from error

    def close(self) -> None:
        """End it. The connection is kept if the answer has come to its end."""
        response, self._response = self._response, None
        if response is not None:
            response.close()  # nothing is left of it to close if it has come to its end


class ModelWire:
    """Connections to servers of models. Those of one event loop are used there alone.

    :param context: for servers that are asked over TLS.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}

    async def ask(self, request: WireRequest, body: bytes) -> WireAnswer:
        """Send a request and wait for the head of its answer. :raises WireError: if none comes."""
        session = self._sessions.get(asyncio.get_running_loop())
        if session is None:
            await self._forget_ended()
            session = self._session()
        headers = request.headers.copy()
        headers["Content-Length"] = str(len(body))
        data = body if len(body) < _LARGE_BODY else io.BytesIO(body)
        try:
            response = await session.request(
                request.method,
                request.url,
                data=data,
                headers=headers,
                timeout=request.timeout,
                allow_redirects=False,
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _wire_error(error) from error
        return WireAnswer(response)

    async def aclose(self) -> None:
        """Close all connections. Those of event loops that have ended are gone with them."""
        await self._forget_ended()
        session = self._sessions.pop(asyncio.get_running_loop(), None)
        if session is not None:
            await session.close()

    def _session(self) -> aiohttp.ClientSession:
        """Return what has the connections of this event loop."""
        loop = asyncio.get_running_loop()
        if loop in self._sessions:
            return self._sessions[loop]
        self._context.set_alpn_protocols(["http/1.1"])  # as the HTTP library does
        self._sessions[loop] = made = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._context, limit=_MOST_CONNECTIONS, keepalive_timeout=_IDLE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            auto_decompress=False,
            read_bufsize=_MOST_HELD,
            max_line_size=_MOST_HEAD,
            max_field_size=_MOST_HEAD,
        )
        return made

    async def _forget_ended(self) -> None:
        """Forget the connections of event loops that have ended."""
        for loop in [loop for loop in self._sessions if loop.is_closed()]:
            await self._sessions.pop(loop).close()


def _timeout(times: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
    """Return the HTTP library's time-outs, in seconds, as aiohttp has them."""
    pool, connect = times.get("pool"), times.get("connect")
    in_all = None if pool is None or connect is None else pool + connect
    return aiohttp.ClientTimeout(
        total=None, connect=in_all, sock_connect=connect, sock_read=times.get("read")
    )


def _wire_error(error: Exception) -> WireError:
    told = str(error) or type(error).__name__
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return WireError("connect_timeout", told)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return WireError("connect", str(error.certificate_error))
    if isinstance(error, aiohttp.ClientConnectorError):
        return WireError("connect", str(error.os_error))
    if isinstance(error, TimeoutError):
        return WireError("read_timeout", told)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return WireError("protocol", "the server has closed the connection in the middle of its answer")
    if isinstance(error, OSError) or type(error) is aiohttp.ClientConnectionError:
        return WireError("read", told)
    return WireError("protocol", told)
