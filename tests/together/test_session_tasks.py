"""Sessions that are opened in one task, used in others and closed in yet another one."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
import sandbox
from agentd.errors import ConfigError, UnknownPluginError
from agentd.events import CodeOutput
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from places import SUPPORT
from script_model import RecordingExecutor, ScriptModel
from web import make_server, serve

T = TypeVar("T")


def python(source: str) -> str:
    return f"```python:execute\n{source}\n```\n"


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


async def in_a_task(function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """Call a function in a task of its own, in a cancel scope of its own that is left before this returns."""
    results: list[T] = []

    async def call() -> None:
        results.append(await function(*arguments))

    async with anyio.create_task_group() as group:
        group.start_soon(call)
    return results[0]


@pytest.fixture(params=["functions", "stdio", "http"])
def source(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The arguments of a session that has a tool `add`."""

    async def add(a: int, b: int) -> int:
        """Add two numbers."""
        await anyio.sleep(0)
        return a + b

    with ExitStack() as stack:
        servers: list[object] = []
        if request.param == "stdio":
            servers.append({"command": sys.executable, "args": [str(SUPPORT / "modern.py")]})
        elif request.param == "http":
            port = stack.enter_context(serve(lambda: make_server().streamable_http_app()))
            servers.append(f"http://127.0.0.1:{port}/mcp")
        yield {"mcp_servers": servers, "tools": [] if servers else [add]}


@pytest.mark.anyio
async def test_one_task_opens_others_ask_and_another_one_closes(
    source: dict[str, Any], tmp_path: Path
) -> None:
    call = python("from lib.tools import add\nprint(add(20, 22))")
    session = Session(ScriptModel(call, "one", call, "two"), cwd=tmp_path, **source)
    await in_a_task(session.open)
    assert (await in_a_task(session.ask, "go")).text == "one"
    assert (await in_a_task(session.ask, "go on")).text == "two"
    assert [done.output for done in session.transcript.executions] == ["42\n", "42\n"]
    await in_a_task(session.aclose)
    await in_a_task(session.aclose)  # a second time does nothing


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["srt", "kept"])
async def test_with_every_executor_that_runs_here(mode: str, tmp_path: Path) -> None:
    executor: Any = ("subprocess", {"state": "kept"})
    if mode == "srt":
        sandbox.need_srt()
        executor = ("srt", {"srt_path": str(sandbox.CLI)})
    model = ScriptModel(python("x = 1\nprint(x)"), "done")
    session = Session(model, cwd=tmp_path, tools=[], executor=executor)
    await in_a_task(session.open)
    assert (await in_a_task(session.ask, "go")).text == "done"
    await in_a_task(session.checkpoint)
    await in_a_task(session.aclose)


@pytest.mark.anyio
async def test_two_tasks_that_ask_at_once_are_answered_one_after_the_other(tmp_path: Path) -> None:
    session = Session(ScriptModel(bash("sleep 0.1"), "one", bash("true"), "two"), cwd=tmp_path, tools=[])
    await in_a_task(session.open)
    answers: list[str] = []

    async def ask(task: str) -> None:
        answers.append((await session.ask(task)).text)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, "first")
        group.start_soon(ask, "second")
    await in_a_task(session.aclose)
    assert answers == ["one", "two"]
    roles = [message.role for message in session.transcript.messages]
    assert roles == ["task", "answer", "results", "answer"] * 2


@pytest.mark.anyio
async def test_closing_in_another_task_ends_the_run_that_is_read(tmp_path: Path) -> None:
    session = Session(ScriptModel(bash("echo up; sleep 100"), "done"), cwd=tmp_path, tools=[])
    await in_a_task(session.open)
    with anyio.fail_after(60):
        async for event in session.run("go"):
            if isinstance(event, CodeOutput):
                await in_a_task(session.aclose)
    assert session.transcript.executions[0].status == "cancelled"


@pytest.mark.anyio
async def test_closing_in_another_task_ends_what_was_asked(tmp_path: Path) -> None:
    session = Session(ScriptModel(bash("touch up; sleep 100"), "done"), cwd=tmp_path, tools=[])
    await in_a_task(session.open)

    async def close_when_it_runs() -> None:
        while not (tmp_path / "up").exists():
            await anyio.sleep(0.01)
        await session.aclose()

    async def ask_too() -> None:
        with pytest.raises(ConfigError, match="closed meanwhile"):  # it has waited for the first one
            await session.ask("go on")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(close_when_it_runs)
            group.start_soon(ask_too)
            with pytest.raises(ConfigError, match="closed meanwhile"):
                await session.ask("go")
    assert [message.role for message in session.transcript.messages][:1] == ["task"]
    assert "answer" not in [message.role for message in session.transcript.messages][2:]


@pytest.mark.anyio
async def test_a_scope_that_is_cancelled_around_the_opening_task_ends_nothing(tmp_path: Path) -> None:
    session = Session(ScriptModel(bash("echo 1"), "done"), cwd=tmp_path, tools=[])
    with anyio.CancelScope() as scope:
        await session.open()
        scope.cancel()
        await anyio.sleep(0)
    assert (await session.ask("go")).text == "done"
    with anyio.CancelScope() as scope:
        scope.cancel()
        await session.aclose()  # to the end, though it is cancelled
    with pytest.raises(ConfigError, match=r"not open.*`open\(\)` in the same event loop"):
        await session.ask("go")


class KeepingSink:
    def __init__(self) -> None:
        self.closed = 0

    def emit(self, event: object) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed += 1


@pytest.mark.anyio
async def test_a_session_whose_opening_was_cancelled_can_be_opened(tmp_path: Path) -> None:
    sink = KeepingSink()
    session = Session(ScriptModel(bash("echo 1"), "done"), cwd=tmp_path, tools=[], sinks=[sink])
    for _ in range(2):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.open()
        assert scope.cancelled_caught
        with pytest.raises(ConfigError, match="not open"):
            await session.ask("go")
    await session.open()
    assert (await session.ask("go")).text == "done"
    await session.aclose()
    assert sink.closed == 1


def test_a_session_whose_opening_ran_out_of_time_can_be_opened(tmp_path: Path) -> None:
    async def try_again(steps: int) -> str:
        session = Session(ScriptModel(bash("echo 1"), "done"), cwd=tmp_path, tools=[])
        opening = asyncio.create_task(session.open())
        for _ in range(steps):
            await asyncio.sleep(0)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        if opening.cancelled():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await session.open()
            await session.open()
        try:
            return (await session.ask("go")).text
        finally:
            await session.aclose()

    for steps in range(6):
        assert asyncio.run(try_again(steps)) == "done"


@pytest.mark.anyio
async def test_a_session_whose_sink_there_is_not_leaves_no_task_behind(tmp_path: Path) -> None:
    session = Session(ScriptModel("done"), cwd=tmp_path, tools=[], sinks=["consol"])
    for _ in range(2):
        with pytest.raises(UnknownPluginError, match="unknown event sink 'consol'"):
            await session.open()
    with pytest.raises(ConfigError, match="not open"):
        await session.ask("go")


def test_a_loop_that_ends_closes_what_it_has_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    executor = RecordingExecutor(tmp_path)
    closed: list[str] = []

    class Sink:
        def emit(self, event: object) -> None:
            """Take it."""

        def close(self) -> None:
            closed.append("sink")

    session = Session(ScriptModel("x"), executor=executor, tools=[], sinks=[Sink()])
    with caplog.at_level(logging.DEBUG, "asyncio"):
        asyncio.run(session.open())  # type: ignore[arg-type]
    assert closed == ["sink"]
    with pytest.raises(ConfigError, match=r"not open.*in the same event loop"):
        asyncio.run(session.ask("go"))  # type: ignore[arg-type]
    asyncio.run(session.aclose())
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


def test_a_sync_session_is_opened_and_closed_without_with(tmp_path: Path) -> None:
    session = SyncSession(ScriptModel(bash("echo 1"), "done"), cwd=tmp_path, tools=[]).open()
    with pytest.raises(ConfigError, match="opened once"):
        session.open()
    assert session.ask("go").text == "done"
    session.close()
    session.close()


async def processes_end(before: set[str]) -> None:
    with anyio.fail_after(30):
        while children() - before:
            await anyio.sleep(0.02)


def children() -> set[str]:
    """The processes that this one has started, as far as they still live."""
    found = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(OSError):
            found |= set((task / "children").read_text().split())
    return found


def open_files() -> dict[str, str]:
    """What this process has open, by descriptor."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
async def test_several_sessions_are_closed_in_any_order_and_leave_nothing(
    order: tuple[int, ...], tmp_path: Path
) -> None:
    async with Session(ScriptModel(bash("true"), "done"), cwd=tmp_path / "first", tools=[]) as first:
        await first.ask(
            "go"
        )  # what a program keeps for its next session is there, whatever ran before this test
    before, threads = children(), threading.active_count()
    models = [ScriptModel(bash(f"echo {i}"), f"done {i}", bash("sleep 100"), "never") for i in range(4)]
    sessions = [Session(m, cwd=tmp_path / str(i), tools=[]) for i, m in enumerate(models)]
    fds = open_files()
    for session in sessions:
        await in_a_task(session.open)
    async with anyio.create_task_group() as group:
        for session in sessions:
            group.start_soon(session.ask, "go")
    with anyio.move_on_after(0.2):  # cancelled in the middle of a block
        await sessions[1].ask("sleep")
    left = sessions[3].run("sleep")
    await left.__anext__()  # nobody reads on
    for number in order:
        with anyio.CancelScope() as scope:
            if number == 2:
                scope.cancel()  # it closes all the same
            await sessions[number].aclose()
        open_still = [s for s in sessions if s._owner is not None and s._owner.group is not None]
        assert sessions[number] not in open_still
    with pytest.raises(ExceptionGroup) as refused:
        async with anyio.create_task_group() as group:
            group.start_soon(sessions[0].ask, "again")
    assert refused.group_contains(ConfigError, match="not open")
    assert [s.transcript.executions[0].output for s in sessions] == ["0\n", "1\n", "2\n", "3\n"]
    await processes_end(before)
    del left
    with anyio.move_on_after(30):  # threads that go on without a session let go of what they had last
        while gc.collect() >= 0 and len(open_files()) > len(fds) + 8:
            await anyio.sleep(0.05)
    now = open_files()
    new = sorted(name for fd, name in now.items() if fds.get(fd) != name)
    assert len(now) <= len(fds) + 8, new  # the fork server and the I/O thread are kept for the next
    assert threading.active_count() <= threads + 4, threading.enumerate()


@pytest.mark.anyio
async def test_opening_that_is_cancelled_or_fails_leaves_nothing_open(tmp_path: Path) -> None:
    session = Session(ScriptModel("x"), cwd=tmp_path, tools=[])
    with anyio.CancelScope() as scope:
        scope.cancel()
        await session.open()
    assert scope.cancelled_caught
    with pytest.raises(ConfigError, match="not open"):
        session.run("go")
    await session.aclose()
    unknown = Session(ScriptModel("x"), cwd=tmp_path, executor="nosuch")
    with pytest.raises(UnknownPluginError):
        await unknown.open()
    await unknown.aclose()


@pytest.mark.anyio
async def test_with_and_without_async_with_side_by_side(tmp_path: Path) -> None:
    outer = await Session(ScriptModel(bash("echo outer"), "one"), cwd=tmp_path / "a", tools=[]).open()
    inner = Session(ScriptModel(bash("echo inner"), "two"), cwd=tmp_path / "b", tools=[])

    async def fail_inside() -> None:
        async with inner:
            await inner.ask("go")
            await in_a_task(outer.ask, "go")
            await outer.aclose()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_inside()
    for session in (outer, inner):
        with pytest.raises(ConfigError, match="not open"):
            session.run("go")
    assert [s.transcript.executions[0].output for s in (outer, inner)] == ["outer\n", "inner\n"]
