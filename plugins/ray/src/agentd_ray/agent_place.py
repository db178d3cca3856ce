"""A fleet as the place of a daemon's agents: each is a session of it, kept in the store under the agent's name."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from agentd.registry.config import ALLOW_VARIABLE, BLOCK_VARIABLE, PluginConfig

from agentd_ray.fleet import Fleet

if TYPE_CHECKING:
    from agentd_daemon.places import PlacedSession, PlaceNeeds, PlaceReport

__all__ = ["FleetPlace"]

log = logging.getLogger("agentd.fleet")

SLEEP_S: Final = 600.0
"""After so long without work, an agent's session is in the store alone, and its servers have ended."""


class FleetPlace:
    """The entry point `fleet` of `agentd.daemon.places`. Implements `agentd_daemon.places.AgentPlace`.

    :param address: `auto` for the running cluster, its head's address, or `local` for one that is started on this
        machine and ends with the daemon.
    :param store: URL of the store.
    :param executor: what all agents run their code with: it is tried on each node. None if they differ.
    :param plugins: which plugins hosts may load; None for what each node's own environment says.
    :param options: further arguments of `Fleet`.
    """

    def __init__(
        self,
        address: str,
        *,
        store: str,
        executor: Any = None,
        plugins: PluginConfig | None = None,
        **options: Any,
    ) -> None:
        given = {"sleep_after": SLEEP_S, "ray_options": {"logging_level": logging.ERROR}, **options}
        if plugins is not None:
            given["host_options"] = {"runtime_env": {"env_vars": _variables(plugins)}}
        self.fleet = Fleet(address, store=store, executor=executor, **given)
        self._address = address
        self._executor = executor
        self._plugins = plugins
        self._given = given

    async def open(self) -> Fleet:
        """Open the fleet. Raises `FleetError`, `ConfigError`, `MissingPluginError`."""
        log.info("connecting to the cluster (%s)", self._address)
        with _handlers_kept():
            fleet = await self.fleet.open()
        log.info("the fleet has hosts on: %s", ", ".join(map(str, self.fleet.places.hosts.values())))
        return fleet

    def check(self, needs: PlaceNeeds) -> PlaceReport:
        """Look what would go wrong; see `agentd_daemon.places.CheckablePlace`. Nodes are asked by a task each."""
        from agentd_ray.precheck import NodeQuestion, check_fleet

        question = NodeQuestion(
            store=self.fleet.store_url,
            storage_options=self._given.get("storage_options"),
            key=self._given.get("key"),
            executor=self._executor,
            executors={} if self._executor is not None else needs.executors,
            commands=needs.commands,
            folders=needs.folders,
        )
        given = {name: self._given.get(name) for name in ("ray_options", "host_options")}
        with _handlers_kept():
            return check_fleet(self._address, question, plugins=self._plugins, **given)

    async def aclose(self) -> None:
        """Put all sessions to sleep in the store, and end the hosts."""
        await self.fleet.aclose()

    async def session(self, name: str, settings: Mapping[str, Any], approver: object) -> PlacedSession:
        """Open the session of an agent; see `AgentPlace`."""
        return await self.fleet.session(conversation_id=name, approver=approver, **settings)


def _variables(plugins: PluginConfig) -> dict[str, str]:
    """Return the environment that has hosts load what the daemon may load. An empty list allows nothing: a name that
    no plugin has says that, as an empty variable says nothing."""
    allow = "" if plugins.allow is None else ",".join(plugins.allow) or "-"
    return {ALLOW_VARIABLE: allow, BLOCK_VARIABLE: ",".join(plugins.block)}


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Have signals do what they did before: Ray takes SIGTERM for itself, and the daemon's end would not be orderly."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
