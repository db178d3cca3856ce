"""`HostSecrets`: values that code has a placeholder of, and that the proxy puts into requests to the named hosts.

In the headers of requests over TLS alone: so the proxy ends the TLS of these hosts itself (`tls_ends`). A value is
never sent in the clear, nor to another host.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from agentd.errors import ConfigError

from agentd_executor_native.network.hosts import HttpTarget
from agentd_executor_native.network.rules import HostRules

__all__ = ["HostSecret", "HostSecrets"]

BUNDLE_VARIABLES = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"),
    *(
        "PIP_CERT",
        "npm_config_cafile",
        "AWS_CA_BUNDLE",
        "CARGO_HTTP_CAINFO",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    ),
)
"""Where programs look for the authorities that they trust."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # what a header can hold, and h11 sends as it is
_BASIC = re.compile(rb"(basic +)([A-Za-z0-9+/=]+) *", re.IGNORECASE)


@attrs.frozen
class HostSecret:
    """A value, the variable that code finds the placeholder in, and the hosts that get the value."""

    name: str
    value: str = attrs.field(repr=False)
    hosts: HostRules
    placeholder: str = attrs.field(factory=lambda: f"agentd_secret_{secrets.token_hex(16)}")


@attrs.frozen
class HostSecrets:
    """The secrets of one session. Made by `parse`."""

    entries: tuple[HostSecret, ...] = ()

    @classmethod
    def parse(
        cls, option: str, given: Mapping[str, Any] | None, environment: Mapping[str, str]
    ) -> HostSecrets:
        """Read `{NAME: {"hosts": [...], "value": ...}}`; without a value, it is the variable of that name.

        :param environment: the host's.
        :raises ConfigError: for what is not understood; it never says a value.
        """
        if not isinstance(given or {}, Mapping):
            raise ConfigError(f"{option}: must be a mapping, got {type(given).__name__}")
        entries = (_read_secret(option, name, about, environment) for name, about in (given or {}).items())
        return cls(tuple(entries))

    @property
    def hosts(self) -> list[str]:
        """The entries of all their hosts, as in `allowed_hosts`."""
        return [host for secret in self.entries for host in secret.hosts.entries]

    def concern(self, target: HttpTarget) -> bool:
        """Tell whether a host gets a secret."""
        return any(secret.hosts.allows(*target) for secret in self.entries)

    def environment(self, bundle: str) -> dict[str, str]:
        """Return the variables of the placeholders, and those by which programs trust the proxy.

        :param bundle: where the sandbox shows the file of `Egress.trusted_authorities`.
        """
        return {secret.name: secret.placeholder for secret in self.entries} | dict.fromkeys(
            BUNDLE_VARIABLES, bundle
        )

    def filled_in(
        self, headers: Iterable[tuple[bytes, bytes]], target: HttpTarget
    ) -> list[tuple[bytes, bytes]]:
        """Return the headers of a request to a host with the values that it gets, in `Authorization: Basic` as well."""
        values = {
            secret.placeholder.encode(): secret.value.encode()
            for secret in self.entries
            if secret.hosts.allows(*target)
        }
        return [(name, _filled_in(value, values)) for name, value in headers]


def _read_secret(option: str, name: object, about: object, environment: Mapping[str, str]) -> HostSecret:
    if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
        raise ConfigError(f"{option}: {name!r} is not the name of an environment variable")
    where = f"{option}[{name!r}]"
    if not isinstance(about, Mapping) or set(about) - {"hosts", "value"} or not about.get("hosts"):
        shown = f"keys {', '.join(map(repr, about))}" if isinstance(about, Mapping) else type(about).__name__
        raise ConfigError(
            f"{where}: must be a mapping with 'hosts' (a list as in allowed_hosts) and perhaps 'value', got {shown}"
        )
    value = about.get("value", environment.get(name))
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: no value: give 'value', or set the variable {name}")
    if not _VALUE.fullmatch(value):
        raise ConfigError(
            f"{where}: the value has characters that no header can hold (only ASCII, no control characters)"
        )
    hosts = HostRules.parse(f"{where}['hosts']", about["hosts"])
    if hosts.has_addresses:
        raise ConfigError(
            f"{where}['hosts']: must be names; who answers at an address cannot be told for sure"
        )
    return HostSecret(name, value, hosts)


def _filled_in(header: bytes, values: Mapping[bytes, bytes]) -> bytes:
    basic = _BASIC.fullmatch(header)
    if basic is not None:
        try:
            plain = base64.b64decode(basic[2], validate=True)
        except binascii.Error:
            return header
        return basic[1] + base64.b64encode(_replaced(plain, values))
    return _replaced(header, values)


def _replaced(text: bytes, values: Mapping[bytes, bytes]) -> bytes:
    for placeholder, value in values.items():
        text = text.replace(placeholder, value)
    return text
