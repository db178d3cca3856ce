"""`HostRules`: what the option `allowed_hosts` says, checked when it is given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, ip_address, ip_network

import attrs
from agentd.errors import ConfigError

from agentd_executor_native.network.addresses import Address, Network, is_closed, true_address
from agentd_executor_native.network.hosts import Host, HostSyntaxError, read_host

__all__ = ["WEB_PORTS", "HostRules"]

WEB_PORTS = (443, 80)
"""The ports of an entry that names none."""

ALLOWED_FORMS = (
    "give a name ('example.com'), all names below one ('*.example.com'), an address ('10.0.0.5', '[fd12::5]') or a "
    "network ('10.1.0.0/16'), each perhaps with ':port'"
)
SHORTEST_PREFIX = {4: 8, 6: 7}  # 10.0.0.0/8 and fc00::/7 are the widest networks that are somebody's own


class _EntryError(ValueError):
    """What is wrong with an entry."""


@attrs.frozen
class HostRules:
    """Which hosts code may reach. Made by `parse`; without an entry it allows none."""

    entries: tuple[str, ...] = ()
    _names: dict[str, frozenset[int]] = attrs.field(factory=dict, repr=False)
    _below: dict[str, frozenset[int]] = attrs.field(factory=dict, repr=False)
    _networks: dict[Network, frozenset[int]] = attrs.field(factory=dict, repr=False)

    @classmethod
    def parse(cls, option: str, given: Sequence[str] | None) -> HostRules:
        """Read the entries of an option.

        :raises ConfigError: with a sentence for each entry that is not understood.
        """
        if isinstance(given, str | bytes) or not isinstance(given or (), Iterable):
            raise ConfigError(f"{option}: must be a list of hosts, got {given!r}")
        rules = cls(tuple(given or ()))
        wrong = []
        for entry in rules.entries:
            try:
                rules._add(entry)
            except _EntryError as error:
                wrong.append(f"{option}: {entry!r} {error}")
        if wrong:
            raise ConfigError("\n".join([*wrong, f"{option}: {ALLOWED_FORMS}"]))
        return rules

    def _add(self, entry: object) -> None:
        host, ports = _split(entry)
        network = _network(host)
        if network is not None:
            self._networks[network] = self._networks.get(network, frozenset()) | ports
        elif host.startswith("*."):
            name = _name(host[2:])
            if "." not in name:
                raise _EntryError("would allow a whole top-level domain; name the hosts below it")
            self._below[name] = self._below.get(name, frozenset()) | ports
        else:
            name = _name(host)
            self._names[name] = self._names.get(name, frozenset()) | ports

    @property
    def has_addresses(self) -> bool:
        """Whether an entry is an address or a network."""
        return bool(self._networks)

    def allows(self, host: Host, port: int) -> bool:
        """Tell whether code may ask for a canonical host at this port."""
        if not isinstance(host, str):
            return self.allows_address(host, port)
        if port in self._names.get(host, ()):
            return True
        above = host
        while "." in above:
            above = above.partition(".")[2]
            if port in self._below.get(above, ()):
                return True
        return False

    def allows_address(self, address: Address, port: int) -> bool:
        """Tell whether an address is allowed itself, whatever name led to it."""
        address = true_address(address)
        if is_closed(address):
            return False
        return any(port in ports and address in network for network, ports in self._networks.items())


def _split(entry: object) -> tuple[str, frozenset[int]]:
    """Return an entry's host and its ports."""
    if not isinstance(entry, str):
        raise _EntryError("is not a text")
    if not entry or re.search(r"[\x00-\x20\x7f]", entry):
        raise _EntryError("is empty, or has a space or a control character")
    if "://" in entry:
        raise _EntryError("has a scheme; write the host alone")
    if "@" in entry or "?" in entry or "#" in entry or "\\" in entry or "%" in entry:
        raise _EntryError("has more than a host and a port")
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise _EntryError("has brackets that are not around an IPv6 address")
        return f"[{host}]", _ports(rest[1:] if rest else None)
    if entry.count(":") > 1:
        raise _EntryError("is perhaps an IPv6 address; write it in brackets")
    host, colon, port = entry.partition(":")
    return host, _ports(port if colon else None)


def _ports(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(WEB_PORTS)
    if not re.fullmatch(r"[1-9][0-9]{0,4}", text, re.ASCII) or int(text) > 65535:
        raise _EntryError(f"has the port {text!r}; it must be a number from 1 to 65535")
    return frozenset([int(text)])


def _network(host: str) -> Network | None:
    """Return the network, or the one address, that an entry's host is; None for a name."""
    bare = host[1:-1] if host.startswith("[") else host
    if "/" in bare:
        network = _read_network(bare)
        if network.prefixlen < SHORTEST_PREFIX[network.version]:
            raise _EntryError(f"is wider than /{SHORTEST_PREFIX[network.version]}")
    else:
        address = _read_address(host)
        if address is None:
            return None
        network = ip_network(address)
    if isinstance(network, IPv4Network) == host.startswith("["):
        raise _EntryError("has brackets that are not around an IPv6 address")
    if is_closed(network.network_address):
        raise _EntryError(
            "can never be allowed: nothing, link-local, multicast or a cloud's metadata is there"
        )
    return network


def _read_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise _EntryError("has a path, or is a network with bits behind its prefix") from None


def _read_address(host: str) -> Address | None:
    try:
        found = read_host(host)
    except HostSyntaxError:
        if host.startswith("["):
            raise _EntryError("has brackets that are not around an IPv6 address") from None
        return None  # `_name` says why
    if isinstance(found, str):
        return None
    try:
        literal = ip_address(host.strip("[]"))
    except ValueError:
        literal = None
    if literal != found:
        raise _EntryError(f"is another spelling of an address; write {str(found)!r}")
    return found


def _name(text: str) -> str:
    if "*" in text:
        raise _EntryError("has a '*' that is not a whole first label with names below it")
    try:
        host = read_host(text)
    except HostSyntaxError:
        raise _EntryError("is not the name of a host") from None
    if not isinstance(host, str):
        raise _EntryError("is an address; there are no names below it")
    if host == "localhost" or host.endswith(".localhost"):
        raise _EntryError("is this machine; name it by its address and port, such as '127.0.0.1:8080'")
    return host
