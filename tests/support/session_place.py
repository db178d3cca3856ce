"""A place for a daemon's agents that is this process: conversations outlive their sessions in a dictionary."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from agentd import Session
from agentd.events import RunEnd
from agentd.protocols import Checkpoint
from agentd.session.run import Run
from agentd.turn.spending import around
from agentd.turn.transcript import Transcript
from agentd.types import ToolSpec
from agentd_policy.approvers import Approver

__all__ = ["SessionPlace"]


@attrs.define(eq=False)
class PlacedHere:
    """Implements `agentd_daemon.places.PlacedSession`."""

    session: Session
    place: SessionPlace
    name: str
    moves: int = 0
    node: str = "here"

    def run(self, task: str, *, output: Any = None, key: str = "") -> Run:
        self.place.keys.append(key)
        before = around.set(None)  # another machine knows nothing of what is spent here
        try:
            return self.session.run(task, output=output)
        finally:
            around.reset(before)

    async def ended(self, key: str) -> RunEnd | None:
        return self.place.ends.get(key)

    async def tools(self) -> list[ToolSpec]:
        return []

    async def transcript(self) -> Transcript:
        return Transcript.from_dict(self.session.transcript.as_dict())

    async def continue_from(self, transcript: Transcript) -> None:
        await self.session.continue_from(transcript)

    async def prepare(self) -> None:
        await self.session.prepare()

    async def checkpoint(self, label: str | None = None) -> Checkpoint:
        return await self.session.checkpoint(label)

    async def rewind(self, wanted: Any = None) -> Checkpoint:
        return await self.session.rewind(wanted)

    async def aclose(self) -> None:
        self.place.kept[self.name] = await self.transcript()
        await self.session.aclose()
        self.place.open_now.discard(self.name)


@attrs.define(eq=False)
class SessionPlace:
    """Implements `agentd_daemon.places.AgentPlace`.

    :ivar ends: what `ended` knows, by key; `keys` are those of all runs.
    :ivar limits: False: sessions have no limit of money of their own.
    """

    folder: Path
    limits: bool = True
    kept: dict[str, Transcript] = attrs.field(factory=dict)
    ends: dict[str, RunEnd] = attrs.field(factory=dict)
    keys: list[str] = attrs.field(factory=list)
    open_now: set[str] = attrs.field(factory=set)
    is_open: bool = False

    async def open(self) -> None:
        self.is_open = True

    async def aclose(self) -> None:
        assert not self.open_now, "a session was left open"
        self.is_open = False

    async def session(self, name: str, settings: Mapping[str, Any], approver: Any) -> PlacedHere:
        assert self.is_open
        assert name not in self.open_now, "it is open already"
        self.open_now.add(name)
        given = dict(settings)
        if given["policy"] is not None:
            given["approver"] = Approver(approver.ask, "the daemon", in_session=True, timeout_s=1000.0)
        if not self.limits:
            given["budgets"] = attrs.evolve(given["budgets"], max_cost_usd=None)
        session = Session(
            **given,
            cwd=self.folder / name,
            snapshots_dir=self.folder / "snapshots",
            transcript=self.kept.get(name, Transcript()),
        )
        await session.open()
        return PlacedHere(session, self, name)
