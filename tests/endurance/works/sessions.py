"""Sessions of a Python program: fresh ones of each executor on both event loops, and some that stay open for long."""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING, Any

import anyio
from agentd import Session, SyncSession
from agentd_history import History

from endurance.model import bash, python, task
from endurance.works.work import Work

if TYPE_CHECKING:
    from pathlib import Path

    from agentd.types import Execution

__all__ = ["FreshSessions", "LongSessions", "add", "check", "settings_of", "turns"]

ASKED = 60
"""Tasks of a long session, after which another one takes its place: a session keeps its transcript whole."""


def add(left: int, right: int) -> int:
    """Add two numbers."""
    return left + right


def settings_of(work: Work, executor: int, folder: Path, **more: Any) -> dict[str, Any]:
    """The arguments of a session with one of the executors that run here."""
    name, options = work.world.executors[executor % len(work.world.executors)]
    more_options = more.pop("options", {})
    given = {"cwd": folder, "tools": [add], "executor": (name, {**options, **more_options})}
    return {"base_url": work.world.base_url, "api_key": "none", **given, **more}


def check(session: Session | SyncSession, *outputs: str) -> None:
    """See that the newest blocks have printed this, all of them without a failure."""
    done: list[Execution] = list(session.transcript.executions)[-len(outputs) :]
    found = [(block.status, block.output.strip()) for block in done]
    assert found == [("completed", output) for output in outputs], found


def turns(work: Work, session: Session | SyncSession, end: Any) -> None:
    """Count a run, and see that it ended with an answer."""
    assert end.stop_reason == "answer", end
    work.tally.add(runs=1, turns=end.turns)


class FreshSessions(Work):
    """Opened, used for two runs, closed; the next one has the next executor and the other event loop."""

    name = "fresh-sessions"

    def once(self) -> None:
        self.number += 1
        folder = self.place.folder(f"fresh-{uuid.uuid4().hex[:8]}")
        backend = ("asyncio", "trio")[self.number // len(self.world.executors) % 2]
        try:
            anyio.run(self._talk, folder, backend=backend)
        finally:
            shutil.rmtree(folder)
        self.tally.add(sessions=1)

    async def _talk(self, folder: Path) -> None:
        state = ("fresh", "kept")[self.number % 2]
        settings = settings_of(self, self.number, folder, options={"state": state})
        call = python("from lib.tools import add\nseen = sum(add(n, 1) for n in range(10))\nprint(seen)")
        async with Session("scripted", **settings) as session:
            first = task(
                "I begin.\n\n" + bash("export CITY=Paris; mkdir -p deep; cd deep; echo one > file"),
                call,
                "```notes.txt:create\nwritten\n```\n" + bash("cat ../notes.txt notes.txt 2>/dev/null; true"),
            )
            end = await session.ask(first)
            turns(self, session, end)
            self.tally.add(blocks=4, calls=10)
            shown = "print(seen)" if state == "kept" else "print('seen' in globals())"
            end = await session.ask(task(bash("echo $CITY; cat file"), python(shown)))
            turns(self, session, end)
            self.tally.add(blocks=2)
            check(session, "Paris\none", "55" if state == "kept" else "False")


class LongSessions(Work):
    """One of each executor that stays open, with a bounded history, a kept Python and blocks side by side."""

    name = "long-sessions"

    def __init__(self, place: Any) -> None:
        super().__init__(place)
        self._open: dict[int, tuple[SyncSession, int]] = {}

    def once(self) -> None:
        self.number += 1
        which = self.number % len(self.world.executors)
        session, asked = self._open.pop(which, (None, 0))
        if session is None:
            folder = self.place.folder(f"long-{which}")
            history = History(rule="drop", max_tokens=4_000)
            settings = settings_of(self, which, folder, options={"state": "kept"}, history=history)
            session = SyncSession("scripted", **settings).open()
        try:
            blocks = python("total = globals().get('total', 0) + 1\nprint(total)") + bash("echo side by side")
            turns(self, session, session.ask(task(blocks, "x" * 400)))
            check(session, str(asked + 1), "side by side")
            self.tally.add(blocks=2)
        except BaseException:
            session.close()
            raise
        if asked + 1 < ASKED:
            self._open[which] = session, asked + 1
        else:
            session.close()
            self.tally.add(sessions=1)

    def close(self) -> None:
        for session, _ in self._open.values():
            session.close()
