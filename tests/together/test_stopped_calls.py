"""Calls of a block that has ended: what has not begun by then is not carried out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from agentd.events import Approval, CodeExecution
from agentd.session.session import Session
from agentd.types import Budgets
from agentd_policy import Question
from script_model import ScriptModel

pytestmark = pytest.mark.anyio
MANY = """```python:execute
import threading
from lib.tools import work

threads = [threading.Thread(target=work) for _ in range(200)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
```
"""
DYING = """```python:execute
import os, threading, time
from lib.tools import work

threading.Thread(target=work, daemon=True).start()
while not os.path.exists("asked"):
    time.sleep(0.01)
os._exit(3)
```
"""


@pytest.mark.parametrize("policy", [None, "yolo", "ask"])
@pytest.mark.parametrize("how", ["cancelled", "killed"])
async def test_no_call_of_a_block_that_was_stopped_begins_after_it(
    how: str, policy: Any, tmp_path: Path
) -> None:
    begun: list[int] = []
    many, go = threading.Event(), threading.Event()
    ended = anyio.Event()

    def count() -> None:
        begun.append(len(begun))
        if len(begun) == 32:
            many.set()

    def work() -> None:
        if policy != "ask":
            count()
            go.wait(60)

    questions: list[Question] = []

    def approver(question: Question) -> None:
        questions.append(question)
        count()

    asks = policy == "ask"
    settings: dict[str, Any] = (
        {"policy": {"default": "ask"}, "approver": approver} if asks else {"policy": policy}
    )
    model = ScriptModel(MANY, "Done.")
    async with Session(model, executor="subprocess", cwd=tmp_path, tools=[work], **settings) as session:
        async with anyio.create_task_group() as group:

            async def run() -> None:
                async for event in session.run("go"):
                    if isinstance(event, CodeExecution):
                        ended.set()

            group.start_soon(run)
            assert await anyio.to_thread.run_sync(many.wait, 60)
            if how == "cancelled":
                group.cancel_scope.cancel()
            else:
                await anyio.to_thread.run_sync(kill_code, tmp_path)
                await ended.wait()
        before = len(begun)
        go.set()
        assert not any(question.answer(True) for question in questions)
    assert len(begun) == before
    assert asks or before < 200  # calls that wait for a person may be as many


def kill_code(workspace: Path) -> None:
    """End the block's process, as a time-out does."""
    import os
    import signal

    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                inside = os.readlink(entry / "cwd") == str(workspace)
            except OSError:
                continue
            if inside:
                os.kill(int(entry.name), signal.SIGKILL)


async def test_a_question_of_a_block_that_has_ended_is_given_up_while_the_run_goes_on(tmp_path: Path) -> None:
    done: list[str] = []
    questions: list[Question] = []

    def work() -> None:
        done.append("work")

    def approver(question: Question) -> None:
        questions.append(question)
        (tmp_path / "asked").touch()

    model = ScriptModel(DYING, "```bash:execute\necho second\n```\n", "Done.")
    opened = Session(
        model,
        executor="subprocess",
        cwd=tmp_path,
        tools=[work],
        policy={"rules": [{"verdict": "ask", "name": "work"}], "default": "allow"},
        approver=approver,
    )
    told: list[str] = []
    async with opened as session:
        async for event in session.run("go"):
            if isinstance(event, Approval):
                told.append(event.decision)
            if isinstance(event, CodeExecution):
                told.append(event.status)
    assert sorted(told[:3]) == ["", "failed", "given up: nobody waits for an answer any more"]
    assert told[3:] == ["completed"]
    assert [question.answer(True) for question in questions] == [False]
    assert done == []


@pytest.mark.parametrize("how", ["cancelled", "out of time"])
@pytest.mark.parametrize("in_thread", [False, True], ids=["async", "thread"])
async def test_a_call_that_is_under_way_when_its_run_is_stopped_is_told_with_its_block(
    in_thread: bool, how: str, tmp_path: Path
) -> None:
    begun, go = anyio.Event(), threading.Event()
    here = anyio.lowlevel.current_token()

    async def waits() -> None:
        begun.set()
        await anyio.sleep(60)

    def works() -> None:
        anyio.from_thread.run_sync(begun.set, token=here)
        go.wait(60)

    seen: list[Any] = []
    code = "```python:execute\nfrom lib.tools import work\nwork()\n```\n"
    work = works if in_thread else waits
    work.__name__ = "work"
    opened = Session(
        ScriptModel(code, "Done."),
        executor="subprocess",
        cwd=tmp_path,
        tools=[work],
        sinks=[Sink(seen.append)],
        budgets=Budgets(wall_time_s=2.0 if how == "out of time" else 60.0),
    )
    async with opened as session:
        async with anyio.create_task_group() as group:
            group.start_soon(session.ask, "go")
            await begun.wait()
            if how == "cancelled":
                group.cancel_scope.cancel()
        go.set()
    kinds = [event.type for event in seen]
    assert kinds[-4:] == ["tool_call", "code_execution", "turn_end", "run_end"]
    assert (seen[-4].name, seen[-4].status) == ("work", "failed")
    assert seen[-1].stop_reason == ("cancelled" if how == "cancelled" else "wall_time")


class Sink:
    """Hands events on."""

    def __init__(self, emit: Callable[[Any], object], close: Callable[[], object] = lambda: None) -> None:
        self.emit = emit
        self.close = close


async def test_a_sink_that_takes_long_to_close_stops_nothing_else(tmp_path: Path) -> None:
    closing, others_work = threading.Event(), threading.Event()
    worked: list[bool] = []

    def close() -> None:
        closing.set()
        worked.append(others_work.wait(10))

    async def work() -> None:
        while not closing.is_set():
            await anyio.sleep(0.01)
        others_work.set()

    sink: Any = Sink(lambda _: None, close)
    opened = Session(ScriptModel("Done."), executor="subprocess", cwd=tmp_path, sinks=[sink])
    async with anyio.create_task_group() as group, opened as session:
        await session.ask("go")
        group.start_soon(work)
    assert worked == [True]


@pytest.mark.parametrize("twice", [False, True])
async def test_a_run_that_is_closed_before_it_has_begun_never_begins(twice: bool, tmp_path: Path) -> None:
    model = ScriptModel("Done.", "Done again.")
    async with Session(model, executor="subprocess", cwd=tmp_path) as session:
        run = session.run("go")
        await run.aclose()
        if twice:
            await run.aclose()
        assert [event async for event in run] == []
        assert model.requests == 0
        assert (await session.ask("go")).text == "Done."
