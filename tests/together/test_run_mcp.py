"""`agentd run --mcp` and `--mcp-config`: the tools of MCP servers from the command line."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from places import SUPPORT

SCRIPT = SUPPORT / "scripted.py"
BLOCK = "```python:execute\nfrom lib.tools import echo\nprint(echo(text='over the wire'))\n```\n"


@pytest.mark.slow
def test_a_command_line_is_a_server_whose_tools_the_code_imports(agentd: Any) -> None:
    agentd.replay(BLOCK, "done")
    target = shlex.join([sys.executable, "-S", str(SCRIPT)])
    result = agentd("run", "say it", "--mcp", target)
    assert result.returncode == 0, result.stderr
    assert "over the wire" in result.stdout


@pytest.mark.slow
def test_the_servers_of_a_file_are_offered_together(agentd: Any, tmp_path: Path) -> None:
    server = agentd.replay(BLOCK, "done")
    entry = {"command": sys.executable, "args": ["-S", str(SCRIPT)]}
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"mcpServers": {"first": entry, "second": entry}}))
    result = agentd("run", "say it", "--mcp-config", str(file))
    assert result.returncode == 0, result.stderr
    assert "over the wire" in result.stdout
    assert "second" in json.dumps(server.requests[0].body)


def test_an_input_of_a_file_is_asked_for_at_the_terminal(agentd: Any, tmp_path: Path) -> None:
    agentd.replay(
        BLOCK.replace("echo(text='over the wire')", "environment()").replace("echo", "environment"), "done"
    )
    entry = {"command": sys.executable, "args": ["-S", str(SCRIPT)], "env": {"GIVEN": "${input:key}"}}
    inputs = [{"id": "key", "type": "promptString", "description": "The key", "password": True}]
    file = tmp_path / "mcp.json"
    file.write_text(json.dumps({"inputs": inputs, "servers": {"first": entry}}))
    terminal = agentd.on_terminal("run", "say it", "--mcp-config", str(file), columns=4000)
    terminal.read_until("The key:")
    terminal.type("t0ken")
    assert terminal.wait() == 0
    assert "'GIVEN': 't0ken'" in terminal.output
    without = agentd("run", "say it", "--mcp-config", str(file))
    assert "servers.first.env.GIVEN: the input 'key' has no value and no default" in without.stderr


def test_a_mistake_in_a_file_is_named_without_a_traceback(agentd: Any, tmp_path: Path) -> None:
    agentd.replay("done")
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"a": {"comand": "x"}}}')
    result = agentd("run", "say it", "--mcp-config", str(file))
    assert result.returncode != 0
    assert f"{file}: mcpServers.a: has neither 'command' nor 'url'; is 'comand' misspelt?" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_server_that_cannot_be_started_is_named_without_a_traceback(agentd: Any) -> None:
    agentd.replay("done")
    result = agentd("run", "say it", "--mcp", "no-such-server --fast")
    assert result.returncode != 0
    assert "'no-such-server' is not on PATH" in result.stderr
    assert "Traceback" not in result.stderr
