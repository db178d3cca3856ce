"""A trigger plugin: wakes an agent every so many seconds, and once for all that was missed.

[project.entry-points."agentd.triggers"]
every = "trigger_every"
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio
from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options
from agentd_daemon.triggers import TriggerEvent, TriggerHost

AGENTD_API = 1


class EveryTrigger:
    """Its cursor is the number of the last interval since 1970 that was told."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def run(self, host: TriggerHost) -> None:
        while True:
            now = int(time.time() // self._seconds)
            last = host.cursor or ""
            if not (last.isascii() and last.isdigit()):
                # The very first start, or the cursor of another trigger that had this name.
                host.note(str(now))
            elif int(last) < now:
                text = f"{now - int(last)} intervals of {self._seconds:g} s have passed."
                # In the journal when this returns: the event and the cursor, or neither.
                await host.accept(TriggerEvent(id=str(now), text=text, cursor=str(now)))
            if host.once:
                return
            await anyio.sleep((now + 1) * self._seconds - time.time())


@hookimpl
def agentd_create_trigger(options: Mapping[str, Any]) -> EveryTrigger:
    check_options("the trigger 'every'", options, {"seconds": float})
    seconds = options.get("seconds", 60.0)
    if seconds <= 0:
        raise ConfigError(f"option 'seconds' of the trigger 'every': must be above 0, got {seconds:g}")
    return EveryTrigger(seconds)
