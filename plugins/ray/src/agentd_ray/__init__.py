"""A fleet: agentd's sessions over the machines of a Ray cluster, none lost with a machine."""

from __future__ import annotations

from agentd_ray.errors import FleetError, FleetFullError, HostLostError, NotSendableError
from agentd_ray.fleet import Fleet
from agentd_ray.local import LocalFleet
from agentd_ray.map_results import MapBudget, MapCounts, MapResult
from agentd_ray.mapping import TaskMap
from agentd_ray.session import FleetSession

__all__ = [
    "Fleet",
    "FleetError",
    "FleetFullError",
    "FleetSession",
    "HostLostError",
    "LocalFleet",
    "MapBudget",
    "MapCounts",
    "MapResult",
    "NotSendableError",
    "TaskMap",
]
