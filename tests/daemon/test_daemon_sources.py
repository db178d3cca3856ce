"""The daemon's servers: how many processes there are, what agents see of them, and what becomes of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
from typing import Any

import pytest
from agentd_testing.processes import living_with
from fake_openai import Answer
from life import Home, call, command_of, eventually, said
from places import ROOT

pytestmark = pytest.mark.slow

NPM = ROOT / ".cache" / "npm" / "node_modules" / "@modelcontextprotocol"


OF_RESOURCES = {"list_resources", "list_resource_templates", "read_resource", "list_prompts", "get_prompt"}


def offered(request: dict[str, Any]) -> list[str]:
    """Return the names of the servers' tools that the model may call."""
    return sorted({tool["function"]["name"] for tool in request.get("tools", ())} - OF_RESOURCES)


def npm_server(package: str) -> list[str]:
    """The command line of a server from npm; skips (in CI: fails) without it."""
    script, node = NPM / package / "dist" / "index.js", shutil.which("node")
    if node is None or not script.exists():
        reason = f"{package} is not installed: it needs Node.js >= 20 with npm; then run scripts/setup"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return [node, str(script)]


def test_one_process_serves_the_tools_and_subscriptions_of_several_agents(home: Home) -> None:
    """agentd 0.8.6 started every MCP server twice."""
    home.post("page", "old")
    home.post("more", "old")
    home.model.answers[:] = [Answer(text="well")]
    watched = {"mcp_servers": [home.server()], "subscriptions": ["board://page", "board://more"]}
    other = {"mcp_servers": [home.server(name="other", tool_filter=["read"], timeout=5)]}
    home.write(home.agent("a", **watched), home.agent("b", **watched), home.agent("c", **other))
    life = home.start()
    home.seen("page", "a", "b")
    home.post("page", "new")
    assert len(home.requests(2)) == 2
    for name in ("a", "b"):
        life.becomes(name, state="idle", turns=1)
    assert len(home.servers()) == 1

    home.write(home.agent("a", **watched), home.agent("b", **watched))
    life.send(signal.SIGHUP)
    eventually(lambda: life.status("c") is None)
    home.write(home.agent("d"))
    assert len(home.living_servers()) == 1  # the others still have it
    life.send(signal.SIGHUP)
    eventually(lambda: not home.living_servers())  # the last one gave it back
    assert life.stop() == 0


def test_real_servers_run_once_each_and_an_update_wakes_the_agents(home: Home) -> None:
    everything = npm_server("server-everything")
    files = npm_server("server-filesystem")
    marker = str(home.board)
    servers = [
        {"type": "stdio", "command": everything[0], "arguments": [everything[1], "stdio", marker]},
        {
            "type": "stdio",
            "command": files[0],
            "arguments": [files[1], marker],
            "tool_filter": ["write_file"],
        },
    ]
    write = call("write_file", path=f"{home.board}/page", content="from the agent")
    home.model.decide = lambda request: (
        Answer(text="well") if request["messages"][-1]["role"] == "tool" else write
    )
    uri = "demo://resource/static/document/architecture.md"
    home.write(*(home.agent(n, mcp_servers=servers, subscriptions=[uri]) for n in ("a", "b")))
    life = home.start("--once")
    assert life.wait() == 0, life.log
    assert (home.board / "page").read_text() == "from the agent"
    assert {"write_file"} == {
        name for name in offered(home.model.requests[0]) if "file" in name and "zip" not in name
    }
    assert not living_with(marker)

    life = home.start()
    life.becomes("a", state="idle")
    eventually(lambda: life.status("b")["servers"][0]["state"] == "up", lambda: life.status("b"))
    commands = [command_of(pid) for pid in living_with(marker) if pid != life.process.pid]
    assert len([found for found in commands if found and b"agentd_mcp_bridge.supervisor" not in found]) <= 2
    assert life.stop() == 0
    assert not living_with(marker)


# --- what agents see -----------------------------------------------------------------------------


def test_the_tool_filter_holds_for_native_tools(home: Home) -> None:
    """agentd 0.8.6 ignored `tool_filter`."""
    home.post("page", "new")
    home.model.answers[:] = [call("wipe", name="page"), Answer(text="well")]
    subscription = {"uri": "board://page", "server": "board"}
    home.write(
        home.agent(
            mcp_servers=[
                home.server(name="board", tool_filter=["read", "po*"]),
                home.server("again", name="again", tool_filter={"deny": ["*"]}),
            ],
            subscriptions=[subscription],
        )
    )
    life = home.start("--once")
    assert life.wait() == 0, life.log
    first, second = home.model.requests
    assert offered(first) == ["post", "read"]
    assert "unknown tool 'wipe'" in said(second)
    assert (home.board / "page").exists()


def test_the_tool_filter_holds_for_code(home: Home) -> None:
    """agentd 0.8.6 ignored `tool_filter`."""
    home.post("page", "new")
    block = "```python:execute\nimport lib.tools as t\nprint(t.read(name='page'), hasattr(t, 'wipe'))\n```\n"
    home.model.answers[:] = [Answer(text=block), Answer(text="well")]
    server = home.server(tool_filter={"allow": ["*"], "deny": ["wipe"]})
    home.write(home.agent(mode="ptc", mcp_servers=[server], subscriptions=["board://page"]))
    life = home.start("--once")
    assert life.wait() == 0, life.log
    first, second = home.model.requests
    assert "new False" in said(second)
    assert "wipe" not in json.dumps(first)


def test_resources_and_prompts_of_a_shared_server_reach_the_agent(home: Home) -> None:
    home.post("page", "new")
    home.model.answers[:] = [
        call("read_resource", uri="board://page"),
        call("get_prompt", name="greet", arguments={"who": "you"}),
        Answer(text="well"),
    ]
    watched = {"mcp_servers": [home.server()], "subscriptions": ["board://page"]}
    home.write(home.agent(**watched), home.agent("idle", mcp_servers=[home.server(name="again")]))
    life = home.start("--once")
    assert life.wait() == 0, life.log
    _, second, third = home.model.requests
    assert "new" in said(second)
    assert "Hello you" in said(third)


def test_two_servers_of_one_kind_are_both_there_under_their_names(home: Home) -> None:
    other = home.board.with_name("other")
    other.mkdir()
    home.post("page", "here")
    (other / "page").write_text("there")
    script = home.server()["arguments"][1]
    second = home.server(arguments=["-S", script, str(other)], name="far")
    block = "```python:execute\nimport lib.tools as t\nprint(sorted(n for n in dir(t) if 'read' in n))\n```\n"
    home.model.answers[:] = [Answer(text=block), Answer(text="well")]
    home.write(
        home.agent(
            mode="ptc",
            mcp_servers=[home.server(name="near"), second],
            subscriptions=[{"uri": "board://page", "server": "far"}],
        )
    )
    life = home.start("--once")
    assert life.wait() == 0, life.log
    first, second_request = home.model.requests
    assert "<content>\nthere\n</content>" in said(first)
    assert "['far_read', 'read', " in said(second_request)


# --- what becomes of them ------------------------------------------------------------------------


def test_a_server_that_died_is_started_again_and_tells_of_changes_again(home: Home) -> None:
    """agentd 0.8.6 never restarted a dead server nor subscribed again."""
    home.post("page", "old")
    home.write(home.agent(mcp_servers=[home.server()], subscriptions=["board://page"]))
    life = home.start()
    home.seen("page")
    (first,) = home.servers()
    os.kill(first, signal.SIGKILL)
    home.post("page", "during the outage")
    assert "during the outage" in said(home.requests(1)[0])
    home.asked("resources/subscribe", 2)
    home.asked("resources/read", 2)
    life.becomes("a", state="idle", turns=1)
    home.post("page", "after it")
    assert "after it" in said(home.requests(2)[1])
    assert len(home.servers()) == 2
    assert life.stop() == 0


def test_a_server_that_cannot_be_started_is_told_and_the_other_agents_work(home: Home) -> None:
    home.post("page", "old")
    gone = {"mcp_servers": [home.server(command="no-such-program")], "subscriptions": ["board://page"]}
    watched = {"mcp_servers": [home.server()], "subscriptions": ["board://page"]}
    home.write(home.agent("lost", **gone), home.agent("works", **watched))
    life = home.start()
    home.seen("page", "works")
    home.post("page", "new")
    assert "new" in said(home.requests(1)[0])
    lost = eventually(lambda: (s := life.status("lost"))["last_error"] and s, lambda: life.log)
    assert "no-such-program" in lost["last_error"]
    assert "Traceback" not in life.log
    assert life.stop() == 0


def test_plugins_that_the_configuration_blocks_are_not_used(home: Home) -> None:
    home.write(home.agent("b", mode="ptc"), home.agent("c"))
    life = home.start()
    life.becomes("b", state="idle")
    home.write(
        home.agent("a", mcp_servers=[home.server()]),
        home.agent("b", mode="ptc"),
        home.agent("c", event_sinks=["nowhere"]),
        plugins={"block": ["mcp", "subprocess"]},
    )
    refused = home.run("agents.yaml")
    assert refused.returncode == 2
    first, second, third = refused.stderr.splitlines()[:-1]
    assert "agents[0].mcp_servers: " in first
    assert "blocked" in first
    assert "agents[1].executor: " in second
    assert "blocked" in second
    assert "agents[2].event_sinks[0]: unknown event sink 'nowhere'" in third
    life.send(signal.SIGHUP)
    life.logs("the old one stays")
    life.logs("blocked", 2)
    assert life.stop() == 0
    assert home.servers() == []
    assert "Traceback" not in life.log


def test_an_agent_that_cannot_work_is_told_without_a_traceback_and_the_others_work(home: Home) -> None:
    (home.cwd / "file").touch()
    home.write(home.agent("a", cwd=str(home.cwd / "file")), home.agent("b"))
    life = home.start()
    life.logs("ERROR a: cannot work: ")
    assert str(home.cwd / "file") in life.status("a")["last_error"]
    life.becomes("b", state="idle")
    assert "Traceback" not in life.log
    assert life.stop() == 0


def test_the_conversation_is_bounded(home: Home) -> None:
    """agentd 0.8.6 kept an unbounded history."""
    home.post("page", "old")
    home.write(
        home.agent(
            mcp_servers=[home.server()],
            subscriptions=["board://page"],
            history={"max_tokens": 50, "keep_turns": 1},
        )
    )
    life = home.start()
    home.seen("page")
    for number in range(1, 5):
        home.post("page", f"edition {number} " + "word " * 100)
        home.requests(number)
        life.becomes("a", state="idle", turns=number)
    assert "edition 4" in said(home.model.requests[3])
    assert "edition 1" not in json.dumps(home.model.requests[3])
    assert life.stop() == 0
