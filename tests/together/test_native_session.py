"""Sessions whose model calls tools natively, their transcripts, and the models' side of it."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError, ModelError
from agentd.events import ToolCall
from agentd.protocols import ModelFinish, ModelText, ModelToolCall, ToolOffer, ToolResult
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.loop import TurnLoop
from agentd.turn.transcript import Execution, Message, NativeCall, Transcript
from agentd_model_openai import ChatModel, ResponsesModel
from agentd_tools import ToolSet
from agentd_tools.offers import NativeOffers
from fake_openai import FakeOpenAI
from hypothesis import given, settings, strategies as st
from kit import FakeSource, add, ask, offered, results, spec

pytestmark = pytest.mark.anyio
APIS = pytest.mark.parametrize("api", ["chat", "responses"])


def settings_for(server: FakeOpenAI, tmp_path: Path, **more: Any) -> dict[str, Any]:
    made = {"base_url": server.base_url, "api_key": "x", "cwd": tmp_path, "tools": [add], **more}
    return {"model": "m", **made}


@APIS
async def test_a_session_in_tools_mode_calls_tools_and_runs_no_code(
    api: Any, serve: Any, tmp_path: Path
) -> None:
    server = serve(ask(("add", {"a": 1})), "```bash:execute\nls\n```\nIt is 2.", "And 3.")
    async with Session(
        **settings_for(server, tmp_path, mode="tools", api=api, instructions="Be kind.")
    ) as session:
        events = [e async for e in session.run("1 + 1?")]
        end = await session.ask("And 1 more?")
        transcript = session.transcript
    (called,) = [e for e in events if isinstance(e, ToolCall)]
    assert (called.name, called.arguments, called.result, called.code_id) == ("add", '{"a": 1}', "2", "")
    assert end.text == "And 3."
    assert list(tmp_path.iterdir()) == []
    assert [offered(r) for r in server.requests] == [["add"]] * 3
    assert "Be kind." in json.dumps(server.requests[0])
    assert "You act by" not in json.dumps(server.requests[0])
    assert [(e.header, e.output, e.status) for e in transcript.executions] == [("add:call", "2", "completed")]
    assert [m.role for m in transcript.messages] == ["task", "answer", "results", "answer", "task", "answer"]


def test_a_sync_session_does_the_same(serve: Any, tmp_path: Path) -> None:
    server = serve(ask(("add", {"a": 1})), "It is 2.")
    with SyncSession(**settings_for(server, tmp_path, mode="tools")) as session:
        assert session.ask("go").text == "It is 2."


async def test_a_session_with_the_bash_tool_runs_commands(serve: Any, tmp_path: Path) -> None:
    server = serve(ask(("bash", {"command": "echo hi > f; cat f"})), "done")
    async with Session(**settings_for(server, tmp_path, bash_tool=True)) as session:
        await session.ask("go")
    assert results(server.requests[1]) == [("call_1", "hi\n[completed, exit code 0]")]
    assert (tmp_path / "f").exists()


async def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"mode: must be 'ptc' or 'tools', got 'json'"):
        Session("m", mode="json", cwd=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bash_tool: goes with mode='ptc' only"):
        Session("m", mode="tools", bash_tool=True, cwd=tmp_path)

    class Old:
        name = "old"

        def start(self, instructions: str) -> None:
            """Nothing is to be told."""

    async with Session(Old(), mode="tools", tools=[add], cwd=tmp_path) as session:  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"Old has no offer\(\)"):
            await session.ask("go")


async def test_a_stray_native_call_in_a_session_of_code_does_not_break_the_conversation(
    serve: Any, tmp_path: Path
) -> None:
    server = serve(ask(("add", {"a": 1}), text="Hm."), "ok")
    async with Session(**settings_for(server, tmp_path)) as session:
        await session.ask("one")
        await session.ask("two")
    assert "tool_calls" not in json.dumps(server.requests[1]["messages"])


# --- transcripts ---------------------------------------------------------------------------------------------


@APIS
@pytest.mark.parametrize("mode", ["tools", "ptc"])
async def test_a_saved_conversation_goes_on_in_both_modes(
    api: Any, mode: Any, serve: Any, tmp_path: Path
) -> None:
    server = serve(ask(("add", {"a": 1}), text="I add."), "It is 2.", "Indeed.")
    async with Session(**settings_for(server, tmp_path, mode="tools", api=api)) as session:
        await session.ask("1 + 1?")
        session.transcript.save(tmp_path / "t.json")
    loaded = Transcript.load(tmp_path / "t.json")
    assert loaded == session.transcript
    async with Session(**settings_for(server, tmp_path, mode=mode, api=api, transcript=loaded)) as again:
        await again.ask("Sure?")
    sent = server.requests[2]
    if mode == "tools":
        assert results(sent) == [("call_1", "2")]
    else:
        assert results(sent) == []
        told = json.dumps(sent).replace("\\\\", "\\")
        assert "I add." in told
        assert "[call of add: " in told
        assert "[result of add]" in told


def test_a_transcript_of_version_1_is_read() -> None:
    old = {
        "version": 1,
        "messages": [{"role": "task", "content": "go"}, {"role": "answer", "content": "ok"}],
        "executions": [],
        "usage": {},
    }
    read = Transcript.from_dict(json.loads(json.dumps(old)))
    assert read.messages == [Message("task", "go"), Message("answer", "ok")]
    assert read.as_dict()["version"] == 3
    with pytest.raises(ConfigError, match="version must be 1 to 3, got 4"):
        Transcript.from_dict({**old, "version": 4})


@pytest.mark.parametrize("damage", [[], {"usage": {"input_tokens": "many"}}, {"usage": []}, {"messages": 3}])
def test_a_damaged_transcript_is_one_error_of_ours(damage: Any) -> None:
    good = Transcript().as_dict()
    with pytest.raises(ConfigError, match="not in the form"):
        Transcript.from_dict({**good, **damage} if damage else damage)


calls = st.builds(NativeCall, id=st.text(max_size=4), name=st.text(max_size=4), arguments=st.text(max_size=9))
messages = st.builds(
    Message,
    st.sampled_from(["task", "answer", "results"]),
    st.text(max_size=9),
    st.lists(calls, max_size=2).map(tuple),
)


@given(st.lists(messages, max_size=5))
def test_a_transcript_is_the_same_after_saving_and_loading(said: list[Message]) -> None:
    run = Execution(id="a", turn=1, header="add:call", code="{}", output="1", status="completed", exit_code=0)
    made = Transcript(messages=said, executions=[run])
    assert Transcript.from_dict(json.loads(json.dumps(made.as_dict()))) == made


# --- what a provider's prompt cache needs ---------------------------------------------------------------------


class Whole:
    """An SDK object of either API with this text and these calls."""

    def __init__(self, text: str, called: list[tuple[str, str]]) -> None:
        native = [
            {"id": f"c{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(called)
        ]
        message = type("M", (), {"content": text, "tool_calls": native or None})
        self.choices = [type("C", (), {"finish_reason": "stop", "message": message})]
        self.usage = None
        self.status = "completed"
        self.output_text = text
        self.output: list[Any] = [_Item(n, *c) for n, c in enumerate(called)]
        if text:
            self.output.insert(0, _Item(0, "", text, kind="message"))


class _Item:
    def __init__(self, number: int, name: str, arguments: str, kind: str = "function_call") -> None:
        self.type, self.call_id, self.name, self.arguments = kind, f"c{number}", name, arguments

    def to_dict(self) -> dict[str, Any]:
        if self.type == "message":
            part = {"type": "output_text", "text": self.arguments}
            return {"type": "message", "role": "assistant", "content": [part]}
        return {k: getattr(self, k) for k in ("type", "call_id", "name", "arguments")}


answers = st.tuples(
    st.sampled_from(["", "prose ", "é€😀"]),
    st.lists(
        st.tuples(st.sampled_from(["add", "nope", ""]), st.sampled_from(['{"a": 1}', "{", "", "[]"])),
        max_size=3,
    ),
)


@APIS
@settings(max_examples=40, deadline=None)
@given(script=st.lists(answers, min_size=1, max_size=5), tasks=st.integers(1, 3))
def test_each_request_begins_with_the_one_before(api: str, script: Any, tasks: int) -> None:
    sent: list[str] = []
    told = iter(script * tasks)
    key = "messages" if api == "chat" else "input"

    async def create(**request: Any) -> Any:
        found = [json.dumps(request["tools"]), *request[key]]
        sent.append(json.dumps(found)[:-1])
        return Whole(*next(told, ("done", [])))

    async def converse() -> None:
        offers = NativeOffers(ToolSet([add]))
        model: Any = (ChatModel if api == "chat" else ResponsesModel)("m", create=create, streamed=False)
        model.offer(offers.offered)
        for number in range(tasks):
            model.add_task(f"task {number}")
            with suppress(ModelError):  # two empty answers
                await TurnLoop(model=model, executor=None, offers=offers).run()

    anyio.run(converse)
    assert len(sent) >= tasks
    for before, after in pairwise(sent):
        assert after.startswith(before)


# --- the pieces of an answer's calls ---------------------------------------------------------------------------


def chunk(finish: str | None = None, *pieces: dict[str, Any], **delta: Any) -> Any:
    from openai.types.chat import ChatCompletionChunk

    made = {"content": None, **delta}
    if pieces:
        made["tool_calls"] = list(pieces)
    choice = {"index": 0, "delta": made, "finish_reason": finish}
    return ChatCompletionChunk.model_validate(
        {"id": "x", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": [choice]}
    )


def piece(index: int, arguments: str, name: str | None = None, id: str | None = None, **more: Any) -> Any:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}, **more}


async def read(*chunks: Any) -> tuple[ChatModel, list[Any]]:
    async def create(**request: Any) -> Any:
        async def stream() -> Any:
            for item in chunks:
                yield item

        return stream()

    model = ChatModel("m", create=create, is_async=True)
    async with model.stream() as events:
        return model, [e async for e in events]


async def test_a_call_is_given_when_the_next_one_begins_or_the_answer_ends() -> None:
    _, events = await read(
        chunk(None, piece(0, '{"a"', "one", "c1")),
        chunk(None, piece(0, ": 1}")),
        chunk(None, piece(1, "", "two", "c2")),
        chunk("tool_calls"),
    )
    kinds = [e.id if isinstance(e, ModelToolCall) else type(e).__name__ for e in events]
    assert kinds == ["ModelText", "ModelText", "ModelText", "c1", "ModelText", "c2", "ModelFinish"]
    first, second = (e for e in events if isinstance(e, ModelToolCall))
    assert (first.name, first.arguments, second.arguments) == ("one", '{"a": 1}', "")


async def test_calls_that_all_have_the_number_0_are_told_apart_by_their_ids() -> None:
    _, events = await read(
        chunk(None, piece(0, "{}", "one", "c1"), piece(0, "{}", "two", "c2")), chunk("tool_calls")
    )
    assert [(e.id, e.name) for e in events if isinstance(e, ModelToolCall)] == [("c1", "one"), ("c2", "two")]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_what_a_provider_wants_back_with_its_calls_goes_back_under_its_name(name: str) -> None:
    model, events = await read(
        chunk(None, **{name: "I thi"}),
        chunk(None, **{name: "nk"}),
        chunk(
            "tool_calls", piece(0, "{}", "one", "c1", extra_content={"google": {"thought_signature": "s"}})
        ),
    )
    model.add_answer("", [e for e in events if isinstance(e, ModelToolCall)])
    assert model.messages == [
        {
            "role": "assistant",
            "content": None,
            name: "I think",
            "tool_calls": [
                {
                    "id": "c1",
                    "function": {"name": "one", "arguments": "{}"},
                    "extra_content": {"google": {"thought_signature": "s"}},
                    "type": "function",
                }
            ],
        }
    ]


async def test_each_block_of_anthropics_thinking_goes_back_whole_with_its_signature() -> None:
    def block(text: str, signature: str = "") -> dict[str, str]:
        return {"type": "thinking", "thinking": text, "signature": signature}

    hidden = {"type": "redacted_thinking", "data": "x"}
    pieces = [block("I thi"), block("nk"), block("", "s1"), hidden, block("And"), block("", "s2")]
    deltas = [chunk(None, thinking_blocks=[piece]) for piece in pieces]
    model, events = await read(*deltas, chunk("tool_calls", piece(0, "{}", "one", "c1")))
    model.add_answer("", [e for e in events if isinstance(e, ModelToolCall)])
    wanted = [block("I think", "s1"), hidden, block("And", "s2")]
    assert model.messages[0]["thinking_blocks"] == wanted  # type: ignore[attr-defined]


@APIS
async def test_a_model_is_offered_tools_beside_those_of_its_options(api: str) -> None:
    sent: list[Any] = []

    async def create(**request: Any) -> Any:
        sent.append(request)
        return Whole("done", [])

    own = {"type": "function", "name": "own"}
    model: Any = (ChatModel if api == "chat" else ResponsesModel)(
        "m", create=create, streamed=False, options={"tools": [own]}
    )
    model.offer([ToolOffer(name="t", description="d", parameters={"type": "object"}, strict=True)])
    async with model.stream() as events:
        assert [type(e) for e in [e async for e in events]] == [ModelFinish, ModelText]
    function = {"name": "t", "description": "d", "parameters": {"type": "object"}, "strict": True}
    wanted = {"type": "function", "function": function} if api == "chat" else {"type": "function", **function}
    assert sent[0]["tools"] == [own, wanted]


@APIS
async def test_an_answer_that_is_told_again_has_calls_without_the_providers_ids(api: str) -> None:
    model: Any = (ChatModel if api == "chat" else ResponsesModel)("m", create=lambda **_: None)
    model.add_task("go")
    model.add_answer("", [ModelToolCall(id="c", name="t", arguments="{}")])
    model.add_tool_results([ToolResult(call_id="c", output="1")])
    if api == "chat":
        call = {"id": "c", "type": "function", "function": {"name": "t", "arguments": "{}"}}
        assert model.messages[1:] == [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "1"},
        ]
    else:
        assert model.input[1:] == [
            {"type": "function_call", "call_id": "c", "name": "t", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"},
        ]


async def test_the_loop_gives_calls_and_progress_of_a_source_the_same_id(serve: Any, tmp_path: Path) -> None:
    server = serve(ask(("t", {})), "ok")
    source = FakeSource("s", [spec("t")], lambda name: "fine")

    async def call(name: str, arguments: Any, on_progress: Any = None) -> str:
        on_progress(1.0, 2.0, "half")
        return "fine"

    source.call = call  # type: ignore[assignment]
    async with Session(
        **settings_for(server, tmp_path, mode="tools", tools=[], mcp_servers=[source])
    ) as session:
        events = [e async for e in session.run("go")]
    (progress,) = [e for e in events if e.type == "tool_progress"]
    (called,) = [e for e in events if e.type == "tool_call"]
    assert (progress.message, progress.id, progress.code_id) == ("half", called.id, "")


def test_the_command_line_runs_the_tool_loop(serve: Any, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    (tmp_path / "mine.py").write_text(
        'from agentd import tool\n\n@tool\ndef add(a: int) -> int:\n    """Add."""\n    return a + 1\n'
    )
    server = serve(ask(("add", {"a": 41})), "It is 42.")
    command = [sys.executable, "-m", "agentd", "run", "--mode", "tools", "--tool", str(tmp_path / "mine.py")]
    command += ["--base-url", server.base_url, "--model", "m", "--cwd", str(tmp_path / "work"), "go"]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "AGENTD_"))}
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "add" in done.stdout
    assert "It is 42." in done.stdout
    assert results(server.requests[1]) == [("call_1", "42")]
