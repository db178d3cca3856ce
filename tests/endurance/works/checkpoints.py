"""Going back: checkpoints after each turn, rewinds and forks, in a folder and in a store."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import anyio
from agentd import Session

from endurance.model import bash, task
from endurance.works.sessions import check, settings_of, turns
from endurance.works.work import Work
from endurance.world import Place

__all__ = ["Rewinds", "StoredSessions"]

WRITES = "export CITY=%s; echo %s > file; seq 2000 > numbers"
SHOWS = bash("echo $CITY; cat file")


class Rewinds(Work):
    """Two turns, back to the first, a fork of it; then all checkpoints are removed, so that the disk is as it was."""

    name = "rewinds"
    pause_s = 1.0

    def once(self) -> None:
        self.number += 1
        # by turns in one of four: a snapshot store leaves some small files for each workspace that it was made for
        folder = self.place.folder(f"rewind-{self.number % 4}")
        try:
            anyio.run(self._talk, folder)
        finally:
            shutil.rmtree(folder)
        self.tally.add(sessions=2, rewinds=1)

    async def _talk(self, folder: Path) -> None:
        kept = {"snapshots_dir": self.world.folder / "state" / "snapshots", "checkpoint_every_turn": True}
        settings = settings_of(self, self.number, folder / "one", **kept)
        async with Session("scripted", **settings) as session:
            turns(self, session, await session.ask(task(bash(WRITES % ("Paris", "one")))))
            before = await session.checkpoint("before")
            turns(self, session, await session.ask(task(bash(WRITES % ("Rome", "two")))))
            await session.rewind("before")
            turns(self, session, await session.ask(task(SHOWS)))
            check(session, "Paris\none")
            async with await session.fork(before, cwd=folder / "two") as fork:
                turns(self, fork, await fork.ask(task(SHOWS)))
                check(fork, "Paris\none")
                await self._forget(fork)
            await self._forget(session)
            self.tally.add(blocks=4)

    async def _forget(self, session: Session) -> None:
        for kept in session.checkpoints():
            await session.delete_checkpoint(kept)


class StoredSessions(Work):
    """Conversations in a store, each of which goes on in new folders 12 times; what is old is removed and collected."""

    name = "stored-sessions"
    pause_s = 1.0
    tasks = 12
    kept = 6
    conversations = 3
    collected_every = 10

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._run = uuid.uuid4().hex[:8]  # what an earlier process has left half done is its own

    def once(self) -> None:
        self.number += 1
        # What is left of a conversation whose checkpoints are gone are some 40 entries of its log: a few take turns.
        anyio.run(self._talk, f"{self._run}-{self.number // self.tasks % self.conversations}")
        self.tally.add(sessions=1, stored=1)
        if self.number % self.collected_every == 0:
            self._collect()

    @property
    def _url(self) -> str:
        return f"file://{self.place.folder('store')}"

    async def _talk(self, name: str) -> None:
        folder = self.place.folder(f"stored-{uuid.uuid4().hex[:8]}")
        more: dict[str, Any] = {"store": self._url, "conversation_id": name}
        settings = settings_of(self, 0, folder / "w", snapshots_dir=folder / "cache", **more)
        try:
            async with Session("scripted", **settings) as session:
                count = bash("n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) | tee n")
                had = len(session.transcript.executions)
                turns(self, session, await session.ask(task(count)))
                check(session, str(had + 1))
                is_last = self.number % self.tasks == self.tasks - 1
                for old in session.checkpoints()[: None if is_last else -self.kept]:
                    await session.delete_checkpoint(old)
                self.tally.add(blocks=1)
        finally:
            shutil.rmtree(folder)

    def _collect(self) -> None:
        from agentd_store.collecting import collect_garbage
        from agentd_store.opened import open_store

        collect_garbage(open_store(self._url, make=False))
