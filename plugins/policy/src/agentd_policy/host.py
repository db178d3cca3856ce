"""`PolicyHost`: what a policy asks of its session."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol

from agentd.events import Approval
from agentd.turn.transcript import Transcript

__all__ = ["PolicyHost"]


class PolicyHost(Protocol):
    """The session or client of a policy. From any thread; nothing blocks.

    :ivar transcripts: those of the runs under way, by the first part of their action ids.
    :ivar start: runs an async function on the session's event loop; None if there is none. Raises `RuntimeError`
        when that has ended.
    """

    workspace: Path
    transcripts: dict[str, Transcript]
    start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object] | None

    @property
    def tell(self) -> Callable[[Approval], None]:
        """Takes an event to the run that it belongs to."""
