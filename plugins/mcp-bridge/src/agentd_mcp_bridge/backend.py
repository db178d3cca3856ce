"""How a source reaches its server: over a connection of our own, or through an object of openai-agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

import anyio
from agentd.errors import ToolError
from agentd.protocols import OnProgress
from agentd.text import valid_data
from agentd.types import ToolSpec
from agentd_tools.sources import EventPage

from agentd_mcp_bridge.asking import ServerRequests, open_client, refusal
from agentd_mcp_bridge.config import ServerConfig
from agentd_mcp_bridge.connection import ServerConnection
from agentd_mcp_bridge.direct import DirectCall, DirectCalls, Done
from agentd_mcp_bridge.lenient import read_json
from agentd_mcp_bridge.life import Life, ServerListener
from agentd_mcp_bridge.loop import mcp_loop
from agentd_mcp_bridge.offered import OutputChecks, oddity_of, output_schema_of
from agentd_mcp_bridge.passing import Kind, PassedRequest, refusal_behind

__all__ = ["Backend", "ClientBackend"]

_PAGES: Final = 1000
_ITEMS: Final = 100_000


class Backend(Protocol):
    """What a source asks of its server. Everything but `close_soon` runs in the MCP loop.

    `subscribable` gives the connection that subscriptions keep open; None if changes cannot be heard there.
    """

    config: ServerConfig
    listener: ServerListener
    instructions: str
    capabilities: frozenset[str]

    def tool_names(self) -> Sequence[str]: ...

    async def list_tools(self) -> Sequence[ToolSpec]: ...

    async def call(self, name: str, arguments: dict[str, Any], on_progress: OnProgress | None) -> object: ...

    async def list_resources(self) -> Sequence[Mapping[str, object]]: ...

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]: ...

    async def read_resource(self, uri: str) -> object: ...

    async def list_prompts(self) -> Sequence[Mapping[str, object]]: ...

    async def get_prompt(self, name: str, arguments: dict[str, str]) -> object: ...

    async def poll_events(
        self, name: str, arguments: Mapping[str, object], cursor: str | None
    ) -> EventPage: ...

    async def subscribable(self) -> ServerConnection | None: ...

    async def revive(self, patience_s: float) -> bool: ...

    async def aclose(self) -> None: ...

    def begin(
        self, name: str, arguments: Mapping[str, object], done: Done, on_progress: OnProgress | None
    ) -> Callable[[], None] | None:
        """Start a call without a task, from any thread; None if it must go the long way."""
        ...

    def close_soon(self) -> None: ...


class ClientBackend:
    """Over the SDK's client, on a connection that is opened anew after a crash."""

    def __init__(self, config: ServerConfig, listener: ServerListener | None = None) -> None:
        self.config = config
        self.listener = listener or ServerListener()
        self.connection = ServerConnection(config, self.listener)
        self._requests = ServerRequests(self.connection, self._share_pipe)
        self.instructions = ""
        self.capabilities: frozenset[str] = frozenset()
        self._wrapped: set[str] = set()
        self._repeatable: dict[str, bool] = {}
        self._tasks: set[str] = set()
        self._outputs = OutputChecks()
        self._odd: dict[str, str] = {}
        self._direct: DirectCalls | None = None
        """Of the newest life, if that can be called past the SDK; begins nothing once the life is over."""

    def tool_names(self) -> Sequence[str]:
        return list(self._repeatable)

    async def list_tools(self) -> Sequence[ToolSpec]:
        from agentd_mcp_bridge.schemas import is_wrapped, tool_spec
        from agentd_mcp_bridge.tasks import must_be_task

        async def fetch(life: Life) -> list[Any]:
            return await _all_pages(open_client(life).list_tools, "tools")

        life, tools = await self._requests.ask(fetch, "tools/list", needs="tools", otherwise=[])
        if life is not None:
            self.instructions = open_client(life).instructions or ""
            self.capabilities = frozenset(
                kind
                for kind in ("tools", "resources", "prompts")
                if getattr(open_client(life).server_capabilities, kind) is not None
            )
        schemas = {t.name: schema for t in tools if (schema := output_schema_of(t)) is not None}
        self._outputs.replace(schemas)
        self._wrapped = {name for name, schema in schemas.items() if is_wrapped(schema, name)}
        self._repeatable = {t.name: _is_repeatable(t) for t in tools}
        self._tasks = {t.name for t in tools if must_be_task(t)}
        admits = self.config.tool_filter.admits
        self._tell_oddities({t.name: odd for t in tools if admits(t.name) and (odd := oddity_of(t))})
        return [tool_spec(tool, self.config.name, self.config.timeout_s) for tool in tools]

    def _tell_oddities(self, odd: dict[str, str]) -> None:
        for name, what in odd.items():
            if self._odd.get(name) != what:
                self.listener.log("warning", f"the tool {name!r} is offered as far as it can be read: {what}")
        self._odd = odd

    async def call(
        self, name: str, arguments: dict[str, Any], on_progress: OnProgress | None, *, attempts: int = 2
    ) -> object:
        given = valid_data(arguments)

        async def progress(done: float, total: float | None, message: str | None) -> None:
            assert on_progress is not None
            on_progress(done, total, message or "")

        async def fetch(life: Life) -> Any:
            if name in self._tasks:
                from agentd_mcp_bridge.tasks import call_as_task

                return await call_as_task(open_client(life), name, given)
            return await open_client(life).call_tool(
                name, given, progress_callback=None if on_progress is None else progress
            )

        _, result = await self._requests.ask(
            fetch, f"{name}()", repeatable=self._repeatable.get(name, False), attempts=attempts
        )
        return self._value(name, result)

    def _value(self, name: str, result: Any) -> object:
        """Return the value of a result; what does not keep its output schema is given all the same, and told."""
        from agentd_mcp_bridge.results import tool_value

        mismatch = "" if result.is_error else self._outputs.mismatch(name, result.structured_content)
        if mismatch:
            self.listener.log("warning", mismatch)
        return tool_value(result, f"{name}()", wrapped=name in self._wrapped, warning=mismatch)

    # --- calls past the SDK ------------------------------------------------------------------------

    def begin(
        self, name: str, arguments: Mapping[str, object], done: Done, on_progress: OnProgress | None
    ) -> Callable[[], None] | None:
        """Start a call without a task; see `agentd_mcp_bridge.direct`. From any thread.

        Returns a function that gives the call up, or None if it must go the SDK's way.
        """
        direct = self._direct
        if direct is None or name in self._tasks:
            return None
        return direct.begin(name, arguments, done, on_progress)

    def _take_long_way(self, call: DirectCall) -> None:
        _spawn(lambda: self._finish_late(call, lambda: self._again(call, attempts=2)))

    async def _again(self, call: DirectCall, *, attempts: int) -> object:
        return await self.call(call.name, dict(call.arguments), call.on_progress, attempts=attempts)

    async def _finish_late(self, call: DirectCall, work: Callable[[], Awaitable[object]]) -> None:
        with anyio.CancelScope() as call.scope:
            if call.given_up:
                return
            try:
                value = await work()
            except Exception as error:
                call.done(None, error)
            else:
                call.done(value, None)

    def _share_pipe(self, life: Life) -> None:
        """Let calls share the pipes of this life's server with the SDK, where that can be done."""
        if life.direct is not None or (pipe := life.pipe) is None or pipe.lines is None:
            return
        self._direct = life.direct = direct = DirectCalls(
            pipe.lines,
            mcp_loop(),
            has_schema=self._outputs.schemas.__contains__,
            finish=self._read_result,
            refused=lambda name, code, message: refusal(code, message, f"{name}()"),
            ask_again=self._take_long_way,
        )
        pipe.intercept(direct.take)

        async def watch() -> None:
            await life.ended.wait()
            for call in direct.lost():
                self._lost(life, call)

        _spawn(watch)

    def _lost(self, life: Life, call: DirectCall) -> None:
        async def outcome() -> object:
            died = self._requests.died(life, f"{call.name}()")
            if life.closing or not self._repeatable.get(call.name, False):
                raise died
            return await self._again(call, attempts=1)

        _spawn(lambda: self._finish_late(call, outcome))

    async def _read_result(self, name: str, raw: object) -> object:
        from mcp_types import CallToolResult

        try:
            result = CallToolResult.model_validate(
                read_json(raw) if isinstance(raw, bytes) else raw, by_name=False
            )
        except ValueError as error:
            raise ToolError(f"{name}() of {self.config.name!r}: {error}") from error
        return self._value(name, result)

    async def list_resources(self) -> Sequence[Mapping[str, object]]:
        return await self._list("list_resources", "resources", "resources")

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]:
        return await self._list("list_resource_templates", "resource_templates", "resources")

    async def read_resource(self, uri: str) -> object:
        from agentd_mcp_bridge.results import resource_value

        async def fetch(life: Life) -> Any:
            return await open_client(life).read_resource(uri)

        _, result = await self._requests.ask(fetch, f"reading {uri!r}", repeatable=True)
        return resource_value(result)

    async def list_prompts(self) -> Sequence[Mapping[str, object]]:
        return await self._list("list_prompts", "prompts", "prompts")

    async def get_prompt(self, name: str, arguments: dict[str, str]) -> object:
        from agentd_mcp_bridge.results import prompt_messages

        async def fetch(life: Life) -> Any:
            return await open_client(life).get_prompt(name, arguments)

        _, result = await self._requests.ask(fetch, f"the prompt {name!r}", repeatable=True)
        return prompt_messages(result)

    async def poll_events(self, name: str, arguments: Mapping[str, object], cursor: str | None) -> EventPage:
        from agentd_mcp_bridge.events import poll_events

        async def fetch(life: Life) -> EventPage:
            return await poll_events(open_client(life), name, arguments, cursor)

        _, page = await self._requests.ask(fetch, f"asking for events {name!r}")
        assert page is not None
        found: EventPage = page
        return found

    async def offered(self, kind: Kind) -> list[Any]:
        """Return what the server offers of a kind, as the SDK has it."""
        needs = "resources" if kind == "resource_templates" else kind

        async def fetch(life: Life) -> list[Any]:
            return await _all_pages(getattr(open_client(life), f"list_{kind}"), kind)

        _, items = await self._requests.ask(fetch, f"list_{kind}", needs=needs, otherwise=[])
        return list(items)

    async def pass_on(self, passed: PassedRequest, *, repeatable: bool) -> Any:
        """Make a client's request; see `McpSource.pass_on`."""

        async def fetch(life: Life) -> Any:
            return await passed.send(open_client(life))

        try:
            _, passed.result = await self._requests.ask(fetch, passed.what, repeatable=repeatable)
        except ToolError as error:
            passed.error = refusal_behind(error)
            if passed.error is None:
                raise
            raise passed.error from None
        return passed.result

    async def pass_call(self, passed: PassedRequest, name: str, arguments: dict[str, Any]) -> Any:
        """Make a client's call of a tool; of one that only knows tasks, as such."""
        if name in self._tasks:
            from agentd_mcp_bridge.tasks import call_as_task

            passed.send = lambda client: call_as_task(client, name, valid_data(arguments))
        return await self.pass_on(passed, repeatable=self._repeatable.get(name, False))

    async def subscribable(self) -> ServerConnection | None:
        return self.connection

    async def revive(self, patience_s: float) -> bool:
        """Give the server up if it answers nothing within so many seconds; the next call starts it anew."""
        life = self.connection.life
        if life is None:
            return False
        with anyio.move_on_after(patience_s) as patience:
            try:
                await open_client(life).list_tools()
            except Exception:  # an answer, too; that of a server that has ended, say
                return False
        if patience.cancelled_caught and life.usable:
            self.listener.log(
                "warning", f"the server answers nothing for {patience_s:g} s; it is started anew"
            )
            life.broke()
        return patience.cancelled_caught

    async def aclose(self) -> None:
        await self.connection.aclose()

    def close_soon(self) -> None:
        self.connection.close_soon()

    async def _list(self, method: str, attribute: str, capability: str) -> list[Mapping[str, object]]:
        from agentd_mcp_bridge.results import plain

        async def fetch(life: Life) -> list[Any]:
            return await _all_pages(getattr(open_client(life), method), attribute)

        _, items = await self._requests.ask(fetch, method, needs=capability, otherwise=[])
        return [plain(item) for item in items]


def _spawn(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    mcp_loop().post(work, lambda: None)


def _is_repeatable(tool: Any) -> bool:
    hints = tool.annotations
    return hints is not None and (hints.read_only_hint is True or hints.idempotent_hint is True)


async def _all_pages(fetch: Callable[..., Awaitable[Any]], attribute: str) -> list[Any]:
    """Follow a list to its end; a server that repeats itself or never ends is told apart."""
    items: list[Any] = []
    cursor: str | None = None
    seen: set[str] = set()
    for _ in range(_PAGES):
        page = await fetch(cursor=cursor)
        items += getattr(page, attribute)
        cursor = page.next_cursor
        if cursor is None:
            return items
        if cursor in seen or len(items) > _ITEMS:
            break
        seen.add(cursor)
    raise ToolError(f"the server's list of {attribute} does not end; {len(items)} were read")
