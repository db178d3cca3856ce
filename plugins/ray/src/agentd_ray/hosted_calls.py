"""What a driver asks of a session on a host, beside its runs and checkpoints."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from agentd._concurrency.pool import call_in_thread
from agentd.events import RunEnd
from agentd.session.session import Session
from agentd.types import ToolSpec
from agentd_store import StoreError

from agentd_ray.run_ends import RunEnds

__all__ = ["HostedCalls"]

log = logging.getLogger("agentd.fleet")


class HostedCalls(Session):
    """The base of `HostedSession` that keeps how runs have ended, and says what tools there are.

    :ivar ends: how runs that have a key have ended.
    """

    ends: RunEnds
    _is_kept = True

    async def keep_end(self, key: str, end: object) -> None:
        """Keep how a run has ended, if it has a key and what it did is in the store. Not in place of the end of a later
        run: this process may have been stopped meanwhile, and another one may have the conversation."""
        if key and self._is_kept and isinstance(end, RunEnd):
            timeline: Any = self._timeline
            snapshots = timeline.snapshots  # agentd-store's
            try:
                if await call_in_thread(lambda: snapshots.is_sure or snapshots.is_still_held()):
                    await call_in_thread(partial(self.ends.keep, key, end))
            except StoreError as error:  # whoever gave the task hears of its end now, unless he is killed
                log.warning("the end of this run could not be kept: %s", error)

    async def ended(self, key: str) -> RunEnd | None:
        """Return how the run of this key has ended, if that was the last one of a key; else None."""
        return await call_in_thread(partial(self.ends.find, key))

    async def tools(self) -> list[ToolSpec]:
        """Return the tools that the model has."""
        await self.prepare()
        tools = self.resources.tools
        return [] if tools is None else list(tools.specs())
