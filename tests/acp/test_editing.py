"""An editor's turns: what it is shown, and what it is asked, by the SDK's own client and the real command."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import pytest
from acp import RequestError
from acp_editor import started
from chat_person import block, model
from command_process import Command, Survivors
from native import need_native

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each test starts the command


async def test_a_turn_is_prose_a_block_with_its_output_and_the_end(agentd: Command) -> None:
    model(
        agentd, "I look.\n\n" + block("bash:execute", "# what is here", "echo one; echo two"), "All **seen**."
    )
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        response = await editor.say(session, "look")
    assert response.stop_reason == "end_turn"
    assert editor.text().strip() == "I look.\n\nAll **seen**."
    call = editor.call("# what is here")
    assert call["kind"] == "execute"
    assert call["status"] == "completed"
    assert call["status_history"][0] == "pending"
    assert call["raw_input"] == {"language": "bash", "code": "# what is here\necho one; echo two\n"}
    assert (call["raw_output"]["output"], call["raw_output"]["exit_code"]) == ("one\ntwo\n", 0)
    code, output = [part["content"]["text"] for part in call["content"]]
    assert code.startswith("```bash\n# what is here")
    assert output == "```\none\ntwo\n```"


async def test_output_is_shown_while_code_runs_and_only_its_end_if_it_is_long(agentd: Command) -> None:
    waits = "seq 20000; echo reached; while [ ! -e go ]; do sleep 0.02; done; echo done"
    model(agentd, block("bash:execute", waits), "Fine.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        turn = asyncio.create_task(editor.say(session, "wait"))
        await editor.until(
            lambda: (
                "\nreached"
                in json.dumps(
                    [c["content"][1:] for c in editor.calls().values() if c.get("content")]
                ).replace("\\n", "\n")
            )
        )
        call = editor.call("seq 20000")
        assert call["status"] == "in_progress"
        shown = call["content"][1]["content"]["text"]
        assert "characters before]" in shown
        assert len(shown) < 17_000
        (agentd.cwd / "go").touch()
        assert (await turn).stop_reason == "end_turn"
    assert editor.call("seq 20000")["status"] == "completed"


async def test_a_file_that_a_block_makes_is_asked_about_with_its_difference(agentd: Command) -> None:
    (agentd.cwd / "a.txt").write_text("old\n")
    model(agentd, block("a.txt:create", "new"), "Made.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        await editor.say(session, "make it")
    (asked,) = editor.asked
    (difference,) = asked.content
    path = str(agentd.cwd / "a.txt")
    assert (difference.path, difference.old_text, difference.new_text) == (path, "old\n", "new\n")
    assert [option.kind for option in editor.options] == [
        "allow_once",
        "allow_always",
        "allow_always",
        "reject_once",
    ]
    call = editor.call("Write a.txt")
    assert call["tool_call_id"] == asked.tool_call_id
    assert (call["kind"], call["status"]) == ("edit", "completed")
    assert call["locations"] == [{"path": path}]
    assert (call["content"][0]["old_text"], call["content"][0]["new_text"]) == ("old\n", "new\n")
    assert (agentd.cwd / "a.txt").read_text() == "new\n"


async def test_a_file_is_shown_where_it_was_made_from_the_current_directory_on(agentd: Command) -> None:
    blocks = block("bash:execute", "mkdir sub; cd sub"), block("a.txt:create", "new")
    model(agentd, blocks[0], blocks[1], "Made.")
    async with started(agentd) as editor:
        await editor.say(await editor.new(agentd.cwd), "make it")
    path = str(agentd.cwd / "sub/a.txt")
    assert editor.asked[0].content[0].path == path
    call = editor.call("Write a.txt")
    assert (call["content"][0]["path"], call["locations"]) == (path, [{"path": path}])
    assert not [call for call in editor.calls().values() if "changed in this turn" in call["title"]]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("deny", "has said no"),
        (None, "was cancelled"),
        ("perhaps", "answered 'perhaps', which was no choice"),
    ],
)
async def test_whatever_is_no_permission_denies_and_the_model_reads_why(
    agentd: Command, answer: str | None, why: str
) -> None:
    server = model(agentd, block("a.txt:create", "new"), "I see.")
    async with started(agentd) as editor:
        editor.answer = lambda about: answer
        session = await editor.new(agentd.cwd)
        assert (await editor.say(session, "make it")).stop_reason == "end_turn"
    assert not (agentd.cwd / "a.txt").exists()
    assert editor.call("Write a.txt")["status"] == "failed"
    assert why in server.requests[1].last


TOOLS = """
from agentd import tool
print("this line is for nobody")
@tool
def order(name: str, count: int = 1) -> str:
    "Order something."
    return f"{count} of {name}"
"""
ORDERS = block(
    "python:execute",
    "from lib.tools import order",
    "print(order('tea', 2))",
    "print(order('milk'))",
)


async def test_a_tool_that_code_calls_is_asked_about_with_its_arguments_once_for_a_session(
    agentd: Command,
) -> None:
    (agentd.cwd / "shop.py").write_text(TOOLS)
    model(agentd, ORDERS, "Ordered.")
    async with started(agentd, "--tool", "shop.py") as editor:
        editor.answer = lambda about: "session"
        session = await editor.new(agentd.cwd)
        await editor.say(session, "order")
    (asked,) = editor.asked
    assert asked.raw_input == {"name": "tea", "count": 2}
    assert "name: tea\ncount: 2" in asked.content[0].content.text
    first, second = editor.call('name="tea"'), editor.call('name="milk"')
    assert first["tool_call_id"] == asked.tool_call_id
    assert (first["status"], first["raw_output"]) == ("completed", "2 of tea")
    assert (second["status"], second["raw_output"]) == ("completed", "1 of milk")


async def test_the_mode_says_what_is_asked_and_holds_at_once(agentd: Command) -> None:
    makes = [block(f"{name}.txt:create", name) for name in "abc"]
    model(agentd, makes[0], "1", makes[1], "2", makes[2], "3")
    async with started(agentd, "--policy", "read-only") as editor:
        opened = await editor.agent.new_session(cwd=str(agentd.cwd), mcp_servers=[])
        session = opened.session_id
        assert opened.modes.current_mode_id == "read-only"
        assert [mode.id for mode in opened.modes.available_modes] == ["ask-writes", "read-only", "yolo"]
        (option,) = opened.config_options
        assert (option.id, option.category, option.current_value) == ("mode", "mode", "read-only")
        await editor.say(session, "a")
        await editor.agent.set_session_mode(session_id=session, mode_id="yolo")
        await editor.until(lambda: editor.of("config_option_update"))
        await editor.say(session, "b")
        assert editor.asked == []
        changed = await editor.agent.set_config_option(
            session_id=session, config_id="mode", value="ask-writes"
        )
        assert changed.config_options[0].current_value == "ask-writes"
        await editor.until(lambda: editor.of("current_mode_update"))
        await editor.say(session, "c")
        assert len(editor.asked) == 1
        with pytest.raises(RequestError, match="did you mean 'yolo'"):
            await editor.agent.set_session_mode(session_id=session, mode_id="yoloo")
    assert sorted(path.name for path in agentd.cwd.glob("*.txt")) == ["b.txt", "c.txt"]


async def test_a_model_is_chosen_from_those_that_are_offered(agentd: Command) -> None:
    server = model(agentd, "One.", "Two.")
    async with started(agentd, "--offer-model", "other") as editor:
        opened = await editor.agent.new_session(cwd=str(agentd.cwd), mcp_servers=[])
        session, option = opened.session_id, opened.config_options[1]
        assert (option.id, option.current_value) == ("model", "replayed")
        assert [one.value for one in option.options] == ["replayed", "other"]
        await editor.say(session, "first")
        chosen = await editor.agent.set_config_option(session_id=session, config_id="model", value="other")
        assert chosen.config_options[1].current_value == "other"
        await editor.say(session, "second")
        await editor.say(session, "/model replayed")
        (told,) = await editor.until(lambda: editor.of("config_option_update"))
        assert told.config_options[1].current_value == "replayed"
        with pytest.raises(RequestError, match="must be one of 'replayed', 'other', got 'third'"):
            await editor.agent.set_config_option(session_id=session, config_id="model", value="third")
        with pytest.raises(RequestError, match="there is no option 'effort'"):
            await editor.agent.set_config_option(session_id=session, config_id="effort", value="high")
    assert [request.body["model"] for request in server.requests] == ["replayed", "other"]
    assert "first" in json.dumps(server.requests[1].body)


async def test_rules_of_a_file_are_a_mode_beside_which_there_is_only_what_is_stricter(
    agentd: Command,
) -> None:
    rules = agentd.cwd.parent / "mine.yaml"
    rules.write_text("default: deny\nrules:\n  - {verdict: allow, kind: create, name: '*.md'}\n")
    model(agentd, block("a.md:create", "a"), block("b.txt:create", "b"), "Done.")
    async with started(agentd, "--policy", str(rules)) as editor:
        opened = await editor.agent.new_session(cwd=str(agentd.cwd), mcp_servers=[])
        assert [mode.id for mode in opened.modes.available_modes] == ["rules", "read-only"]
        await editor.say(opened.session_id, "make them")
    assert editor.asked == []
    assert [path.name for path in agentd.cwd.iterdir() if path.suffix] == ["a.md"]


async def test_cancel_in_a_block_keeps_what_was_done_and_leaves_no_process(
    agentd: Command, survivors: Survivors
) -> None:
    waits = f"echo here > kept.txt; python3 -c 'import time; time.sleep(300)  # {agentd.cwd}'"
    server = model(agentd, block("bash:execute", waits), "I know.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        turn = asyncio.create_task(editor.say(session, "wait"))
        await asyncio.to_thread(survivors.wait_for, 1)
        await editor.agent.cancel(session_id=session)
        assert (await turn).stop_reason == "cancelled"
        assert editor.call("echo here")["status"] == "failed"
        assert (agentd.cwd / "kept.txt").read_text() == "here\n"
        assert not any("time.sleep" in line for line in survivors.now())
        assert (await editor.say(session, "and now?")).stop_reason == "end_turn"
    assert "kept.txt" in json.dumps(server.requests[1].body)


async def test_cancel_while_a_person_is_asked_gives_the_question_up(agentd: Command) -> None:
    model(agentd, block("a.txt:create", "new"), "Well.")
    forever = asyncio.Event()

    async def never(about: Any) -> str:
        await forever.wait()
        return "once"

    async with started(agentd) as editor:
        editor.answer = never
        session = await editor.new(agentd.cwd)
        turn = asyncio.create_task(editor.say(session, "make it"))
        await editor.until(lambda: editor.asked)
        await editor.agent.cancel(session_id=session)
        assert (await turn).stop_reason == "cancelled"
        forever.set()  # too late
        assert (await editor.say(session, "and now?")).stop_reason == "end_turn"
    assert not (agentd.cwd / "a.txt").exists()


async def test_a_second_prompt_on_a_session_is_refused_and_another_session_is_served(agentd: Command) -> None:
    model(agentd, block("bash:execute", "while [ ! -e go ]; do sleep 0.02; done"), "Other.", "First.")
    async with started(agentd) as editor:
        session, other = await editor.new(agentd.cwd), await editor.new(agentd.cwd)
        turn = asyncio.create_task(editor.say(session, "wait"))
        await editor.until(lambda: "in_progress" in json.dumps(editor.calls(), default=str))
        with pytest.raises(RequestError) as refused:
            await editor.say(session, "me, too")
        assert "a turn runs in the session" in json.dumps(refused.value.data)
        assert (await editor.say(other, "hello")).stop_reason == "end_turn"
        (agentd.cwd / "go").touch()
        assert (await turn).stop_reason == "end_turn"


async def test_files_that_code_changes_are_shown_as_differences(agentd: Command) -> None:
    (agentd.cwd / "old.txt").write_text("before\n")
    changes = "echo after > old.txt; mkdir d; echo new > d/new.txt; head -c 9 /dev/zero > zeros"
    model(agentd, block("bash:execute", changes), "Done.")
    async with started(agentd) as editor:
        await editor.say(await editor.new(agentd.cwd), "change")
    call = editor.call("changed in this turn")
    shown = {part["path"]: (part.get("old_text"), part["new_text"]) for part in call["content"]}
    assert shown == {
        str(agentd.cwd / "old.txt"): ("before\n", "after\n"),
        str(agentd.cwd / "d/new.txt"): (None, "new\n"),
    }


async def test_a_prompt_may_have_files_links_and_pictures(agentd: Command) -> None:
    from acp import embedded_text_resource, image_block, resource_block, resource_link_block, text_block
    from acp.helpers import audio_block
    from pictures import png

    server = model(agentd, "Seen.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        there = embedded_text_resource(f"file://{agentd.cwd}/a%20b.py", "x = 1\n")
        prompt = [
            text_block("What is in"),
            resource_block(there),
            text_block("and in"),
            resource_link_block("notes", f"file://{agentd.cwd}/notes.md"),
            image_block(base64.b64encode(png()).decode(), "image/png"),
        ]
        assert (await editor.agent.prompt(session_id=session, prompt=prompt)).stop_reason == "end_turn"
        with pytest.raises(RequestError, match="'audio' cannot be taken"):
            await editor.agent.prompt(session_id=session, prompt=[audio_block("AA==", "audio/wav")])
        with pytest.raises(RequestError, match="is no base64"):
            await editor.agent.prompt(session_id=session, prompt=[image_block("%", "image/png")])
    sent = json.dumps(server.requests[0].body)
    assert "What is in @a b.py and in @notes.md" in sent
    assert "The file a b.py:" in sent
    assert "x = 1" in sent
    assert "data:image/png;base64" in sent


async def test_commands_are_offered_and_do_what_those_of_the_chat_do(agentd: Command) -> None:
    server = model(agentd, block("bash:execute", "echo one > made.txt"), "Made.", "What?")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        (offered,) = await editor.until(lambda: editor.of("available_commands_update"))
        assert [one.name for one in offered.available_commands] == ["undo", "diff", "cost", "model", "jobs"]
        await editor.say(session, "make a file")
        await editor.say(session, "/diff")
        assert "new: made.txt" in editor.text()
        await editor.say(session, "/cost")
        assert "requests to the model" in editor.text()
        await editor.say(session, "/undo")
        assert "taken back: 'make a file'" in editor.text()
        assert not (agentd.cwd / "made.txt").exists()
        await editor.say(session, "/undo")
        assert "there is no turn to take back" in editor.text()
        assert len(server.requests) == 2
        await editor.say(session, "/etc is a folder?")
        assert "/etc is a folder?" in server.requests[2].last


async def test_servers_of_the_editor_are_functions_and_one_that_is_dead_is_left_out(agentd: Command) -> None:
    from acp.schema import McpServerStdio
    from places import SUPPORT

    scripted = [str(SUPPORT / "scripted.py")]
    good = McpServerStdio(name="good", command=sys.executable, args=[*scripted, "well"], env=[])
    dead = McpServerStdio(name="dead", command=sys.executable, args=[*scripted, "dies"], env=[])
    code = block("python:execute", "from lib.tools import echo", "print(echo(text='hello'))")
    model(agentd, code, "Called.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd, [dead, good])
        await editor.until(lambda: "left out: the MCP server 'dead'" in editor.text())
        await editor.say(session, "call it")
    assert editor.call("echo(")["raw_output"] == "hello"
    assert editor.call("from lib.tools")["raw_output"]["output"] == "hello\n"


async def test_a_server_that_dies_in_a_call_is_an_error_in_the_code_and_the_session_goes_on(
    agentd: Command,
) -> None:
    from acp.schema import McpServerStdio
    from places import SUPPORT

    server = McpServerStdio(
        name="frail", command=sys.executable, args=[str(SUPPORT / "scripted.py"), "well"], env=[]
    )
    dies = block("python:execute", "from lib.tools import die", "die(code=3)")
    lives = block("python:execute", "from lib.tools import echo", "print(echo(text='back'))")
    model(agentd, dies, "It died.", lives, "It is back.")
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd, [server])
        assert (await editor.say(session, "kill it")).stop_reason == "end_turn"
        failed = editor.call("import die")
        assert failed["status"] == "failed"
        assert "the MCP server 'frail'" in failed["raw_output"]["output"]
        await editor.say(session, "and now?")
    assert editor.call("import echo")["raw_output"]["output"] == "back\n"


async def test_a_provider_that_fails_is_an_error_of_the_turn_and_the_session_goes_on(agentd: Command) -> None:
    from agentd_demo.replay import ReplayFault

    model(agentd, "Here again.", faults={0: ReplayFault("status", status=400)})
    async with started(agentd) as editor:
        session = await editor.new(agentd.cwd)
        with pytest.raises(RequestError, match="400"):
            await editor.say(session, "hello")
        assert (await editor.say(session, "hello")).stop_reason == "end_turn"
    assert "Here again." in editor.text()


async def test_what_the_model_thinks_is_shown_as_thoughts(agentd: Command) -> None:
    model(agentd, "<think>Hm, let me see.</think>It is so.")
    async with started(agentd) as editor:
        await editor.say(await editor.new(agentd.cwd), "is it?")
    assert "Hm, let me see." in editor.text("agent_thought_chunk")
    assert editor.text().strip() == "It is so."


async def test_without_a_model_the_error_says_how_to_name_one_and_the_agent_stays(agentd: Command) -> None:
    for name in ("OPENAI_MODEL", "AGENTD_MODEL"):
        agentd.env.pop(name, None)
    async with started(agentd) as editor:
        for _ in range(2):
            with pytest.raises(RequestError, match="no model: name one with --model NAME"):
                await editor.new(agentd.cwd)


async def test_a_host_that_code_wants_to_reach_is_asked_about(agentd: Command) -> None:
    need_native()
    looks = block(
        "python:execute",
        "import urllib.request",
        "urllib.request.urlopen('http://nowhere.invalid/', timeout=30)",
    )
    model(agentd, looks, "No.")
    async with started(agentd, "-e", "native", "-o", 'executor.native.allowed_hosts=["a.example"]') as editor:
        editor.answer = lambda about: "deny"
        await editor.say(await editor.new(agentd.cwd), "reach it")
    (asked,) = editor.asked
    assert (asked.title, asked.kind) == ("Reach nowhere.invalid:80", "fetch")
    assert editor.calls()[asked.tool_call_id]["status"] == "failed"
    assert editor.call("import urllib")["status"] == "failed"
