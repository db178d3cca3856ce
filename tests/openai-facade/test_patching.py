"""What patching touches and what it leaves alone."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import subprocess
import sys
import uuid
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import httpx
import openai
import pytest
from agentd.errors import ConfigError, MissingPluginError, UnknownPluginError, WorkspaceError
from agentd.registry import Registry
from agentd.registry.config import PluginConfig
from agentd.session.session import Session
from agentd_openai import patch_openai_with_mcp, patch_openai_with_ptc, unpatch_openai
from fake_openai import Answer, FakeOpenAI
from ways import WAYS, call

BLOCK = "```bash:execute\necho one\n```\n"
GO: Any = [{"role": "user", "content": "go"}]


def test_the_same_client_comes_back_and_patching_twice_is_the_same_as_once(serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "done")
    client = patched(server)
    create = client.chat.completions.create
    assert patch_openai_with_ptc(client, cwd="/nonexistent/elsewhere") is client
    assert client.chat.completions.create is create
    client.chat.completions.create(model="m", messages=GO)
    assert len(server.requests) == 2
    assert server.bodies[0].decode().count("You act by writing code") == 1


def test_a_policy_holds_for_a_patched_client_and_is_never_dropped_in_silence(
    serve: Any, patched: Any, tmp_path: Path
) -> None:
    server = serve("```secret.txt:create\nx\n```\n", "done")
    client = patched(server, policy="read-only")
    client.chat.completions.create(model="m", messages=GO)
    assert "the file was not written: the policy read-only" in str(server.requests[1]["messages"])
    assert not list(tmp_path.rglob("secret.txt"))
    with pytest.raises(ConfigError, match="the client is patched already"):
        patch_openai_with_ptc(client, policy="read-only")
    with pytest.raises(ConfigError, match="the client is patched already"):
        patch_openai_with_ptc(client, approver="terminal")
    with pytest.raises(ConfigError, match="goes to the client's first patch"):
        patch_openai_with_mcp(client, policy="read-only")


def test_unpatching_gives_the_sdks_own_methods_back(serve: Any, patched: Any) -> None:
    server = serve(BLOCK)
    client = unpatch_openai(patched(server))
    answer = client.chat.completions.create(model="m", messages=GO)
    assert answer.choices[0].message.content == BLOCK
    assert server.requests[0]["messages"] == GO
    assert not hasattr(client, "cleanup_ptc")
    assert client.with_options(timeout=3).chat.completions.create.__self__ is not None
    assert unpatch_openai(client) is client


LOADED = """
import sys
import openai
from agentd_openai import patch_openai_with_ptc, unpatch_openai
client = patch_openai_with_ptc(openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9/v1"))
print("openai.resources.beta.beta" in sys.modules)
def patched(beta):
    return "create" in beta.chat.completions.__dict__
first = client.beta
print(patched(client.with_options(timeout=3).beta), type(client.beta) is type(first))
print(patched(first), patched(client.beta), type(client.beta).__name__)
print(patched(unpatch_openai(client).beta))
other = unpatch_openai(patch_openai_with_ptc(openai.OpenAI(api_key="x", base_url="http://127.0.0.1:9/v1")))
print(type(other.beta).__name__)
"""


def test_the_sdks_beta_is_loaded_and_patched_when_it_is_used(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOADED]
    said = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=True
    ).stdout
    assert said.splitlines() == ["False", "True True", "True True Beta", "False", "Beta"]


def test_threads_that_use_beta_at_once_find_it_patched(serve: Any, patched: Any) -> None:
    client = patched(serve("done"))
    beta = client.beta
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: "create" in beta.chat.completions.__dict__, range(64)))
    assert all(found)
    copy.copy(client.beta)


@pytest.mark.parametrize(
    ("given", "got"),
    [
        ("npx x", r"'npx x'; write \['npx x'\]"),
        ({"command": "npx", "args": ["x"]}, "a mapping"),
        ({"mcpServers": {"a": {"command": "npx"}}}, "a mapping"),
        (b"npx x", "b'npx x'"),
    ],
)
def test_what_is_no_list_of_servers_is_refused_and_starts_nothing(
    given: Any, got: str, serve: Any, patched: Any
) -> None:
    server = serve("done")
    client = patched(server)
    for method in (
        client.chat.completions.create,
        client.chat.completions.parse,
        client.chat.completions.stream,
    ):
        with pytest.raises(ConfigError, match=f"mcp_servers: must be a list, got {got}$"):
            method(model="m", messages=GO, mcp_servers=given)
    with pytest.raises(ConfigError, match="mcp_servers: must be a list"):
        client.responses.create(model="m", input="go", mcp_servers=given, stream=True)
    assert server.requests == []


def test_no_class_is_changed(serve: Any, patched: Any) -> None:
    from openai.resources.chat.completions import Completions
    from openai.resources.responses import Responses

    before = (Completions.create, Responses.create, openai.OpenAI.copy)
    server = serve("plain", repeat=True)
    patched(server)
    assert (Completions.create, Responses.create, openai.OpenAI.copy) == before
    with server.client() as other:
        other.chat.completions.create(model="m", messages=GO)
    assert server.requests[0]["messages"] == GO


def test_a_copy_made_with_options_stays_patched_and_shares_the_workspace(serve: Any, patched: Any) -> None:
    server = serve("```bash:execute\nexport A=1\n```\n", "done", "```bash:execute\necho A=$A\n```\n", "done")
    client = patched(server)
    client.chat.completions.create(model="m", messages=GO)
    copy = client.with_options(timeout=30).copy(max_retries=1)
    answer = copy.chat.completions.create(model="m", messages=GO)
    assert answer.agentd["executions"][0]["output"] == "A=1\n"
    assert copy.timeout == 30


def test_two_clients_never_meet(serve: Any, patched: Any) -> None:
    def only_a(x: int) -> int:
        """A's tool."""
        return x + 1

    probe = "```bash:execute\necho v=$V; python3 -c 'from lib.tools import only_a; print(only_a(1))'\n```\n"
    server = serve("```bash:execute\nexport V=a\n```\n", probe, "done", probe, "done")
    a, b = patched(server, tools=[only_a]), patched(server)
    first = a.chat.completions.create(model="m", messages=GO).agentd["executions"][1]
    assert first["output"] == "v=a\n2\n"
    second = b.chat.completions.create(model="m", messages=GO).agentd["executions"][0]
    assert second["output"].startswith("v=\n")
    assert second["exit_code"] == 1
    assert "ModuleNotFoundError" in second["output"]
    assert "only_a" in server.requests[0]["messages"][0]["content"]
    assert "only_a" not in server.requests[3]["messages"][0]["content"]


def test_a_decorated_tool_is_importable_from_python_and_from_bash(
    serve: Any, patched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calculate(expression: str) -> float:
        """Evaluate.

        expression: what to evaluate
        """
        return float(eval(expression))

    monkeypatch.setattr("agentd_tools.toolbox.decorated_tools", lambda: (calculate,))
    python = "```python:execute\nfrom lib.tools import calculate\nprint(calculate('6*7'))\n```\n"
    server = serve(python, "done")
    client = patched(server, tools=None)
    shown = list(client.responses.create(model="m", input="go", stream=True))
    item = next(
        e.item
        for e in shown
        if e.type == "response.output_item.done" and e.item.type == "code_interpreter_call"
    )
    assert item.outputs[0].logs == "42.0\n"
    calls = [x for e in shown for x in getattr(e, "agentd", None) or [] if x["type"] == "tool_call"]
    assert [(c["name"], c["status"]) for c in calls] == [("calculate", "completed")]


def test_ptc_disabled_is_the_sdks_own_call(serve: Any, patched: Any) -> None:
    server = serve(BLOCK, repeat=True)
    client = patched(server)
    answer = client.chat.completions.create(model="m", messages=GO, ptc_enabled=False)
    assert answer.choices[0].message.content == BLOCK
    stream = client.chat.completions.create(model="m", messages=GO, ptc_enabled=False, stream=True)
    assert type(stream) is openai.Stream
    stream.close()
    assert all(r["messages"] == GO for r in server.requests)


def test_raw_responses_that_were_made_before_are_patched_too(serve: Any, tmp_path: Path) -> None:
    server = serve(BLOCK, "done")
    client = server.client()
    assert client.chat.completions.with_raw_response is not None  # the SDK keeps it
    patch_openai_with_ptc(client, cwd=tmp_path, tools=[])
    raw = client.chat.completions.with_raw_response.create(model="m", messages=GO)
    assert raw.parse().choices[0].message.content == "done"
    unpatch_openai(client).close()


def test_a_wrapper_of_somebody_else_is_called_and_comes_back(serve: Any, tmp_path: Path) -> None:
    client = serve(BLOCK, "done", "plain").client()
    original, seen = client.chat.completions.create, []

    def traced(**kwargs: Any) -> Any:
        seen.append(kwargs["model"])
        return original(**kwargs)

    client.chat.completions.create = traced
    patch_openai_with_ptc(client, cwd=tmp_path, tools=[])
    client.chat.completions.create(model="m", messages=GO)
    assert seen == ["m", "m"]
    assert unpatch_openai(client).chat.completions.create is traced
    client.close()


def test_embeddings_pass_through(serve: Any, patched: Any) -> None:
    made = patched(serve()).embeddings.create(model="e", input="x", encoding_format="float")
    assert made.data[0].embedding == [0.5]


def test_a_wrong_argument_is_the_sdks_type_error(serve: Any, patched: Any) -> None:
    client = patched(serve("x", repeat=True))
    with pytest.raises(TypeError, match="messages"):
        client.chat.completions.create(model="m")
    with pytest.raises(TypeError, match="nonsense"):
        client.chat.completions.create(model="m", messages=GO, nonsense=1)


def test_not_given_values_of_the_sdk_are_accepted(serve: Any, patched: Any) -> None:
    server = serve("x")
    patched(server).chat.completions.create(
        model="m", messages=GO, temperature=openai.NOT_GIVEN, stream=openai.NOT_GIVEN, stop=openai.omit
    )
    assert "temperature" not in server.requests[0]


def test_several_choices_are_refused_with_the_way_out(serve: Any, patched: Any) -> None:
    with pytest.raises(ConfigError, match=r"n: must be 1 .*got 2; pass ptc_enabled=False"):
        patched(serve()).chat.completions.create(model="m", messages=GO, n=2)


def test_an_mcp_server_names_the_distribution_that_serves_it(serve: Any, patched: Any) -> None:
    registry = Registry(config=PluginConfig(block=("tool_source:*",)))
    registry._chosen = {k: v for k, v in registry._chosen.items() if k[0] != "tool_source"}  # as uninstalled
    client = patched(serve(), registry=registry)
    with pytest.raises(MissingPluginError, match="pip install agentd-mcp-bridge"):
        client.chat.completions.create(model="m", messages=GO, mcp_servers=[object()])


def test_a_claude_name_on_openais_own_address_names_the_distribution(tmp_path: Path) -> None:
    registry = Registry()
    registry._chosen.pop(("model", "litellm"), None)  # as uninstalled
    with openai.OpenAI(api_key="none") as client:
        patch_openai_with_ptc(client, cwd=tmp_path, tools=[], registry=registry)
        with pytest.raises(MissingPluginError, match="pip install agentd-model-litellm"):
            client.responses.create(model="claude-sonnet-4-20250514", input="go")
        client.cleanup_ptc()  # type: ignore[attr-defined]


def test_bad_settings_are_told_when_patching(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with openai.OpenAI(api_key="none") as client:
        with pytest.raises(WorkspaceError, match="this is a file"):
            patch_openai_with_ptc(client, cwd=tmp_path / "file")
        with pytest.raises(UnknownPluginError, match="unknown executor 'srtt'"):
            patch_openai_with_ptc(client, cwd=tmp_path, executor="srtt")
        with pytest.raises(ConfigError, match="executor: must be"):
            patch_openai_with_ptc(client, cwd=tmp_path, executor=3)
        with pytest.raises(ConfigError, match=r"parsers: must be a list, got 'xml'; write \['xml'\]"):
            patch_openai_with_ptc(client, cwd=tmp_path, parsers="xml")
        with pytest.raises(UnknownPluginError, match="unknown parser 'xmll'"):
            patch_openai_with_ptc(client, cwd=tmp_path, parsers=["xmll"])
        with pytest.raises(UnknownPluginError, match="unknown skill renderer 'agentskill'"):
            patch_openai_with_ptc(client, cwd=tmp_path, renderer="agentskill")
        with pytest.raises(ConfigError, match="unknown option 'x' of the skill renderer"):
            patch_openai_with_ptc(client, cwd=tmp_path, renderer=("agentskills", {"x": 1}))
        for patch in (patch_openai_with_ptc, patch_openai_with_mcp):
            with pytest.raises(UnknownPluginError, match="unknown event sink 'consol'"):
                patch(client, sinks=["consol"])
            with pytest.raises(ConfigError, match="sinks: must be names, or objects"):
                patch(client, sinks=[5])
            with pytest.raises(ConfigError, match="budgets: must be a Budgets, got a mapping"):
                patch(client, budgets={"max_turns": 3})
        assert not hasattr(client, "cleanup_mcp")
        assert not hasattr(client, "cleanup_ptc")


@pytest.mark.parametrize("change", [patch_openai_with_ptc, patch_openai_with_mcp, unpatch_openai])
@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (openai.OpenAI, "the class OpenAI; make one: OpenAI()"),
        (openai.AsyncOpenAI, "the class AsyncOpenAI; make one: AsyncOpenAI()"),
        (openai, "module"),
        (None, "NoneType"),
        ("client", "str"),
        (str, "the class str"),
        (httpx.Client(), "Client"),
        (Session(model="m", api_key="none"), "Session"),
        (MagicMock(), "MagicMock"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_that_is_not_a_client_is_refused_and_not_changed(change: Any, wrong: Any, got: str) -> None:
    before = set(vars(wrong)) if hasattr(wrong, "__dict__") else set()
    with pytest.raises(ConfigError) as caught:
        change(wrong)
    assert str(caught.value) == f"client: must be an OpenAI or AsyncOpenAI object, got {got}"
    assert before == (set(vars(wrong)) if hasattr(wrong, "__dict__") else set())


def test_an_executor_object_with_the_old_methods_works(serve: Any, patched: Any, tmp_path: Path) -> None:
    class Old:
        def execute_bash(self, command: str, cwd: Path) -> tuple[str, int]:
            return f"bash {command.strip()} in {cwd.name}", 3

        def execute_python(self, code: str, cwd: Path, pythonpath: Path | None = None) -> tuple[str, int]:
            return f"python {code.strip()}", 0

        def create_file(self, filename: str, content: str, cwd: Path) -> str:
            return f"made {filename}"

    script = "```bash:execute\nls\n```\n```python:execute\n1\n```\n```a.txt:create\nx\n```\n"
    client = patched(serve(script, "done"), executor=Old(), cwd=tmp_path)
    done = client.chat.completions.create(model="m", messages=GO).agentd["executions"]
    assert [(e["output"], e["exit_code"]) for e in done] == [
        (f"bash ls in {tmp_path.name}", 3),
        ("python 1", 0),
        ("made a.txt", 0),
    ]


def test_an_executor_instance_is_used_and_not_closed(serve: Any, patched: Any, tmp_path: Path) -> None:
    from agentd.registry import Registry

    with Registry().create_executor("subprocess", tmp_path) as mine:  # type: ignore[attr-defined]
        client = patched(
            serve("```bash:execute\npwd\n```\n", "done", "```bash:execute\npwd\n```\n", "done"),
            executor=mine,
            cwd="/",
        )
        for _ in range(2):
            answer = client.chat.completions.create(model="m", messages=GO)
            assert answer.agentd["executions"][0]["output"] == f"{tmp_path.resolve()}\n"
            client.cleanup_ptc()


def test_after_cleanup_the_next_call_starts_anew(serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "done", BLOCK, "done")
    client = patched(server)
    client.chat.completions.create(model="m", messages=GO)
    client.cleanup_ptc()
    client.cleanup_ptc()
    assert client.chat.completions.create(model="m", messages=GO).agentd["executions"][0]["output"] == "one\n"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_cleanup_works_inside_a_running_event_loop(kind: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "done")
    client = patched(server, asynchronous=kind == "async")

    async def main() -> None:
        made = client.chat.completions.create(model="m", messages=GO)
        if kind == "async":
            await made
        client.cleanup_ptc()
        if kind == "async":
            await client.close()

    asyncio.run(main())


def test_a_client_that_is_dropped_takes_its_processes_with_it(serve: Any, tmp_path: Path) -> None:
    server: FakeOpenAI = serve(BLOCK, "done")
    client = server.client()
    patch_openai_with_ptc(client, cwd=tmp_path, tools=[])
    client.chat.completions.create(model="m", messages=GO)
    executor = weakref.ref(client._agentd.state.resources.executor)
    client.close()
    del client
    gc.collect()
    assert executor() is None


def running(marker: str) -> bool:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


@pytest.mark.parametrize("way", [w for w in WAYS if w.endswith("stream")])
@pytest.mark.parametrize("leave", ["break", "close", "with"])
def test_an_abandoned_stream_ends_the_code(way: str, leave: str, serve: Any, patched: Any) -> None:
    marker = f"1{uuid.uuid4().int % 10**8:08d}.5"
    server = serve(f"```bash:execute\necho on; sleep {marker}\n```\n", "never")
    client = patched(server, asynchronous=way.startswith("async"))
    api = client.chat.completions if "chat" in way else client.responses
    given: Any = {"messages": GO} if "chat" in way else {"input": "go"}

    def has_output(item: Any) -> bool:
        return any(e["type"] == "code_output" for e in getattr(item, "agentd", None) or [])

    def sync() -> None:
        stream = api.create(model="m", stream=True, **given)
        if leave == "with":
            with stream:
                next(i for i in stream if has_output(i))
            return
        for item in stream:
            if has_output(item):
                break
        if leave == "close":
            stream.close()
        else:
            del stream
            gc.collect()

    async def asynchronous() -> None:
        stream = await api.create(model="m", stream=True, **given)
        async for item in stream:
            if has_output(item):
                break
        if leave == "close":
            await stream.close()
        elif leave == "with":
            async with stream:
                pass
        else:
            del stream
            gc.collect()
            while running(marker):
                await asyncio.sleep(0.01)
        await client.close()

    if way.startswith("sync"):
        sync()
        for _ in range(1000):
            if not running(marker):
                break
            os.sched_yield()
            subprocess.run(["sleep", "0.01"], check=True)
    else:
        asyncio.run(asyncio.wait_for(asynchronous(), 20))
    assert not running(marker)
    assert len(server.requests) == 1


def test_a_program_that_never_cleans_up_ends_and_leaves_nothing(serve: Any, tmp_path: Path) -> None:
    marker = f"1{uuid.uuid4().int % 10**8:08d}.5"
    server: FakeOpenAI = serve(f"```bash:execute\nsleep {marker} & echo on; wait\n```\n", Answer(text="x"))
    program = f"""
import openai
from agentd_openai import patch_openai_with_ptc
client = openai.OpenAI(base_url={server.base_url!r}, api_key="x")
patch_openai_with_ptc(client, cwd={str(tmp_path)!r}, executor="subprocess")
stream = client.responses.create(model="m", input="go", stream=True)
for event in stream:
    if any(e["type"] == "code_output" for e in getattr(event, "agentd", None) or []):
        break
print("bye", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("bye\n", "", 0)
    assert not running(marker)


@pytest.mark.parametrize("way", [w for w in WAYS if "responses" in w])
def test_instructions_ids_and_metadata_go_into_every_round(way: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "done")
    given = {
        "instructions": "Be brief.",
        "previous_response_id": "resp_old",
        "store": False,
        "metadata": {"k": "v"},
        "reasoning": {"effort": "low"},
    }
    call(way, patched(server, asynchronous=way.startswith("async")), **given)
    for request in server.requests:
        assert request["instructions"].startswith("Be brief.\n\nYou act by writing code.")
        assert {k: request[k] for k in given if k != "instructions"} == {
            k: v for k, v in given.items() if k != "instructions"
        }


@pytest.mark.parametrize("way", [w for w in WAYS if "chat" in w])
def test_response_format_holds_for_the_last_answer_alone(way: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "done", "{}")
    call(way, patched(server, asynchronous=way.startswith("async")), response_format={"type": "json_object"})
    held = [r.get("response_format") for r in server.requests]
    assert held == [None, None, {"type": "json_object"}]


@pytest.mark.parametrize(
    ("first", "merged"),
    [
        ({"role": "system", "content": "Mine."}, "Mine.\n\nYou act"),
        ({"role": "developer", "content": "Mine."}, "Mine.\n\nYou act"),
        ({"role": "system", "content": [{"type": "text", "text": "Mine."}]}, None),
        (None, "You act"),
    ],
)
def test_a_system_message_of_any_form_is_kept_and_extended(
    first: Any, merged: str | None, serve: Any, patched: Any
) -> None:
    server = serve("done")
    patched(server).chat.completions.create(model="m", messages=[*([first] if first else []), *GO])
    sent = server.requests[0]["messages"]
    assert sent[0]["role"] == (first["role"] if first else "system")
    if merged is None:
        assert sent[0]["content"][0] == first["content"][0]
        assert sent[0]["content"][1]["text"].startswith("You act")
    else:
        assert sent[0]["content"].startswith(merged)
    assert sent[1:] == GO


def test_a_conversation_kept_by_the_provider_is_not_sent_twice(serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "done")
    patched(server).responses.create(model="m", input="go", conversation="conv_1")
    assert [i["content"] for i in server.requests[0]["input"]] == ["go"]
    assert len(server.requests[1]["input"]) == 1
    assert "[result 1 of 1" in server.requests[1]["input"][0]["content"]


def test_no_logs_folder_and_no_environment_variable_appear(
    serve: Any, patched: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    patched(serve(BLOCK, "done"), cwd="work").chat.completions.create(model="m", messages=GO)
    assert dict(os.environ) == before
    assert [p.name for p in tmp_path.iterdir()] == ["work"]
