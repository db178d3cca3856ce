"""Telling systemd how the daemon is, where it runs as a service of `Type=notify`.

Protocol: sd_notify(3), datagrams to the socket that `NOTIFY_SOCKET` names. Elsewhere nothing is done.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Final

import anyio

__all__ = ["Notifier"]

SEND_S: Final = 1.0
"""How long the agents may be held up by a manager that does not read."""


class Notifier:
    """Sends states to the service manager, if there is one that wants them."""

    def __init__(self) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s()

    def ready(self, agents: int) -> None:
        """Say that the daemon works."""
        self._send(f"READY=1\nSTATUS={agents} {'agent' if agents == 1 else 'agents'}")

    def reloading(self) -> None:
        """Say that the configuration is being read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the daemon is ending."""
        self._send("STOPPING=1")

    async def keep_alive(self) -> None:
        """Tell the watchdog, if one is set, that the event loop is alive."""
        while self._address and self._watchdog_s > 0:
            self._send("WATCHDOG=1")
            await anyio.sleep(self._watchdog_s / 2)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # a name that begins with @ is in the abstract namespace
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(SEND_S)
                sender.sendto(text.encode(), address)
        except OSError:  # nobody listens any more: that is the manager's affair
            pass


def _watchdog_s() -> float:
    """Seconds between two signs of life that the manager wants from this process; 0 if it wants none."""
    wanted, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or (pid and pid != str(os.getpid())):  # meant for a parent of ours
        return 0.0
    return int(wanted) / 1e6
