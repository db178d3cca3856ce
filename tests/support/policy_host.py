"""The session of a policy, as far as the policy sees it: it keeps what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentd.events import Approval
from agentd.turn.transcript import Transcript

__all__ = ["SessionStandIn"]


class SessionStandIn:
    """The session of a policy: it keeps what it is told."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.transcripts: dict[str, Transcript] = {}
        self.start = None
        self.told: list[Any] = []

    def tell(self, event: Approval) -> None:
        self.told.append(event)
