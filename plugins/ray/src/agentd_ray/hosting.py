"""Which nodes have a host and a spare one, and starting and ending them."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import attrs

from agentd_ray.connecting import NAMESPACE, RayNode, import_ray, nodes
from agentd_ray.errors import FleetError
from agentd_ray.handle import HostHandle
from agentd_ray.placing import HostPlaces
from agentd_ray.wire import ApproverAsked, HostSettings, ToolAsked

__all__ = ["HostStarter", "end_actor", "refusal"]

log = logging.getLogger("agentd.fleet")

START_S: Final = 120.0
STOP_S: Final = 15.0
AGAIN_S: Final = 60.0
"""After which a node that could have no host is tried again."""
SPARE_AFTER_S: Final = 3.0
"""For how long a node's host has been there when the node gets a spare one."""
FRESH_S: Final = 2.5
"""A spare one that was heard within that time lives: it says something each second."""
SPARE_FREE_MIB: Final = 1024
"""Memory that the machine must have left then."""
CALLS: Final = 10_000  # of an actor at once; what waits there holds nothing


@attrs.define(eq=False, kw_only=True)
class HostStarter:
    """Starts a host on each node that is to have one, and a spare one, which takes its place if its process ends.

    :param places: gets the hosts.
    :param hosts: how many nodes have one, or their ids; None for all.
    :param settings: makes a host's settings, for its node's id.
    :param options: of Ray, for the actors.
    :param on_asked, on_lost: see `HostHandle`.
    :param has_spares: whether nodes have spare hosts, which are started when `is_moving` says that no session is under
        way to another host.
    :param on_draining: gets the id of a node that Ray drains.
    :param start_soon: runs an async function in the fleet's task group.
    :ivar refused: why a node cannot have one, by its id.
    """

    _fleet: str
    _places: HostPlaces
    _hosts: int | Sequence[str] | None
    _settings: Callable[..., HostSettings]
    _options: Mapping[str, Any]
    _on_asked: Callable[[HostHandle, ToolAsked | ApproverAsked], None]
    _on_lost: Callable[[HostHandle], None]
    _on_draining: Callable[[str], Awaitable[None]]
    _start_soon: Callable[..., None]
    _has_spares: bool
    _is_moving: Callable[[], bool]
    _starting: set[str] = attrs.field(factory=set, init=False)
    _again_at: dict[str, float] = attrs.field(factory=dict, init=False)
    refused: dict[str, str] = attrs.field(factory=dict, init=False)
    spares: dict[str, HostHandle] = attrs.field(factory=dict, init=False)
    _since: dict[str, float] = attrs.field(factory=dict, init=False)
    _stale: dict[str, list[str]] = attrs.field(factory=dict, init=False)

    async def begin(self) -> None:
        """Start the first ones.

        :raises FleetError: if there is none that can be started.
        """
        wanted = self._wanted(await asyncio.to_thread(nodes))
        if not wanted:
            raise FleetError(f"Fleet: no node of the cluster is among hosts={self._hosts!r}")
        await asyncio.gather(*(self._start_host(node) for node in wanted))
        if not self._places.hosts:
            raise FleetError("Fleet: no node can have a host:\n" + "\n".join(self.refused.values()))

    async def look_at_nodes(self) -> None:
        try:
            found = await asyncio.to_thread(nodes)
        except FleetError as error:
            log.warning("%s", error)
            return
        for node in found:
            host = self._places.hosts.get(node.id)
            if node.is_draining and host is not None and not host.is_draining:
                host.is_draining = True
                self._start_soon(self._on_draining, node.id)
        for node in self._wanted(found):
            self._starting.add(node.id)
            self._start_soon(self._start_host, node)
        if self._has_spares and not self._starting and not self._is_moving():
            for node in filter(self._wants_spare, found):
                self._starting.add(node.id)
                self._start_soon(self._start_spare, node)

    def _wants_spare(self, node: RayNode) -> bool:
        host, now = self._places.hosts.get(node.id), time.monotonic()
        return (
            host is not None
            and not (host.is_draining or node.id in self.spares)
            and host.beat.free_mib >= SPARE_FREE_MIB
            and now > self._since[node.id] + SPARE_AFTER_S
            and now > self._again_at.get(f"spare {node.id}", 0.0)
        )

    def _wanted(self, found: Sequence[RayNode]) -> list[RayNode]:
        """Return the nodes that are to have a host and have none."""
        free = [node for node in found if not node.is_draining and not self._has_host(node.id)]
        if isinstance(self._hosts, int):
            return free[: max(0, self._hosts - len(self._places.hosts) - len(self._starting))]
        return [node for node in free if self._hosts is None or node.id in self._hosts]

    def _has_host(self, node: str) -> bool:
        is_refused = time.monotonic() < self._again_at.get(node, 0.0)
        return node in self._places.hosts or node in self._starting or is_refused

    async def _start_host(self, node: RayNode) -> None:
        """Start a host on a node; a node that cannot have one is left out, with its reason."""
        self._starting.add(node.id)
        try:
            host = await self._started(node)
        except Exception as error:  # of Ray, of the node's installation
            self.refused[node.id] = refusal(node, error)
            self._again_at[node.id] = time.monotonic() + AGAIN_S
            log.warning("%s", self.refused[node.id])
            return
        finally:
            self._starting.discard(node.id)
        self._place(host)
        self._start_soon(host.follow)

    async def _start_spare(self, node: RayNode) -> None:
        """Start a spare host on a node; the node does without one if it cannot."""
        self._starting.add(node.id)
        try:
            spare = await self._started(node, is_spare=True)
        except Exception as error:  # of Ray, of the node's installation
            self._again_at[f"spare {node.id}"] = time.monotonic() + AGAIN_S
            log.info("the node %s has no spare host: %s", node, _reason(error))
            return
        finally:
            self._starting.discard(node.id)
        self.spares[node.id] = spare
        self._start_soon(spare.follow)
        if node.id not in self._places.hosts:  # lost meanwhile
            self._replace(node.id)

    async def _started(self, node: RayNode, *, is_spare: bool = False) -> HostHandle:
        name, stale = secrets.token_hex(3), self._stale.pop(node.id, [])
        actor = self._make_actor(node, name, is_spare=is_spare, stale=stale)
        host = HostHandle(actor, node, name=name, on_asked=self._on_asked, on_lost=self._on_lost)
        async with asyncio.timeout(START_S):
            about = await host.ask("about")
        if (fault := about.get("fault")) is not None:
            raise FleetError(fault)
        if (there := about["agentd"]) != (here := version("agentd-core")):
            raise FleetError(
                f"it has agentd {there}, and this program {here}: install the same version on all of them"
            )
        return host

    def _place(self, host: HostHandle) -> None:
        self._places.hosts[host.node.id] = host
        self._since[host.node.id] = time.monotonic()
        self._places.look()

    # --- the lost ones

    def left(self, host: HostHandle) -> bool:
        """Take notice of a host that is lost: the spare one of its node takes its place. Returns True unless it was one
        itself."""
        id = host.node.id
        self._stale.setdefault(id, []).append(host.name)
        if self.spares.get(id) is host:
            del self.spares[id]
        if self._places.hosts.get(id) is not host:
            return False
        del self._places.hosts[id]
        spare = self.spares.get(id)
        # A node that is lost takes both with it, and is not heard of either.
        if spare is not None and (host.has_ended or (host.gone is not None and spare.silent_s < FRESH_S)):
            self._replace(id)
            spare.is_draining = host.is_draining
        return True

    def _replace(self, id: str) -> None:
        if (spare := self.spares.pop(id, None)) is not None and spare.lost is None:
            self._place(spare)

    def _make_actor(self, node: RayNode, name: str, *, is_spare: bool, stale: Sequence[str]) -> Any:
        ray = import_ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from agentd_ray.host import FleetHost

        options: dict[str, Any] = {
            "num_cpus": 0,  # sessions wait for models; what their code takes is the machine's to share out
            "max_restarts": 0,  # a new one would have no sessions, and the driver starts it anyway
            "max_task_retries": 0,
            "max_concurrency": CALLS,
            "namespace": NAMESPACE,
            "name": f"agentd-host-{self._fleet}-{node.id[:16]}-{name}",
            **self._options,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        return (
            ray.remote(FleetHost)
            .options(**options)
            .remote(self._settings(node=node.id, name=name, is_spare=is_spare, stale=tuple(stale)))
        )

    async def stop(self, host: HostHandle) -> None:
        try:
            async with asyncio.timeout(STOP_S):
                await host.ask("stop", tuple(self._stale.pop(host.node.id, ())))
        except Exception as error:  # it is lost, or of Ray
            log.info("the host on %s did not end by itself: %s", host, error)
        host.lose("the fleet is closed")
        end_actor(host)


def end_actor(host: HostHandle) -> None:
    """Have Ray end a host, if it can be reached."""
    try:
        import_ray().kill(host.actor, no_restart=True)
    except Exception as error:  # it is gone, and Ray knows nothing of it any more
        log.debug("the host on %s could not be ended: %s", host, error)


def refusal(node: object, error: BaseException) -> str:
    """Return why a node cannot have a host, with the next step."""
    return f"the node {node} cannot have a host: {_reason(error)}; {_next_step(error)}"


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:400]


def _next_step(error: BaseException) -> str:
    if "No module named" in str(error) or "failed to import" in str(error):
        return "install agentd-ray there as it is here, or give host_options={'runtime_env': {'pip': [...]}}"
    if isinstance(error, TimeoutError):
        return f"it did not start within {START_S:g} s: see Ray's log of that node"
    return "mend that there, or leave the node out with hosts=[...]"
