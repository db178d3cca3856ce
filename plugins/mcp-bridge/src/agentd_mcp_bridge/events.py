"""MCP Events (`io.modelcontextprotocol/events`, SEP-3415), by polling. Experimental: it is in beta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import mcp_types as types
from agentd.errors import ToolError
from agentd_tools.sources import EventPage, SourceEvent
from pydantic import Field

__all__ = ["EVENTS", "poll_events"]

EVENTS: Final = "io.modelcontextprotocol/events"
MOST: Final = 100
"""Events that are asked for at once."""
MOST_TAKEN: Final = 1000
LONGEST_CURSOR: Final = 100_000


class PollEventsParams(types.RequestParams):
    """Of `events/poll`: one subscription, and the position that is known."""

    name: str
    arguments: dict[str, Any]
    cursor: str | None = None
    max_events: int = MOST


class PollEventsRequest(types.Request[PollEventsParams, Literal["events/poll"]]):
    """Asks what has happened."""

    method: Literal["events/poll"] = "events/poll"
    params: PollEventsParams


class PolledOccurrence(types.Result):
    """One event. (As a `Result`, it has the names of the wire.)"""

    event_id: str
    timestamp: str = ""
    data: Any = None
    cursor: str | None = None


class PollEventsResult(types.Result):
    """The answer."""

    events: list[PolledOccurrence]
    cursor: str | None = None
    has_more: bool = False
    truncated: bool = False
    next_poll_ms: float | None = Field(default=None, ge=0)


async def poll_events(
    client: Any, name: str, arguments: Mapping[str, object], cursor: str | None
) -> EventPage:
    """Ask the server of an SDK's client; see `agentd_tools.sources.EventSource`.

    :raises ToolError: it has no events, or its answer cannot be used.
    """
    offered = client.server_capabilities.extensions or {}
    if EVENTS not in offered:
        raise ToolError(f"the server offers no events: it does not have the extension {EVENTS}")
    params = PollEventsParams(name=name, arguments=dict(arguments), cursor=cursor)
    result = await client.session.send_request(PollEventsRequest(params=params), PollEventsResult)
    if len(result.events) > MOST_TAKEN:
        raise ToolError(f"the server sent {len(result.events)} events at once; {MOST} were asked for")
    cursors = [result.cursor, *(event.cursor for event in result.events)]
    if any(len(one) > LONGEST_CURSOR for one in cursors if one is not None):
        raise ToolError(f"the server sent a cursor of more than {LONGEST_CURSOR} characters")
    return EventPage(
        events=[
            SourceEvent(id=event.event_id, at=event.timestamp, data=event.data, cursor=event.cursor)
            for event in result.events
        ],
        cursor=result.cursor,
        has_more=result.has_more,
        is_truncated=result.truncated,
        wait_s=None if result.next_poll_ms is None else result.next_poll_ms / 1000,
    )
