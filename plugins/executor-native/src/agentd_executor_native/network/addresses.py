"""Addresses: how they may be spelled, which one an address stands for, and which are everybody's.

The lists are IANA's registries of special-purpose addresses (RFC 6890, as of 2026) and not `is_global`, which says
different things in different releases of Python.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

__all__ = ["Address", "Network", "is_closed", "is_public", "spelled_ipv4", "spelled_ipv6", "true_address"]

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_PUBLIC_V6 = IPv6Network("2000::/3")  # the only global unicast addresses that are given out
_MAPPED, _COMPATIBLE = IPv6Network("::ffff:0:0/96"), IPv6Network("::/96")
_NAT64, _SIX_TO_FOUR = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")

_SPECIAL: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24"),
        *("192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"),  # Teredo is in the first
        "168.63.129.16/32",  # public by its number, but it is Azure's host that answers
    )
)

_CLOSED: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8"),
        # metadata services of clouds, which give out the machine's credentials
        *("168.63.129.16/32", "192.0.0.192/32", "100.100.100.200/32", "fd00:ec2::/32", "fd20:ce::254/128"),
    )
)

_PART = re.compile(r"0x[0-9a-f]*|[0-9]+")


def spelled_ipv4(name: str) -> IPv4Address | None:
    """Return the address that a lower-case name is for `inet_aton`: `2130706433`, `0x7f.1`, `0177.0.0.1`.

    The rules are the URL standard's (WHATWG, "IPv4 parser"). None for a name whose last label is no number.

    :raises ValueError: if the last label is a number, and the whole is no address: no host can have that name.
    """
    labels = name.split(".")
    if not _PART.fullmatch(labels[-1]):
        return None
    if len(labels) > 4 or not all(_PART.fullmatch(label) for label in labels):
        raise ValueError(name)
    *first, last = [_number(label) for label in labels]
    if any(number > 255 for number in first) or last >= 256 ** (5 - len(labels)):
        raise ValueError(name)
    return IPv4Address(sum(number << (24 - 8 * place) for place, number in enumerate(first)) + last)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)  # ValueError for `08`


def spelled_ipv6(text: str) -> Address:
    """Return the address that an IPv6 spelling without brackets stands for.

    :raises ValueError: if it is none, or has a zone (`%eth0`).
    """
    if "%" in text:
        raise ValueError(text)
    return true_address(IPv6Address(text))


def true_address(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one carries (mapped, compatible, NAT64, 6to4), or the address itself."""
    if isinstance(address, IPv4Address):
        return address
    number = int(address)
    if address in _SIX_TO_FOUR:
        return IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address in _MAPPED or address in _NAT64 or (address in _COMPATIBLE and number > 1):
        return IPv4Address(number & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Tell whether anybody on the internet may have this address: whether a name may lead there."""
    address = true_address(address)
    return _is_unicast(address) and not any(address in network for network in _SPECIAL)


def _is_unicast(address: Address) -> bool:
    return isinstance(address, IPv4Address) or address in _PUBLIC_V6


def is_closed(address: Address) -> bool:
    """Tell whether no setting opens this address: unspecified, link-local, multicast, a cloud's metadata."""
    address = true_address(address)
    return any(address in network for network in _CLOSED)


def read_address(text: str) -> Address:
    """Return the address of a text that the system's resolver has given. :raises ValueError: if it is none."""
    return ip_address(text.partition("%")[0])
