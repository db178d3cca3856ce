"""How a fleet is: its hosts, their sessions by state, and what the driver counts."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import attrs

__all__ = ["DriverStatus", "FleetStatus", "HostStatus", "SessionStatus", "tree_mib"]

_PAGE_KIB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


@attrs.frozen(kw_only=True)
class SessionStatus:
    """A session on a host.

    :ivar state: `running`, `idle`, or `leaving` (it goes elsewhere at the next turn's border).
    :ivar since_s: for how many seconds it has been in that state, which its host looks at about once a second.
    :ivar answers: of its model so far, which is about its turns.
    """

    conversation: str
    state: str
    since_s: float
    answers: int = 0
    tokens: int = 0
    cost_usd: float | None = None


@attrs.frozen(kw_only=True)
class DriverStatus:
    """What the program that has opened a fleet says of it.

    :ivar places: sessions that its hosts may have at once; `taken` those that they have; `waiting` for one.
    :ivar asleep: sessions that are in the store alone.
    :ivar moved: how often a session went on elsewhere; `hosts_lost` hosts.
    :ivar at: when, in seconds since the epoch, by its own clock; `age_s`: how many seconds ago the host that tells of
        it has heard that, by a clock that never is set.
    """

    program: str = ""
    places: int = 0
    taken: int = 0
    waiting: int = 0
    asleep: int = 0
    moved: int = 0
    hosts_lost: int = 0
    at: float = attrs.field(factory=time.time)
    age_s: float = 0.0


@attrs.frozen(kw_only=True)
class HostStatus:
    """A host, which is an actor on a node, or why it does not answer (`error`).

    :ivar memory_mib: of the host and all that runs below it; `free_mib` is what the machine has left.
    :ivar loop_lag_s: by how much its event loop was late the last time it looked.
    :ivar runs, failed: runs that have ended, and those of them by an error; `turns` and `tokens` of them all.
    :ivar driver: what the fleet's driver has told it last.
    :ivar is_spare: it waits to take the place of the node's host.
    """

    fleet: str
    node: str
    name: str = ""
    pid: int = 0
    version: str = ""
    up_s: float = 0.0
    memory_mib: float = 0.0
    free_mib: float = 0.0
    loop_lag_s: float = 0.0
    runs: int = 0
    failed: int = 0
    turns: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    sessions: Sequence[SessionStatus] = ()
    driver: DriverStatus | None = None
    error: str = ""
    is_spare: bool = False

    @property
    def states(self) -> Counter[str]:
        """How many sessions are in which state."""
        return Counter(session.state for session in self.sessions)


@attrs.frozen(kw_only=True)
class FleetStatus:
    """A fleet: its hosts, and what its driver says, if it is known."""

    fleet: str
    hosts: Sequence[HostStatus] = ()
    driver: DriverStatus | None = None

    @classmethod
    def of_hosts(cls, hosts: Sequence[HostStatus]) -> list[FleetStatus]:
        """Return a status for each fleet that hosts are of."""
        found: dict[str, list[HostStatus]] = {}
        for host in sorted(hosts, key=lambda host: (host.fleet, host.name, host.node)):
            found.setdefault(host.fleet, []).append(host)
        return [
            cls(fleet=fleet, hosts=its, driver=_newest([host.driver for host in its]))
            for fleet, its in found.items()
        ]

    @property
    def states(self) -> Counter[str]:
        """How many sessions are in which state, those asleep and those that wait for a place included."""
        found: Counter[str] = sum((host.states for host in self.hosts), Counter())
        if self.driver is not None:
            found.update({"asleep": self.driver.asleep, "waiting": self.driver.waiting})
        return +found

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-ready data."""
        hosts = [
            {**attrs.asdict(host, filter=_without_driver), "states": dict(host.states)} for host in self.hosts
        ]
        driver = None if self.driver is None else attrs.asdict(self.driver)
        return {"fleet": self.fleet, "states": dict(self.states), "driver": driver, "hosts": hosts}


def _without_driver(field: attrs.Attribute[Any], value: object) -> bool:
    return field.name != "driver"


def _newest(said: Sequence[DriverStatus | None]) -> DriverStatus | None:
    return max((one for one in said if one is not None), key=lambda one: one.at, default=None)


def tree_mib(root: int) -> float:
    """Return how much memory a process and all below it have. What they share with each other counts once for each, and
    what they share with files not at all. 0 where there is no `/proc`."""
    parents: dict[int, list[int]] = {}
    for entry in _entries():
        try:
            stat = Path(entry, "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        waiting += parents.get(pid, ())
        try:
            sizes = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            continue
        total += (int(sizes[1]) - int(sizes[2])) * _PAGE_KIB
    return total / 1024


def _entries() -> list[Path]:
    try:
        return [entry for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    except OSError:
        return []
