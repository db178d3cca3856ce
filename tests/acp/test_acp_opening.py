"""What is opened, and what is left of what could not be opened."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from acp import RequestError
from acp.schema import NewSessionRequest
from acp_inside import connected
from agentd_acp.servers import malformed_items
from agentd_chat.kept import ConversationFolder, KeptConversation, KeptTurn
from command_process import Command

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch, agentd: Command, home: Path) -> None:
    """This process has the person's home folder, too."""
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, agentd.env[name])


def conversation(folder: Path) -> KeptConversation:
    """One that was kept in a folder."""
    conversations = ConversationFolder(folder)
    kept = conversations.new()
    kept.turns.append(KeptTurn(task="hello", stop_reason="answer"))
    kept.transcript.add("task", "hello")
    kept.transcript.add("answer", "Hello.")
    conversations.save(kept)
    return kept


def files(home: Path) -> set[Path]:
    """All that is kept."""
    return {path.relative_to(home) for path in home.rglob("*") if not path.is_dir()}


async def test_a_fork_that_fails_is_not_kept(agentd: Command, home: Path, tmp_path: Path) -> None:
    kept = conversation(agentd.cwd)
    there = tmp_path / "there"
    there.mkdir()
    (there / "agentd.toml").write_text("max-turns = 'many'\n")
    before = files(home)
    async with connected() as editor:
        for _ in range(2):
            with pytest.raises(RequestError, match="max-turns"):
                await editor.agent.fork_session(cwd=str(there), session_id=kept.id)
        listed = (await editor.agent.list_sessions()).sessions
    assert [one.session_id for one in listed] == [kept.id]
    assert files(home) == before


async def test_a_fork_that_cannot_be_kept_is_closed(
    agentd: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = conversation(agentd.cwd)
    before = files(home)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with connected() as editor:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RequestError, match="No space left"):
                await editor.agent.fork_session(cwd=str(agentd.cwd), session_id=kept.id)
        assert files(home) == before
        forked = await editor.agent.fork_session(cwd=str(agentd.cwd), session_id=kept.id)
        assert ConversationFolder(agentd.cwd).load(forked.session_id).title == "hello"


async def test_a_session_that_cannot_be_begun_or_gone_on_with_leaves_nothing(
    agentd: Command, home: Path
) -> None:
    kept = conversation(agentd.cwd)
    before = files(home)
    (agentd.cwd / "agentd.toml").write_text("max-turns = 'many'\n")
    async with connected() as editor:
        given = {"cwd": str(agentd.cwd), "mcp_servers": []}
        for ask in (
            editor.agent.new_session(**given),
            editor.agent.load_session(session_id=kept.id, **given),
            editor.agent.resume_session(session_id=kept.id, **given),
        ):
            with pytest.raises(RequestError, match="max-turns"):
                await ask
        assert files(home) == before


async def test_the_second_of_two_requests_for_one_session_is_told_what_to_wait_for(agentd: Command) -> None:
    kept = conversation(agentd.cwd)
    given = {"cwd": str(agentd.cwd), "session_id": kept.id, "mcp_servers": []}
    async with connected() as editor:
        agent = editor.agent
        for second in (
            lambda: agent.load_session(**given),
            lambda: agent.resume_session(**given),
            lambda: agent.fork_session(**given),
            lambda: agent.close_session(session_id=kept.id),
            lambda: editor.say(kept.id, "hello?"),
        ):
            first = asyncio.create_task(agent.load_session(**given))
            await asyncio.sleep(0)  # it is sent first
            with pytest.raises(RequestError, match="is being opened by another request: wait for") as caught:
                await second()
            assert caught.value.code == -32602
            assert (await first).modes.current_mode_id == "ask-writes"
        closing = asyncio.create_task(agent.close_session(session_id=kept.id))
        await asyncio.sleep(0)
        with pytest.raises(RequestError, match="is being closed by another request"):
            await agent.load_session(**given)
        await closing
        await agent.load_session(**given)


async def test_a_session_that_is_open_elsewhere_is_told_without_options_of_a_command(agentd: Command) -> None:
    kept = conversation(agentd.cwd)
    with ConversationFolder(agentd.cwd).held(kept.id):
        async with connected() as editor:
            with pytest.raises(RequestError, match="close it there") as caught:
                await editor.agent.load_session(cwd=str(agentd.cwd), session_id=kept.id, mcp_servers=[])
            assert "--" not in str(caught.value)
            await editor.agent.fork_session(cwd=str(agentd.cwd), session_id=kept.id)


MALFORMED = [
    {"name": "web", "type": "http", "url": "http://127.0.0.1:9/mcp"},
    {"name": "ws", "type": "websocket", "url": "ws://127.0.0.1:9"},
    {"name": "files", "command": "true", "args": [1], "env": {}},
    {"command": "true", "args": [], "env": []},
    "files",
]
TOLD = [
    "left out: mcpServers[0] 'web': headers: field required",
    "left out: mcpServers[1] 'ws': type: 'websocket' is not known; there are http, sse, and none for a command",
    "left out: mcpServers[2] 'files': args.0: input should be a valid string; env: input should be a valid list",
    "left out: mcpServers[3]: name: field required",
    "left out: mcpServers[4]: must be an object",
    "left out: and more",
]
DEAD = {"name": "files", "command": "/no/such/server", "args": [], "env": []}


@pytest.mark.parametrize("method", ["session/new", "session/load", "session/resume", "session/fork"])
async def test_servers_that_are_malformed_are_left_out_and_the_person_is_told_which_and_why(
    agentd: Command, method: str
) -> None:
    kept = conversation(agentd.cwd)
    params = {"cwd": str(agentd.cwd), "mcpServers": MALFORMED, "additionalDirectories": [7]}
    async with connected() as editor:
        given = params if method == "session/new" else {**params, "sessionId": kept.id}
        await editor.agent._conn.send_request(method, given)  # as the SDK's own models have no malformed ones
        told = await editor.until(lambda: "more" in editor.text() and editor.text())
        assert told.count("left out") == len(TOLD)
        assert all(text in told for text in TOLD)


async def test_a_session_with_servers_that_are_as_they_should_be_is_told_nothing() -> None:
    assert malformed_items({"mcpServers": None}) == []
    assert malformed_items({"mcpServers": 7, "additionalDirectories": ["/"]}) == []
    servers: list[dict[str, object]] = [
        {"name": "a", "command": "true", "args": [], "env": [{"name": "A", "value": "1"}]},
        {"name": "b", "type": "stdio", "command": "true", "args": [], "env": [], "_meta": {"x": 1}},
        {"name": "c", "type": "http", "url": "http://x", "headers": []},
        {"name": "d", "type": "sse", "url": "http://x", "headers": []},
        {"name": "e", "type": "acp", "serverId": "1"},
        {"name": "f", "type": "http", "command": "true", "args": [], "env": []},
    ]
    assert malformed_items({"mcpServers": servers}) == []
    params = {"cwd": "/", "mcpServers": [*servers, *MALFORMED]}
    assert len(NewSessionRequest.model_validate(params).mcp_servers) == len(servers)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        ({"name": ""}, r"mcpServers: ''\.name: must be a text"),
        ({"command": ""}, r"mcpServers: 'files'\.command: must be a text"),
        ({"type": "http", "url": "nope", "headers": []}, r"mcpServers: 'files'\.url: must start with"),
        ({"type": "acp", "serverId": "1"}, r"mcpServers: 'files' is of a kind"),
    ],
    ids=["name", "command", "url", "kind"],
)
async def test_a_server_that_cannot_be_right_is_a_parameter_that_is_wrong_and_named(
    agentd: Command, server: dict[str, object], why: str
) -> None:
    async with connected() as editor:
        servers = [DEAD, {**({} if "type" in server else DEAD), "name": "files", **server}]
        with pytest.raises(RequestError, match=why) as caught:
            await editor.agent._conn.send_request(
                "session/new", {"cwd": str(agentd.cwd), "mcpServers": servers}
            )
        assert caught.value.code == -32602


async def test_each_server_that_does_not_start_is_left_out_whatever_its_name(agentd: Command) -> None:
    names = ["files", "files", "a\\b", "a\0\ud800"]
    servers = [{**DEAD, "name": name} for name in names]
    async with connected() as editor:
        await editor.agent._conn.send_request("session/new", {"cwd": str(agentd.cwd), "mcpServers": servers})
        told = await editor.until(lambda: editor.text().count("left out") == len(names) and editor.text())
        assert all(name in told for name in ("'files'", "'files-2'"))
