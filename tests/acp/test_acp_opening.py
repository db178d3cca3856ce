"""What is opened, and what is left of what could not be opened."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from acp import RequestError
from acp_inside import connected
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
            with pytest.raises(RequestError, match="close it there .*, or fork it") as caught:
                await editor.agent.load_session(cwd=str(agentd.cwd), session_id=kept.id, mcp_servers=[])
            assert "--" not in str(caught.value)
            await editor.agent.fork_session(cwd=str(agentd.cwd), session_id=kept.id)
