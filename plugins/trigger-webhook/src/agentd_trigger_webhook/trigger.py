"""The trigger: a bounded HTTP server, for as long as the agent is at work."""

from __future__ import annotations

import logging
import os
import socket

import anyio
import attrs
from agentd.errors import AgentdError
from agentd_daemon.triggers import TriggerHost

from agentd_trigger_webhook.door import WebhookDoor
from agentd_trigger_webhook.signatures import SignatureCheck

__all__ = ["CannotListenError", "WebhookPlace", "WebhookTrigger"]

log = logging.getLogger("agentd.daemon.webhook")

CONNECTIONS = 256
HEAD_BYTES = 16 * 1024
HEAD_S = 10.0


class CannotListenError(AgentdError):
    """The port cannot be had."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen at {host}, port {port}: {reason}; each webhook has a port of its own, choose another `port`"
        )


@attrs.frozen(kw_only=True)
class WebhookPlace:
    """Where a webhook listens, and what it takes.

    :ivar port: 0 for any that is free; the log says which.
    :ivar body_s: seconds that a body may take.
    """

    host: str
    port: int
    path: str
    max_body_bytes: int
    body_s: float

    def meets(self, other: WebhookPlace) -> bool:
        """Whether only one of the two can listen. What a name stands for is not asked: only `localhost` is known."""
        if self.port != other.port or not self.port:
            return False
        mine, its = _address(self.host), _address(other.host)
        for every in ("0.0.0.0", "::"):
            if every in (mine, its) and (":" in mine) == (":" in its):
                mine = its
        return mine == its


class WebhookTrigger:
    """Wakes an agent by signed requests."""

    def __init__(self, place: WebhookPlace, check: SignatureCheck) -> None:
        self._place = place
        self._check = check

    def clash(self, other: object) -> str:
        """Tell of two webhooks at one port; see `agentd_daemon.triggers.ExclusiveTrigger`."""
        if not isinstance(other, WebhookTrigger) or not self._place.meets(other._place):
            return ""
        return (
            "option 'port' of the trigger 'webhook': another webhook listens at this port of this address, and each "
            "needs one of its own, whatever its `path`"
        )

    async def run(self, host: TriggerHost) -> None:
        """Listen until cancelled, or return at once with `host.once`; see `agentd_daemon.triggers.TriggerSource`."""
        if host.once:
            return
        from agentd_cli.http.bounded_server import ConnectionLimits, make_server

        place = self._place
        door = WebhookDoor(
            host, self._check, path=place.path, max_body_bytes=place.max_body_bytes, body_s=place.body_s
        )
        limits = ConnectionLimits(
            connections=CONNECTIONS, silent=CONNECTIONS // 2, head_bytes=HEAD_BYTES, head_s=HEAD_S
        )
        server = make_server(door, limits)
        with _listen(place.host, place.port) as listening:
            address, port = listening.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address
            log.info("%s: %r listens at http://%s:%d%s", host.agent, host.name, shown, port, place.path)
            host.report("")

            async def serve() -> None:
                with anyio.CancelScope(
                    shield=True
                ):  # it ends by `should_exit`, and closes what it has opened
                    await server.serve(sockets=[listening])
                group.cancel_scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(serve)
                try:
                    await anyio.sleep_forever()
                finally:
                    server.should_exit = True


def _address(host: str) -> str:
    """Return the one spelling of an address: `127.1` is `127.0.0.1`, and no host is every one."""
    known = {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(host.lower(), host.lower())
    for family in (socket.AF_INET6, socket.AF_INET):
        try:
            packed = socket.inet_pton(family, known) if family == socket.AF_INET6 else socket.inet_aton(known)
            return socket.inet_ntop(family, packed)
        except (OSError, ValueError):
            pass
    return known


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise CannotListenError(host, port, reason) from error
