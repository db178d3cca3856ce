"""Looks at the fleets of a cluster from another program than their drivers': asks the host actors."""

from __future__ import annotations

from typing import Any, Final

from agentd_ray.connecting import import_ray
from agentd_ray.status import FleetStatus, HostStatus

__all__ = ["HOST_NAME", "look_at_fleets"]

HOST_NAME: Final = "agentd-host-"
"""How the names of host actors begin; the fleet's id follows, then the node's."""


def look_at_fleets(timeout_s: float = 5.0) -> list[FleetStatus]:
    """Return the fleets of the cluster that this process is connected to. Blocking.

    :param timeout_s: how long hosts may take to answer; of one that does not, `HostStatus.error` says so.
    """
    ray = import_ray()
    named = ray.util.list_named_actors(all_namespaces=True)
    ours = [one for one in named if one["name"].startswith(HOST_NAME)]
    asked: dict[Any, tuple[str, str]] = {}
    found: list[HostStatus] = []
    for one in ours:
        fleet, _, node = one["name"].removeprefix(HOST_NAME).partition("-")
        try:
            actor = ray.get_actor(one["name"], namespace=one["namespace"])
            asked[actor.status.remote()] = fleet, node
        except Exception as error:  # it ended meanwhile
            found.append(HostStatus(fleet=fleet, node=node, error=_short(error)))
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s) if asked else ([], [])
    for reference in ready:
        fleet, node = asked[reference]
        try:
            found.append(ray.get(reference))
        except Exception as error:  # it ended meanwhile, or is of another version
            found.append(HostStatus(fleet=fleet, node=node, error=_short(error)))
    for reference in late:
        fleet, node = asked[reference]
        found.append(HostStatus(fleet=fleet, node=node, error=f"it has not answered for {timeout_s:g} s"))
    return FleetStatus.of_hosts(found)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
