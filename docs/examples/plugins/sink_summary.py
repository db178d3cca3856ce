"""A sink plugin: one line of JSON for each run, with its turns, blocks and tokens.

[project.entry-points."agentd.event_sinks"]
summary = "sink_summary"
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentd.events import Event
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

AGENTD_API = 1


class SummarySink:
    """Counts, and writes when a run has ended. `emit` is called for one event after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = 0
        self._blocks = 0

    def emit(self, event: Event) -> None:
        if event.type == "code_execution":
            self._blocks += 1
            self._failed += event.status == "failed"
        elif event.type == "run_end":
            summary = {
                "stop_reason": event.stop_reason,
                "turns": event.turns,
                "blocks": self._blocks,
                "failed": self._failed,
                "tokens": event.usage.total_tokens,
            }
            with self._path.open("a") as file:
                file.write(json.dumps(summary) + "\n")
            self._blocks = self._failed = 0

    def close(self) -> None:
        """Nothing is open between two runs."""


@hookimpl
def agentd_create_event_sink(options: Mapping[str, Any]) -> SummarySink:
    check_options("the event sink 'summary'", options, {"path": str})
    return SummarySink(Path(options.get("path", "summary.jsonl")))
