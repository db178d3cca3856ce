"""A subscription of one agent: looks when its server says so, or from time to time, and accepts what is new."""

from __future__ import annotations

import logging
import random
from typing import Final

import anyio
from agentd._concurrency.waiting import LoopCaller, call_quietly, loop_caller
from agentd.errors import AgentdError
from agentd_tools.backoff import Backoff
from agentd_tools.sources import SubscriptionState

from agentd_daemon.agent import AgentWorker
from agentd_daemon.config.values import SubscriptionConfig
from agentd_daemon.contents import ContentPlace, ResourceContent, find_place
from agentd_daemon.journal import Journal
from agentd_daemon.own_wakes import Waker
from agentd_daemon.uris import TOOL_SCHEME, safe_uri, uri_scheme

__all__ = ["Watch"]

log = logging.getLogger("agentd.daemon")

JITTER: Final = 0.1
"""Of the poll interval: many agents must not ask at the same moment for ever."""


class Watch:
    """Watches one resource for one agent.

    Every notification leads to a look; those that arrive during one lead to one more. What counts is the
    content's digest: a look that finds the content of the last time wakes nobody. The first look of all only
    notes what there is, unless `first_counts`.
    """

    def __init__(
        self,
        worker: AgentWorker,
        config: SubscriptionConfig,
        journal: Journal,
        *,
        first_counts: bool = False,
    ) -> None:
        self.agent = worker.name
        self.config = config
        self.state: SubscriptionState | None = None
        self.error = ""
        self._is_tool = uri_scheme(config.uri) == TOOL_SCHEME
        self._worker = worker
        self._journal = journal
        called = f"{safe_uri(config.uri)} (`max_in_a_row` of the subscription)"
        self._waker = Waker(uri=config.uri, called=called, most=config.max_in_a_row)
        self._looked_at: float | None = None
        self._first_counts = first_counts
        self._due = anyio.Event()
        self._call: LoopCaller | None = None
        self._backoff = Backoff(first_s=1.0, longest_s=60.0)

    # --- for ever ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch until cancelled. Failures are logged and tried again."""
        self._call = loop_caller()
        place = await self._find()
        await self._greet(place)
        end = place.share.subscribe(self.config.uri, self._tell)
        try:
            while True:
                await self._wait()
                self._due = anyio.Event()
                await self._look(place)
        finally:
            end()

    async def once(self) -> None:
        """Look a single time.

        :raises AgentdError: if that is not possible.
        """
        place = await find_place(self.config.uri, self._worker.shares, self.config.server)
        self._take(await self._read(place))

    def _tell(self, state: SubscriptionState) -> None:
        """Hear of the subscription, in any thread."""
        assert self._call is not None
        call_quietly(self._call, lambda: self._hear(state))

    def _hear(self, state: SubscriptionState) -> None:
        self.state = state
        if state != "lost":
            self._due.set()

    @property
    def polls(self) -> bool:
        """Whether to look from time to time. Always for tools: servers take any URI and then stay silent."""
        return self.state == "unsupported" or self._is_tool

    async def _wait(self) -> None:
        """Wait for the next reason to look."""
        interval = self.config.poll_interval or 60.0
        if self.error:
            interval = min(interval, self._backoff.next_s())
        elif not self.polls:
            await self._due.wait()
            return
        with anyio.move_on_after(interval * random.uniform(1 - JITTER, 1 + JITTER)):
            await self._due.wait()

    async def _find(self) -> ContentPlace:
        while True:
            try:
                place = await find_place(self.config.uri, self._worker.shares, self.config.server)
            except Exception as error:  # a plugin's boundary: the agent goes on, and so does its watching
                self._failed(error)
                await anyio.sleep(self._backoff.next_s())
            else:
                self._worked()
                return place

    async def _greet(self, place: ContentPlace) -> None:
        """Start the server, so that it is said at once why it cannot be started; subscribing tries again in silence."""
        try:
            await place.share.all_tools()
        except Exception as error:  # a plugin's boundary
            self._failed(error)

    async def _look(self, place: ContentPlace) -> None:
        try:
            content = await self._read(place)
            self._take(content)
        except Exception as error:  # a plugin's boundary, as above
            self._failed(error)
        else:
            self._worked()

    def _worked(self) -> None:
        if self.error:
            self.error = ""
            self._backoff.reset()

    def _failed(self, error: Exception) -> None:
        text = str(error) or (
            "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        )
        if text != self.error:  # said once, not with every try
            trace = None if isinstance(error, (AgentdError, TimeoutError)) else error
            uri = safe_uri(self.config.uri)
            log.warning("%s: %s cannot be watched: %s", self.agent, uri, text, exc_info=trace)
        self.error = text

    async def _read(self, place: ContentPlace) -> ResourceContent:
        try:
            with anyio.fail_after(place.share.timeout_s):
                return await place.read()
        except TimeoutError:
            await place.share.revive()
            raise

    def _take(self, content: ResourceContent) -> None:
        """Journal what is new."""
        uri, before = self.config.uri, self._looked_at
        self._looked_at = anyio.current_time()
        age_s = self._looked_at - before if self.polls and before is not None else 0.0
        seen = self._journal.last_seen(self.agent, uri)
        if seen is None and not self._first_counts:
            self._journal.note_seen(self.agent, uri, content.digest, content.text)
        elif seen is None or seen.digest != content.digest:
            trigger = self._journal.accept(
                self.agent,
                origin="subscription",
                uri=uri,
                content=content.text,
                digest=content.digest,
                previous=seen.content if seen is not None else "",
                task=self.config.prompt,
            )
            self._worker.wakes.accepted(trigger.id, self._waker, age_s=age_s)
            self._worker.wake()
