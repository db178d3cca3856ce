"""Subscriptions to resources: what is told when, over connections that come and go."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ToolError
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_mcp_bridge.source import McpSource
from agentd_tools.sources import SubscriptionSource
from changing import make_server
from helpers import Host, Told, entry, numbers, source, wait_until_gone
from places import SUPPORT
from web import serve

NOTE = "note://1"
CHANGING = SUPPORT / "changing.py"


@pytest.fixture
def opened() -> Iterator[Callable[..., McpSource]]:
    """A function that gives a source for a spec; all are closed at the end."""
    made: list[McpSource] = []

    def make(spec: object, **options: Any) -> McpSource:
        [one] = agentd_create_tool_sources(spec, options) or []
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Where a scripted server notes its starts and what it is asked."""
    return tmp_path / "journal"


def call(made: McpSource, name: str, **arguments: object) -> object:
    """Call a tool from this thread."""
    return anyio.run(made.call, name, arguments)


def asked(journal: Path, method: str) -> list[str]:
    """The lines of the journal about a method."""
    return [line for line in journal.read_text().splitlines() if line.startswith(method + " ")]


def kill(journal: Path) -> None:
    """Kill the server that was started last."""
    os.kill(numbers(journal, "start")[-1], signal.SIGKILL)


# --- up to 2025-11-25 --------------------------------------------------------------------------


def test_a_source_is_a_source_of_subscriptions() -> None:
    assert isinstance(source(), SubscriptionSource)


def test_a_change_is_told_on_the_connection_that_tools_are_called_on(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told = opened(entry(journal=journal)), Told()
    made.subscribe(NOTE, told)  # before anything was opened
    assert told.until("active") == ["active"]
    for _ in range(3):
        assert call(made, "touch", uri=NOTE) == "touched"
        assert told.until("changed") == ["changed"]
    assert len(numbers(journal, "start")) == 1


def test_changes_of_other_resources_are_not_told_and_those_of_parts_are(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, one, other = opened(entry(journal=journal)), Told(), Told()
    made.subscribe("file:///data", one)
    made.subscribe("file:///data2", other)
    one.until("active")
    other.until("active")
    call(made, "touch", uri="file:///data2")
    other.until("changed")
    assert one.nothing_more()
    call(made, "touch", uri="file:///data/part.txt")
    assert one.until("changed") == ["changed"]
    assert other.nothing_more()


def test_an_update_whose_uri_the_server_has_normalised_is_recognised(
    opened: Callable[..., McpSource],
) -> None:
    made, told = opened(entry()), Told()
    made.subscribe("HTTP://Example.com?q=é", told)
    told.until("active")
    call(made, "touch", uri="http://example.com/?q=%C3%A9")
    told.until("changed")


def test_several_subscriptions_to_one_uri_share_one_at_the_server_and_the_last_ends_it(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, first, second = opened(entry(journal=journal)), Told(), Told()
    end_first = made.subscribe(NOTE, first)
    first.until("active")
    end_second = made.subscribe(NOTE, second)
    assert second.until("active") == ["active"]
    call(made, "touch", uri=NOTE)
    first.until("changed")
    second.until("changed")
    end_first()
    end_first()
    call(made, "touch", uri=NOTE)
    second.until("changed")
    assert first.nothing_more()
    assert asked(journal, "resources/unsubscribe") == []
    end_second()
    again = Told()
    made.subscribe(NOTE, again)  # comes after the server has let go of it
    again.until("active")
    assert len(asked(journal, "resources/unsubscribe")) == 1
    assert len(asked(journal, "resources/subscribe")) == 2
    call(made, "touch", uri=NOTE)
    again.until("changed")
    assert second.nothing_more()


def test_a_killed_server_is_started_again_without_a_call_and_the_subscriptions_stand_again(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told, other = opened(entry(journal=journal)), Told(), Told()
    made.subscribe(NOTE, told)
    made.subscribe("note://2", other)
    told.until("active")
    other.until("active")
    for _ in range(3):
        kill(journal)
        assert told.until("active") == ["lost", "active"]
        assert other.until("active") == ["lost", "active"]
    call(made, "touch", uri=NOTE)
    told.until("changed")
    assert len(numbers(journal, "start")) == 4


def test_why_a_server_was_lost_is_told_to_the_host(opened: Callable[..., McpSource], journal: Path) -> None:
    made, told, host = opened(entry(journal=journal)), Told(), Host()
    anyio.run(made.list_tools, host)
    made.subscribe(NOTE, told)
    told.until("active")
    with pytest.raises(ToolError):
        call(made, "die", code=3)
    assert told.until("active") == ["lost", "active"]
    [(level, text)] = host.logged
    assert level == "warning"
    assert "exit code 3" in text
    assert "fatal: told to die" in text


def test_without_subscriptions_a_killed_server_waits_for_the_next_call(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told = opened(entry(journal=journal)), Told()
    end = made.subscribe(NOTE, told)
    told.until("active")
    end()
    call(made, "echo", text="x")
    [pid] = numbers(journal, "start")
    kill(journal)
    assert wait_until_gone([pid], 10) == []
    with contextlib.suppress(McpServerError):  # asked in the moment before the end was noticed
        call(made, "echo", text="x")
    assert call(made, "echo", text="x") == "x"
    assert len(numbers(journal, "start")) == 2
    assert asked(journal, "resources/subscribe") == asked(journal, "resources/subscribe")[:1]


@pytest.mark.parametrize(
    ("start", "uri"), [("polled", NOTE), ("well", "none://1")], ids=["no subscriptions", "no such resource"]
)
def test_what_the_server_refuses_is_unsupported_and_tools_still_work(
    start: str, uri: str, opened: Callable[..., McpSource]
) -> None:
    made, told, late = opened(entry(start)), Told(), Told()
    made.subscribe(uri, told)
    assert told.until("unsupported") == ["unsupported"]
    made.subscribe(uri, late)
    assert late.until("unsupported") == ["unsupported"]
    assert call(made, "echo", text="x") == "x"


@pytest.mark.slow
def test_an_unanswered_subscription_is_lost_tried_again_and_holds_up_no_other(
    opened: Callable[..., McpSource],
) -> None:
    made, mute, told = opened(entry(timeout_s=1.0)), Told(), Told()
    made.subscribe("mute://1", mute)
    made.subscribe(NOTE, told)
    told.until("active")
    for _ in range(3):
        assert mute.until("lost") == ["lost"]
    call(made, "touch", uri=NOTE)
    told.until("changed")


def test_a_server_that_dies_at_each_start_is_tried_with_growing_pauses(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told, host = opened(entry("dies", journal)), Told(), Host()
    with pytest.raises(ToolError):
        anyio.run(made.list_tools, host)
    began = time.monotonic()
    end = made.subscribe(NOTE, told)
    for _ in range(4):
        assert told.until("lost") == ["lost"]
    end()
    assert time.monotonic() - began >= 0.7  # at least half of 0.2, 0.4 and 0.8 s, however slow all else is
    assert 5 <= len(numbers(journal, "start")) <= 6
    [(level, text)] = host.logged
    assert level == "warning"
    assert "cannot open the database" in text


def test_a_server_that_never_answers_is_told_as_lost_each_time(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told = opened(entry("silent", journal, start_timeout_s=0.2)), Told()
    made.subscribe(NOTE, told)
    for _ in range(2):
        assert told.until("lost", 60) == ["lost"]
    made.close()
    assert wait_until_gone(numbers(journal, "start"), 15) == []


def test_a_callback_that_raises_is_logged_and_told_on(
    opened: Callable[..., McpSource], caplog: pytest.LogCaptureFixture
) -> None:
    made, told = opened(entry()), Told()

    def raising(state: str) -> None:
        told(state)
        raise ValueError("not today")

    made.subscribe(NOTE, raising)
    told.until("active")
    call(made, "touch", uri=NOTE)
    told.until("changed")
    assert "on_event of a subscription raised on 'active'" in caplog.text
    assert "not today" in caplog.text


def test_a_callback_that_blocks_holds_up_neither_calls_nor_other_subscribers(
    opened: Callable[..., McpSource],
) -> None:
    made, told, release = opened(entry()), Told(), threading.Event()
    slow = Told()

    def blocking(state: str) -> None:
        slow(state)
        release.wait(60)

    made.subscribe(NOTE, blocking)
    slow.until("active")
    made.subscribe(NOTE, told)
    told.until("active")
    for _ in range(3):
        call(made, "touch", uri=NOTE)
        told.until("changed")
    release.set()
    assert slow.until("changed") == ["changed"]  # three, told as one
    assert slow.nothing_more()


def test_subscribing_and_ending_from_many_threads_leaves_nothing_behind(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made = opened(entry(journal=journal))

    def come_and_go(number: int) -> None:
        for _ in range(5):
            told = Told()
            end = made.subscribe(f"note://{number % 3}", told)
            told.until("active")
            end()

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    last = Told()
    made.subscribe("note://last", last)
    last.until("active")
    assert list(made._subscriptions.topics) == ["note://last"]
    assert len(numbers(journal, "start")) == 1


# --- the end -----------------------------------------------------------------------------------


def test_closing_the_source_ends_its_subscriptions_and_its_server(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told = opened(entry(journal=journal)), Told()
    end = made.subscribe(NOTE, told)
    told.until("active")
    made.close()
    assert wait_until_gone(numbers(journal, "start"), 10) == []
    assert told.nothing_more()
    assert made._subscriptions.topics == {}
    end()
    with pytest.raises(ToolError, match="was closed"):
        made.subscribe(NOTE, told)


def test_closing_while_a_server_is_waited_for_ends_the_trying(
    opened: Callable[..., McpSource], journal: Path
) -> None:
    made, told = opened(entry("dies", journal)), Told()
    made.subscribe(NOTE, told)
    for _ in range(3):
        told.until("lost")
    made.close()
    starts = numbers(journal, "start")
    other, heard = opened(entry()), Told()
    other.subscribe(NOTE, heard)
    heard.until("active")
    assert not made._subscriptions._keeping
    assert numbers(journal, "start") == starts


def test_a_source_that_nobody_has_any_more_ends_with_its_subscriptions(journal: Path) -> None:
    made, told = source(journal=journal), Told()
    end = made.subscribe(NOTE, told)
    told.until("active")
    del made
    gc.collect()
    assert wait_until_gone(numbers(journal, "start"), 10) == []
    assert told.nothing_more()
    end()


def test_a_forked_child_is_told_nothing_and_may_subscribe_itself(journal: Path) -> None:
    code = f"""
    import os, sys
    sys.path.insert(0, {str(SUPPORT)!r})
    import anyio
    from pathlib import Path
    from helpers import Host, Told, source
    made, told = source(journal=Path({str(journal)!r})), Told()
    end = made.subscribe("note://1", told)
    told.until("active")
    pid = os.fork()
    if pid == 0:
        mine = Told()
        end()
        made.subscribe("note://1", mine)
        mine.until("active")
        print("child", told.nothing_more(), flush=True)
        made.close()
        os._exit(0)
    os.waitpid(pid, 0)
    anyio.run(made.call, "touch", {{"uri": "note://1"}})
    print("parent", told.until("changed"), flush=True)
    made.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.splitlines() == ["child True", "parent ['changed']"], done.stderr
    assert len(numbers(journal, "start")) == 2


# --- 2026-07-28 --------------------------------------------------------------------------------


@pytest.fixture(params=["stdio", "in this process", "http"])
def modern(request: pytest.FixtureRequest) -> Iterator[object]:
    """A server of the newest revision, over each transport."""
    if request.param == "stdio":
        yield {"name": "changing", "command": sys.executable, "args": [str(CHANGING)]}
    elif request.param == "in this process":
        yield make_server()
    else:
        with serve(lambda: make_server().streamable_http_app()) as port:
            yield f"http://127.0.0.1:{port}/mcp"


def test_the_newest_revision_is_listened_to(modern: object, opened: Callable[..., McpSource]) -> None:
    made, told, other = opened(modern), Told(), Told()
    made.subscribe(NOTE, told)
    assert told.until("active") == ["active"]
    end = made.subscribe("note://2", other)
    assert other.until("active") == ["active"]
    call(made, "touch", uri=NOTE)
    assert told.until("changed") == ["changed"]
    call(made, "touch", uri="note://2")
    other.until("changed")
    end()
    call(made, "touch", uri=NOTE)
    told.until("changed")
    assert other.nothing_more()


def test_no_change_is_lost_while_the_set_of_uris_changes(
    modern: object, opened: Callable[..., McpSource]
) -> None:
    made, told = opened(modern), Told()
    made.subscribe(NOTE, told)
    told.until("active")
    ends: list[Callable[[], None]] = []
    for number in range(15):
        ends.append(made.subscribe(f"note://more/{number}", Told()))
        call(made, "touch", uri=NOTE)
        told.until("changed")
        if number % 3 == 2:
            ends.pop(0)()
            call(made, "touch", uri=NOTE)
            told.until("changed")


def test_a_stream_that_the_server_ends_is_opened_again_and_active_is_told_again(
    modern: object, opened: Callable[..., McpSource]
) -> None:
    made, told = opened(modern), Told()
    made.subscribe(NOTE, told)
    told.until("active")
    for _ in range(3):
        call(made, "end_streams")
        assert told.until("active") == ["lost", "active"]
    call(made, "touch", uri=NOTE)
    told.until("changed")


def test_of_several_uris_only_those_that_the_server_refuses_are_unsupported(
    opened: Callable[..., McpSource],
) -> None:
    streams: list[list[str]] = []
    made = opened(make_server(streams))
    told = {uri: Told() for uri in (NOTE, "none://1", "note://2", "deaf://1")}
    for uri, one in told.items():
        made.subscribe(uri, one)
    told[NOTE].until("active")
    told["note://2"].until("active")
    assert told["none://1"].until("unsupported") == ["unsupported"]
    assert told["deaf://1"].until("unsupported") == ["unsupported"]
    call(made, "touch", uri="note://2")
    told["note://2"].until("changed")
    count = len(streams)
    late = Told()
    made.subscribe("note://3", late)
    late.until("active")
    assert len(streams) == count + 1
    assert streams[-1] == [NOTE, "note://2", "note://3"]


@pytest.mark.slow
def test_a_modern_server_over_http_that_went_away_is_found_again(opened: Callable[..., McpSource]) -> None:
    told = Told()
    with serve(lambda: make_server().streamable_http_app()) as port:
        made = opened(f"http://127.0.0.1:{port}/mcp")
        made.subscribe(NOTE, told)
        told.until("active")
    told.until("lost")
    told.until("lost")
    with serve(lambda: make_server().streamable_http_app(), port):
        told.until("active")
        call(made, "touch", uri=NOTE)
        told.until("changed")


@pytest.mark.slow
def test_a_modern_server_that_is_killed_is_listened_to_again(opened: Callable[..., McpSource]) -> None:
    made = opened({"name": "changing", "command": sys.executable, "args": [str(CHANGING)]})
    told = Told()
    made.subscribe(NOTE, told)
    told.until("active")
    [pid] = _children_running("changing.py")
    os.kill(pid, signal.SIGKILL)
    assert told.until("active") == ["lost", "active"]
    call(made, "touch", uri=NOTE)
    told.until("changed")
    assert len(_children_running("changing.py")) == 1


def _children_running(script: str) -> list[int]:
    """The servers below this process that run a script, without those that watch over them."""
    parents: dict[int, int] = {}
    running = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            pid = int(directory.name)
            parents[pid] = int((directory / "stat").read_bytes().rpartition(b")")[2].split()[1])
            words = (directory / "cmdline").read_bytes().split(b"\0")
            if len(words) > 1 and words[1].endswith(script.encode()):
                running.append(pid)
        except OSError:
            continue

    def is_mine(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in running if is_mine(pid)]
