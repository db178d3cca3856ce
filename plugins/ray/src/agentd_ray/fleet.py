"""A fleet: sessions over the nodes of a Ray cluster."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any, Final

import attrs
from agentd._concurrency.owner import GroupOwner
from agentd.errors import AgentdError, ConfigError
from agentd_store.log import check_conversation

from agentd_ray.carrying import pack_settings
from agentd_ray.connecting import connect, import_ray
from agentd_ray.driver_tools import described, split_tools
from agentd_ray.errors import FleetError
from agentd_ray.fleet_views import FleetViews
from agentd_ray.handle import HostHandle
from agentd_ray.hosting import HostStarter, end_actor
from agentd_ray.opening import NOT_TAKEN
from agentd_ray.placing import HostPlaces
from agentd_ray.session import FleetSession
from agentd_ray.watching import SilenceWatch
from agentd_ray.wire import ApproverAsked, HostSettings, SessionOrder, ToolAsked

__all__ = ["Fleet"]

log = logging.getLogger("agentd.fleet")

LOOK_S: Final = 0.25
NODES_S: Final = 1.0


class Fleet(FleetViews):
    """Sessions over the nodes of a Ray cluster. An async context manager, on asyncio (as Ray is).

        async with Fleet("auto", store="s3://bucket/agents") as fleet:
            session = await fleet.session("gpt-5", conversation_id="c1")
            print((await session.ask("Count the lines of Python in this repository.")).text)

    Each node has one host: an actor with many sessions in one event loop, and their executors as its children. After
    each turn, a session is in the store; if a host or its node is lost, its sessions go on elsewhere from there.

    :param address: `auto` for the running cluster, or its address; `local` or None starts one on this machine alone.
    :param store: where sessions are kept: a URL that all nodes reach, as `Session(store=...)` takes it.
    :param storage_options, key: for that URL; None for what each node's own environment says.
    :param hosts: how many nodes have a host, or their ids; None for all, later ones too.
    :param per_host: how many sessions are open at once on one host.
    :param executor: what sessions run their code with, if they do not say.
    :param sleep_after: seconds after which an idle session is put to sleep; None for never.
    :param lease_s: how long a host that says nothing has its sessions; 1 or more.
    :param silent_s: after how many seconds without a sign a host is taken for lost, if its process shows nothing to the
        store either. It is ended then, if it can be reached, and the store decides who has its sessions.
    :param hung_s: after how many seconds without a sign it is lost, though its process may live.
    :param takeover_s: how long a session waits for another process to let go of its conversation.
    :param max_waiting: how many sessions may wait for a place.
    :param min_free_mib: memory that a machine must have left to take one more session.
    :param spares: each node has a second process that waits, of about 100 MiB: it takes the host's place if that ends.
    :param folder: where workspaces lie on each node; None for its folder for temporary files.
    :param modules: modules of the driver that nodes cannot import: what is sent of them travels as code.
    :param host_options: options of Ray for the actors: `num_cpus`, `resources`, `runtime_env`, ...
    :param ray_options: arguments of `ray.init`, if this process is not connected yet.
    """

    def __init__(
        self,
        address: str | None = "auto",
        *,
        store: str,
        storage_options: Mapping[str, Any] | None = None,
        key: str | None = None,
        hosts: int | Sequence[str] | None = None,
        per_host: int = 256,
        executor: Any = "native",
        sleep_after: float | None = None,
        lease_s: float = 3.0,
        silent_s: float = 5.0,
        hung_s: float = 30.0,
        takeover_s: float = 60.0,
        max_waiting: int = 10_000,
        min_free_mib: int = 128,
        spares: bool = True,
        folder: str | None = None,
        modules: Iterable[ModuleType] = (),
        host_options: Mapping[str, Any] | None = None,
        ray_options: Mapping[str, Any] | None = None,
    ) -> None:
        for name, value, least in (
            ("per_host", per_host, 1),
            ("lease_s", lease_s, 1),
            ("silent_s", silent_s, 1),
            ("hung_s", hung_s, 1),
            ("takeover_s", takeover_s, 0),
            ("max_waiting", max_waiting, 0),
            ("sleep_after", sleep_after, 0),
        ):
            if value is not None and not (type(value) in (int, float) and value >= least):
                raise ConfigError(f"Fleet: {name} must be a number, {least} or more, got {value!r}")
        if store.partition("://")[0] == "memory":
            raise ConfigError(
                "Fleet: a store at memory:// is in one process alone; give one that all nodes reach"
            )
        self.id = secrets.token_hex(6)
        self.store_url = store
        self.takeover_s = takeover_s
        self.places = HostPlaces(per_host, max_waiting, min_free_mib, self._make_room)
        self.sessions: dict[str, FleetSession] = {}
        self.counts = {"moved": 0, "hosts_lost": 0}
        self._address = address
        self._executor = executor
        self._sleep_after = sleep_after
        self._modules = tuple(modules)
        self._ray_options = dict(ray_options or {})
        settings = partial(
            HostSettings,
            fleet=self.id,
            url=store,
            storage_options=None if storage_options is None else dict(storage_options),
            key=key,
            lease_s=float(lease_s),
            beat_s=min(1.0, silent_s / 4),
            folder=folder,
            executor=executor,
        )
        self._starter = HostStarter(
            fleet=self.id,
            places=self.places,
            hosts=hosts,
            settings=settings,
            options=dict(host_options or {}),
            on_asked=self._asked,
            on_lost=self._lost,
            on_draining=self.drain,
            start_soon=self.start_soon,
            has_spares=spares,
            is_moving=lambda: any(session.is_moving for session in self.sessions.values()),
        )
        self._silence = SilenceWatch(
            silent_s=silent_s,
            hung_s=max(hung_s, silent_s),
            lease_s=lease_s,
            all_hosts=self._all_hosts,
            start_soon=self.start_soon,
        )
        self._owner: GroupOwner | None = None
        self._connected = False
        self._kill_lost = True  # False in tests: as if it could not be reached

    # --- opening and closing

    async def open(self) -> Fleet:
        """Open it, for whoever cannot write `async with`; `aclose` is to be called then.

        :raises FleetError: if there is no cluster, or no node of it can have a host.
        """
        if self._owner is not None:
            raise ConfigError("Fleet: opened once; make another one")
        self._owner = GroupOwner(self._close)
        await self._owner.open(self._begin)
        return self

    async def _begin(self) -> None:
        self._connected = connect(self._address, self._ray_options)
        await self._starter.begin()
        self.start_soon(self._watch)

    async def aclose(self) -> None:
        """Close all sessions, which stay in the store, and end the hosts. May be called again."""
        if self._owner is not None:
            await self._owner.aclose()

    async def __aenter__(self) -> Fleet:
        return await self.open()

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def _close(self) -> None:
        self.places.fail(ConfigError("the fleet was closed meanwhile"))
        hosts, self.places.hosts = self._all_hosts(), {}
        self._starter.spares.clear()
        await asyncio.gather(*(self._starter.stop(host) for host in hosts))
        if self._connected:
            import_ray().shutdown()

    def start_soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Run an async function in the fleet's task group. Raises `ConfigError` if it is not open."""
        if self._owner is None or self._owner.group is None:
            raise ConfigError("this Fleet is not open: use `async with Fleet(...)`")
        self._owner.group.start_soon(function, *args)

    # --- sessions

    async def session(
        self,
        model: Any,
        *,
        conversation_id: str | None = None,
        needs: Mapping[str, float] | None = None,
        tools: Sequence[Any] | None = None,
        approver: Any = None,
        files: Mapping[str, bytes] | None = None,
        **settings: Any,
    ) -> FleetSession:
        """Open a session on a host that has a place, and return it. It goes on from what is in the store.

        :param model: a name, or a function that makes a `Model` on the host; a `Model` that pickles will do.
        :param conversation_id: its name in the store; made up if it is None.
        :param needs: resources that its node must have, as Ray names them; the fleet counts them by itself.
        :param tools: functions; they travel to the host, but for those marked with `@tool(where="driver")`.
        :param approver: who is asked by its policy. A function is called here, in this program.
        :param files: put into its workspace, by path, if the conversation is new.
        :param settings: as those of `Session`; MCP servers start on the host. A `cwd` it has not.
        :raises NotSendableError: naming what cannot be sent.
        :raises FleetFullError: if no host has a place and too many sessions wait.
        """
        if self._owner is None or self._owner.group is None:
            raise ConfigError("this Fleet is not open: use `async with Fleet(...)`")
        name = check_conversation(conversation_id or f"s-{secrets.token_hex(8)}")
        if name in self.sessions:
            raise ConfigError(f"conversation_id: {name!r} is open in this fleet already")
        for given in settings:
            if given in NOT_TAKEN:
                raise ConfigError(
                    f"{given}: a session of a fleet has none; the fleet says where sessions are kept and work"
                )
        if needs and self.places.hosts and not self.places.could_have(needs):
            raise FleetError(
                f"no host has what the session {name!r} needs ({dict(needs)}); they have: {self._resources()}"
            )
        order, here = self._order(name, model, tools, approver, settings)
        order = attrs.evolve(order, files=dict(files or {}))
        return await self.adopt(
            FleetSession(self, order, needs=needs or {}, functions=here, approver=approver)
        )

    async def adopt(self, session: FleetSession) -> FleetSession:
        """Open a session and have it as one of this fleet."""
        self.sessions[session.conversation_id] = session
        if session.functions:
            self.start_soon(session.serve_tools)
        try:
            return await session.open()
        except BaseException:
            session.give_up()
            raise

    def forget(self, session: FleetSession) -> None:
        """Take notice of a session that is closed."""
        if self.sessions.get(session.conversation_id) is session:
            del self.sessions[session.conversation_id]

    def _order(
        self, name: str, model: Any, tools: Sequence[Any] | None, approver: Any, settings: dict[str, Any]
    ) -> tuple[SessionOrder, list[Any]]:
        sent, here = split_tools(tools)
        is_here = callable(approver) or hasattr(approver, "ask")
        given: dict[str, Any] = {"executor": self._executor, **settings, "model": model, "tools": sent}
        if approver is not None and not is_here:
            given["approver"] = approver
        order = SessionOrder(
            conversation=name,
            settings=pack_settings(given, self._modules),
            driver_tools=described(here),
            asks_driver=is_here,
        )
        return order, here

    def _resources(self) -> str:
        return "; ".join(f"{host}: {dict(host.node.resources)}" for host in self.places.hosts.values())

    def _make_room(self, count: int) -> None:
        """Put those to sleep that have been idle for the longest time: others wait for a place."""
        if self._sleep_after is None:
            return
        idle = [one for one in self.sessions.values() if not one.is_asleep and not one.is_busy]
        for session in sorted(idle, key=lambda one: one.idle_since)[:count]:
            self.start_soon(self._put_to_sleep, session)

    async def _put_to_sleep(self, session: FleetSession) -> None:
        if session.is_busy or session.is_asleep:  # since it was chosen
            return
        try:
            await session.sleep()
        except AgentdError as error:
            log.warning("the session %s could not be put to sleep: %s", session.conversation_id, error)

    # --- hosts

    def _all_hosts(self) -> list[HostHandle]:
        return [*self.places.hosts.values(), *self._starter.spares.values()]

    def _lost(self, host: HostHandle) -> None:
        """A host is lost: it is ended, and its sessions go on elsewhere by themselves."""
        if self._starter.left(host):
            self.counts["hosts_lost"] += 1
            log.warning("%s; it had %d sessions", host.lost, len(host.sessions))
        if self._kill_lost:
            end_actor(host)

    def moved(self, session: FleetSession, text: str) -> None:
        """Take notice of a session that goes on elsewhere."""
        self.counts["moved"] += 1
        log.info("%s", text)

    async def _watch(self) -> None:
        """Look after hosts, nodes and idle sessions; for ever."""
        loop = asyncio.get_running_loop()
        nodes_due = 0.0
        while True:
            before = loop.time()
            await asyncio.sleep(LOOK_S)
            late_s = loop.time() - before - LOOK_S
            for host in list(self.places.hosts.values()):
                if late_s > 1.0:  # it was this loop that stood still
                    host.heard = max(host.heard, before + late_s)
                else:
                    self._silence.look(host)
            self.places.look()
            self.places.nudge()
            self._look_for_idle()
            if loop.time() >= nodes_due:
                nodes_due = loop.time() + NODES_S
                await self._starter.look_at_nodes()
                self.tell_hosts()

    def _look_for_idle(self) -> None:
        if self._sleep_after is None:
            return
        limit = time.monotonic() - self._sleep_after
        for session in list(self.sessions.values()):
            if session.idle_since < limit and not session.is_asleep and not session.is_busy:
                self.start_soon(self._put_to_sleep, session)

    async def drain(self, node: str) -> None:
        """Have all sessions of a node leave it, each at its next turn's border, and place none there any more. Returns
        when it is empty.

        :param node: the node's id, or the beginning of it.
        """
        hosts = [host for id, host in self.places.hosts.items() if id.startswith(node)]
        if len(hosts) != 1:
            raise FleetError(
                f"drain: {node!r} names {len(hosts)} hosts; there are: {', '.join(self.places.hosts)}"
            )
        host = hosts[0]
        host.is_draining = True
        while host.sessions and host.lost is None:
            leaving = [self.sessions[name] for name in list(host.sessions) if name in self.sessions]
            await asyncio.gather(*(session.ask_to_leave() for session in leaving))
            await asyncio.sleep(LOOK_S)

    # --- what hosts ask

    def _asked(self, host: HostHandle, item: ToolAsked | ApproverAsked) -> None:
        session = self.sessions.get(item.conversation)
        if session is None:
            host.answer(item.call, error=FleetError(f"the session {item.conversation!r} is closed"))
        elif isinstance(item, ToolAsked):
            self.start_soon(self._call_tool, host, session, item)
        else:
            self.start_soon(self._ask_approver, host, session, item)

    async def _call_tool(self, host: HostHandle, session: FleetSession, item: ToolAsked) -> None:
        try:
            host.answer(item.call, await session.call_tool(item.name, item.arguments))
        except Exception as error:  # the function's
            host.answer(item.call, error=error)

    async def _ask_approver(self, host: HostHandle, session: FleetSession, item: ApproverAsked) -> None:
        from agentd_ray.approving import ask_approver

        try:
            host.answer(item.call, await ask_approver(session.approver, item))
        except Exception as error:  # the approver's
            host.answer(item.call, error=error)
