"""`contextvars` in a tool: those of the call that lets the model act, in every way of calling, for every kind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd_openai import patch_openai_with_ptc
from agentd_tools import ToolSet
from fake_openai import FakeOpenAI
from script_model import ScriptModel
from ways import WAYS, arguments, call, create_of

user: ContextVar[str] = ContextVar("user", default="nobody")


def plain() -> str:
    """Blocking; quick, so that it is run at once from its second call on."""
    seen = user.get()
    user.set("changed by the tool")
    return seen


async def asynchronous() -> str:
    """On an event loop."""
    await anyio.sleep(0)
    seen = user.get()
    user.set("changed by the tool")
    return seen


def awaits() -> Awaitable[str]:
    """Blocking, and then not."""
    return asynchronous()


def own_loop() -> str:
    """A blocking tool may run a loop of its own, whichever loop its caller has."""

    async def main() -> str:
        await anyio.sleep(0)
        return user.get()

    return anyio.run(main)


TOOLS: list[Callable[..., object]] = [plain, asynchronous, awaits, own_loop]
CODE = (
    "from lib.tools import plain, asynchronous, awaits, own_loop\n"
    "print(*[f() for f in (plain, asynchronous, awaits, own_loop) for _ in range(2)])\n"
)
BASH = "python3 - <<'EOF'\n" + CODE + "EOF\n"


def blocks() -> str:
    """Two rounds' worth: a Python block, and a Python that bash starts."""
    return f"```python:execute\n{CODE}```\n```bash:execute\n{BASH}```\n"


def expected(name: str) -> list[str]:
    return [f"{' '.join([name] * 8)}\n"] * 2


@pytest.mark.anyio
async def test_two_tasks_of_one_session_s_runs(tmp_path: Path) -> None:
    async with Session(ScriptModel(blocks(), "done", blocks(), "done"), cwd=tmp_path, tools=TOOLS) as session:
        for name in ("ada", "bob"):
            user.set(name)
            await session.ask("go")
            assert [e.output for e in session.transcript.executions[-2:]] == expected(name)
            assert user.get() == name


@pytest.mark.anyio
async def test_events_that_are_read_one_by_one(tmp_path: Path) -> None:
    user.set("ada")
    async with Session(ScriptModel(blocks(), "done"), cwd=tmp_path, tools=TOOLS) as session:
        assert [e.output async for e in session.run("go") if e.type == "code_execution"] == expected("ada")


@pytest.mark.anyio
async def test_events_that_are_read_elsewhere_than_they_were_asked_for(tmp_path: Path) -> None:
    user.set("ada")
    async with Session(ScriptModel(blocks(), "done"), cwd=tmp_path, tools=TOOLS) as session:
        events = session.run("go")
        user.set("eve")
        assert [e.output async for e in events if e.type == "code_execution"] == expected("ada")


def test_events_of_a_synchronous_session_that_are_read_later(tmp_path: Path) -> None:
    user.set("ada")
    with SyncSession(ScriptModel(blocks(), "done"), cwd=tmp_path, tools=TOOLS) as session:
        events = session.run("go")
        user.set("eve")
        assert [e.output for e in events if e.type == "code_execution"] == expected("ada")


@pytest.mark.parametrize("way", [way for way in WAYS if way.endswith("stream")])
def test_a_stream_that_is_read_later(way: str, tmp_path: Path) -> None:
    async def read(create: Any, given: dict[str, Any], client: Any) -> None:
        stream = await create(**given)
        user.set("eve")
        async for _ in stream:
            pass
        await client.close()

    with FakeOpenAI(blocks(), "done") as server:
        client = (server.async_client if way.startswith("async") else server.client)()
        patch_openai_with_ptc(client, cwd=tmp_path, tools=TOOLS)
        api = way.split("-")[1]
        user.set("ada")
        create, given = create_of(client, api), {**arguments(api), "stream": True}
        if way.startswith("async"):
            asyncio.run(read(create, given, client))
        else:
            stream = create(**given)
            user.set("eve")
            list(stream)
            client.close()
        assert str(server.requests[1]).count(" ".join(["ada"] * 8)) == 2
        client.cleanup_ptc()


def test_a_synchronous_session_in_several_threads(tmp_path: Path) -> None:
    seen: dict[str, list[str]] = {}

    def work(name: str) -> None:
        user.set(name)
        with SyncSession(ScriptModel(blocks(), "done"), cwd=tmp_path / name, tools=TOOLS) as session:
            session.ask("go")
            seen[name] = [e.output for e in session.transcript.executions]

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ada", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == {"ada": expected("ada"), "bob": expected("bob")}


@pytest.mark.parametrize("way", WAYS)
def test_a_patched_client(way: str, tmp_path: Path) -> None:
    with FakeOpenAI(*[blocks(), "done"] * 2) as server:
        client = (server.async_client if way.startswith("async") else server.client)()
        patch_openai_with_ptc(client, cwd=tmp_path, tools=TOOLS)
        user.set("ada")
        call(way, client)
        results = str(server.requests[1])
        if not way.startswith("async"):
            user.set("bob")
            call(way, client)
            assert " ".join(["bob"] * 8) in str(server.requests[3])
            client.close()
        client.cleanup_ptc()
    assert results.count(" ".join(["ada"] * 8)) == 2


@pytest.mark.anyio
async def test_the_tool_set_itself() -> None:
    tools = ToolSet(TOOLS)
    user.set("ada")
    for name in ("plain", "asynchronous", "awaits", "own_loop"):
        assert [await tools.call(name, {}), await tools.call(name, {})] == ["ada", "ada"]
        assert await anyio.to_thread.run_sync(lambda name=name: tools.call_sync(name, {})) == "ada"  # type: ignore[misc]
    tools.close()


def test_tasks_that_run_at_once_do_not_meet(tmp_path: Path) -> None:
    async def one(name: str) -> Any:
        user.set(name)
        async with Session(ScriptModel(blocks(), "done"), cwd=tmp_path / name, tools=TOOLS) as session:
            await session.ask("go")
            return [e.output for e in session.transcript.executions]

    async def both() -> list[Any]:
        return await asyncio.gather(one("ada"), one("bob"))

    assert asyncio.run(both()) == [expected("ada"), expected("bob")]
