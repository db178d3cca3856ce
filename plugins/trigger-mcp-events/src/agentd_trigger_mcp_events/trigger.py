"""The trigger: asks the server what has happened since its cursor, and hands that over."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any, Final

import anyio
from agentd.errors import ConfigError, suggest
from agentd_daemon.triggers import TriggerEvent, TriggerHost
from agentd_tools.sources import EventSource, SourceEvent

__all__ = ["McpEventsTrigger"]

log = logging.getLogger("agentd.daemon.events")

MOST_EMPTY: Final = 100
"""Pages in a row without an event, of a server that says that there is more each time."""
LEAST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 3600.0


class McpEventsTrigger:
    """Wakes an agent by events of one of its MCP servers.

    The cursor is the server's, with what it was asked for: under another event or other arguments, it begins anew.

    :param server: the server's name; None for the only one that can be asked.
    :param poll_s: seconds between two questions, if the server does not say.
    """

    def __init__(
        self, event: str, arguments: Mapping[str, Any], *, server: str | None, poll_s: float
    ) -> None:
        self._event = event
        self._arguments = dict(arguments)
        self._server = server
        self._poll_s = poll_s
        asked = json.dumps([server, event, self._arguments], sort_keys=True, default=str)
        self._asked = hashlib.sha256(asked.encode()).hexdigest()[:32]

    async def run(self, host: TriggerHost) -> None:
        """Ask for ever, or until all is told with `host.once`; see `agentd_daemon.triggers.TriggerSource`."""
        source = self._source(host)
        empty, age_s = 0, 0.0
        while True:
            known, asked_at = self._load(host.cursor), anyio.current_time()
            page = await source.poll_events(self._event, self._arguments, known)
            skipped = "Events before this one were lost: the server has them no more.\n" * page.is_truncated
            if skipped:
                log.warning("%s: %r: the server has left out events", host.agent, host.name)
            for event in page.events:
                await host.accept(self._told(event, skipped, age_s))
                skipped = ""
            if page.cursor is not None and page.cursor != self._load(host.cursor):
                host.note(self._dump(page.cursor))
            if page.cursor is None and not page.events:
                host.report(
                    f"the server keeps no position in {self._event!r}: by polling, its events cannot be had"
                )
            else:
                host.report("")
            empty = 0 if page.events else empty + 1
            if page.has_more and page.cursor not in (None, known) and empty < MOST_EMPTY:
                continue
            if host.once:
                return
            empty = 0
            await anyio.sleep(self._wait_s(page.wait_s))
            age_s = anyio.current_time() - asked_at

    def _wait_s(self, wished_s: float | None) -> float:
        return min(max(self._poll_s if wished_s is None else wished_s, LEAST_WAIT_S), LONGEST_WAIT_S)

    def _source(self, host: TriggerHost) -> EventSource:
        able = [source for source in host.sources if isinstance(source, EventSource)]
        found = [source for source in able if self._server in (None, getattr(source, "name", ""))]
        if len(found) == 1:
            return found[0]
        names = [str(getattr(source, "name", "")) for source in able]
        listed = ", ".join(map(repr, names)) or "none"
        if self._server is not None:
            raise ConfigError(
                f"option 'server' of the trigger 'mcp-events': must be the `name` of a server of the agent ({listed}), "
                f"got {self._server!r}{suggest(self._server, names)}"
            )
        raise ConfigError(
            f"the trigger 'mcp-events': the agent must have one server, or the option 'server' name one of: {listed}"
        )

    def _told(self, event: SourceEvent, before: str, age_s: float) -> TriggerEvent:
        data = json.dumps(event.data, ensure_ascii=False, indent=1)
        return TriggerEvent(
            id=f"{self._asked}:{event.id}",
            text=f"{before}{self._event}, {event.at}\n{data}",
            cursor=None if event.cursor is None else self._dump(event.cursor),
            may_be_own=True,
            age_s=age_s,
        )

    def _dump(self, cursor: str) -> str:
        return json.dumps([self._asked, cursor])

    def _load(self, kept: str | None) -> str | None:
        try:
            asked, cursor = json.loads(kept or "")
        except (ValueError, TypeError):
            return None
        return cursor if asked == self._asked and isinstance(cursor, str) else None
