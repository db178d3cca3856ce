"""What a session of a fleet has its host do between two runs."""

from __future__ import annotations

from typing import Any

from agentd.events import RunEnd
from agentd.protocols import Checkpoint
from agentd.selectors import Selector
from agentd.turn.transcript import Transcript
from agentd.types import ToolSpec

from agentd_ray.wire import OpenedReport

__all__ = ["SessionCalls"]


class SessionCalls:
    """The base of `FleetSession` that has its checkpoints, and what else is one call of the host."""

    _report: OpenedReport

    async def _call(self, method: str, **arguments: Any) -> Any:
        raise NotImplementedError

    async def prepare(self) -> None:
        """As `Session.prepare`."""
        await self._call("prepare")

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        """As `Session.checkpoint`. After each turn there is one anyway."""
        return await self._call("checkpoint", label=label)

    async def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, the oldest first."""
        return await self._call("checkpoints")

    async def rewind(self, wanted: Selector | Checkpoint | None = None) -> Checkpoint:
        """As `Session.rewind`. What is forgotten so is in the store's older checkpoints."""
        checkpoint, self._report = await self._call("rewind", wanted=wanted)
        return checkpoint

    async def forget_last(self) -> str:
        """As `Session.forget_last`."""
        task, self._report = await self._call("forget_last")
        return task

    async def continue_from(self, transcript: Transcript) -> None:
        """As `Session.continue_from`."""
        _, self._report = await self._call("continue_from", transcript=transcript)

    async def ended(self, key: str) -> RunEnd | None:
        """Return how the run of this key has ended, if that was the last one of a key; else None."""
        end: RunEnd | None = await self._call("ended", key=key)
        return end

    async def tools(self) -> list[ToolSpec]:
        """Return the tools that the model has; they are prepared if they are not yet."""
        found: list[ToolSpec] = await self._call("tools")
        return found

    async def delete_checkpoint(self, wanted: Selector | Checkpoint) -> Checkpoint:
        """As `Session.delete_checkpoint`."""
        return await self._call("delete_checkpoint", wanted=wanted)
