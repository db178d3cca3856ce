"""Jobs in a session: how a model starts them, what it is told of them, and when they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.events import CodeExecution, CodeStart, SourceLog
from agentd.session.session import Session
from agentd.types import Limits
from agentd_testing.processes import wait_until_gone
from script_model import RecordingExecutor, ScriptModel

pytestmark = pytest.mark.anyio

SERVER = "python3 -m http.server 0 --bind 127.0.0.1"
READ = """\
import re, subprocess, time, urllib.request
ask = ["job", "out", "web"]
while not (found := re.search(r"port (\\d+)", subprocess.run(ask, capture_output=True, text=True).stdout)):
    time.sleep(0.05)
print(urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/page.txt").read().decode())
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def job(source: str, name: str = " web") -> str:
    return f"```bash:job{name}\n{source}\n```\n"


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


def session_of(model: ScriptModel, tmp_path: Path, **more: Any) -> Session:
    options = {"limits": Limits(timeout_s=30.0, grace_s=0.3)}
    return Session(
        model, executor="subprocess", executor_options=options, cwd=tmp_path / "workspace", tools=[], **more
    )


async def test_a_server_of_one_turn_answers_in_the_next_run_as_well(tmp_path: Path) -> None:
    read = f"```python:execute\n{READ}```\n"
    model = ScriptModel(f"{bash('echo served > page.txt')}", job(SERVER), read, "Done.", read, "Done again.")
    async with session_of(model, tmp_path) as session:
        await session.ask("Serve.")
        await session.ask("And again.")
    _, started, first, second = model.results
    assert started.startswith("[result 1 of 1: bash:job web, completed, exit code 0]\n")
    assert "the job 'web' runs (pid " in started
    assert "\nserved\n" in first
    assert "\nserved\n" in second
    assert "bash:job NAME" in model.messages[0][1], "the system prompt teaches it"
    assert "`job out NAME" in model.messages[0][1]


async def test_the_model_is_told_of_a_job_that_ends_with_the_next_results(tmp_path: Path) -> None:
    wait = bash("job wait web 20 > /dev/null; true")
    model = ScriptModel(job("sleep 0.6; echo bye; exit 3"), wait, bash("true"), "Done.")
    events: list[Any] = []
    async with session_of(model, tmp_path) as session:
        events.extend([event async for event in session.run("Build.")])
    assert "[note: the job 'web' has ended after 0." in model.results[1]
    assert "exit code 3; `job out web` shows its output]" in model.results[1]
    assert "note" not in model.results[2], "it is told once"
    logs = [event for event in events if isinstance(event, SourceLog)]
    assert [(log.source, "has ended" in log.text) for log in logs] == [("jobs", True)]
    start = next(event for event in events if isinstance(event, CodeStart))
    assert (start.action, start.target) == ("job web", "bash")
    end = next(event for event in events if isinstance(event, CodeExecution))
    assert (end.action, end.status) == ("job web", "completed")


async def test_the_model_is_told_with_the_next_task_if_a_job_has_ended_between_two(tmp_path: Path) -> None:
    model = ScriptModel(job("sleep 0.6; exit 3"), "Started.", "It has failed.")
    async with session_of(model, tmp_path) as session:
        await session.ask("Build.")
        with anyio.fail_after(20):
            while session.executor.jobs:  # type: ignore[attr-defined]
                await anyio.sleep(0.02)
        await session.ask("How is it?")
    task = [text for role, text in model.messages if role == "user"][-1]
    assert task.startswith("How is it?\n\n[note: the job 'web' has ended")
    assert session.transcript.messages[-2].content == task, "what the model read is in the record"


async def test_a_cancelled_run_leaves_jobs_alone_and_the_session_s_end_does_not(tmp_path: Path) -> None:
    model = ScriptModel(job("trap '' TERM; sleep 987401; sleep 987401"), bash("sleep 987402"))
    async with session_of(model, tmp_path) as session:
        async with session.run("Serve, then wait.") as run:
            async for event in run:
                if isinstance(event, CodeStart) and event.action == "execute":
                    break
        assert wait_until_gone("987402", 5) == []
        assert session.executor.jobs == ("web",)  # type: ignore[attr-defined]
    assert wait_until_gone("987401", 5) == []


async def test_a_rewind_ends_jobs_before_files_change_and_says_so(tmp_path: Path) -> None:
    model = ScriptModel(
        bash("echo old > f"), "Done.", job("sleep 987411"), "Serves.", bash("job list; cat f"), "Ok."
    )
    model.reset = lambda: None  # type: ignore[attr-defined]
    async with session_of(model, tmp_path, snapshots_dir=tmp_path / "kept") as session:
        await session.ask("Write.")
        await session.checkpoint("written")
        await session.ask("Serve.")
        await session.rewind("written")
        assert wait_until_gone("987411", 0) == [], "it must have ended when the rewind is over"
        await session.ask("What is there?")
    told = [text for role, text in model.messages if role == "user"][-1]
    assert "[note: the job 'web' was ended: " in told
    assert "files of the workspace were replaced" in told
    assert "web" not in model.results[-1]
    assert "\nold\n" in model.results[-1]


async def test_jobs_of_other_notations_names_and_languages(tmp_path: Path) -> None:
    call = '<invoke name="bash:job xml.1"><parameter name="command">sleep 60</parameter></invoke>\n'
    model = ScriptModel(
        call,
        job("sleep 60", ""),
        job("sleep 60", " Made-Up of words"),
        job("sleep 60", " ../x"),
        "```python:job web\nprint(1)\n```\n",
        "Done.",
    )
    async with session_of(model, tmp_path) as session:
        await session.ask("Start.")
        assert session.executor.jobs == ("xml.1", "job1")  # type: ignore[attr-defined]
    assert "[result 1 of 1: bash:job xml.1, completed" in model.results[0]
    assert "'made-up of words' is no name" in model.results[2]
    assert "'../x' is no name" in model.results[3]
    assert "rejected]\n'job web' is no action" in model.results[4]


async def test_a_model_with_the_native_bash_tool_is_taught_the_command_alone(tmp_path: Path) -> None:
    model = ScriptModel("Done.")
    model.offer = lambda offers: None  # type: ignore[attr-defined]
    async with session_of(model, tmp_path, bash_tool=True) as session:
        await session.ask("Hello.")
    assert "`job start NAME -- COMMAND`" in model.messages[0][1]
    assert "bash:job" not in model.messages[0][1]


async def test_an_executor_without_jobs_is_not_asked_for_one(tmp_path: Path) -> None:
    model = ScriptModel(job(SERVER), "Done.")
    executor = RecordingExecutor(tmp_path)
    async with Session(model, executor=executor, tools=[]) as session:
        await session.ask("Serve.")
    assert "rejected]\n'job web' is no action: there are execute and create." in model.results[0]
    assert "job" not in model.messages[0][1]
