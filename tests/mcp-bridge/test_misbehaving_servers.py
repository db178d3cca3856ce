"""Servers that do not do what they should: a clear error in time, and nothing is left."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import anyio
import pytest
from agentd.errors import ToolError, ToolTimeoutError
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.source import McpSource
from helpers import entry, is_alive, numbers, source, wait_until_gone

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Servers do not see on what loop the caller is; test_sources.py is run on both."""
    return "asyncio"


async def test_a_command_that_is_not_there_is_named_with_the_path_that_was_searched() -> None:
    made = source(command="no-such-program-anywhere")
    with pytest.raises(McpServerError, match=r"'no-such-program-anywhere' is not on PATH \(.*bin"):
        await made.list_tools()
    await made.aclose()


async def test_a_working_directory_that_is_not_there_is_named() -> None:
    made = source(cwd="/no/such/place")
    with pytest.raises(McpServerError, match=r"cwd='/no/such/place' is no directory"):
        await made.list_tools()
    await made.aclose()


async def test_a_server_that_dies_at_its_start_shows_its_exit_code_and_standard_error() -> None:
    made = source("dies")
    with pytest.raises(McpServerError) as caught:
        await made.list_tools()
    assert "'scripted' ended with exit code 7" in str(caught.value)
    assert "cannot open the database" in str(caught.value)
    await made.aclose()


def dying(text: str) -> McpSource:
    """Return a source whose server writes that to its standard error and ends."""
    return source(command=sys.executable, args=["-S", "-c", f"import sys; sys.exit({text!r})"])


@pytest.mark.parametrize("usage", [40, 400])
async def test_what_a_server_says_before_it_tells_its_usage_is_shown(usage: int) -> None:
    options = [f"  --option-{number}  is one of many" for number in range(usage)]
    made = dying("\n".join(["Error: there is no cluster", "Usage:", *options]))
    with pytest.raises(McpServerError) as caught:
        await made.list_tools()
    shown = str(caught.value).splitlines()
    assert shown[1:10] == ["Error: there is no cluster", "Usage:", *options[:6], "..."]
    assert shown[10:] == options[-12:]
    await made.aclose()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ModuleNotFoundError: No module named 'mcp.server.fastmcp'", True),
        ("AttributeError: 'Server' object has no attribute 'list_tools'", True),
        ("ImportError: cannot import name 'McpError' from 'mcp.shared.exceptions' (/x.py)", True),
        ("ImportError: cannot import name 'McpError' from 'mcp' (/x.py)", True),
        ("ImportError: cannot import name 'McpError' from 'mcp.server' (/x.py)", False),  # it never was there
        ("ImportError: cannot import name 'main' from 'my_mcp.server' (/x.py)", False),
        ("ModuleNotFoundError: No module named 'mcp'", False),
    ],
)
async def test_a_server_that_needs_an_older_sdk_is_told_how_to_get_it(said: str, told: bool) -> None:
    made = dying(f"Traceback (most recent call last):\n{said}")
    with pytest.raises(McpServerError) as caught:
        await made.list_tools()
    assert said in str(caught.value)
    assert ("package mcp before 2.0 (with uvx: --with 'mcp<2')" in str(caught.value)) is told
    await made.aclose()


async def test_a_server_that_speaks_garbage_is_given_up_and_its_output_shown(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source("garbage", journal)
    with pytest.raises(McpServerError, match=r"does not speak MCP.*'Welcome to the server!'"):
        await made.list_tools()
    await made.aclose()
    assert not wait_until_gone(numbers(journal, "start"), 5)


async def test_a_server_that_prints_a_banner_first_works_all_the_same() -> None:
    made = source("banner")
    await made.list_tools()
    assert await made.call("echo", {"text": "hi"}) == "hi"
    await made.aclose()


async def test_a_server_that_never_answers_the_handshake_fails_within_its_time(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source("silent", journal, start_timeout_s=0.5)
    began = time.monotonic()
    with pytest.raises(McpServerError, match=r"did not answer within 0\.5 s of its start"):
        await made.list_tools()
    assert time.monotonic() - began < 5
    await made.aclose()
    assert not wait_until_gone(numbers(journal, "start"), 5)


async def test_a_call_that_is_never_answered_ends_at_its_time_out_and_the_server_is_told(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal, timeout_s=1.0)
    await made.list_tools()
    with pytest.raises(ToolTimeoutError, match=r"wait\(\) of 'scripted' did not answer within 1 s"):
        await made.call("wait", {"seconds": 60})
    assert await made.call("echo", {"text": "still there"}) == "still there"
    assert "notifications/cancelled" in journal.read_text()
    await made.aclose()


async def test_a_message_of_a_hundred_megabytes_is_refused_in_bounded_memory(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(McpServerError, match=r"sent a message of more than 67108864 bytes"):
        await made.call("big", {"mib": 100})
    assert time.monotonic() - began < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
    assert not wait_until_gone(numbers(journal, "start"), 5)
    assert await made.call("echo", {"text": "next life"}) == "next life"
    await made.aclose()


async def test_the_limit_of_a_message_can_be_set_and_holds_in_the_handshake_too() -> None:
    made = source("flood", max_message_mib=1)
    with pytest.raises(McpServerError, match=r"more than 1048576 bytes"):
        await made.list_tools()
    await made.aclose()


async def test_tools_that_change_in_the_middle_of_a_call_do_not_disturb_it() -> None:
    from helpers import Host

    host = Host()
    made = source()
    assert "brand_new" not in [spec.name for spec in await made.list_tools(host)]
    async with anyio.create_task_group() as group:
        answers: list[object] = []

        async def wait() -> None:
            answers.append(await made.call("wait", {"seconds": 0.2}))

        group.start_soon(wait)
        assert await made.call("change", {}) == "changed"
    assert answers == ["waited"]
    assert host.changes == 1
    assert [spec.name for spec in await made.list_tools(host)] == ["echo", "brand_new"]
    await made.aclose()


async def test_a_server_that_closes_its_output_but_lives_on_is_ended_and_restarted(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    with pytest.raises(McpServerError, match=r"died during this call.*closed its standard output"):
        await made.call("close_output", {})
    [first] = numbers(journal, "start")
    assert not wait_until_gone([first], 5)
    assert await made.call("echo", {"text": "again"}) == "again"
    await made.aclose()


@pytest.mark.slow
async def test_a_server_that_ignores_the_end_of_its_input_and_term_is_killed(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source("stubborn", journal)
    await made.list_tools()
    [pid] = numbers(journal, "start")
    assert is_alive(pid)
    await made.aclose()
    assert not is_alive(pid)


async def test_a_crash_is_told_to_the_call_that_met_it_and_the_next_call_has_a_new_server(
    tmp_path: Path,
) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    with pytest.raises(McpServerError) as caught:
        await made.call("die", {})
    text = str(caught.value)
    assert "'scripted' died during this call" in text
    assert "it is restarted with the next call" in text
    assert "whether the call took effect is not known" in text
    assert "exit code 3" in text
    assert "fatal: told to die" in text
    assert await made.call("echo", {"text": "back"}) == "back"
    assert len(numbers(journal, "start")) == 2
    await made.aclose()


@pytest.mark.parametrize("name", ["look_and_die", "repeat_and_die"])
async def test_a_call_that_is_safe_to_repeat_is_repeated_once_after_a_crash(
    name: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    assert await made.call(name, {}) == "second life"
    await made.aclose()


async def test_a_failing_start_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentd_mcp_bridge.connection import restart_backoff

    backoff = restart_backoff()
    waits = []
    for _ in range(12):
        backoff.failed(lived_s=0.1)
        waits.append(backoff.remaining_s())
    assert waits[0] == 0
    assert all(0 < wait <= 10 for wait in waits[1:])
    assert 0.05 < waits[1] <= 0.2
    assert waits[-1] >= 4.9
    backoff.failed(lived_s=3600)
    assert backoff.remaining_s() == 0


async def test_an_error_of_the_tool_is_its_text_alone() -> None:
    made = source()
    with pytest.raises(ToolError) as caught:
        await made.call("fail", {})
    assert str(caught.value) == "the disk is full"
    with pytest.raises(ToolError, match=r"^refuse\(\): no such thing$"):
        await made.call("refuse", {})
    await made.aclose()


async def test_a_list_that_never_ends_is_given_up() -> None:
    made = source()
    with pytest.raises(ToolError, match="list of resources does not end"):
        await made.list_resources()
    await made.aclose()


async def test_the_error_of_a_crash_reaches_all_calls_that_were_under_way(tmp_path: Path) -> None:
    made = source(journal=tmp_path / "journal")
    await made.list_tools()
    failed: list[str] = []

    async def wait() -> None:
        with pytest.raises(McpServerError) as caught:
            await made.call("wait", {"seconds": 60})
        failed.append(str(caught.value))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(wait)
        while (tmp_path / "journal").read_text().count('"wait"') < 3:
            await anyio.sleep(0.01)
        with pytest.raises(McpServerError):
            await made.call("die", {})
    assert len(failed) == 3
    await made.aclose()


async def test_entry_dicts_are_not_changed() -> None:
    given = entry()
    before = repr(given)
    made = source()
    await made.aclose()
    assert repr(given) == before
