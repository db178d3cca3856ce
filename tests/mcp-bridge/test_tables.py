"""The JSON files that users of other programs already have."""

from __future__ import annotations

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
        ({"mcpServers": {"a": {"command": "x", "comand": "y"}}}, r"mcpServers\.a\.comand: unknown key"),
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
            r"env\.K: \$\{input:key\} is not",
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
