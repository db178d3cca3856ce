"""Running cases against an executor, one after the other, and judging what came of each."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ExecutorError
from agentd.protocols import Executor
from agentd.types import Action, ActionResult, BashAction, CreateAction, OutputChunk, PythonAction
from agentd_skills import AgentSkillsRenderer, layout_of
from agentd_tools import ToolSet

from agentd_testing.escapes.case import Case
from agentd_testing.escapes.keyring import has_keyrings
from agentd_testing.escapes.system_v import has_system_v
from agentd_testing.escapes.world import World
from agentd_testing.processes import wait_until_gone

__all__ = ["Outcome", "Verdict", "missing_needs", "run_cases"]

Verdict = Literal["blocked", "open", "broken"]

# What may arrive of one stream when a case floods it: the default limit, and room for the note about the rest.
BOUND_BYTES: Final = 5 * 1024 * 1024
STARTED_S: Final = 60.0
_BASH: Final = 'say() { printf "\\n%s %s %s\\n" "$MARK" "$1" "${*:2}"; }\n'


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of a case. `detail` says what was seen; `applicable` is False where the host lacks what it needs."""

    case: Case
    verdict: Verdict
    detail: str = ""
    applicable: bool = True


def missing_needs(case: Case) -> str:
    """Return what this host lacks for the case to say anything, or an empty string."""
    for need in case.needs:
        kind, _, what = need.partition(":")
        if not _has(kind, what):
            return need
    return ""


def _has(kind: str, what: str) -> bool:
    if kind == "path":
        return bool(list(Path("/").glob(what.lstrip("/"))))
    if kind == "command":
        return shutil.which(what) is not None
    if kind == "socket":
        return _can_make(*what.split(":"))
    if kind == "loopback6":
        return _reaches(socket.AF_INET6, "::1", bind=True)
    if kind == "route4":
        return _reaches(socket.AF_INET, "192.0.2.1")
    if kind == "route6":
        return _reaches(socket.AF_INET6, "2001:db8::1")
    if kind == "keyring":
        return has_keyrings()
    if kind == "system-v":
        return has_system_v()
    raise ValueError(f"unknown need {kind!r}")


def _can_make(family: str, kind: str, protocol: str) -> bool:
    try:
        socket.socket(getattr(socket, family), getattr(socket, kind), int(protocol)).close()
    except (AttributeError, OSError):
        return False
    return True


def _reaches(family: int, address: str, *, bind: bool = False) -> bool:
    """Tell whether there is a route, without sending anything."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if bind:
                sock.bind((address, 0))
            else:
                sock.connect((address, 9))
    except OSError:
        return False
    return True


async def run_cases(
    make: Callable[[Path], Executor],
    cases: Sequence[Case],
    *,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Run the cases in one executor, which `make(workspace)` makes inside a world of baits.

    While this runs, the process's `HOME` is the world's: for a command or a test of its own, not for a program that
    does other things meanwhile. The executor is closed at the end.

    Raises `ExecutorError` if it cannot be started at all.
    """
    outcomes: list[Outcome] = []
    with World() as world:
        async with _session(make, world) as session:
            for case in cases:
                if lacking := missing_needs(case):
                    detail = f"not run: this host has no {lacking}"
                    outcome = Outcome(case=case, verdict="broken", detail=detail, applicable=False)
                else:
                    outcome = await session.judge(case)
                outcomes.append(outcome)
                on_outcome(outcome)
    return outcomes


@asynccontextmanager
async def _session(make: Callable[[Path], Executor], world: World) -> AsyncIterator[_Session]:
    session = _Session(make(world.workspace), world)
    try:
        with anyio.fail_after(STARTED_S):
            await session.start()
        yield session
    finally:
        with anyio.CancelScope(shield=True):
            await session.executor.aclose()
        session.tools.close()


def _ping(text: str) -> str:
    """Give it back."""
    return text


class _Session:
    """An executor in its world, with one tool and skills, as a session has them."""

    def __init__(self, executor: Executor, world: World) -> None:
        self.executor = executor
        self.world = world
        self.tools = ToolSet([_ping])
        self.skills = world.workspace / "skills"
        self.prelude = (files("agentd_testing.escapes") / "inside.py").read_text(encoding="utf-8")

    async def start(self) -> None:
        self.render()
        self.executor.attach(tools=self.tools, layout=layout_of(self.skills))
        await self.executor.start()

    def render(self) -> None:
        AgentSkillsRenderer().render(self.tools.specs(), self.skills)

    async def judge(self, case: Case) -> Outcome:
        """Run one case; whatever happens is an outcome."""
        mark = f"case{secrets.token_hex(8)}"
        self.world.changes()
        try:
            verdict, detail = await _Attempt(self, case, mark).run()
            # Whatever a case meant to do: what it did to the host's files counts.
            if changed := self.world.changes():
                verdict, detail = "open", f"changed outside: {', '.join(changed)}"
        except ExecutorError as error:
            verdict, detail = "broken", f"{type(error).__name__}: {error}"
        except TimeoutError:
            verdict, detail = "open", "the executor did not answer in time"
        finally:
            _end(wait_until_gone(mark, 0))
        return Outcome(case=case, verdict=verdict, detail=detail)


class _Attempt:
    """One case on its way."""

    def __init__(self, session: _Session, case: Case, mark: str) -> None:
        self.session, self.case, self.mark = session, case, mark
        self.facts = session.world.facts(mark)
        self.received = 0

    async def run(self) -> tuple[Verdict, str]:
        if self.case.setup:
            made = await self.act(self.python(self.case.setup))
            if made.exit_code:
                return "broken", f"its preparation failed: {made.output.strip()[-200:]}"
        result = await self.act(self.action())
        judge = getattr(self, f"judge_{self.case.judge}")
        verdict, detail = await judge(result)
        return verdict, detail

    # --- what is run

    def action(self) -> Action:
        case = self.case
        if case.language == "create":
            path = case.code.strip().format(**self.facts)
            return CreateAction(
                path=path.replace("\\0", "\0"), content=f"#!/bin/sh\n# {self.mark}\n", cwd="."
            )
        if case.language == "bash":
            env = {name.upper(): str(value) for name, value in self.facts.items() if name != "home"}
            env["BAIT_HOME"] = str(self.facts["home"])
            return BashAction(command=_BASH + case.code, env=env, timeout_s=case.timeout_s)
        return self.python(case.code)

    def python(self, code: str) -> PythonAction:
        # the case last and under a line of its own, so that a traceback's line tells where it stands
        text = f"W = {self.facts!r}\n{self.session.prelude.replace('from __future__ import annotations', '')}\n{code}"
        workspace = str(self.facts["workspace"])
        return PythonAction(code=text, state="fresh", cwd=workspace, timeout_s=self.case.timeout_s)

    async def act(self, action: Action) -> ActionResult:
        def count(chunk: OutputChunk) -> None:
            self.received += len(chunk.data)

        with anyio.fail_after(self.case.timeout_s + 20):
            return await self.session.executor.run(action, on_output=count)

    # --- who decides

    def said(self, result: ActionResult) -> tuple[Verdict, str]:
        verdict: Verdict = "broken"
        detail = (
            f"it said nothing; {result.status}, exit code {result.exit_code}: {result.output.strip()[-200:]}"
        )
        for line in result.output.splitlines():
            words = line.split(" ", 2)
            if words[0] == self.mark and len(words) > 1:
                verdict = "open" if words[1] == "open" else "blocked" if words[1] == "blocked" else "broken"
                detail = words[2].strip() if len(words) > 2 else ""
        return verdict, detail

    async def judge_says(self, result: ActionResult) -> tuple[Verdict, str]:
        return self.said(result)

    async def judge_outside(self, result: ActionResult) -> tuple[Verdict, str]:
        # `open` is decided by what has changed, for every case alike
        return "blocked", result.output.strip()[-200:]

    async def judge_survivor(self, result: ActionResult) -> tuple[Verdict, str]:
        if "started" not in result.output:
            return "broken", f"it started nothing: {result.output.strip()[-200:]}"
        left = wait_until_gone(self.mark, 3)
        return (
            ("open", f"{len(left)} process(es) live on") if left else ("blocked", "all ended with the block")
        )

    async def judge_timeout(self, result: ActionResult) -> tuple[Verdict, str]:
        left = wait_until_gone(self.mark, 3)
        ended = result.status == "timeout" and not left
        return ("blocked" if ended else "open"), f"{result.status}; {len(left)} process(es) live on"

    async def judge_bounded(self, result: ActionResult) -> tuple[Verdict, str]:
        kept = sum(len(chunk.data) for chunk in result.chunks)
        most = max(kept, self.received)
        return ("blocked" if most <= 2 * BOUND_BYTES else "open"), f"{most} bytes arrived, {kept} kept"

    async def judge_survives(self, result: ActionResult) -> tuple[Verdict, str]:
        probe = await self.act(BashAction(command="echo works", cwd=str(self.facts["workspace"])))
        works = probe.stdout.strip() == b"works" and probe.exit_code == 0
        said, _ = self.said(result)
        if said == "open":
            return self.said(result)
        return (
            "blocked" if works else "open"
        ), "" if works else f"the next block: {probe.output.strip()[-200:]}"

    async def judge_next(self, result: ActionResult) -> tuple[Verdict, str]:
        return self.said(await self.act(self.python(self.case.then)))

    async def judge_rerender(self, result: ActionResult) -> tuple[Verdict, str]:
        said, detail = self.said(result)
        if said != "open":
            return said, detail
        try:
            await call_in_thread(self.session.render, unbounded=True)
        except (AgentdError, OSError) as error:
            text = f"writing the skills anew was refused: {error}"
            shutil.rmtree(self.session.skills, ignore_errors=True)
            if self.session.skills.is_symlink():
                self.session.skills.unlink()
            self.session.render()
            return "blocked", text
        return "blocked", "written anew, nothing outside was touched"


def _end(pids: Sequence[int]) -> None:
    """End what a case has left; each of these has the case's mark in its command line."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue
