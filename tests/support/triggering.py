"""A trigger under the daemon's own watch, over a real journal, without an agent that works."""

from __future__ import annotations

from typing import Any, cast

import anyio
from agentd_daemon.agent import AgentWorker
from agentd_daemon.config.values import TriggerConfig
from agentd_daemon.journal import Journal, Trigger
from agentd_daemon.waking import TriggerWatch
from agentd_testing.trigger_lives import IdleWorker

__all__ = ["IdleWorker", "settle", "watch"]


def watch(
    trigger: Any, journal: Journal, *, once: bool = False, worker: IdleWorker | None = None, **more: Any
) -> TriggerWatch:
    """Return the watch of a trigger, or of what makes one; `more` are keys of its configuration."""
    config = TriggerConfig(**{"kind": "test", **more})
    make = trigger if callable(trigger) else lambda: trigger
    return TriggerWatch(cast(AgentWorker, worker or IdleWorker()), config, make, journal, once=once)


def settle(journal: Journal, worker: IdleWorker) -> Trigger:
    """Do the oldest task."""
    waiting = journal.next_trigger("a")
    assert waiting is not None
    journal.begin(waiting.id)
    done = journal.settle(waiting.id, state="done")
    worker.settled.set()
    worker.settled = anyio.Event()
    return done
