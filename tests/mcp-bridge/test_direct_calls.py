"""Calls that share a server's pipes with the SDK: the same outcomes, without its tasks."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ToolError, ToolTimeoutError
from agentd.events import ToolProgress
from agentd.types import Blob
from agentd_mcp_bridge.loop import on_mcp_loop_sync
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_tools import ToolSet
from helpers import numbers, source, wait_for_line
from places import SUPPORT


@contextmanager
def tools_of(journal: Path, **options: Any) -> Iterator[ToolSet]:
    tools = ToolSet([], [source(journal=journal, **options)])
    anyio.run(tools.start)
    try:
        yield tools
    finally:
        anyio.run(tools.aclose)


def direct_ids(journal: Path, method: str) -> list[str]:
    """Return the ids of requests of ours that the journal names, in `method`'s messages."""
    found = []
    for line in journal.read_text().splitlines():
        name, _, params = line.partition(" ")
        if name == method:
            data = json.loads(params)
            found.append(str(data.get("_meta", {}).get("progressToken") or data.get("requestId")))
    return found


def test_a_text_arrives_as_it_is_and_the_sdk_has_not_sent_the_request(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with tools_of(journal) as tools:
        assert tools.call_sync("echo", {"text": "42 ünï"}) == "42 ünï"
        assert all(i.startswith("agentd-") for i in direct_ids(journal, "tools/call"))


def test_arguments_that_are_large_go_the_sdk_s_way(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    text = "x" * 1_000_000
    with tools_of(journal) as tools:
        assert tools.call_sync("echo", {"text": text}) == text
        assert not any(i.startswith("agentd-") for i in direct_ids(journal, "tools/call"))


def test_what_is_more_than_text_is_read_by_the_sdk_s_models(tmp_path: Path) -> None:
    image = {"type": "image", "data": "aGk=", "mimeType": "image/png"}
    with tools_of(tmp_path / "journal") as tools:
        assert tools.call_sync("content", {"parts": []}) is None
        assert tools.call_sync("content", {"parts": [image]}) == Blob(b"hi", "image/png")
        two = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        assert tools.call_sync("content", {"parts": two}) == ["a", "b"]
        assert isinstance(tools.call_sync("environment", {}), dict)
        with pytest.raises(ToolError, match="content"):
            tools.call_sync("content", {"parts": [{"type": "image", "data": 7}]})


@pytest.mark.parametrize(("name", "text"), [("fail", "the disk is full"), ("refuse", "no such thing")])
def test_a_failure_is_the_server_s_text(tmp_path: Path, name: str, text: str) -> None:
    with tools_of(tmp_path / "journal") as tools, pytest.raises(ToolError, match=text):
        tools.call_sync(name, {})


def test_progress_becomes_events(tmp_path: Path) -> None:
    told: list[object] = []
    with tools_of(tmp_path / "journal") as tools:
        tools.on_event = told.append
        assert tools.call_sync("progress", {}) == "done"
    steps = [(e.done, e.total, e.message) for e in told if isinstance(e, ToolProgress)]
    assert steps[0] == (1, 2, "step 1")
    assert steps[-1] == (2, 2, "step 2")


def test_a_call_that_is_given_up_is_cancelled_at_the_server_and_the_next_one_works(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with tools_of(journal, timeout_s=1.0) as tools:
        with pytest.raises(ToolTimeoutError, match=r"within 1 s"):
            tools.call_sync("wait", {"seconds": 3})
        assert tools.call_sync("echo", {"text": "next"}) == "next"
        while not direct_ids(journal, "notifications/cancelled"):  # the caller is told of its time-out first
            time.sleep(0.01)
        assert direct_ids(journal, "notifications/cancelled") == direct_ids(journal, "tools/call")[:1]


def test_a_late_answer_to_a_call_that_was_given_up_is_nobody_s(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with tools_of(journal, timeout_s=1.0) as tools:
        with pytest.raises(ToolTimeoutError):
            tools.call_sync("wait", {"seconds": 1.5})
        wait_for_line(journal, "answered tools/call wait")  # it is in the pipe in front of the next one
        assert tools.call_sync("echo", {"text": "still"}) == "still"


def test_a_crash_fails_the_calls_under_way_and_the_next_call_has_a_new_server(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    with tools_of(journal) as tools:
        outcome: list[BaseException] = []

        def wait() -> None:
            try:
                tools.call_sync("wait", {"seconds": 30})
            except ToolError as error:
                outcome.append(error)

        other = threading.Thread(target=wait)
        other.start()
        while "wait" not in journal.read_text():
            time.sleep(0.01)
        with pytest.raises(ToolError, match=r"died during this call, die\(\).*not known.*exit code 3"):
            tools.call_sync("die", {"code": 3})
        other.join()
        assert "died during this call, wait()" in str(outcome[0])
        assert tools.call_sync("echo", {"text": "again"}) == "again"
        assert len(numbers(journal, "start")) == 2


@pytest.mark.parametrize("name", ["look_and_die", "repeat_and_die"])
def test_a_call_that_is_safe_to_repeat_is_repeated(tmp_path: Path, name: str) -> None:
    with tools_of(tmp_path / "journal") as tools:
        assert tools.call_sync(name, {}) == "second life"


def test_closing_ends_the_calls_under_way(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    outcome: list[str] = []
    with tools_of(journal) as tools:

        def wait() -> None:
            try:
                tools.call_sync("wait", {"seconds": 30})
            except ToolError as error:
                outcome.append(str(error))

        other = threading.Thread(target=wait)
        other.start()
        while "wait" not in journal.read_text():
            time.sleep(0.01)
    other.join(10)
    assert not other.is_alive()
    assert "given up" in outcome[0] or "closed" in outcome[0]


def test_a_call_while_a_connection_ends_waits_for_the_next_one(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    tools = ToolSet([], [made])
    anyio.run(tools.start)
    connection = made._backend.connection

    async def begun_while_it_ends() -> object:
        connection.life.broke()
        return made.begin("echo", {"text": "lost"}, lambda value, error: None)

    try:
        assert on_mcp_loop_sync(begun_while_it_ends) is None
        assert tools.call_sync("echo", {"text": "again"}) == "again"
        assert len(numbers(journal, "start")) == 2
    finally:
        anyio.run(tools.aclose)


def test_a_server_of_the_newest_revision_is_called_the_same_way() -> None:
    server = {"command": sys.executable, "args": [str(SUPPORT / "modern.py")]}
    sources = (
        agentd_create_tool_sources({**server, "elicitation": lambda request: {"city": "Bonn"}}, {}) or []
    )
    told: list[object] = []
    tools = ToolSet([], sources, on_event=told.append)
    anyio.run(tools.start)
    try:
        life = sources[0]._backend.connection.life  # type: ignore[attr-defined]
        assert life.client.protocol_version == "2026-07-28"
        assert life.direct is not None
        assert tools.call_sync("echo", {"text": "42"}) == "42"
        assert tools.call_sync("add", {"a": 40, "b": 2}) == 42
        assert tools.call_sync("travel", {}) == "in Bonn"  # the server asks before it does anything
        assert tools.call_sync("steps", {}) == "done"
        assert any(isinstance(e, ToolProgress) and e.message == "half" for e in told)
        with pytest.raises(ToolError, match="integer"):
            tools.call_sync("add", {"a": "x", "b": 2})
    finally:
        anyio.run(tools.aclose)


def test_eight_calls_of_50_ms_are_under_way_together(tmp_path: Path) -> None:
    with tools_of(tmp_path / "journal") as tools:
        results: list[object] = []
        threads = [
            threading.Thread(target=lambda n=n: results.append(tools.call_sync("meet", {"number": n})))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str, results)) == list("01234567")
