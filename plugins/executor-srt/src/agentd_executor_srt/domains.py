"""Names of hosts as srt takes them: checked here, because a running srt drops what it does not like without a word."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from agentd.errors import ConfigError

__all__ = ["check_domains"]

_ENTRY = re.compile(r"(?P<host>\[[^\]]*\]|[^:/\[\]\s]+)(?::(?P<port>[1-9][0-9]{0,4}))?", re.ASCII)
_NAME = re.compile(r"[^.*%\\@?#]+(?:\.[^.*%\\@?#]+)+")


def check_domains(option: str, given: Sequence[str] | None, *, deny: bool = False) -> list[str]:
    """Return the entries as a list. Raises `ConfigError` for one that srt would refuse.

    An entry is a name with a dot, `localhost`, an address (IPv6 in brackets) or `*.` and a name with a dot, each
    perhaps with `:port`; where hosts are denied, `*` stands for all.
    """
    if isinstance(given, str) or not isinstance(given or (), Iterable):
        raise ConfigError(f"{option}: must be a list of host names, got {given!r}")
    entries = list(given or ())
    for entry in entries:
        if not isinstance(entry, str) or not _is_entry(entry, deny):
            everything = ", '*' for all" if deny else ""
            raise ConfigError(
                f"{option}: {entry!r} is no host: give a name ('example.com'), all names below one "
                f"('*.example.com'), 'localhost' or an address, perhaps with ':port'{everything}"
            )
    return entries


def _is_entry(entry: str, deny: bool) -> bool:
    match = _ENTRY.fullmatch(entry)
    if match is None or int(match["port"] or 1) > 65535:
        return False
    host = match["host"]
    if host.startswith("["):
        return _is_ipv6(host[1:-1])
    if host == "*":
        return deny
    return host == "localhost" or _NAME.fullmatch(host.removeprefix("*.")) is not None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
