"""A source over a server that behaves: opened once, used from anywhere."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ToolError, UnknownToolError
from agentd.types import Blob
from agentd_mcp_bridge.loop import mcp_loop
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_tools import ToolSet
from agentd_tools.sources import ResourceSource
from helpers import Host, is_alive, numbers, secret_free, source, wait_until_gone
from mcp.server.mcpserver import Context, MCPServer
from places import SUPPORT


@pytest.mark.anyio
async def test_tools_of_all_pages_are_listed_with_what_the_server_says_about_itself() -> None:
    made = source()
    assert isinstance(made, ResourceSource)
    specs = await made.list_tools()
    assert {"echo", "meet"} <= {spec.name for spec in specs}
    assert {spec.source for spec in specs} == {"scripted"}
    assert made.instructions == "Use echo first."
    assert made.capabilities == {"tools", "resources", "prompts"}
    await made.aclose()


@pytest.mark.anyio
async def test_resources_and_prompts_come_as_values() -> None:
    made = source()
    blob = await made.read_resource("note://1")
    assert isinstance(blob, Blob)
    assert (bytes(blob), blob.mime_type, blob.uri) == (b"hi", "x/y", "note://1")
    assert await made.list_prompts() == [{"name": "greet"}]
    assert await made.get_prompt("greet", {"who": "Ada"}) == [{"role": "user", "content": "Hello Ada"}]
    await made.aclose()


@pytest.mark.anyio
async def test_a_server_sees_the_safe_variables_and_what_was_given_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOST_SECRET", "s3cret")
    made = source(env={"GIVEN": "yes"}, cwd=str(tmp_path))
    seen: Any = await made.call("environment", {})
    assert seen["env"]["GIVEN"] == "yes"
    assert "PATH" in seen["env"]
    assert secret_free(seen["env"])
    assert seen["cwd"] == str(tmp_path)
    await made.aclose()


@pytest.mark.anyio
async def test_a_filter_hides_tools_and_refuses_their_calls() -> None:
    made = source(tool_filter={"allow": ["e*", "die"], "deny": ["die"]})
    assert [spec.name for spec in await made.list_tools()] == ["echo", "environment"]
    with pytest.raises(UnknownToolError, match="unknown tool 'die'; there are: echo, environment"):
        await made.call("die", {})
    await made.aclose()


def test_the_first_uses_from_many_threads_and_both_kinds_of_loops_open_it_once(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    answers: list[object] = []

    def use(backend: str, number: int) -> None:
        async def work() -> None:
            answers.append(await made.call("echo", {"text": f"{number}"}))

        anyio.run(work, backend=backend)

    threads = [
        threading.Thread(target=use, args=(("asyncio", "trio")[number % 2], number)) for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == list("01234567")
    assert len(numbers(journal, "start")) == 1
    made.close()
    assert not is_alive(numbers(journal, "start")[0])


@pytest.mark.anyio
async def test_eight_calls_are_under_way_at_the_same_time() -> None:
    made = source()  # `meet` answers when eight calls have arrived, and fails otherwise
    tools = ToolSet([], [made])
    await tools.start()
    answers: set[object] = set()

    async def meet(number: int) -> None:
        answers.add(await tools.call("meet", {"number": number}))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(meet, number)
    assert answers == set("01234567")
    await tools.aclose()


@pytest.mark.anyio
async def test_cancelling_a_call_tells_the_server_and_leaves_nothing_behind(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(made.call, "wait", {"seconds": 60})
            while "tools/call" not in journal.read_text():
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert await made.call("echo", {"text": "x"}) == "x"
    assert "notifications/cancelled" in journal.read_text()
    await made.aclose()


@pytest.mark.anyio
async def test_progress_and_log_messages_are_passed_on() -> None:
    host = Host()
    made = source()
    await made.list_tools(host)
    seen: list[tuple[float, float | None, str]] = []
    assert await made.call("progress", {}, on_progress=lambda *step: seen.append(step)) == "done"
    assert seen == [(1.0, 2.0, "step 1"), (2.0, 2.0, "step 2")]
    await made.call("log", {})
    with anyio.fail_after(5):
        while not host.logged:
            await anyio.sleep(0.01)
    assert host.logged == [("warning", 'db: {"rows": 3}')]
    await made.aclose()


@pytest.mark.anyio
async def test_after_closing_a_source_says_so_and_closing_again_is_allowed(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    await made.aclose()
    await made.aclose()
    assert not is_alive(numbers(journal, "start")[0])
    with pytest.raises(ToolError, match="'scripted' is not used any more: it was closed"):
        await made.call("echo", {"text": "x"})


@pytest.mark.anyio
async def test_closing_while_a_call_is_under_way_ends_the_call(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    async with anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(ToolError, match="closed"):
                await made.call("wait", {"seconds": 60})

        group.start_soon(wait)
        while '"wait"' not in journal.read_text():
            await anyio.sleep(0.01)
        with anyio.fail_after(10):
            await made.aclose()


def test_a_source_that_nobody_has_any_more_lets_its_server_go(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    anyio.run(made.list_tools)
    [pid] = numbers(journal, "start")
    assert is_alive(pid)
    del made
    gc.collect()
    assert not wait_until_gone([pid], 5)


def test_calls_run_on_the_loop_that_the_source_names() -> None:
    made = source()

    async def look() -> bool:
        return made.loop.is_here()

    from agentd_mcp_bridge.loop import on_mcp_loop

    assert made.loop is mcp_loop()
    assert anyio.run(on_mcp_loop, look)


@pytest.mark.slow
def test_a_forked_child_opens_a_server_of_its_own(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = f"""
    import os, sys
    sys.path.insert(0, {str(SUPPORT)!r})
    import anyio
    from pathlib import Path
    from helpers import source
    made = source(journal=Path({str(journal)!r}))
    async def echo(text):
        return await made.call("echo", {{"text": text}})
    print(anyio.run(echo, "parent"), flush=True)
    pid = os.fork()
    if pid == 0:
        print(anyio.run(echo, "child"), flush=True)
        made.close()
        os._exit(0)
    os.waitpid(pid, 0)
    print(anyio.run(echo, "parent again"), flush=True)
    made.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.splitlines() == ["parent", "child", "parent again"], done.stderr
    assert len(numbers(journal, "start")) == 2


# --- in this process ---------------------------------------------------------------------------


def _server() -> MCPServer:
    server = MCPServer("inside", instructions="All in here.")

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    async def grow(ctx: Context) -> str:  # type: ignore[type-arg]
        """Get a new tool, with progress."""
        await ctx.report_progress(1, 2, "half")

        @server.tool()
        def grown() -> list[str]:
            return ["a"]

        return "grown"

    @server.resource("data://x")
    def data() -> str:
        return "contents"

    @server.prompt()
    def greet(who: str) -> str:
        """Greet someone."""
        return f"Hello {who}"

    return server


@pytest.mark.anyio
async def test_a_server_object_is_served_in_this_process() -> None:
    [made] = agentd_create_tool_sources(_server(), {}) or []
    add, _ = await made.list_tools()
    assert (add.name, add.description, add.output_schema) == ("add", "Add two numbers.", {"type": "integer"})
    assert made.name == "inside"
    assert made.instructions == "All in here."
    assert await made.call("add", {"a": 1, "b": 2}) == 3
    steps: list[object] = []
    assert await made.call("grow", {}, on_progress=lambda *step: steps.append(step)) == "grown"
    assert steps == [(1.0, 2.0, "half")]
    assert await made.call("grown", {}) == ["a"] or await made.list_tools()
    assert await made.read_resource("data://x") == "contents"
    assert await made.get_prompt("greet", {"who": "Ada"}) == [{"role": "user", "content": "Hello Ada"}]
    with pytest.raises(ToolError):
        await made.call("add", {"a": "x"})
    await made.aclose()


@pytest.mark.anyio
async def test_a_large_answer_does_not_stop_the_loop_of_the_caller() -> None:
    made = source()
    await made.list_tools()
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await anyio.sleep(0.005)
            beats += 1

    async with anyio.create_task_group() as group:
        group.start_soon(beat)
        text = "x" * (4 << 20)
        assert await made.call("echo", {"text": text}) == text
        group.cancel_scope.cancel()
    assert beats > 2
    await made.aclose()


def test_nothing_heavy_is_imported_before_a_server_is_named() -> None:
    code = (
        "import sys, agentd_mcp_bridge.plugin as p; assert 'mcp' not in sys.modules;"
        "p.agentd_create_tool_sources(7, {}); print(sorted(m for m in ('mcp','pydantic','httpx2') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_the_process_ends_although_a_source_was_never_closed(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = f"""
    import sys
    sys.path.insert(0, {str(SUPPORT)!r})
    import anyio
    from pathlib import Path
    from helpers import source
    made = source("well", Path({str(journal)!r}))
    anyio.run(made.list_tools)
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=30, stdin=subprocess.DEVNULL
    )
    assert not wait_until_gone(numbers(journal, "start"), 8)
