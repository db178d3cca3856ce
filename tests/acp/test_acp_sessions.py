"""Sessions over time: kept, loaded, forked, listed, held by one process, ended with their editor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from acp import RequestError
from acp_editor import AcpEditor, started
from chat_person import LOOKS, WRITES, block, model
from command_process import Command, Survivors
from places import SUPPORT

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each test starts the command


def shown(editor: AcpEditor) -> list[tuple[str, str]]:
    """What an editor shows, in order: kinds, with texts and titles."""
    found: list[tuple[str, str]] = []
    for _, update in editor.updates:
        kind = update.session_update
        if kind in ("user_message_chunk", "agent_message_chunk"):
            if found and found[-1][0] == kind:
                found[-1] = (kind, found[-1][1] + update.content.text)
            else:
                found.append((kind, update.content.text))
        elif kind == "tool_call":
            found.append((kind, update.title))
    return [(kind, text.strip()) for kind, text in found]


async def test_a_session_is_loaded_in_a_new_process_and_shown_and_goes_on(agentd: Command) -> None:
    makes = block("a.txt:create", "text")
    server = model(agentd, WRITES, "Done.", makes, "Made.", LOOKS, "So it is.")
    async with started(agentd, "--policy", "yolo") as editor:
        session = await editor.new(agentd.cwd)
        await editor.say(session, "write a file")
        await editor.say(session, "make another one")
    async with started(agentd, "--policy", "yolo") as editor:
        loaded = await editor.agent.load_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert loaded.modes.current_mode_id == "yolo"
        assert shown(editor) == [
            ("user_message_chunk", "write a file"),
            ("agent_message_chunk", "I write it."),
            ("tool_call", "mkdir -p sub; cd sub; echo one > made.txt; export COLOUR=green"),
            ("agent_message_chunk", "Done."),
            ("user_message_chunk", "make another one"),
            ("tool_call", "Write a.txt"),
            ("agent_message_chunk", "Made."),
        ]
        assert {call["status"] for call in editor.calls().values()} == {"completed"}
        await editor.say(session, "which colour?")
        assert editor.call("echo $COLOUR")["raw_output"]["output"] == "green in sub\n"  # the shell as it was
    assert "write a file" in json.dumps(server.requests[4].body)


async def test_a_session_is_resumed_without_being_shown(agentd: Command) -> None:
    server = model(agentd, "One.", "Two.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        await editor.say(session, "first")
    async with started(agentd) as editor:
        await editor.agent.resume_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert shown(editor) == []
        await editor.say(session, "second")
    assert [text for role, text in server.requests[1].messages if role == "user"] == ["first", "second"]


async def test_a_fork_goes_on_from_where_it_was_and_the_first_one_knows_nothing_of_it(
    agentd: Command,
) -> None:
    server = model(agentd, WRITES, "Done.", "In the fork.", "In the first.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        await editor.say(session, "write a file")
    async with started(agentd) as editor:
        forked = await editor.agent.fork_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert forked.session_id != session
        await editor.say(forked.session_id, "to the fork")
        await editor.agent.resume_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        await editor.say(session, "to the first")
        await editor.say(forked.session_id, "/undo")
        await editor.say(forked.session_id, "/undo")
        assert (
            "files stay as they are" in editor.text()
        )  # the checkpoints before the fork are the first one's
        assert (agentd.cwd / "sub").exists()
        listed = (await editor.agent.list_sessions(cwd=str(agentd.cwd))).sessions
    said = [[text for role, text in request.messages if role == "user"] for request in server.requests]
    assert [texts[-1] for texts in said[2:]] == ["to the fork", "to the first"]
    assert "to the fork" not in said[3]
    assert {one.session_id for one in listed} == {session, forked.session_id}


async def test_a_fork_in_another_folder_has_what_was_said_and_no_files(agentd: Command) -> None:
    server = model(agentd, WRITES, "Done.", block("bash:execute", "pwd; ls"), "Seen.")
    there = agentd.cwd.parent / "there"
    there.mkdir()
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        await editor.say(session, "write a file")
        forked = (await editor.agent.fork_session(cwd=str(there), session_id=session)).session_id
        await editor.say(forked, "where are you?")
        assert editor.call("pwd")["raw_output"]["output"] == f"{there}\n"
    assert "write a file" in json.dumps(server.requests[2].body)


async def test_sessions_are_listed_with_titles_the_newest_first_and_by_folder(agentd: Command) -> None:
    model(agentd, "1", "2", "3")
    there = agentd.cwd.parent / "there"
    there.mkdir()
    async with started(agentd) as editor:
        ids = []
        for folder, text in ((agentd.cwd, "first one"), (there, "elsewhere"), (agentd.cwd, "last one")):
            ids.append(await editor.new(folder))
            await editor.say(ids[-1], text)
        await editor.new(agentd.cwd)  # nothing was said in it: it is not kept
        (titled, *_) = editor.of("session_info_update")
        assert titled.title == "first one"
        everywhere = (await editor.agent.list_sessions()).sessions
        assert [(one.session_id, one.title) for one in everywhere] == [
            (ids[2], "last one"),
            (ids[1], "elsewhere"),
            (ids[0], "first one"),
        ]
        here = (await editor.agent.list_sessions(cwd=str(there))).sessions
        assert [(one.title, one.cwd) for one in here] == [("elsewhere", str(there))]
        with pytest.raises(RequestError, match="cursor"):
            await editor.agent.list_sessions(cursor="next")


async def test_what_is_asked_of_sessions_that_are_not_there_is_an_error_and_the_agent_goes_on(
    agentd: Command,
) -> None:
    model(agentd, "One.", "Two.")
    there = agentd.cwd.parent / "there"
    there.mkdir()
    async with started(agentd) as editor:
        with pytest.raises(RequestError, match="no session 'nobody' is open"):
            await editor.say("nobody", "hello")
        with pytest.raises(RequestError, match=r"no conversation '\.\./\.\./x' was kept"):
            await editor.agent.load_session(cwd=str(agentd.cwd), session_id="../../x", mcp_servers=[])
        with pytest.raises(RequestError, match="absolute path of a folder"):
            await editor.agent.new_session(cwd="somewhere", mcp_servers=[])
        await editor.agent.cancel(session_id="nobody")
        session = await editor.new(agentd.cwd)
        await editor.say(session, "hello")
        with pytest.raises(RequestError, match=f"conversation of the folder {agentd.cwd}"):
            await editor.agent.load_session(cwd=str(there), session_id=session, mcp_servers=[])
        await editor.agent.resume_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        await editor.say(session, "again")
        await editor.agent.close_session(session_id=session)
        with pytest.raises(RequestError, match="no session"):
            await editor.say(session, "hello")


async def test_what_is_refused_of_an_open_session_leaves_it_open(agentd: Command) -> None:
    model(agentd, "One.", "Two.", "Three.")
    there = agentd.cwd.parent / "there"
    there.mkdir()
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        with pytest.raises(RequestError, match="was kept"):
            await editor.agent.load_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        await editor.say(session, "hello")
        for ask in (editor.agent.load_session, editor.agent.resume_session):
            with pytest.raises(RequestError, match="is a conversation of the folder"):
                await ask(cwd=str(there), session_id=session, mcp_servers=[])
            await editor.say(session, "and now?")


async def test_two_editors_on_one_session_the_second_is_told_and_the_first_served(agentd: Command) -> None:
    model(agentd, "One.", "Two.")
    async with started(agentd) as first, started(agentd) as second:
        session = await first.new(agentd.cwd)
        await first.say(session, "hello")
        with pytest.raises(RequestError, match="is open in another process"):
            await second.agent.load_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert (await first.say(session, "still there?")).stop_reason == "end_turn"
        await first.agent.close_session(session_id=session)
        await second.agent.load_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert [text for kind, text in shown(second) if kind == "user_message_chunk"] == [
            "hello",
            "still there?",
        ]


async def test_a_conversation_of_the_chat_is_gone_on_with_in_an_editor(agentd: Command) -> None:
    server = model(agentd, "One.", "Two.", "Three.")
    assert agentd("chat", "hello from the terminal").returncode == 0
    async with started(agentd) as editor:
        (kept,) = (await editor.agent.list_sessions(cwd=str(agentd.cwd))).sessions
        await editor.agent.load_session(cwd=str(agentd.cwd), session_id=kept.session_id, mcp_servers=[])
        await editor.say(kept.session_id, "hello from the editor")
    assert "hello from the terminal" in json.dumps(server.requests[1].body)
    agentd("chat", "--continue", "and from the terminal again")
    assert "hello from the editor" in json.dumps(server.requests[2].body)


WAITS = "echo here > kept.txt; python3 -c 'import time; time.sleep(300)  # {}'"


async def test_the_end_of_the_input_in_a_turn_ends_it_and_keeps_what_was_done(
    agentd: Command, survivors: Survivors
) -> None:
    model(agentd, block("bash:execute", WAITS.format(agentd.cwd)), "I know.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        turn = asyncio.create_task(editor.say(session, "wait"))
        await asyncio.to_thread(survivors.wait_for, 1)
        editor.process.stdin.close()
        assert await editor.process.wait() == 0
        assert (await turn).stop_reason == "cancelled"
    assert await asyncio.to_thread(survivors.left) == []
    async with started(agentd) as editor:
        await editor.agent.load_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert editor.call("echo here")["status"] == "failed"
        assert (await editor.say(session, "what happened?")).stop_reason == "end_turn"


CLIENT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from acp_editor import started
class Command:
    command, env, cwd = [sys.executable, "-m", "agentd"], dict(__import__("os").environ), Path(sys.argv[2])
async def main():
    async with started(Command(), "--log", str(Command.cwd.parent / "log")) as editor:
        session = await editor.new(Command.cwd)
        print(session, flush=True)
        await editor.say(session, "wait")
asyncio.run(main())
"""


async def test_the_kill_of_the_editor_in_a_turn_orphans_nothing_and_what_was_done_is_kept(
    agentd: Command, survivors: Survivors
) -> None:
    model(agentd, block("bash:execute", WAITS.format(agentd.cwd)), "I know.")
    command = [sys.executable, "-c", CLIENT, str(SUPPORT), str(agentd.cwd)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=agentd.env, text=True) as client:
        assert client.stdout is not None
        session = (await asyncio.to_thread(client.stdout.readline)).strip()
        await asyncio.to_thread(survivors.wait_for, 3)  # the editor, the agent, the code
        client.kill()
    assert await asyncio.to_thread(survivors.left) == []
    async with started(agentd) as editor:
        await editor.agent.load_session(cwd=str(agentd.cwd), session_id=session, mcp_servers=[])
        assert shown(editor)[0] == ("user_message_chunk", "wait")
        assert editor.call("echo here")["status"] == "failed"


@pytest.mark.parametrize("by", ["signal", "end of the input"])
@pytest.mark.parametrize("is_read", [True, False], ids=["read", "unread"])
def test_the_agent_ends_though_its_editor_stays_and_may_read_nothing(
    agentd: Command, is_read: bool, by: str
) -> None:
    command = [*agentd.command, "acp"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=agentd.env, cwd=agentd.cwd
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        hello: Any = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": 1}}
        for number in range(1 if is_read else 500):  # more answers than the pipe has room for
            process.stdin.write(json.dumps({**hello, "id": number}).encode() + b"\n")
        process.stdin.flush()
        assert b"result" in process.stdout.readline()
        if by == "signal":
            os.kill(process.pid, signal.SIGTERM)
        else:
            process.stdin.close()
        assert process.wait(60) == (143 if by == "signal" else 0)


HANGS = """
import os, signal, sys
open(sys.argv[1], "w").write(str(os.getpid()))  # a pipe, whose reader waits for it
signal.pause()
"""


@pytest.mark.parametrize("by", ["signal", "end of the input"])
def test_the_agent_ends_while_a_session_waits_for_a_server_that_says_nothing(
    agentd: Command, survivors: Survivors, by: str
) -> None:
    model(agentd)
    (agentd.cwd / "hangs.py").write_text(HANGS)
    os.mkfifo(agentd.cwd / "pid")
    with subprocess.Popen(
        [*agentd.command, "acp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=agentd.env,
        cwd=agentd.cwd,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        server = {
            "name": "h",
            "command": sys.executable,
            "args": [str(agentd.cwd / "hangs.py"), "pid"],
            "env": [],
        }
        for id, method, params in (
            (1, "initialize", {"protocolVersion": 1}),
            (2, "session/new", {"cwd": str(agentd.cwd), "mcpServers": [server]}),
        ):
            said = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
            process.stdin.write(json.dumps(said).encode() + b"\n")
        process.stdin.flush()
        (agentd.cwd / "pid").read_text()  # the server waits
        if by == "signal":
            process.terminate()
        else:
            process.stdin.close()
        _, answer = process.stdout.read().splitlines()
        assert json.loads(answer)["error"]["message"] == "the agent ends"  # not given up after a time-out
        assert process.wait(60) == (143 if by == "signal" else 0)
    assert survivors.left() == []
