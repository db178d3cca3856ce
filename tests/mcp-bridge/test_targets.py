"""What a user may pass as an MCP server, and what is said about what is nearly right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from agentd.errors import ConfigError
from agentd_mcp_bridge.config import (
    AgentsTarget,
    HttpTarget,
    ServerConfig,
    ServerTarget,
    StdioTarget,
    ToolFilter,
    TransportTarget,
)
from agentd_mcp_bridge.plugin import agentd_create_tool_sources
from agentd_mcp_bridge.targets import read_target
from mcp import StdioServerParameters
from mcp.client.sse import sse_client
from mcp.server import Server
from mcp.server.mcpserver import MCPServer


def one(spec: object, **options: Any) -> ServerConfig:
    """Read a spec that names one server."""
    [config] = read_target(spec, options) or []
    return config


def test_a_text_with_a_scheme_is_a_url() -> None:
    config = one("https://mcp.example.com/mcp")
    assert config.target == HttpTarget(url="https://mcp.example.com/mcp")
    assert config.name == "example.com"


def test_any_other_text_is_a_command_line() -> None:
    config = one("npx -y '@scope/server-memory@1.2' '/a path'")
    assert config.target == StdioTarget(
        command="npx", args=("-y", "@scope/server-memory@1.2", "/a path"), env={}
    )
    assert config.name == "server-memory"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("uvx mcp-server-git", "mcp-server-git"),
        ("python3.12 -m mcp_server_time --local-timezone UTC", "mcp_server_time"),
        ("/opt/tools/notes-server --port 3", "notes-server"),
        ("node build/index.js", "index"),
        ("docker run -i --rm -e KEY mcp/postgres", "postgres"),
    ],
)
def test_a_command_is_named_after_what_it_runs(line: str, name: str) -> None:
    assert one(line).name == name


@pytest.mark.parametrize("text", ["", "   "])
def test_an_empty_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is a URL or a command line, got an empty one"):
        read_target(text)


def test_a_command_line_with_an_open_quote_is_refused() -> None:
    with pytest.raises(ConfigError, match="No closing quotation"):
        read_target("npx 'oops")


def test_parameters_of_the_sdk_are_a_command() -> None:
    parameters = StdioServerParameters(command="uvx", args=["thing"], env={"A": "b"}, cwd="/srv")
    assert one(parameters).target == StdioTarget(command="uvx", args=("thing",), env={"A": "b"}, cwd="/srv")


def test_a_dict_is_one_server_with_options() -> None:
    config = one(
        {
            "command": "serve",
            "args": ["--fast"],
            "env": {"KEY": "v"},
            "cwd": "/srv",
            "name": "mine",
            "tool_filter": {"allow": ["read_*"], "deny": ["read_secret"]},
            "timeout_s": 5,
            "start_timeout_s": 1.5,
            "roots": ["/data"],
        }
    )
    assert config.target == StdioTarget(command="serve", args=("--fast",), env={"KEY": "v"}, cwd="/srv")
    assert (config.name, config.timeout_s, config.start_timeout_s) == ("mine", 5.0, 1.5)
    assert config.tool_filter == ToolFilter(("read_*",), ("read_secret",))
    assert config.roots == ("/data",)


def test_a_list_as_filter_allows_these_tools_alone() -> None:
    admits = one({"command": "x", "tool_filter": ["a", "b?"]}).tool_filter.admits
    assert [name for name in ("a", "b1", "c") if admits(name)] == ["a", "b1"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("http", "http"), ("streamable-http", "http"), ("sse", "sse"), (None, "auto")],
)
def test_the_type_of_a_url_chooses_the_transport(kind: str | None, expected: str) -> None:
    spec = {"url": "http://localhost:8000/mcp", **({"type": kind} if kind else {})}
    target = one(spec).target
    assert isinstance(target, HttpTarget)
    assert target.kind == expected


def test_a_bearer_token_becomes_a_header_and_stays_out_of_what_is_printed() -> None:
    config = one({"url": "http://h/", "bearer_token": "s3cret", "headers": {"X-A": "b"}})
    assert isinstance(config.target, HttpTarget)
    assert config.target.headers == {"X-A": "b", "Authorization": "Bearer s3cret"}
    assert "s3cret" not in repr(config)


def test_an_auth_object_is_passed_through() -> None:
    auth = httpx2.BasicAuth("a", "b")
    target = one({"url": "http://h/", "auth": auth}).target
    assert isinstance(target, HttpTarget)
    assert target.auth is auth


def test_oauth_gives_a_person_time_to_authorise(tmp_path: Path) -> None:
    config = one({"url": "http://h/", "auth": {"tokens_dir": str(tmp_path), "timeout_s": 100}})
    assert isinstance(config.target, HttpTarget)
    assert isinstance(config.target.auth, httpx2.Auth)
    assert config.start_timeout_s == 130


def test_options_hold_where_the_server_does_not_say_otherwise() -> None:
    assert one("serve", timeout_s=7).timeout_s == 7
    assert one({"command": "serve", "timeout_s": 3}, timeout_s=7).timeout_s == 3


def test_a_transport_of_the_sdk_and_a_function_that_makes_one_are_taken() -> None:
    transport = sse_client("http://localhost:1/sse")
    assert one(transport).target == TransportTarget(transport=transport)

    def make() -> Any:
        return sse_client("http://localhost:1/sse")

    assert one({"transport": make, "name": "x"}).target == TransportTarget(transport=make, factory=True)


def test_servers_in_this_process_are_taken_under_their_names() -> None:
    high, low = MCPServer("calculator"), Server("low")
    assert (one(high).target, one(high).name) == (ServerTarget(server=high), "calculator")
    assert one(low).target == ServerTarget(server=low)
    assert one({"server": high, "name": "other"}).name == "other"


class _Agents:
    """Does what a server object of openai-agents does."""

    name = "their name"
    params = StdioServerParameters(command="serve")

    async def connect(self) -> None: ...
    async def list_tools(self) -> None: ...
    async def call_tool(self) -> None: ...
    async def cleanup(self) -> None: ...


def test_an_object_of_openai_agents_is_known_by_what_it_does() -> None:
    server = _Agents()
    loaded = "agents" in sys.modules  # by another test
    config = one(server)
    assert config.target == AgentsTarget(server=server, fallback=StdioTarget(command="serve", env={}))
    assert config.name == "their name"
    assert ("agents" in sys.modules) is loaded


@pytest.mark.parametrize("spec", [7, object(), {"weather": 1}, {}, None, b"x", ["npx"]])
def test_what_is_no_server_is_left_to_other_plugins(spec: object) -> None:
    assert agentd_create_tool_sources(spec, {}) is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"comand": "x"}, r"'comand' is unknown; did you mean 'command'\?"),
        ({"args": ["x"]}, "has 'command' or 'url'"),
        ({"mcpServer": {}}, r"did you mean 'mcpServers'\?"),
        ({"command": "x", "arg": []}, r"arg: unknown key; allowed: .*did you mean 'args'\?"),
        ({"command": "x", "args": "-y"}, r"args: must be a list, got '-y'"),
        ({"command": "x", "args": ["a", 3]}, r"args\[1\]: must be a text, got 3"),
        ({"command": "x", "env": ["K=V"]}, "env: must be an object of texts, got list"),
        ({"command": "x", "env": {"K": 5}}, r"env\.K: must be a text, got int"),
        ({"command": "x", "shared": "no"}, "shared: must be true or false, got 'no'"),
        ({"command": ""}, "command: must be a text that is not empty, got ''"),
        ({"command": ["npx", "x"]}, r"command: must be a text"),
        ({"command": "x", "url": "http://h/"}, "a command or a url, not both"),
        ({"command": "x", "headers": {"a": "b"}}, "headers: does not belong to a server with 'command'"),
        ({"url": "http://h/", "args": ["x"]}, "args: does not belong to a server with 'url'"),
        ({"url": "ftp://h/"}, "url: must start with http:// or https://"),
        ({"url": "http://["}, r"url: is no URL: Invalid IPv6 URL, got 'http://\['"),
        ({"url": "http://h:x/"}, "url: is no URL: Port could not be cast"),
        ({"url": "http:///x"}, "and have a host"),
        ({"url": "http://h/", "type": "htp"}, r"type: must be one of .*got 'htp'; did you mean 'http'\?"),
        ({"command": "x", "type": "http"}, "url: is missing"),
        ({"command": "x", "timeout_s": "5"}, "timeout_s: must be a number above 0, got '5'"),
        ({"command": "x", "timeout_s": 0}, "timeout_s: must be a number above 0, got 0"),
        ({"command": "x", "tool_filter": "read"}, "tool_filter: must be a list, got 'read'"),
        (
            {"command": "x", "tool_filter": {"alow": []}},
            r"tool_filter\.alow: unknown key.*did you mean 'allow'\?",
        ),
        ({"command": "x", "elicitation": "yes"}, "elicitation: must be a function, got 'yes'"),
        ({"url": "http://h/", "bearer_token": 5}, "bearer_token: must be a text that is not empty$"),
        (
            {"url": "http://h/", "bearer_token": "t", "headers": {"authorization": "x"}},
            "has an Authorization already",
        ),
        ({"server": "npx"}, "server: must be a server or a transport of the MCP SDK, got 'npx'"),
    ],
)
def test_what_is_nearly_right_is_refused_with_the_key_and_the_way_out(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_target(spec)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match=r"options\.timeout: unknown option; .*did you mean 'timeout_s'\?"):
        read_target("serve", {"timeout": 3})


def test_an_http_option_beside_a_command_is_refused() -> None:
    with pytest.raises(ConfigError, match="bearer_token: belongs to a server with a URL only"):
        read_target("serve", {"bearer_token": "x"})
