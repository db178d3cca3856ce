"""Tunnels: bytes both ways, once the first of them show that they are for the host that was asked for."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Literal

from agentd_executor_native.network.client_hello import (
    MAX_HELLO_BYTES,
    RECORD_HEADER_BYTES,
    TlsSyntaxError,
    hello_length,
    record_length,
    server_name,
)
from agentd_executor_native.network.gate import HostGate
from agentd_executor_native.network.hosts import Host, HostSyntaxError, HttpTarget, read_host
from agentd_executor_native.network.http_relay import HTTP_PORT, HttpRelay
from agentd_executor_native.network.streams import SocketStream, copy_stream

__all__ = ["serve_tunnel"]

Opening = Literal["tls", "http", "other"]

TLS_PORT = 443
MAX_LINE_BYTES = 1 << 13
UNRECOGNIZED_NAME = bytes(
    [21, 3, 1, 0, 2, 2, 112]
)  # a fatal alert (RFC 8446, 6.2): clients name it to their user

_REQUEST_LINE = re.compile(rb"\S+\s.*HTTP/\d", re.IGNORECASE | re.DOTALL)


async def serve_tunnel(
    client: SocketStream, gate: HostGate, target: HttpTarget, confirm: Callable[[], Awaitable[None]]
) -> None:
    """Serve a tunnel; `confirm` tells the client that it is there.

    To port 80 it is HTTP, and each request is read; to port 443 it is TLS, whose server name must be the host's; to
    other ports it may be both, with the same checks, or anything else. To a host that gets secrets it is HTTP in TLS.

    :raises HostRefusedError:, HostUnreachableError: before it is confirmed, and never later.
    """
    if target[1] == HTTP_PORT or gate.tls_ends_for(target) is not None:
        await gate.admit(*target)
        await confirm()
        await _serve_read(client, gate, target)
        return
    with await gate.connect(*target) as upstream:
        upstream.clock = client.clock
        await confirm()
        answers = asyncio.create_task(
            copy_stream(upstream, client)
        )  # in some protocols the server speaks first
        try:
            opening = await _read_opening(client, gate, target)
            if opening in ("tls", "other"):
                await copy_stream(client, upstream)
                await answers
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
    if opening == "http":
        await HttpRelay(client, gate, fixed=target).serve()


async def _serve_read(client: SocketStream, gate: HostGate, target: HttpTarget) -> None:
    """Serve a tunnel whose requests are all read: to port 80, or to a host that gets secrets over TLS alone."""
    ends = gate.tls_ends_for(target)
    if ends is None or target[1] == HTTP_PORT:
        await HttpRelay(client, gate, fixed=target).serve()
        return
    if await _read_opening(client, gate, target, must_be_tls=True) == "tls":
        async with asyncio.timeout(gate.limits.opening_s):
            decrypted = await ends.towards_client(client, str(target[0]))
        await HttpRelay(decrypted, gate, fixed=target, tls_ends=ends).serve()


async def _read_opening(
    client: SocketStream, gate: HostGate, target: HttpTarget, *, must_be_tls: bool = False
) -> Opening | None:
    """Return what the client speaks; None, and the client was told, if that must not go there."""
    if not client.buffered and not await client.fill_some():
        return "other"  # it only listens
    try:
        async with asyncio.timeout(gate.limits.opening_s):
            opening = await _opening(client)
            if opening == "tls":
                await _check_server_name(client, target[0])
            elif must_be_tls or target[1] == TLS_PORT:
                raise TlsSyntaxError("not TLS")
            return opening
    except (TlsSyntaxError, HostSyntaxError) as error:
        gate.refusal(*target, f"got a connection that must not go there: {error}")
        await client.say_and_end(UNRECOGNIZED_NAME)
        return None


async def _opening(client: SocketStream) -> Opening:
    """Tell TLS by its first byte, and HTTP by its first line: a word, a space, and HTTP/ later on."""
    while True:
        start = bytes(client.buffered[: MAX_LINE_BYTES + 1])
        if start[0] == 22:
            return "tls"
        line, newline, _ = start.lstrip(b"\r\n\t\v\f ").replace(b"\r", b"\n").partition(b"\n")
        if line and not re.match(rb"[!-~]+(\s|\Z)", line):
            return "other"
        if newline and line:
            return "http" if _REQUEST_LINE.match(line) else "other"
        if len(start) > MAX_LINE_BYTES:
            raise TlsSyntaxError("its first line has no end")
        await client.fill(len(client.buffered) + 1)


async def _check_server_name(client: SocketStream, host: Host) -> None:
    """Read the ClientHello, in however many records it comes, and leave it buffered."""
    hello, used = bytearray(), 0
    while len(hello) < 4 or len(hello) < hello_length(bytes(hello[:4])):
        await client.fill(used + RECORD_HEADER_BYTES)
        body = used + RECORD_HEADER_BYTES
        used = body + record_length(bytes(client.buffered[used:body]))
        if used > 2 * MAX_HELLO_BYTES:
            raise TlsSyntaxError("a ClientHello in too many pieces")
        await client.fill(used)
        hello += client.buffered[body:used]
    if len(hello) > hello_length(bytes(hello[:4])):
        raise TlsSyntaxError("more than a ClientHello")
    name = server_name(bytes(hello))
    if not isinstance(host, str):
        return  # an address that is allowed is allowed with all that is served there
    if name is None:
        raise TlsSyntaxError("TLS without a server name")
    if read_host(name) != host:
        raise TlsSyntaxError(f"TLS for another server, {name[:253]!r}")
