"""Tells hosts that are lost from those that only starve: before one is given up for its silence, the store is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

import attrs
from agentd.errors import AgentdError
from agentd_store.holder import HolderGone

from agentd_ray.handle import HostHandle

__all__ = ["SilenceWatch"]

log = logging.getLogger("agentd.fleet")


@attrs.define(eq=False, kw_only=True)
class SilenceWatch:
    """Looks at hosts that say nothing.

    A process shows the store that it lives by a thread of its own, so a host whose event loop starves is heard there.
    Another host is asked for that: nodes reach the store, the driver may not. Where nobody can say, nobody is moved:
    a machine that is too busy to answer would be given more to do.

    :param silent_s: after how many seconds a host is lost, if its process shows nothing to the store either.
    :param hung_s: after how many seconds it is lost all the same.
    :param lease_s: how long a look takes, at most.
    :param all_hosts: returns all that may be asked, spares as well.
    :param start_soon: runs an async function in the fleet's task group.
    """

    silent_s: float
    hung_s: float
    lease_s: float
    _all_hosts: Callable[[], Iterable[HostHandle]]
    _start_soon: Callable[..., None]
    _doubted: set[HostHandle] = attrs.field(factory=set, init=False)

    def look(self, host: HostHandle) -> None:
        """Take a host for lost, or have the store asked, if it has said nothing for some time."""
        if host.silent_s > self.hung_s:
            host.lose(f"it has said nothing for {host.silent_s:.1f} s")
        elif self._is_silent(host) and host not in self._doubted:
            self._doubted.add(host)
            self._start_soon(self._ask, host)

    def _is_silent(self, host: HostHandle) -> bool:
        return host.lost is None and host.silent_s > self.silent_s / 2

    async def _ask(self, host: HostHandle) -> None:
        """Ask until it is heard again, or known to be dead."""
        is_told = False
        try:
            while self._is_silent(host):
                if (gone := await self._seen_of(host)) is not None and self._is_silent(host):
                    why = f"it has said nothing for {host.silent_s:.1f} s, nor its process to the store"
                    host.lose(why, gone)
                elif host.silent_s > self.silent_s and not is_told:
                    is_told = True
                    log.warning(
                        "the host on %s has said nothing for %.1f s; it may starve", host, host.silent_s
                    )
                await asyncio.sleep(min(1.0, self.silent_s / 4))
        finally:
            self._doubted.discard(host)

    async def _seen_of(self, host: HostHandle) -> HolderGone | None:
        """Return what the store knows of a host's end; None if it lives, or nobody can say."""
        asked = [one for one in self._all_hosts() if one is not host and not self._is_silent(one)]
        other = min(asked, key=lambda one: one.silent_s, default=None)
        if other is None or not host.holder:
            return None
        try:
            async with asyncio.timeout(self.lease_s + self.silent_s):
                gone: HolderGone | None = await other.call("watch", host.holder)
                return gone
        except (TimeoutError, AgentdError) as error:
            log.info("whether the host on %s lives could not be asked: %s", host, error)
            return None
