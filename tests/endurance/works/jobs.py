"""Jobs of sessions: started, read, ended by a signal or with their session."""

from __future__ import annotations

import shutil
import uuid

import anyio
from agentd import Session
from agentd_testing.processes import wait_until_gone

from endurance.model import bash, task
from endurance.works.sessions import check, settings_of, turns
from endurance.works.work import Work

__all__ = ["Jobs"]

GONE_S = 20.0


class Jobs(Work):
    """Two jobs, of which one forks away; one is ended by the model, the other by the session's end."""

    name = "jobs"
    pause_s = 2.0

    def once(self) -> None:
        self.number += 1
        folder = self.place.folder(f"jobs-{uuid.uuid4().hex[:8]}")
        # a number that nothing else on this machine sleeps for, so that a survivor is found
        mark = f"1{self.dice.randrange(10**9):09}.{self.dice.randrange(1000):03}"
        try:
            anyio.run(self._talk, folder, mark)
            left = wait_until_gone(mark, GONE_S)
            assert not left, f"a job has outlived its session: {left}"
        finally:
            shutil.rmtree(folder)
        self.tally.add(sessions=1, jobs=2)

    async def _talk(self, folder: object, mark: str) -> None:
        settings = settings_of(self, self.number, folder)  # type: ignore[arg-type]
        async with Session("scripted", **settings) as session:
            first = bash("echo ready; sleep 987654", header="bash:job one")
            second = bash(f"setsid sleep {mark} & sleep {mark}", header="bash:job two")
            turns(self, session, await session.ask(task(first, second)))
            listed = bash("job signal one; job wait one 20 > /dev/null; job list | grep -c two")
            turns(self, session, await session.ask(task(listed)))
            check(session, "1")
            self.tally.add(blocks=3)
