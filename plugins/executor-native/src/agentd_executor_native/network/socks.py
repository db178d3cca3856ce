"""SOCKS 5 as far as a proxy for programs needs it (RFC 1928): CONNECT without authentication."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from agentd_executor_native.network.addresses import true_address
from agentd_executor_native.network.hosts import HostSyntaxError, HttpTarget, read_host
from agentd_executor_native.network.streams import SocketStream

__all__ = ["FAILED", "GRANTED", "REFUSED", "UNREACHABLE", "VERSION", "SocksSyntaxError", "read_socks_target"]
__all__ += ["socks_reply"]

VERSION = 5
GRANTED, FAILED, REFUSED, UNREACHABLE = 0, 1, 2, 4
_NO_COMMAND, _NO_ADDRESS_TYPE = 7, 8
_NO_AUTHENTICATION, _NO_METHOD = 0, 0xFF
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4


class SocksSyntaxError(ValueError):
    """What came is not a request that is served; `answer` is what the client is told."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("not a SOCKS 5 request that is served")
        self.answer = answer


def socks_reply(code: int) -> bytes:
    """Return a reply; where the connection ends on our side is nobody's business."""
    return bytes([VERSION, code, 0, _IPV4, 0, 0, 0, 0, 0, 0])


async def read_socks_target(stream: SocketStream) -> HttpTarget:
    """Read greeting and request; return where to. A name is not looked up here.

    :raises SocksSyntaxError: for what is not served, HostSyntaxError: for a name that no host has.
    """
    version, count = await stream.take(2)
    methods = await stream.take(count)
    if version != VERSION or _NO_AUTHENTICATION not in methods:
        raise SocksSyntaxError(bytes([VERSION, _NO_METHOD]))
    await stream.write(bytes([VERSION, _NO_AUTHENTICATION]))
    version, command, _, kind = await stream.take(4)
    if version != VERSION or command != _CONNECT:
        raise SocksSyntaxError(socks_reply(_NO_COMMAND))
    if kind == _IPV4:
        host = str(IPv4Address(await stream.take(4)))
    elif kind == _IPV6:
        host = str(true_address(IPv6Address(await stream.take(16))))
    elif kind == _NAME:
        host = _decode(await stream.take((await stream.take(1))[0]))
    else:
        raise SocksSyntaxError(socks_reply(_NO_ADDRESS_TYPE))
    port = int.from_bytes(await stream.take(2), "big")
    if not port:
        raise HostSyntaxError(f"{host}:0")
    return read_host(host), port


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise HostSyntaxError(name.decode("latin-1")) from None
