"""Patching for the JSON tool loop, alone and beside the patch that runs code; the native bash tool."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ConfigError
from agentd_openai import patch_openai_with_mcp, patch_openai_with_ptc, unpatch_openai
from kit import FakeSource, add, ask, offered, results, spec
from ways import WAYS, call, text_of

GO: Any = [{"role": "user", "content": "go"}]
BLOCK = "```bash:execute\necho one\n```\n"
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
def both(tmp_path: Path) -> Any:
    clients: list[Any] = []

    def patch(server: Any, *, first: str = "ptc", asynchronous: bool = False, **settings: Any) -> Any:
        client = server.async_client() if asynchronous else server.client()
        clients.append(client)
        steps = [
            lambda: patch_openai_with_ptc(client, cwd=tmp_path, tools=[], **settings),
            lambda: patch_openai_with_mcp(client, tools=[add]),
        ]
        for step in steps if first == "ptc" else reversed(steps):
            assert step() is client
        return client

    yield patch
    for client in clients:
        if hasattr(client, "cleanup_ptc"):
            client.cleanup_ptc()
        if "Async" not in type(client).__name__:
            client.close()


# --- the patch alone ------------------------------------------------------------------------------------


def test_without_tools_and_servers_a_call_is_the_sdks_own(serve: Any, patched: Any) -> None:
    server = serve("plain", repeat=True)
    client = patched(server, tools=[])
    answer = client.chat.completions.create(model="m", messages=GO)
    assert not hasattr(answer, "agentd")
    stream = client.responses.create(model="m", input="go", stream=True)
    assert type(stream) is openai.Stream
    stream.close()
    assert "tools" not in server.requests[0]


def test_no_workspace_and_no_executor_is_made(
    serve: Any, patched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = patched(serve(ask(("add", {"a": 1})), "ok"), tools=[add])
    client.chat.completions.create(model="m", messages=GO)
    assert list(tmp_path.iterdir()) == []
    assert client._agentd.state.resources._executor is None


def test_decorated_functions_are_offered_by_themselves(
    serve: Any, patched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_tools.toolbox.decorated_tools", lambda: (add,))
    server = serve(ask(("add", {"a": 1})), "ok")
    patched(server, tools=None).responses.create(model="m", input="go")
    assert results(server.requests[1]) == [("call_1", "2")]


def test_a_server_is_opened_once_for_all_calls_of_a_client(serve: Any, patched: Any) -> None:
    source = FakeSource("s", [spec("t")], lambda name: "fine")
    server = serve(*[a for _ in range(3) for a in (ask(("t", {})), "ok")])
    client = patched(server)
    for _ in range(3):
        client.chat.completions.create(model="m", messages=GO, mcp_servers=[source])
    assert (source.listed, len(source.calls)) == (1, 3)
    client.cleanup_mcp()
    assert source.closed


def test_instructions_of_a_server_stand_behind_the_callers_own(serve: Any, patched: Any) -> None:
    source = FakeSource("sea", [spec("t")], lambda name: "", instructions="Look before you dive.")
    server = serve("ok", "ok")
    client = patched(server)
    told = "Instructions of the tool server sea:\nLook before you dive."
    client.responses.create(model="m", input="go", instructions="Be kind.", mcp_servers=[source])
    assert server.requests[0]["instructions"] == f"Be kind.\n\n{told}"
    client.chat.completions.create(model="m", messages=GO)
    assert server.requests[1]["messages"] == [{"role": "system", "content": told}, *GO]


def test_tools_that_change_in_a_run_are_offered_in_its_next_round(serve: Any, patched: Any) -> None:
    def more(name: str) -> str:
        source.tools.append(spec("new"))
        assert source.host is not None
        source.host.changed()
        return "there is more now"

    source = FakeSource("s", [spec("old")], more)
    server = serve(ask(("old", {})), "ok")
    patched(server).chat.completions.create(model="m", messages=GO, mcp_servers=[source])
    assert [offered(r) for r in server.requests] == [["old"], ["old", "new"]]
    assert results(server.requests[1])[0][1].startswith(
        "there is more now\n[note: the tools have changed; new: new"
    )


def test_a_call_at_once_after_a_change_is_offered_the_new_tools(serve: Any, patched: Any) -> None:
    source = FakeSource("s", [spec("t0")], lambda name: "fine")
    server = serve(*["ok"] * 10)
    client = patched(server)
    for number in range(1, 11):
        client.chat.completions.create(model="m", messages=GO, mcp_servers=[source])
        source.tools[:] = [spec(f"t{number}")]
        assert source.host is not None
        source.host.changed()
    assert [offered(r) for r in server.requests] == [[f"t{number}"] for number in range(10)]


def test_mcp_strict_asks_for_strict_schemas_and_drops_the_nulls(serve: Any, patched: Any) -> None:
    server = serve(ask(("add", {"a": 4, "b": None})), "ok")
    client = patched(server, tools=[add])
    client.responses.create(model="m", input="go", mcp_strict=True)
    (tool,) = server.requests[0]["tools"]
    assert tool["strict"] is True
    assert tool["parameters"]["required"] == ["a", "b"]
    assert tool["parameters"]["additionalProperties"] is False
    assert tool["parameters"]["properties"]["b"]["type"] == ["integer", "null"]
    assert results(server.requests[1]) == [("call_1", "5")]  # b was 1, its default


def test_responses_are_told_that_a_schema_is_not_strict(serve: Any, patched: Any) -> None:
    server = serve("ok", "ok")
    client = patched(server, tools=[add])
    client.responses.create(model="m", input="go")
    client.chat.completions.create(model="m", messages=GO)
    assert server.requests[0]["tools"][0]["strict"] is False
    assert "strict" not in server.requests[1]["tools"][0]["function"]


def test_several_choices_are_refused(serve: Any, patched: Any) -> None:
    with pytest.raises(ConfigError, match="n: must be 1 for a client that calls tools, got 2"):
        patched(serve(), tools=[add]).chat.completions.create(model="m", messages=GO, n=2)


def test_a_dropped_client_takes_its_state_with_it(serve: Any) -> None:
    client = patch_openai_with_mcp(serve(ask(("add", {"a": 1})), "ok").client(), tools=[add])
    client.chat.completions.create(model="m", messages=GO)
    bench = weakref.ref(client._agentd.state.resources)
    client.close()
    del client
    gc.collect()
    gc.collect()  # what the first one has let go of
    assert bench() is None


def test_sinks_get_the_events(serve: Any, patched: Any) -> None:
    seen: list[str] = []

    class Sink:
        def emit(self, event: Any) -> None:
            seen.append(event.type)

        def close(self) -> None:
            seen.append("closed")

    client = patched(serve(ask(("add", {"a": 1})), "ok"), tools=[add], sinks=[Sink()])
    client.chat.completions.create(model="m", messages=GO)
    client.cleanup_mcp()
    assert seen == ["run_start", "tool_call", "turn_end", "text_delta", "turn_end", "run_end", "closed"]


# --- both patches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["ptc", "mcp"])
def test_code_runs_by_default_and_tools_are_called_without_ptc_whatever_was_patched_first(
    first: str, serve: Any, both: Any
) -> None:
    source = FakeSource("s", [spec("t")], lambda name: "fine")
    python = "```python:execute\nfrom lib.tools import add, t\nprint(add(a=1), t())\n```\n"
    server = serve(ask(("t", {}), ("add", {"a": 2})), "ok", python, "done")
    client = both(server, first=first)
    plain = client.chat.completions.create(model="m", messages=GO, ptc_enabled=False, mcp_servers=[source])
    assert plain.choices[0].message.content == "ok"
    assert results(server.requests[1]) == [("call_1", "fine"), ("call_2", "3")]
    code = client.chat.completions.create(model="m", messages=GO)
    assert code.agentd["executions"][0]["output"] == "2 fine\n"
    assert "tools" not in server.requests[2]
    assert source.listed == 1
    copy = client.with_options(timeout=30)
    assert copy.cleanup_ptc == copy.cleanup_mcp == client.cleanup_ptc


@pytest.mark.parametrize("first", ["ptc", "mcp"])
def test_a_server_that_was_opened_before_the_second_patch_stays_open(
    first: str, serve: Any, tmp_path: Path
) -> None:
    source = FakeSource("s", [spec("t")], lambda name: "fine")
    python = "```python:execute\nfrom lib.tools import t\nprint(t())\n```\n"
    native = ask(("t", {}))
    server = serve(*((python, "done", native, "ok") if first == "ptc" else (native, "ok", python, "done")))
    client: Any = server.client()
    patches = {
        "ptc": lambda: patch_openai_with_ptc(client, cwd=tmp_path, tools=[]),
        "mcp": lambda: patch_openai_with_mcp(client, tools=[]),
    }
    for name in [first, *(n for n in patches if n != first)]:
        patches[name]()
        given = {"mcp_servers": [source]} if name == first else {}
        answer = client.chat.completions.create(model="m", messages=GO, ptc_enabled=name == "ptc", **given)
        assert answer.agentd["executions"][0]["output"].strip() == "fine"
    assert not source.closed
    client.cleanup_ptc()
    assert source.closed
    client.close()


def test_unpatching_undoes_both(serve: Any, both: Any) -> None:
    server = serve(BLOCK, repeat=True)
    client = unpatch_openai(both(server))
    assert client.chat.completions.create(model="m", messages=GO).choices[0].message.content == BLOCK
    assert not hasattr(client, "cleanup_ptc")
    assert not hasattr(client, "cleanup_mcp")
    assert "tools" not in server.requests[0]


def test_patching_twice_is_the_same_as_once(serve: Any, patched: Any) -> None:
    client = patched(serve(ask(("add", {"a": 1})), "ok"), tools=[add])
    create = client.chat.completions.create
    assert patch_openai_with_mcp(client, tools=[]) is client
    assert client.chat.completions.create is create
    assert client.responses.create(model="m", input="go").output_text == "ok"


def test_servers_without_a_patch_that_serves_them_are_refused(serve: Any, tmp_path: Path) -> None:
    client: Any = patch_openai_with_ptc(serve().client(), cwd=tmp_path, tools=[])
    with pytest.raises(ConfigError, match=r"patch_openai_with_mcp\(client\)"):
        client.chat.completions.create(model="m", messages=GO, ptc_enabled=False, mcp_servers=[object()])
    client.cleanup_ptc()
    client.close()


def test_both_patches_are_public_names() -> None:
    import agentd
    from agentd import patch_openai_with_mcp as public

    assert public is patch_openai_with_mcp
    assert "patch_openai_with_mcp" in dir(agentd)
    with pytest.raises(ConfigError, match="must be an OpenAI or AsyncOpenAI object, got str"):
        patch_openai_with_mcp("client")


def test_an_exchange_of_tools_goes_on_in_a_run_of_code(serve: Any, both: Any) -> None:
    server = serve(ask(("add", {"a": 1})), "It is 2.", BLOCK, "done")
    client = both(server)
    said = client.chat.completions.create(model="m", messages=GO, ptc_enabled=False).choices[0].message
    client.chat.completions.create(model="m", messages=[*GO, said])
    assert results(server.requests[2]) == [("call_1", "2")]
    assert "agentd" not in json.dumps(server.requests[2]["messages"][1:])


# --- the native bash tool -----------------------------------------------------------------------------------

BASH = (
    ask(("bash", {"command": "export A=kept; echo one; exit 3"}), text="I look."),
    ask(("bash", {"command": "echo $A; ls"}), ("bash", {"comand": "x"}), ("bsh", {})),
    "All done.",
)


@every_way
def test_the_bash_tool_runs_commands_in_the_same_workspace(
    way: str, serve: Any, both: Any, tmp_path: Path
) -> None:
    (tmp_path / "seen.txt").touch()
    server = serve(*BASH)
    client = both(server, asynchronous=way.startswith("async"), bash_tool=True)
    outcome = call(way, client)
    assert text_of(way, outcome) == "All done."
    assert [offered(r) for r in server.requests] == [["bash"]] * 3
    assert results(server.requests[1]) == [("call_1", "one\n[failed, exit code 3]")]
    second, wrong, unknown = (text for _, text in results(server.requests[2])[1:])
    assert second == "kept\nseen.txt\nskills\n[completed, exit code 0]"
    assert wrong.startswith('ToolInputError: bash: the arguments must be {"command": "..."}, got {"comand"')
    assert unknown.startswith("UnknownToolError: unknown tool 'bsh'; there are: bash; did you mean 'bash'?")
    first = server.requests[0]
    told = first["messages"][0]["content"] if "chat" in way else first["instructions"]
    assert "calling the tool `bash`" in told
    assert "from lib.tools import" in told
    assert "bash:execute" not in told
    if way.endswith("stream"):
        done = [(e.code, e.exit_code) for e in outcome.shown if e.type == "code_execution"]
        assert ("export A=kept; echo one; exit 3", 3) in done
        assert len(done) == 3
        assert any(e.type == "code_output" and e.text == "one\n" for e in outcome.shown)


@every_way
def test_fences_are_only_text_beside_the_bash_tool(way: str, serve: Any, both: Any) -> None:
    server = serve(BLOCK + "That is all.")
    outcome = call(way, both(server, asynchronous=way.startswith("async"), bash_tool=True))
    assert len(server.requests) == 1
    assert text_of(way, outcome) == BLOCK + "That is all."


@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_commands_are_code_items_that_go_back_as_the_calls_that_they_were(
    mode: str, serve: Any, both: Any
) -> None:
    server = serve(*BASH, "And more.")
    client = both(server, bash_tool=True)
    outcome = call(f"sync-responses-{mode}", client)
    output = (outcome.whole or outcome.items[-1].response).output
    assert [i.type for i in output if i.type != "message"] == [
        "code_interpreter_call", "code_interpreter_call", "code_interpreter_call", "mcp_call",
    ]  # fmt: skip
    client.responses.create(model="m", input=[{"role": "user", "content": "go"}, *output])
    sent, before = server.requests[3]["input"], server.requests[2]["input"]
    assert results(server.requests[3]) == results(server.requests[2])
    assert [i.get("call_id") for i in sent if "call_id" in i] == [
        i.get("call_id") for i in before if "call_id" in i
    ]
    assert not any(i.get("type") == "code_interpreter_call" for i in sent)
