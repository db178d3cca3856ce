"""`NetworkOutlet`: what of the network an executor's sandbox has. The proxy is loaded only if there is any."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from agentd_executor_native.network import Egress, HostSecrets, OnHostRequest, OnPolicyRequest

__all__ = ["NetworkOutlet"]

AUTHORITIES: Final = "/etc/agentd-authorities.pem"
"""Where the sandbox shows what programs must trust so that the proxy can fill secrets in."""

_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@attrs.define
class NetworkOutlet:
    """The way out of a session's sandboxes, or none. Made by `of`."""

    _egress: Egress | None = None
    _secrets: HostSecrets | None = None

    @classmethod
    def of(
        cls,
        allowed_hosts: Sequence[str] | None,
        on_host_request: OnHostRequest | None,
        secrets: Mapping[str, Any] | None,
    ) -> NetworkOutlet:
        """Read the options; raises `ConfigError`."""
        if not allowed_hosts and on_host_request is None and not secrets:
            return cls()
        from agentd_executor_native.network import Egress, HostRules, HostSecrets

        rules = HostRules.parse("allowed_hosts", allowed_hosts)
        read = HostSecrets.parse("secrets", secrets, os.environ)
        return cls(
            Egress(rules, on_host_request=on_host_request, secrets=read), read if read.entries else None
        )

    def attach_policy(self, policy: OnPolicyRequest) -> None:
        """Have a policy decide about each host; without a network there is nothing to decide."""
        if self._egress is not None:
            self._egress.attach_policy(policy)

    @property
    def dropped(self) -> set[str]:
        """Variables of the host that mean nothing in the sandbox: its proxies, and its authorities if ours count."""
        names = {name for one in _PROXIES for name in (one, one.upper())}
        return names | (set(self._secrets.environment("")) if self._secrets is not None else set())

    def environment(self) -> dict[str, str]:
        """The variables by which programs find the proxy, and the secrets' placeholders."""
        if self._egress is None:
            return {}
        from agentd_executor_native.network import proxy_environment

        return proxy_environment() | (
            self._secrets.environment(AUTHORITIES) if self._secrets is not None else {}
        )

    def files(self) -> dict[str, str]:
        """What the sandbox shows for it, by path."""
        authorities = self._egress.trusted_authorities() if self._egress is not None else None
        return {} if authorities is None else {AUTHORITIES: authorities}

    @property
    def has_network(self) -> bool:
        """Whether a sandbox is joined to the proxy."""
        return self._egress is not None

    def receive_from(self, port: socket.socket | None) -> None:
        """Serve what a sandbox listens on, which it hands over at this end."""
        if port is not None and self._egress is not None:
            self._egress.receive_from(port)

    def take_refused(self) -> list[str]:
        """Sentences for what was refused since the last call."""
        return self._egress.take_refused() if self._egress is not None else []

    def close(self) -> None:
        """End its connections."""
        if self._egress is not None:
            self._egress.close()
