"""Names of hosts in one canonical form, so that each is compared with the rules however it was spelled."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import TypeAlias

from agentd_executor_native.network.addresses import Address, spelled_ipv4, spelled_ipv6

__all__ = ["Host", "HostSyntaxError", "HttpTarget", "host_and_port", "read_authority", "read_host"]

Host: TypeAlias = str | Address
"""A canonical name (lower-case ASCII, no trailing dot) or an address."""

HttpTarget: TypeAlias = tuple[Host, int]

MAX_NAME = 253  # RFC 1035, 2.3.4, without the trailing dot
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_AUTHORITY = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]*\]|[^\s:@\[\]/?#\\%]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


class HostSyntaxError(ValueError):
    """A text names no host."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:300]!r} is not the name of a host")


def read_host(text: str) -> Host:
    """Return the canonical form of a name or an address, IPv6 with or without brackets.

    Upper case, a trailing dot, international names (IDNA 2008 with the mapping of UTS 46) and the many spellings of
    addresses (decimal, octal, hexadecimal, short, IPv4 within IPv6) all come out as the one host that they mean.

    :raises HostSyntaxError: for all else: control bytes, empty labels, `%`, `@`, names of more than 253 characters.
    """
    try:
        if text.startswith("[") and text.endswith("]"):
            return spelled_ipv6(text[1:-1])
        if ":" in text:
            return spelled_ipv6(text)
        name = _ascii(text[: MAX_NAME + 2]).lower().removesuffix(".")
        if len(text) > MAX_NAME + 1 or len(name) > MAX_NAME or not _NAME.fullmatch(name):
            raise HostSyntaxError(text)
        return spelled_ipv4(name) or name
    except ValueError:  # IDNA's errors are of this kind as well
        raise HostSyntaxError(text) from None


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    import idna  # its tables take milliseconds to import, and hardly any name needs them

    return idna.encode(text, uts46=True).decode()


def read_authority(text: str, default_port: int | None = None) -> HttpTarget:
    """Return host and port of `HOST[:PORT]`, as in URLs and Host headers (RFC 9110, 7.2); IPv6 in brackets.

    :raises HostSyntaxError: if it is none, or has no port and there is no default.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None or (match["port"] is None and default_port is None):
        raise HostSyntaxError(text)
    port = int(match["port"] or default_port or 0)
    if not 0 < port < 65536:
        raise HostSyntaxError(text)
    return read_host(match["host"]), port


def host_and_port(host: Host, port: int) -> str:
    """Write them as in `allowed_hosts`."""
    return f"[{host}]:{port}" if isinstance(host, IPv6Address) else f"{host}:{port}"
