"""HTTP/1.1: CONNECT and requests with an absolute target are read by h11 and written anew, never passed on as bytes.

So there is one reading of each message, and nothing that the next server could read in another way gets to it. Each
request gets a connection of its own to its server; the one to the client is kept.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterable
from typing import Any

import h11

from agentd_executor_native.network.gate import HostGate, HostRefusedError, HostUnreachableError
from agentd_executor_native.network.hosts import HostSyntaxError, HttpTarget, host_and_port, read_authority
from agentd_executor_native.network.streams import SocketStream
from agentd_executor_native.network.tls_ends import TlsEnds

__all__ = ["HttpRelay"]

HTTP_PORT, HTTPS_PORT = 80, 443

_ABSOLUTE = re.compile(r"http://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?", re.IGNORECASE)
_HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"http2-settings")
}
_NEVER_NAMED = {b"host", b"content-length", b"content-type", b"authorization"}
"""What `Connection` cannot take out of a message: its framing, its host."""


class HttpAnswerError(Exception):
    """A request that is answered by the proxy itself, with a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class HttpWire:
    """h11's state of one connection, and the stream that it is on."""

    def __init__(
        self, role: type[h11.CLIENT] | type[h11.SERVER], stream: SocketStream, head_bytes: int
    ) -> None:
        self.state = h11.Connection(role, max_incomplete_event_size=head_bytes)
        self._head_bytes = head_bytes
        self.stream = stream

    async def receive(self) -> Any:
        """Return the next event. :raises h11.RemoteProtocolError: if the other side breaks the protocol."""
        while (event := self.state.next_event()) is h11.NEED_DATA:
            self.state.receive_data(await self.stream.read())
        # h11 looks at the size of what is not whole yet, and a head may come whole.
        if _head_size(event) > self._head_bytes:
            raise h11.RemoteProtocolError("the head is too long", error_status_hint=431)
        return event

    async def send(self, event: Any) -> None:
        """Write an event."""
        if data := self.state.send(event):
            await self.stream.write(data)


class HttpRelay:
    """Serves one connection of a client.

    :param fixed: the one host that it may speak of, if the connection is a tunnel to it. Then requests have the form
        that servers get, and no CONNECT goes through.
    :param tls_ends: given if the stream came in TLS: so it goes on in TLS, with the secrets of the host filled in.
    """

    def __init__(
        self,
        stream: SocketStream,
        gate: HostGate,
        *,
        fixed: HttpTarget | None = None,
        tls_ends: TlsEnds | None = None,
    ) -> None:
        self._client = HttpWire(h11.SERVER, stream, gate.limits.head_bytes)
        self._gate = gate
        self._fixed = fixed
        self._tls_ends = tls_ends
        self._default_port = HTTP_PORT if tls_ends is None else HTTPS_PORT

    async def serve(self) -> HttpTarget | None:
        """Answer requests until the client ends, or asks for a tunnel: then return where to; code may go there."""
        try:
            while (request := await self._next_request()) is not None:
                if request.method == b"CONNECT":
                    return await self._tunnel_target(request)
                await self._forward(request)
                if self._client.state.our_state is h11.MUST_CLOSE:
                    return None
                self._client.state.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._answer(error.error_status_hint, f"this is not HTTP as it should be: {error}")
        except HostSyntaxError as error:
            await self._answer(400, str(error))
        except HttpAnswerError as error:
            await self._answer(error.status, str(error))
        except (HostRefusedError, HostUnreachableError) as error:
            await self.refuse(error)
        return None

    async def _next_request(self) -> h11.Request | None:
        stream = self._client.stream
        if not stream.buffered and not self._client.state.trailing_data[0] and not await stream.fill_some():
            return None
        async with asyncio.timeout(self._gate.limits.opening_s):
            event = await self._client.receive()
        return event if isinstance(event, h11.Request) else None

    # --- CONNECT

    async def _tunnel_target(self, request: h11.Request) -> HttpTarget:
        if self._fixed is not None:
            raise HttpAnswerError(405, "a tunnel in a tunnel is not served")
        if _has_body(request.headers):
            raise HttpAnswerError(400, "CONNECT has no body")
        target = read_authority(request.target.decode("ascii"))
        await self._gate.admit(*target)
        return target

    async def confirm(self) -> None:
        """Tell the client that its tunnel is there; what it has sent already is buffered in the stream again."""
        await self._client.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        self._client.stream.buffered[:0] = self._client.state.trailing_data[0]

    async def refuse(self, error: HostRefusedError | HostUnreachableError) -> None:
        """Tell the client why it cannot have what it asked for."""
        await self._answer(403 if isinstance(error, HostRefusedError) else 502, str(error))

    # --- requests

    async def _forward(self, request: h11.Request) -> None:
        target, path = self._target(request)
        host = host_and_port(*target).removesuffix(f":{self._default_port}")
        headers = [(b"Host", host.encode()), *_end_to_end(request.headers), (b"Connection", b"close")]
        if self._tls_ends is not None:
            headers = self._tls_ends.secrets.filled_in(headers, target)
        with await self._connect(target) as upstream:
            server = HttpWire(h11.CLIENT, upstream, self._gate.limits.head_bytes)
            await server.send(h11.Request(method=request.method, target=path, headers=headers))
            body = asyncio.create_task(_copy_body(self._client, server))
            # An answer that is there at once must not find the request's end unread: what is here is copied first.
            await (asyncio.sleep(0) if _has_body(request.headers) else body)
            try:
                await self._copy_response(server, target)
            finally:
                body.cancel()
                await asyncio.gather(body, return_exceptions=True)
        if self._client.state.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED):
            await self._client.stream.say_and_end(b"")  # such as 413: the rest of the request is dropped
            raise ConnectionAbortedError("the answer came before all of the request")

    async def _connect(self, target: HttpTarget) -> SocketStream:
        upstream = await self._gate.connect(*target)
        upstream.clock = self._client.stream.clock
        if self._tls_ends is None:
            return upstream
        try:
            async with asyncio.timeout(self._gate.limits.connect_s):
                return await self._tls_ends.towards_server(upstream, str(target[0]))
        except BaseException as error:
            upstream.__exit__()
            if isinstance(error, OSError):
                raise HostUnreachableError(*target, _tls_problem(error)) from None
            raise

    def _target(self, request: h11.Request) -> tuple[HttpTarget, bytes]:
        """Return where a request goes, and what its target is there. Its Host must say the same."""
        text = request.target.decode("ascii")
        absolute = _ABSOLUTE.fullmatch(text)
        if absolute is not None:
            target = read_authority(absolute["authority"], HTTP_PORT)
            path = (absolute["path"] or "/") + (absolute["query"] or "")
        elif self._fixed is not None and text.startswith("/"):
            target, path = self._fixed, text
        elif "://" in text:
            raise HttpAnswerError(400, "only http:// is forwarded; for https, ask for a tunnel with CONNECT")
        else:
            raise HttpAnswerError(400, "this is a proxy: the request must name a host (http://HOST/PATH)")
        names = [value.decode("latin-1") for name, value in request.headers if name == b"host"]
        named = read_authority(names[0], self._default_port) if names else target
        if named != target or (self._fixed is not None and target != self._fixed):
            raise HttpAnswerError(
                403, f"the request names more than one host, not only {host_and_port(*target)}"
            )
        return target, path.encode("ascii")

    async def _copy_response(self, server: HttpWire, target: HttpTarget) -> None:
        while True:
            try:
                event = await server.receive()
            except (h11.RemoteProtocolError, OSError) as error:
                if self._client.state.our_state is not h11.SEND_RESPONSE:
                    raise ConnectionAbortedError("the answer broke off") from None
                raise HostUnreachableError(*target, f"its answer is not HTTP ({error})") from None
            if isinstance(event, h11.InformationalResponse):
                await self._client.send(
                    h11.InformationalResponse(
                        status_code=event.status_code, headers=_end_to_end(event.headers)
                    )
                )
            elif isinstance(event, h11.Response):
                headers = _end_to_end(event.headers)  # h11 leaves the coding out for HTTP/1.0 clients
                await self._client.send(
                    h11.Response(status_code=event.status_code, headers=headers, reason=event.reason)
                )
            elif isinstance(event, h11.Data):
                await self._client.send(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await self._client.send(h11.EndOfMessage())
                return
            else:
                raise ConnectionAbortedError("the answer broke off")

    async def _answer(self, status: int, sentence: str) -> None:
        """Answer in the server's place; the reason says it, too, for most programs show nothing else of a CONNECT."""
        if self._client.state.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = f"agentd: {sentence}\n".encode()
        reason = re.sub(r"[^ -~]", "?", sentence)[:200].encode("ascii")
        head = h11.Response(
            status_code=status,
            headers=[
                *(("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))),
                ("Connection", "close"),
            ],
            reason=reason,
        )
        parts = [self._client.state.send(event) for event in (head, h11.Data(data=body), h11.EndOfMessage())]
        await self._client.stream.say_and_end(b"".join(part or b"" for part in parts))


def _tls_problem(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    return "it does not speak TLS as it should"


def _head_size(event: object) -> int:
    if not isinstance(event, h11.Request | h11.InformationalResponse | h11.Response):
        return 0
    first = event.target if isinstance(event, h11.Request) else event.reason
    return len(first) + sum(len(name) + len(value) + 4 for name, value in event.headers)


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the headers that are for the other end: none of this connection, of proxies, or of our own making."""
    fields = list(headers)
    named = {
        token.strip().lower()
        for name, value in fields
        if name == b"connection"
        for token in value.split(b",")
    }
    dropped = _HOP_BY_HOP | (named - _NEVER_NAMED) | {b"host"}
    chunked = _is_chunked(fields)
    kept = [
        (name, value)
        for name, value in fields
        if name not in dropped
        and not name.startswith(b"proxy-")
        and not (chunked and name == b"content-length")
    ]
    return [*kept, (b"Transfer-Encoding", b"chunked")] if chunked else kept


def _is_chunked(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name == b"transfer-encoding" for name, _ in headers)  # h11 knows no other coding


def _has_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


async def _copy_body(client: HttpWire, server: HttpWire) -> None:
    """Copy the request's body; if it is not as it should be, end the server's connection, and with it the answer."""
    try:
        while isinstance(event := await client.receive(), h11.Data):
            await server.send(h11.Data(data=event.data))
    except h11.RemoteProtocolError:
        event = None
    except OSError:
        return  # the server may have answered and closed before it has read all
    if isinstance(event, h11.EndOfMessage):
        await server.send(h11.EndOfMessage())
    else:
        server.stream.abort()
