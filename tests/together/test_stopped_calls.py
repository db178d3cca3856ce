"""Calls of a block that has ended: what has not begun by then is not carried out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.events import Approval, CodeExecution
from agentd.session.session import Session
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
