"""The JSON files that users of other programs already have."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd_mcp_bridge.config import HttpTarget, ServerConfig, StdioTarget
from agentd_mcp_bridge.targets import read_target


def read(folder: Path, data: object, name: str = "mcp.json") -> list[ServerConfig]:
    """Write a file and read it."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    found = read_target(path)
    assert found is not None
    return found


def test_the_file_of_claude_desktop_gives_a_source_for_each_server(tmp_path: Path) -> None:
    memory, files = read(
        tmp_path,
        {
            "globalShortcut": "",
            "mcpServers": {
                "memory": {"command": "npx", "args": ["-y", "@modelcontextprotocol/server-memory"]},
                "files": {"command": "npx", "args": ["-y", "server-filesystem", "/data"], "env": {"A": "1"}},
            },
        },
    )
    assert (memory.name, files.name) == ("memory", "files")
    assert files.target == StdioTarget(
        command="npx", args=("-y", "server-filesystem", "/data"), env={"A": "1"}
    )


def test_the_file_of_cursor_takes_urls_variables_and_files_of_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN_OF_TEST", "t0ken")
    (tmp_path / "local.env").write_text('# keys\nexport A=1\nB="two words"\n\n')
    remote, local = read(
        tmp_path,
        {
            "mcpServers": {
                "remote": {
                    "url": "https://example.com/${TOKEN_OF_TEST}/mcp",
                    "headers": {"Authorization": "Bearer ${env:TOKEN_OF_TEST}"},
                    "autoApprove": ["x"],
                },
                "local": {"command": "serve", "envFile": "local.env", "env": {"A": "${env:TOKEN_OF_TEST}"}},
            }
        },
    )
    assert isinstance(remote.target, HttpTarget)
    assert remote.target.url == "https://example.com/t0ken/mcp"
    assert remote.target.headers == {"Authorization": "Bearer t0ken"}
    assert isinstance(local.target, StdioTarget)
    assert local.target.env == {"A": "t0ken", "B": "two words"}


def test_the_file_of_vs_code_has_comments_and_another_name_for_the_table(tmp_path: Path) -> None:
    text = """{
        // the servers
        "inputs": [],
        "servers": {
            "github": {"type": "http", "url": "https://api.example.com/mcp//x"}, /* a slash is no comment */
            "files": {"type": "stdio", "command": "serve", "cwd": "${workspaceFolder}/data",
                      "args": ["a,}", "// no comment"],},
        },
    }"""
    github, files = read(tmp_path, text, ".vscode/mcp.json")
    assert github.target == HttpTarget(url="https://api.example.com/mcp//x", kind="http")
    assert files.target == StdioTarget(
        command="serve", args=("a,}", "// no comment"), env={}, cwd=str(tmp_path / "data")
    )


def test_servers_that_are_disabled_are_left_out(tmp_path: Path) -> None:
    [config] = read(
        tmp_path,
        {"mcpServers": {"a": {"command": "x", "disabled": True}, "b": {"command": "x", "disabled": False}}},
    )
    assert config.name == "b"


def test_a_whole_table_may_be_passed_as_a_dict() -> None:
    configs = read_target(
        {"mcpServers": {"a": {"command": "x"}, "b": {"url": "http://h/"}}}, {"timeout_s": 2}
    )
    assert [(c.name, c.timeout_s) for c in configs or []] == [("a", 2.0), ("b", 2.0)]


def test_a_default_stands_in_for_a_variable_that_is_not_set(tmp_path: Path) -> None:
    [config] = read(tmp_path, {"mcpServers": {"a": {"command": "${NOT_SET_IN_TEST:-serve}"}}})
    assert isinstance(config.target, StdioTarget)
    assert config.target.command == "serve"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"mcpServers": {"a": {"comand": "y"}}}, r"mcpServers\.a.*is 'comand' misspelt\?"),
        (
            {"mcpServers": {"a": {"command": "x", "tools": "read"}}},
            r"a\.tools: must be a list of tools' names",
        ),
        ({"mcpServers": {"a": {"command": "x", "timeout": "5"}}}, r"a\.timeout: must be a number, got '5'"),
        ({"mcpServers": {"a": {"command": "x", "enabled": 1}}}, r"a\.enabled: must be true or false, got 1"),
        ({"mcpServers": {"a": {"args": []}}}, r"mcpServers\.a"),
        ({"mcpServers": {"a": {"command": 3}}}, r"mcpServers\.a\.command: must be a text .*got 3"),
        ({"mcpServers": {"a": "npx"}}, r"mcpServers\.a: must be an object, got str"),
        ({"mcpServers": []}, "mcpServers: must be an object of servers by name, got list"),
        (
            {"servers": {"a": {"command": "x", "disabled": "yes"}}},
            r"servers\.a\.disabled: must be true or false",
        ),
        ({"mcpservers": {}}, r"must have 'mcpServers' or 'servers'.*did you mean 'mcpServers'\?"),
        ([], "must be an object with 'mcpServers' or 'servers', got list"),
        ("{", "is no JSON"),
        (
            {"mcpServers": {"a": {"command": "x", "args": ["ok", "${NOT_SET_IN_TEST}"]}}},
            r"mcpServers\.a\.args\[1\]: the environment variable 'NOT_SET_IN_TEST' is not set",
        ),
        (
            {"servers": {"a": {"command": "x", "env": {"K": "${input:key}"}}}},
            r"env\.K: the input 'key' has no value and no default",
        ),
        (
            {"mcpServers": {"a": {"command": "x", "envFile": "no.env"}}},
            r"mcpServers\.a\.envFile: cannot be read",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_server_and_key(tmp_path: Path, data: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, data)
    assert str(tmp_path / "mcp.json") in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"file .*none\.json cannot be read"):
        read_target(tmp_path / "none.json")


def test_secrets_of_a_file_are_not_in_its_errors(tmp_path: Path) -> None:
    data = {"mcpServers": {"a": {"command": "x", "env": {"KEY": ["s3cret"]}}}}
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, data)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "url", "kind"),
    [
        ({"serverUrl": "https://h/mcp"}, "https://h/mcp", "auto"),  # Windsurf
        ({"httpUrl": "https://h/mcp", "trust": True}, "https://h/mcp", "http"),  # Gemini CLI
        ({"url": "https://h/sse", "transportType": "sse"}, "https://h/sse", "sse"),  # Cline
        ({"url": "https://h/mcp", "transport": "streamable-http"}, "https://h/mcp", "http"),
        ({"url": "https://h/mcp", "type": "remote"}, "https://h/mcp", "auto"),  # opencode
    ],
)
def test_other_programs_names_of_an_address_are_understood(
    tmp_path: Path, entry: dict[str, Any], url: str, kind: str
) -> None:
    [config] = read(tmp_path, {"mcpServers": {"a": entry}})
    assert isinstance(config.target, HttpTarget)
    assert (config.target.url, config.target.kind) == (url, kind)


def test_a_command_of_another_program_is_read_as_its_owner_meant(tmp_path: Path) -> None:
    [config] = read(
        tmp_path,
        {
            "mcpServers": {
                "_comment": "our servers",
                "a": {
                    "_comment": "for the tests",
                    "type": "local",
                    "command": ["npx", "-y", "server"],
                    "environment": {"PORT": 8080, "DEBUG": True, "NONE": None},
                    "alwaysAllow": ["read"],
                    "autoApprove": [],
                },
            }
        },
    )
    assert config.target == StdioTarget(
        command="npx", args=("-y", "server"), env={"PORT": "8080", "DEBUG": "true"}
    )


@pytest.mark.parametrize(
    ("name", "timeout", "seconds"),
    [("mcp.json", 60, 60.0), ("mcp.json", 30_000, 30.0), (".gemini/settings.json", 600, 0.6)],
)
def test_a_time_out_is_read_in_the_unit_of_its_program(
    tmp_path: Path, name: str, timeout: int, seconds: float
) -> None:
    [config] = read(tmp_path, {"mcpServers": {"a": {"command": "x", "timeout": timeout}}}, name)
    assert config.timeout_s == pytest.approx(seconds)


def test_oauth_of_another_program_turns_ours_on(tmp_path: Path) -> None:
    on, off = read(
        tmp_path,
        {
            "mcpServers": {
                "on": {"url": "https://h.example/mcp", "oauth": {"enabled": True}},
                "off": {"url": "https://h.example/mcp", "oauth": {"enabled": False}},
            }
        },
    )
    assert isinstance(on.target, HttpTarget)
    assert isinstance(off.target, HttpTarget)
    assert (on.target.auth is None, off.target.auth is None) == (False, True)


@pytest.mark.parametrize(
    "switch", [{"enabled": False}, {"disabled": True}, {"enabled": True, "disabled": True}]
)
def test_a_server_that_somebody_switched_off_is_not_offered(tmp_path: Path, switch: dict[str, bool]) -> None:
    assert read(tmp_path, {"mcpServers": {"a": {"command": "x", **switch}}}) == []


@pytest.mark.parametrize(
    ("lists", "offered"),
    [
        ({"tools": ["*"]}, {"read", "write", "drop"}),
        ({"tools": ["read"]}, {"read"}),
        ({"includeTools": ["read", "write"], "excludeTools": ["write"]}, {"read"}),
        ({"disabledTools": ["drop"]}, {"read", "write"}),
        ({"tools": ["read", "write"], "enabledTools": ["write", "drop"]}, {"write"}),
        ({"tools": []}, set()),
    ],
)
def test_every_list_of_tools_holds(tmp_path: Path, lists: dict[str, list[str]], offered: set[str]) -> None:
    [config] = read(tmp_path, {"mcpServers": {"a": {"command": "x", **lists}}})
    assert {name for name in ("read", "write", "drop") if config.tool_filter.admits(name)} == offered


def test_keys_that_nobody_here_knows_are_named_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "agentd.mcp"):
        read(tmp_path, {"mcpServers": {"a": {"command": "x", "watchPaths": [], "cmwd": "/"}}})
    [line] = caplog.messages
    assert "mcpServers.a: keys that agentd does not know are passed over: 'watchPaths', 'cmwd'" in line
    assert "did you mean 'cwd'?" in line


@pytest.mark.parametrize("text", ["${NOT_SET_IN_TEST}", "${input:key}", "${command:pick}"])
def test_a_server_without_one_of_its_values_leaves_the_others_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    table = {"a": {"command": "x", "env": {"K": text}}, "b": {"command": "y"}}
    [config] = read(tmp_path, {"mcpServers": table})
    assert config.name == "b"
    [line] = caplog.messages
    assert "mcpServers.a.env.K" in line
    assert line.endswith("the server is left out")


def test_an_input_is_asked_for_once_and_has_a_default(tmp_path: Path) -> None:
    asked: list[tuple[str, bool]] = []

    def ask(purpose: str, secret: bool) -> str:
        asked.append((purpose, secret))
        return "" if purpose == "Where?" else "t0ken"

    data = {
        "inputs": [
            {"id": "key", "type": "promptString", "description": "The key", "password": True},
            {"id": "place", "type": "promptString", "description": "Where?", "default": "eu"},
        ],
        "servers": {
            "a": {"command": "x", "env": {"K": "${input:key}", "L": "${input:key}", "P": "${input:place}"}}
        },
    }
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps(data))
    [config] = read_target(path, {"ask_input": ask}) or []
    assert isinstance(config.target, StdioTarget)
    assert config.target.env == {"K": "t0ken", "L": "t0ken", "P": "eu"}
    assert asked == [("The key", True), ("Where?", False)]


@pytest.mark.parametrize("folder", [".roo", ".kiro/settings", ".vscode", ".cursor", "."])
def test_the_workspace_folder_is_the_project(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    [config] = read(
        tmp_path,
        {"mcpServers": {"a": {"command": "x", "args": ["${workspaceFolder}"]}}},
        f"{folder}/mcp.json",
    )
    assert isinstance(config.target, StdioTarget)
    assert config.target.args == (str(tmp_path),)


@pytest.mark.parametrize("text", ["${", "/*", '"', ",  ", "{/*"])
def test_a_long_text_of_openings_is_read_in_one_pass(tmp_path: Path, text: str) -> None:
    """What takes a second here took minutes where it grew with the square."""
    many = text * 200_000
    with contextlib.suppress(ConfigError):
        read(tmp_path, {"mcpServers": {"a": {"command": many}}})
    with contextlib.suppress(ConfigError):
        read(tmp_path, '{"mcpServers": {' + many)
