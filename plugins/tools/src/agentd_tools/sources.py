"""What a tool source may have besides `agentd.protocols.ToolSource`: calls without a task, resources, subscriptions,
events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import attrs
from agentd.protocols import OnProgress

__all__ = [
    "DirectSource",
    "EventPage",
    "EventSource",
    "ResourceSource",
    "SourceEvent",
    "SubscriptionSource",
    "SubscriptionState",
]

SubscriptionState = Literal["active", "changed", "lost", "unsupported"]


@runtime_checkable
class DirectSource(Protocol):
    """What a tool source also has if a call costs it no more than passing on a message.

    `begin` starts a call without a task and returns at once, from any thread. `done(value, error)` is called from
    any thread, exactly once, unless the function that `begin` returns, which gives the call up, was called
    before. None means that this call must go through `ToolSource.call`; then `done` is never called.
    """

    def begin(
        self,
        name: str,
        arguments: Mapping[str, object],
        done: Callable[[object, BaseException | None], None],
        on_progress: OnProgress | None = None,
    ) -> Callable[[], None] | None: ...


@runtime_checkable
class ResourceSource(Protocol):
    """What a tool source also has if it offers resources and prompts (MCP's terms).

    Each list is of JSON objects with the fields that MCP gives them (`uri`, `name`, `description`,
    `mimeType`; `uriTemplate`; `name`, `description`, `arguments`). `read_resource` returns a `str` or a
    `Blob`, or a list of them where the server sends several; `get_prompt` the messages as a list of
    `{"role": ..., "content": ...}`. They raise `ToolError`.
    """

    async def list_resources(self) -> Sequence[Mapping[str, object]]: ...

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]: ...

    async def read_resource(self, uri: str) -> object: ...

    async def list_prompts(self) -> Sequence[Mapping[str, object]]: ...

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> object: ...


@runtime_checkable
class SubscriptionSource(Protocol):
    """What a tool source also has if it can tell of changes of its resources.

    `subscribe` returns at once, from any thread, before anything was opened too; the function that it returns
    ends the subscription, once or more often. As long as one exists the source keeps its connection: it opens one
    that broke again, with back-off, without waiting for a call. `on_event` is told, from any thread but never
    from two at once:

    - `active`: changes are told from now on; the first time and after each interruption. Whoever cares for what
      happened in between reads the resource now.
    - `changed`: the resource has changed. Several changes may be told as one.
    - `lost`: the connection broke or could not be opened; told with every failed attempt, of which there will
      be more.
    - `unsupported`: there are no subscriptions to this resource, so the caller polls. After a reconnection
      another state may follow.

    `on_event` must return at once. An exception in it is logged, and the subscription goes on. Once the
    subscription or the source was ended it is not called any more, but for a call that has begun.
    """

    def subscribe(self, uri: str, on_event: Callable[[SubscriptionState], None]) -> Callable[[], None]: ...


@attrs.frozen(kw_only=True)
class SourceEvent:
    """Something that has happened at a server.

    :ivar id: names it; the same id is the same event.
    :ivar at: when, as the server writes it.
    :ivar data: what, as JSON.
    :ivar cursor: the position behind it, if the server says.
    """

    id: str
    at: str
    data: object
    cursor: str | None = None


@attrs.frozen(kw_only=True)
class EventPage:
    """What has happened since a position.

    :ivar cursor: the position behind all of it; None if the server keeps no positions.
    :ivar has_more: there is more, which can be asked for at once.
    :ivar is_truncated: events were left out, which the server has no more.
    :ivar wait_s: seconds until it is worth to ask again, if the server says.
    """

    events: Sequence[SourceEvent]
    cursor: str | None
    has_more: bool = False
    is_truncated: bool = False
    wait_s: float | None = None


@runtime_checkable
class EventSource(Protocol):
    """What a tool source also has if it can be asked what has happened: MCP Events (SEP-3415). Experimental.

    `poll_events` asks for the events of one type, with its arguments, since a position; None is now: then there are no
    events, and a position. It raises `ToolError`.
    """

    async def poll_events(
        self, name: str, arguments: Mapping[str, object], cursor: str | None
    ) -> EventPage: ...
