"""`McpSource`: an MCP server as a tool source."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import attrs
import mcp_types as types
from agentd.errors import ToolError, ToolTimeoutError, UnknownToolError
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec
from agentd_tools.loops import TaskLoop
from agentd_tools.sources import EventPage, SubscriptionState

from agentd_mcp_bridge.backend import Backend, ClientBackend
from agentd_mcp_bridge.config import AgentsTarget, ServerConfig
from agentd_mcp_bridge.direct import Done
from agentd_mcp_bridge.loop import mcp_loop, on_mcp_loop, on_mcp_loop_sync
from agentd_mcp_bridge.passing import Kind, PassedRequest, ServedClient, passed_request
from agentd_mcp_bridge.results import summary
from agentd_mcp_bridge.sampling import PaidSampling
from agentd_mcp_bridge.subscribing import subscribe_all
from agentd_mcp_bridge.subscriptions import Subscriptions

__all__ = ["McpSource"]

T = TypeVar("T")
_CLOSE_S: Final = 15.0
_REVIVE_S: Final = 10.0


class McpSource:
    """The tools, resources and prompts of one MCP server.

    Implements `agentd.protocols.ToolSource`, `DirectSource`, `ResourceSource`, `SubscriptionSource` and `EventSource`.
    The server is started or connected to by the first method that needs it, once, whichever thread or event loop that
    comes from; `aclose` ends it, and so does losing the last reference.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._given = config
        self._sampling = None
        if config.sampling is not None:
            self._sampling = PaidSampling(config.name, config.sampling)
            config = attrs.evolve(config, sampling=self._sampling)
        self.config = config
        self.name = config.name
        self.instructions = ""
        """What the server says on how its tools belong together; known after `list_tools`."""
        self.capabilities: frozenset[str] = frozenset()
        """Which of `tools`, `resources` and `prompts` the server offers; known after `list_tools`."""
        self._backend: Backend = _backend_of(config)
        self._listed = False
        self._admitted: frozenset[str] = frozenset()  # what the filter admits of it
        self._closed = False
        self._subscriptions = Subscriptions(self._backend, subscribe_all)
        weakref.finalize(self, _abandon, self._backend, self._subscriptions)

    def __repr__(self) -> str:
        return f"<McpSource {self.name!r}>"

    @property
    def loop(self) -> TaskLoop:
        """The loop to call from; from others it works as well, by way of this one."""
        return mcp_loop()

    # --- tools ---------------------------------------------------------------------------------

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        """Return the tools that the filter admits.

        :raises McpServerError: if the server cannot be reached; the text says why.
        """
        if host is not None:
            self._backend.listener.changed = host.changed
            self._backend.listener.log = host.log
        specs = [spec for spec in await self._run(self._list) if self._admits(spec.name)]
        self._admitted = frozenset(spec.name for spec in specs)
        return specs

    async def _list(self) -> Sequence[ToolSpec]:
        specs = await self._backend.list_tools()
        self._listed = True
        self.instructions = self._backend.instructions
        self.capabilities = self._backend.capabilities
        return specs

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        """Call a tool and return its result; see `agentd_mcp_bridge.results.tool_value`.

        :raises ToolError: with the server's text, if the tool failed; `McpServerError` if the server did.
        """
        if not self._admits(name):
            raise UnknownToolError(name, [n for n in self._backend.tool_names() if self._admits(n)])
        if self._sampling is not None:
            end = self._sampling.begin_call()
            try:
                return await self._run(lambda: self._call(name, dict(arguments), on_progress))
            finally:
                end()
        return await self._run(lambda: self._call(name, dict(arguments), on_progress))

    def begin(
        self, name: str, arguments: Mapping[str, object], done: Done, on_progress: OnProgress | None = None
    ) -> Callable[[], None] | None:
        """Start a call and return at once, from any thread; see `agentd_tools.sources.DirectSource`."""
        if self._closed or name not in self._admitted or passed_request.get() is not None:
            return None
        if self._sampling is not None:
            return self._begin_noted(self._sampling, name, arguments, done, on_progress)
        return self._backend.begin(name, arguments, done, on_progress)

    def _begin_noted(
        self,
        sampling: PaidSampling,
        name: str,
        arguments: Mapping[str, object],
        done: Done,
        on_progress: OnProgress | None,
    ) -> Callable[[], None] | None:
        """The same for a server that may ask for a model's answer meanwhile."""
        end = sampling.begin_call()

        def noted(value: object, error: BaseException | None) -> None:
            end()
            done(value, error)

        give_up = self._backend.begin(name, arguments, noted, on_progress)
        if give_up is None:
            end()
            return None
        return lambda: (end(), give_up())[1]

    def _admits(self, name: str) -> bool:
        return self.config.tool_filter.admits(name)

    async def _call(self, name: str, arguments: dict[str, Any], on_progress: OnProgress | None) -> object:
        if not self._listed:  # what a result means stands in the tool's description
            await self._list()
        passed, timeout_s = passed_request.get(), self.config.timeout_s
        with anyio.move_on_after(timeout_s):
            if passed is None:
                return await self._backend.call(name, arguments, on_progress)
            return summary(await (passed.source or self)._served().pass_call(passed, name, arguments))
        raise ToolTimeoutError(f"{name}() of {self.name!r} did not answer within {timeout_s:g} s")

    # --- for a client that is served -----------------------------------------------------------

    def serve(self, client: ServedClient) -> None:
        """Use the server on behalf of a client, from the next connection on: what it can be asked, the server may ask,
        and it hears what the server says by itself."""
        listener = self._backend.listener
        listener.client = client

        async def hear(message: Any) -> None:
            await client.notified(self.name, message)

        listener.notified.append(hear)

    def twin(self) -> McpSource:
        """Return another source of the same server, with a connection of its own."""
        return McpSource(self._given)

    async def offered(self, kind: Kind) -> list[Any]:
        """Return what the server offers of a kind, as the SDK has it; of its tools those that the filter admits."""
        items = await self._run(lambda: self._served().offered(kind))
        return items if kind != "tools" else [tool for tool in items if self._admits(tool.name)]

    async def pass_on(self, passed: PassedRequest, *, repeatable: bool = True) -> Any:
        """Make a client's request and return the SDK's result. A call of a tool goes through the session's tool set:
        set `passed_request` and have that call it.

        :param repeatable: make it once more if the connection breaks meanwhile.
        :raises MCPError: if the server refuses it; `ToolTimeoutError` if it does not answer within its time-out;
            `ToolError` if it cannot be asked.
        """
        return await self._run(partial(self._pass_on, passed, repeatable=repeatable))

    async def _pass_on(self, passed: PassedRequest, *, repeatable: bool) -> Any:
        timeout_s = self.config.timeout_s
        with anyio.move_on_after(timeout_s):
            return await self._served().pass_on(passed, repeatable=repeatable)
        raise ToolTimeoutError(f"{passed.what} of {self.name!r} did not answer within {timeout_s:g} s")

    def keep_log_level(self, level: types.LoggingLevel) -> None:
        """Have every connection from the next one on begin with this level of log messages."""
        self._backend.listener.level = level

    def say_changed(self) -> None:
        """Have whoever uses the tools ask for them again, as if the server had said that they have changed."""
        self._backend.listener.changed()

    def _served(self) -> ClientBackend:
        if not isinstance(self._backend, ClientBackend):
            raise ToolError(f"{self.name!r} is an object of openai-agents: nothing can be passed on to it")
        return self._backend

    # --- resources and prompts -----------------------------------------------------------------

    async def list_resources(self) -> Sequence[Mapping[str, object]]:
        """Return the resources; none if the server has none to offer."""
        return await self._run(self._backend.list_resources)

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]:
        """Return the templates of resources."""
        return await self._run(self._backend.list_resource_templates)

    async def read_resource(self, uri: str) -> object:
        """Return a resource as `str` or `Blob`, or a list where it has several parts."""
        return await self._run(lambda: self._backend.read_resource(uri))

    async def list_prompts(self) -> Sequence[Mapping[str, object]]:
        """Return the prompts."""
        return await self._run(self._backend.list_prompts)

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> object:
        """Return a prompt's messages."""
        return await self._run(lambda: self._backend.get_prompt(name, dict(arguments)))

    def subscribe(self, uri: str, on_event: Callable[[SubscriptionState], None]) -> Callable[[], None]:
        """Be told of changes of a resource; see `agentd_tools.sources.SubscriptionSource`.

        :raises ToolError: if the source was closed.
        """
        self._check_open()
        return self._subscriptions.subscribe(uri, on_event)

    async def poll_events(self, name: str, arguments: Mapping[str, object], cursor: str | None) -> EventPage:
        """Ask what has happened since a position; see `agentd_tools.sources.EventSource`. Experimental.

        :raises ToolError: if the server has no events, or cannot be asked.
        """
        return await self._run(lambda: self._backend.poll_events(name, arguments, cursor))

    async def revive(self) -> bool:
        """After a call that was not answered in time: have the server started anew if it answers nothing else either.

        :return: whether it was given up.
        """
        return await self._run(lambda: self._backend.revive(_REVIVE_S))

    # --- the end -------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """End the server, or the connection to it. May be called again."""
        if not self._closed:
            self._closed = True
            self._subscriptions.close()
            await self._run(self._backend.aclose, closing=True)

    def close(self) -> None:
        """The same from a plain thread."""
        if not self._closed:
            self._closed = True
            self._subscriptions.close()
            on_mcp_loop_sync(self._backend.aclose, _CLOSE_S)

    async def _run(self, work: Callable[[], Awaitable[T]], *, closing: bool = False) -> T:
        if not closing:
            self._check_open()
        return await on_mcp_loop(work)

    def _check_open(self) -> None:
        if self._closed:
            raise ToolError(f"the MCP server {self.name!r} is not used any more: it was closed")


def _abandon(backend: Backend, subscriptions: Subscriptions) -> None:
    subscriptions.close()
    backend.close_soon()


def _backend_of(config: ServerConfig) -> Backend:
    if isinstance(config.target, AgentsTarget):
        from agentd_mcp_bridge.agents import AgentsBackend

        return AgentsBackend(config)
    return ClientBackend(config)
