"""Server objects of openai-agents, which is never imported: they are known by what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio
import attrs
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ToolError, UnknownToolError
from agentd.protocols import OnProgress
from agentd.types import ToolSpec
from agentd_tools.sources import EventPage

from agentd_mcp_bridge.backend import ClientBackend
from agentd_mcp_bridge.config import AgentsTarget, ServerConfig, ToolFilter
from agentd_mcp_bridge.connection import ServerConnection
from agentd_mcp_bridge.direct import Done
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.life import Life, ServerListener
from agentd_mcp_bridge.offered import output_schema_of
from agentd_mcp_bridge.results import plain, prompt_messages, resource_value, tool_value
from agentd_mcp_bridge.schemas import is_wrapped, tool_spec

__all__ = ["AgentsBackend"]

_PING_S: Final = 0.5
_CLEANUP_S: Final = 5.0


class AgentsBackend:
    """Through the object itself, so that its filter, retries and hooks hold.

    An object that its owner has connected is used on the event loop that it belongs to, if that runs and
    answers; otherwise the same server is reached a second time, from the object's parameters. One that is
    not connected is connected and cleaned up by this backend, in one task.
    """

    def __init__(self, config: ServerConfig) -> None:
        assert isinstance(config.target, AgentsTarget)
        self.config = config
        self.listener = ServerListener()
        self.instructions = ""
        self.capabilities = frozenset({"tools"})
        self._server = config.target.server
        self._connection = ServerConnection(config, self.listener, new_life=_AgentsLife)
        self._theirs: asyncio.AbstractEventLoop | None = None
        self._substitute: ClientBackend | None = None
        self._routed = False
        self._wrapped: set[str] = set()
        self._names: list[str] = []

    def begin(
        self, name: str, arguments: Mapping[str, object], done: Done, on_progress: OnProgress | None
    ) -> None:
        """Its hooks and retries want every call for themselves."""

    def tool_names(self) -> Sequence[str]:
        return self._names

    async def list_tools(self) -> Sequence[ToolSpec]:
        if (substitute := await self._route()) is not None:
            admits = substitute.config.tool_filter.admits
            specs = [spec for spec in await substitute.list_tools() if admits(spec.name)]
            self.instructions, self.capabilities = substitute.instructions, substitute.capabilities
            self._names = [spec.name for spec in specs]
            return specs
        tools = await self._ask("list_tools")
        self._wrapped = {
            t.name for t in tools if (schema := output_schema_of(t)) and is_wrapped(schema, t.name)
        }
        self._names = [tool.name for tool in tools]
        opened = getattr(self._server, "server_initialize_result", None)
        self.instructions = getattr(opened, "instructions", None) or ""
        offered = getattr(opened, "capabilities", None)
        kinds = ("tools", "resources", "prompts")
        self.capabilities = frozenset(k for k in kinds if offered is None or getattr(offered, k) is not None)
        return [tool_spec(tool, self.config.name, self.config.timeout_s) for tool in tools]

    async def call(self, name: str, arguments: dict[str, Any], on_progress: OnProgress | None) -> object:
        if self._names and name not in self._names:  # its own filter is applied by listing alone
            raise UnknownToolError(name, self._names)
        if (substitute := await self._route()) is not None:
            return await substitute.call(name, arguments, on_progress)
        result = await self._ask("call_tool", name, arguments)
        return tool_value(result, f"{name}()", wrapped=name in self._wrapped)

    async def list_resources(self) -> Sequence[Mapping[str, object]]:
        return await self._list("list_resources", "resources", "resources")

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]:
        return await self._list("list_resource_templates", "resource_templates", "resources")

    async def read_resource(self, uri: str) -> object:
        if (substitute := await self._route()) is not None:
            return await substitute.read_resource(uri)
        return resource_value(await self._ask("read_resource", uri))

    async def list_prompts(self) -> Sequence[Mapping[str, object]]:
        return await self._list("list_prompts", "prompts", "prompts")

    async def get_prompt(self, name: str, arguments: dict[str, str]) -> object:
        if (substitute := await self._route()) is not None:
            return await substitute.get_prompt(name, arguments)
        return prompt_messages(await self._ask("get_prompt", name, arguments))

    async def poll_events(self, name: str, arguments: Mapping[str, object], cursor: str | None) -> EventPage:
        substitute = await self._route()
        if substitute is None:
            raise ToolError(
                f"{self.config.name!r} is an object of openai-agents, which cannot be asked for events"
            )
        return await substitute.poll_events(name, arguments, cursor)

    async def subscribable(self) -> ServerConnection | None:
        """None for the object itself: it does not say when its connection breaks, so nothing could be promised."""
        try:
            substitute = await self._route()
        except McpServerError:  # it cannot be reached at all, which calls will say
            return None
        return None if substitute is None else await substitute.subscribable()

    async def revive(self, patience_s: float) -> bool:
        """False for the object itself, which nobody but its owner can start anew."""
        return self._substitute is not None and await self._substitute.revive(patience_s)

    async def aclose(self) -> None:
        """Close what this backend has opened; an object that its owner connected stays connected."""
        if self._substitute is not None:
            await self._substitute.aclose()
        await self._connection.aclose()

    def close_soon(self) -> None:
        if self._substitute is not None:
            self._substitute.close_soon()
        self._connection.close_soon()

    async def _list(self, method: str, attribute: str, kind: str) -> list[Mapping[str, object]]:
        if (substitute := await self._route()) is not None:
            listed: list[Mapping[str, object]] = await getattr(substitute, method)()
            return listed
        if kind not in self.capabilities or not hasattr(self._server, method):
            return []
        items: list[Any] = []
        page = await self._ask(method)
        items += getattr(page, attribute)
        while (cursor := page.next_cursor) is not None and len(items) < 100_000 and attribute != "prompts":
            page = await self._ask(method, cursor)  # its list_prompts follows the pages by itself
            items += getattr(page, attribute)
        return [plain(item) for item in items]

    # --- which way -----------------------------------------------------------------------------

    async def _route(self) -> ClientBackend | None:
        """Return the backend to use instead of the object, if the object cannot be used."""
        if not self._routed:
            if getattr(self._server, "session", None) is not None:
                self._theirs = await _answering_loop(self._server)
                if self._theirs is None:
                    self._replace()
            self._routed = True
        return self._substitute

    def _replace(self) -> None:
        assert isinstance(self.config.target, AgentsTarget)
        fallback = self.config.target.fallback
        if fallback is None:
            raise McpServerError(
                self.config.name,
                "was connected on an event loop that does not answer, and it does not say how else to "
                "reach it; pass it without connecting it",
            )
        both = attrs.evolve(self.config, target=fallback, tool_filter=_own_filter(self._server))
        self._substitute = ClientBackend(both, self.listener)

    async def _ask(self, method: str, *arguments: Any) -> Any:
        if self._theirs is not None:
            work = getattr(self._server, method)(*arguments)
            try:
                future = asyncio.run_coroutine_threadsafe(work, self._theirs)
            except RuntimeError as error:
                work.close()
                raise McpServerError(
                    self.config.name, "belongs to an event loop that has ended; pass it again"
                ) from error
            return await self._translated(method, asyncio.wrap_future(future), None)
        life = await self._connection.open()
        return await self._translated(method, getattr(self._server, method)(*arguments), life)

    async def _translated(self, method: str, work: Any, life: Life | None) -> Any:
        try:
            return await work
        except ToolError:
            raise
        except Exception as error:  # openai-agents has errors of its own, and the SDK's come through
            if life is not None and _connection_lost(error):
                life.broke()
                raise McpServerError(
                    self.config.name,
                    "died during this call; it is restarted with the next call; whether the call took effect "
                    f"is not known: {error}",
                ) from error
            raise ToolError(f"{method} of {self.config.name!r}: {error}") from error


class _AgentsLife(Life):
    """The owner task of an object that was not connected.

    It is an asyncio task by itself: between `connect` and `cleanup`, the object may leave cancel scopes open,
    which would break a task that belongs to a group.
    """

    async def _open_and_keep(self) -> None:
        owner = asyncio.create_task(self._connect_and_clean_up(), name=f"agentd-mcp-{self.config.name}")
        try:
            await asyncio.wait([owner])
        finally:
            if not owner.done():
                owner.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([owner], timeout=_CLEANUP_S)
        owner.result()

    async def _connect_and_clean_up(self) -> None:
        assert isinstance(self.config.target, AgentsTarget)
        server = self.config.target.server
        await server.connect()
        try:
            self._opened(server)
            await self._stop.wait()
        finally:
            await server.cleanup()


def _connection_lost(error: BaseException) -> bool:
    from mcp import MCPError
    from mcp_types import CONNECTION_CLOSED

    seen: set[int] = set()
    chain: BaseException | None = error
    while chain is not None and id(chain) not in seen:
        seen.add(id(chain))
        if isinstance(chain, MCPError) and chain.code == CONNECTION_CLOSED:
            return True
        if isinstance(chain, anyio.ClosedResourceError | anyio.BrokenResourceError | OSError):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _own_filter(server: Any) -> ToolFilter:
    """Return the object's static filter, which is by whole names."""
    given = getattr(server, "tool_filter", None)
    if callable(given):
        raise McpServerError(
            str(getattr(server, "name", "")),
            "has a function as tool_filter, which only its own loop can call",
        )
    if not isinstance(given, Mapping):
        return ToolFilter()
    allowed, blocked = given.get("allowed_tool_names"), given.get("blocked_tool_names")
    return ToolFilter(
        None if allowed is None else tuple(map(_exactly, allowed)), tuple(map(_exactly, blocked or ()))
    )


def _exactly(name: str) -> str:
    import glob

    return glob.escape(name)


async def _answering_loop(server: Any) -> asyncio.AbstractEventLoop | None:
    """Return the event loop of a connected object, if it runs and is not blocked by whoever waits for us."""
    group = getattr(getattr(server, "session", None), "_task_group", None)
    task = getattr(getattr(group, "cancel_scope", None), "_host_task", None)
    if not isinstance(task, asyncio.Task):
        return None
    loop = task.get_loop()
    if loop.is_closed() or not loop.is_running() or task.done():
        return None
    answered = AsyncWaiter()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:
        return None
    with anyio.move_on_after(_PING_S):
        await answered.wait()
        return loop
    return None
