"""What a fleet does beyond single sessions: batches, and how it is."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentd.errors import ConfigError

from agentd_ray.map_driver import MapSessions, SessionPast
from agentd_ray.mapping import TaskMap
from agentd_ray.status import DriverStatus, FleetStatus, HostStatus

if TYPE_CHECKING:
    from agentd_ray.handle import HostHandle
    from agentd_ray.placing import HostPlaces
    from agentd_ray.session import FleetSession

__all__ = ["FleetViews"]


class FleetViews:
    """The base of `Fleet` that has its `map` and its `status`.

    :ivar store_url: where its conversations are kept.
    """

    id: str
    store_url: str
    places: HostPlaces
    sessions: dict[str, FleetSession]
    counts: dict[str, int]

    # --- batches

    @property
    def capacity(self) -> int:
        """How many sessions its hosts have places for."""
        return self.places.per_host * max(1, len(self.places.hosts))

    def map(self, tasks: Any, **settings: Any) -> TaskMap:
        """Give tasks to sessions, and return the results as they come.

        :param tasks: texts; dicts with `task` and perhaps `id`, `tools`, `files`, `options`; objects with such
            attributes.
        :param settings: as of `TaskMap`: `concurrency`, `ordered`, `retries`, `budget`, `key`, `name`, `output`, ...;
            all others are arguments of `session`, `model` for one.
        :raises ConfigError: for what cannot be meant.
        """
        made = TaskMap(cast("MapSessions", self), tasks, **settings)
        if "model" not in settings and (
            bare := [task.id for task in made.tasks if "model" not in task.options]
        ):
            raise ConfigError(
                f"map: {len(bare)} tasks have no model (such as {bare[0]!r:.60}): give fleet.map(..., model=...), or a "
                "task options={'model': ...}"
            )
        return made

    async def past_of(self, session: FleetSession) -> SessionPast:
        """Return how far the conversation of a session is that was just opened."""
        report = session.report
        answer = report.last_answer if report.last_role == "answer" else None
        return SessionPast(is_begun=report.last_role in ("answer", "results"), answer=answer)

    # --- how it is

    async def status(self, *, timeout_s: float = 5.0) -> FleetStatus:
        """Return how the fleet is: hosts, sessions by state, memory, queue, what was moved and lost.

        :param timeout_s: how long hosts may take to answer; of one that does not, `HostStatus.error` says so.
        """
        hosts = list(self.places.hosts.values())
        found = await asyncio.gather(*(self._status_of(host, timeout_s) for host in hosts))
        return FleetStatus(fleet=self.id, hosts=found, driver=self.driver_status())

    async def _status_of(self, host: HostHandle, timeout_s: float) -> HostStatus:
        try:
            async with asyncio.timeout(timeout_s):
                status: HostStatus = await host.ask("status")
                return status
        except TimeoutError:
            error = f"it has not answered for {timeout_s:g} s"
        except Exception as failed:  # it is lost meanwhile
            error = f"{type(failed).__name__}: {failed}"
        return HostStatus(fleet=self.id, node=host.node.id, name=host.node.name, error=error)

    def driver_status(self) -> DriverStatus:
        """Return what this program knows by itself."""
        hosts = list(self.places.hosts.values())
        waiting = self.places.waiting
        return DriverStatus(
            program=f"{Path(sys.argv[0]).name or 'python'} on {socket.gethostname()}",
            places=self.places.per_host * len(hosts),
            taken=sum(len(host.sessions) for host in hosts),
            waiting=waiting,
            asleep=max(0, sum(session.is_asleep for session in self.sessions.values()) - waiting),
            moved=self.counts["moved"],
            hosts_lost=self.counts["hosts_lost"],
        )

    def tell_hosts(self) -> None:
        """Have the hosts know what this program says: others ask them (`agentd fleet`)."""
        said = self.driver_status()
        for host in list(self.places.hosts.values()):
            host.tell("hear", said)
