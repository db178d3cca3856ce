"""`agentd`, as a program that is killed at three moments of a task, once each: `killed_agents.py FOLDER ARGUMENTS`.

What has happened stands in FOLDER as files: `accepted`, `working`, `ended`. In front of the last one, the run's end is
known, and the journal has no word of it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from agentd.__main__ import main
from agentd.events import CodeOutput
from agentd_daemon.agent import AgentWorker
from agentd_daemon.journal import Journal

FOLDER = Path(sys.argv[1])


def die_once(moment: str) -> None:
    if not (FOLDER / moment).exists():
        (FOLDER / moment).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def dying_after(method: Any, moment: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        value = method(*args, **kwargs)
        die_once(moment)
        return value

    return call


def dying_before(method: Any, moment: str) -> Any:
    def call(*args: Any, **kwargs: Any) -> Any:
        die_once(moment)
        return method(*args, **kwargs)

    return call


def dying_at_output(method: Any) -> Any:
    def hear(self: AgentWorker, event: Any) -> None:
        if isinstance(event, CodeOutput):
            die_once("working")
        method(self, event)

    return hear


Journal.accept_event = dying_after(Journal.accept_event, "accepted")  # type: ignore[method-assign]
Journal.settle = dying_before(Journal.settle, "ended")  # type: ignore[method-assign]
AgentWorker.hear = dying_at_output(AgentWorker.hear)  # type: ignore[method-assign]
sys.argv[1:] = sys.argv[2:]
main()
