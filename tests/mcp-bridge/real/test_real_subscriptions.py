"""Subscriptions at server-everything over each transport, and at mcp-subscribe, a proxy that polls tools."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import anyio
import pytest
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_mcp_bridge.source import McpSource
from agents.mcp.server import MCPServerStdio
from helpers import Told
from places import ROOT
from real_servers import listening, npm_server, processes

pytestmark = pytest.mark.slow

FEATURES = "demo://resource/static/document/features.md"
DYNAMIC = "demo://resource/dynamic/text/1"
CLOCK = "tool://get_current_time/?timezone=Europe/Paris"
ENVIRONMENT = ROOT / ".cache" / "venvs" / "mcp-subscribe-0.1.1"


@pytest.fixture
def opened() -> Iterator[Callable[[object], McpSource]]:
    """A function that gives a source for a spec; all are closed at the end."""
    made: list[McpSource] = []

    def make(spec: object) -> McpSource:
        [one] = agentd_create_tool_sources(spec, {}) or []
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def marker() -> str:
    """A word that stands on the command line of this test's servers and nobody else's."""
    return f"marker-{uuid4().hex}"


@pytest.fixture
def stdio(marker: str) -> dict[str, Any]:
    """server-everything over stdio, with the marker."""
    command, *args = npm_server("server-everything")
    return {"name": "everything", "command": command, "args": [*args, "stdio", marker]}


@pytest.fixture(scope="session")
def subscribing_proxy() -> list[str]:
    """The command line of mcp-subscribe over mcp-server-time, in an environment with the SDK that it needs."""
    scripts = ENVIRONMENT / "bin"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = [str(scripts / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run(
            [*install, "mcp-subscribe==0.1.1", "mcp<2", "mcp-server-time"],
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        ready.touch()
    return [str(scripts / "mcp_subscribe"), "--poll-interval", "0.2", "--", str(scripts / "mcp-server-time")]


def call(made: McpSource, name: str, **arguments: object) -> object:
    """Call a tool from this thread."""
    return anyio.run(made.call, name, arguments)


def test_the_updates_of_server_everything_arrive(
    everything: dict[str, Any], opened: Callable[[object], McpSource]
) -> None:
    made, told, other = opened(everything), Told(), Told()
    end = made.subscribe(FEATURES, told)
    made.subscribe(DYNAMIC, other)
    assert told.until("active") == ["active"]
    assert other.until("active") == ["active"]
    call(made, "toggle-subscriber-updates")  # at once, and every 5 s
    assert told.until("changed") == ["changed"]
    other.until("changed")
    end()
    other.until("changed")
    call(made, "toggle-subscriber-updates")  # or its clock keeps the server from ending
    assert told.nothing_more()


def test_one_process_serves_calls_and_subscriptions_and_after_a_kill_another_one_does(
    stdio: dict[str, Any], marker: str, opened: Callable[[object], McpSource]
) -> None:
    made, told = opened(stdio), Told()
    made.subscribe(FEATURES, told)
    told.until("active")
    assert "hi" in str(call(made, "echo", message="hi"))
    [pid] = processes(marker)
    os.kill(pid, signal.SIGKILL)
    assert told.until("active") == ["lost", "active"]
    call(made, "toggle-subscriber-updates")
    told.until("changed")
    [another] = processes(marker)
    assert another != pid
    made.close()
    assert processes(marker) == []


@pytest.mark.parametrize(("kind", "path"), [("streamableHttp", "mcp"), ("sse", "sse")])
def test_a_server_over_http_that_was_killed_is_subscribed_to_again_once_it_is_back(
    kind: str, path: str, opened: Callable[[object], McpSource]
) -> None:
    told = Told()
    with listening(kind) as port:
        made = opened(f"http://127.0.0.1:{port}/{path}")
        made.subscribe(FEATURES, told)
        told.until("active")
    told.until("lost")
    told.until("lost")
    with listening(kind, port):
        told.until("active")
        call(made, "toggle-subscriber-updates")
        told.until("changed")
        made.close()


def test_an_object_of_openai_agents_has_no_subscriptions_but_its_tools(
    stdio: dict[str, Any], marker: str, opened: Callable[[object], McpSource]
) -> None:
    params: Any = {"command": stdio["command"], "args": stdio["args"]}
    made, told = opened(MCPServerStdio(params=params, name="everything")), Told()
    made.subscribe(FEATURES, told)
    assert told.until("unsupported") == ["unsupported"]
    assert "hi" in str(call(made, "echo", message="hi"))
    assert len(processes(marker)) == 1


@pytest.mark.network
@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's scripts lie elsewhere")
def test_mcp_subscribe_tells_when_the_result_of_a_polled_tool_changes(
    subscribing_proxy: list[str], opened: Callable[[object], McpSource]
) -> None:
    command, *args = subscribing_proxy
    made, told = opened({"name": "clock", "command": command, "args": args}), Told()
    end = made.subscribe(CLOCK, told)
    assert told.until("active") == ["active"]
    assert told.until("changed") == ["changed"]
    told.until("changed")
    assert "Europe/Paris" in str(call(made, "get_current_time", timezone="Europe/Paris"))
    end()
