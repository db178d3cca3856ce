"""The daemon's MCP servers: one process for each, however many agents and subscriptions use it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol, runtime_checkable

import anyio
import attrs
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ToolError, UnknownToolError
from agentd.protocols import OnProgress, SourceHost, ToolSource
from agentd.types import ToolSpec
from agentd_tools.sources import (
    DirectSource,
    EventPage,
    EventSource,
    ResourceSource,
    SubscriptionSource,
    SubscriptionState,
)

from agentd_daemon.config.values import AgentServerConfig
from agentd_daemon.control import ServerStatus

__all__ = ["ServerPool", "ServerShare"]

log = logging.getLogger("agentd.daemon")

MakeSources = Callable[[object], Sequence[ToolSource]]
CALL_S: Final = 60.0
"""How long a read of a subscription may take by default, as a call of a tool."""


@runtime_checkable
class RevivableSource(Protocol):
    """A source whose server can be started anew."""

    async def revive(self) -> bool:
        """Start the server anew if it answers nothing any more; tell whether that was so."""
        ...


class _SharedServer:
    """One server that runs, who uses it, and what it last said of itself."""

    def __init__(self, source: ToolSource) -> None:
        self.source = source
        self.shares: list[ServerShare] = []
        self.status = ServerStatus(name=source.name, state="unknown")
        self._warning = ""

    def changed(self) -> None:
        """`SourceHost`: the list of tools has changed."""
        for share in list(self.shares):
            if share.host is not None:
                share.host.changed()

    def log(self, level: str, text: str) -> None:
        """`SourceHost`: the server, or the connection to it, says something."""
        if level in ("warning", "error", "critical", "alert", "emergency"):
            self._warning = text
            if self.status.state == "down":  # why it is down is said after that it is
                self.status = attrs.evolve(self.status, error=text)
        for share in list(self.shares):
            if share.host is not None:
                share.host.log(level, text)

    def note(self, state: SubscriptionState) -> None:
        """Take what a subscription says as the state of the server."""
        if state == "lost":
            self.status = attrs.evolve(
                self.status, state="down", error=self._warning or "the connection broke"
            )
        else:
            now = "polling" if state == "unsupported" else "up"
            self.status = attrs.evolve(self.status, state=now, error="")  # type: ignore[arg-type]

    def note_up(self) -> None:
        if self.status.state in ("unknown", "down"):
            self.status = attrs.evolve(self.status, state="up", error="")

    def note_down(self, error: BaseException) -> None:
        self.status = attrs.evolve(self.status, state="down", error=str(error))


class ServerShare:
    """An agent's share of a server: a `ToolSource` with the agent's own filter, name and time-out.

    Closing it does not end the server: `ServerPool.give_back` does, when nobody else has a share.
    """

    def __init__(self, server: _SharedServer, config: AgentServerConfig) -> None:
        self._server = server
        self._config = config
        self._filter = config.filter()
        self.name = config.name or server.source.name
        self.host: SourceHost | None = None

    @property
    def status(self) -> ServerStatus:
        """How the server is, under the agent's name for it."""
        return attrs.evolve(self._server.status, name=self.name)

    @property
    def instructions(self) -> str:
        """What the server says on how its tools belong together."""
        return getattr(self._server.source, "instructions", "")

    @property
    def timeout_s(self) -> float:
        """Seconds that one call of the server may take."""
        return self._config.timeout or CALL_S

    async def revive(self) -> None:
        """After a call that was not answered in time: have a server started anew that answers nothing any more."""
        source = self._server.source
        if isinstance(source, RevivableSource) and await source.revive():
            self._server.note_down(ToolError("it answered nothing any more, and is started anew"))

    @property
    def loop(self) -> Any:
        """The loop that calls run on, if the source has one."""
        return getattr(self._server.source, "loop", None)

    def admits(self, name: str) -> bool:
        """Whether the agent has the tool."""
        kept = self._filter
        if any(fnmatchcase(name, pattern) for pattern in kept.deny):
            return False
        return kept.allow is None or any(fnmatchcase(name, pattern) for pattern in kept.allow)

    # --- ToolSource, DirectSource --------------------------------------------------------------------

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        """Return the tools that the agent has."""
        if host is not None:
            self.host = host
        specs = [spec for spec in await self.all_tools() if self.admits(spec.name)]
        timeout_s = self._config.timeout
        return [attrs.evolve(s, source=self.name, timeout_s=timeout_s or s.timeout_s) for s in specs]

    async def all_tools(self) -> Sequence[ToolSpec]:
        """Return the tools of the server, those too that the agent does not have."""
        try:
            specs = await self._server.source.list_tools(self._server)
        except Exception as error:  # a plugin's boundary: kept for `agentd status`
            self._server.note_down(error)
            raise
        self._server.note_up()
        return specs

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        """Call a tool that the agent has."""
        if not self.admits(name):
            known = [spec.name for spec in await self.list_tools()]
            raise UnknownToolError(name, known)
        return await self._server.source.call(name, arguments, on_progress)

    async def call_any(self, name: str, arguments: Mapping[str, object]) -> object:
        """Call any tool of the server: for a subscription, which a person has written."""
        source = self._server.source
        if isinstance(source, DirectSource):
            call = _AwaitedCall()
            give_up = source.begin(name, arguments, call.done)
            if give_up is not None:
                return await call.outcome(give_up)
        return await source.call(name, arguments)

    def begin(
        self,
        name: str,
        arguments: Mapping[str, object],
        done: Callable[[object, BaseException | None], None],
        on_progress: OnProgress | None = None,
    ) -> Callable[[], None] | None:
        """Start a call, if the source can do that past its loop."""
        source = self._server.source
        if not isinstance(source, DirectSource) or not self.admits(name):
            return None
        return source.begin(name, arguments, done, on_progress)

    async def aclose(self) -> None:
        """Nothing ends: others use the server, too."""

    # --- ResourceSource ------------------------------------------------------------------------------

    async def list_resources(self) -> Sequence[Mapping[str, object]]:
        """Return the server's resources."""
        source = self._resources()
        return () if source is None else await source.list_resources()

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]:
        """Return the templates of resources."""
        source = self._resources()
        return () if source is None else await source.list_resource_templates()

    async def read_resource(self, uri: str) -> object:
        """Return a resource."""
        source = self._resources()
        if source is None:
            raise ToolError(f"the server {self.name!r} has no resources; correct `server` or the URI")
        return await source.read_resource(uri)

    async def list_prompts(self) -> Sequence[Mapping[str, object]]:
        """Return the prompts."""
        source = self._resources()
        return () if source is None else await source.list_prompts()

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> object:
        """Return a prompt's messages."""
        source = self._resources()
        if source is None:
            raise UnknownToolError(name, [])
        return await source.get_prompt(name, arguments)

    def _resources(self) -> ResourceSource | None:
        source = self._server.source
        return source if isinstance(source, ResourceSource) else None

    # --- EventSource ---------------------------------------------------------------------------------

    async def poll_events(self, name: str, arguments: Mapping[str, object], cursor: str | None) -> EventPage:
        """Ask what has happened since a position. A server that does not answer in time is looked at."""
        source = self._server.source
        if not isinstance(source, EventSource):
            raise ToolError(f"the server {self.name!r} cannot be asked for events; correct `server`")
        try:
            with anyio.fail_after(self.timeout_s):
                page = await source.poll_events(name, arguments, cursor)
        except TimeoutError:
            await self.revive()
            raise
        except Exception as error:  # a plugin's boundary: kept for `agentd status`
            self._server.note_down(error)
            raise
        self._server.note_up()
        return page

    # --- SubscriptionSource --------------------------------------------------------------------------

    def subscribe(self, uri: str, on_event: Callable[[SubscriptionState], None]) -> Callable[[], None]:
        """Tell of changes; a source that cannot says `unsupported` at once."""
        source = self._server.source
        if not isinstance(source, SubscriptionSource):
            on_event("unsupported")
            return lambda: None

        def tell(state: SubscriptionState) -> None:
            self._server.note(state)
            on_event(state)

        return source.subscribe(uri, tell)


class _AwaitedCall:
    """A call that a `DirectSource` has begun, for a task that waits for its end."""

    def __init__(self) -> None:
        self._answered = AsyncWaiter()
        self._value: object = None
        self._error: BaseException | None = None

    def done(self, value: object, error: BaseException | None) -> None:
        """Take the end of the call, in any thread."""
        self._value, self._error = value, error
        self._answered.set()

    async def outcome(self, give_up: Callable[[], None]) -> object:
        """Wait for the result and return it, or raise the error; cancelled, give the call up."""
        try:
            await self._answered.wait()
        except anyio.get_cancelled_exc_class():
            give_up()
            raise
        if self._error is not None:
            raise self._error
        return self._value


class ServerPool:
    """All servers of a daemon. Agents whose configuration names the same server share it.

    :param make: what turns a server's description into sources; see `Registry.create_tool_sources`.
    """

    def __init__(self, make: MakeSources) -> None:
        self._make = make
        self._servers: list[
            tuple[AgentServerConfig, _SharedServer]
        ] = []  # a configuration holds dictionaries: no key

    def share(self, config: AgentServerConfig) -> ServerShare:
        """Return a share of the server; it starts with the first call.

        :raises PluginError: if no plugin knows such servers.
        """
        key = _what_is_started(config)
        server = next((server for known, server in self._servers if known == key), None)
        if server is None:
            (source,) = self._make(key.spec())
            server = _SharedServer(source)
            self._servers.append((key, server))
        share = ServerShare(server, config)
        server.shares.append(share)
        return share

    async def give_back(self, share: ServerShare) -> None:
        """End a share, and its server if that was the last one."""
        server = share._server
        server.shares = [other for other in server.shares if other is not share]
        if not server.shares:
            self._servers = [(key, other) for key, other in self._servers if other is not server]
            await _close(server.source)


def _what_is_started(config: AgentServerConfig) -> AgentServerConfig:
    """The part of a server's configuration that is the same for all who use it."""
    return attrs.evolve(config, tool_filter=(), name=None, timeout=None)


async def _close(source: ToolSource) -> None:
    try:
        await source.aclose()
    except Exception:  # a plugin's boundary: the others want to be closed, too
        log.exception("closing the server %r failed", source.name)
