"""A provider plugin that has only `agentd_open_model`, behind a patched client, in all eight ways of calling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError, MissingPluginError, ModelStreamError
from agentd.registry import Registry
from agentd_openai import patch_openai_with_mcp
from agentd_testing import fake_distribution
from fake_openai import Answer
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response
from ways import WAYS, call, text_of

every_way = pytest.mark.parametrize("way", WAYS)
every_stream = pytest.mark.parametrize("way", [w for w in WAYS if w.endswith("stream")])

PLUGIN = """
from contextlib import asynccontextmanager
from agentd.hookspecs import hookimpl
from agentd.protocols import ModelFinish, ModelText, ModelToolCall
from agentd.types import Usage

AGENTD_API = 1
ASKED, OPENED, SCRIPT = [], [], []

class Model:
    def __init__(self, name):
        self.name, self.told, self.closed = name, [], 0
    def start(self, text): self.told.append(("start", text))
    def add_task(self, text): self.told.append(("task", text))
    def add_answer(self, text, calls=()): self.told.append(("answer", text, [(c.name, c.raw) for c in calls]))
    def add_results(self, text): self.told.append(("results", text))
    async def aclose(self): self.closed += 1
    @asynccontextmanager
    async def stream(self):
        async def events():
            for event in SCRIPT.pop(0):
                yield event
        yield events()

class Calling(Model):
    def offer(self, tools): self.told.append(("offer", [t.name for t in tools]))
    def add_tool_results(self, results): self.told.append(("called", [(r.call_id, r.output) for r in results]))

@hookimpl
def agentd_open_model(name, options):
    ASKED.append((name, dict(options)))
    if not name.startswith("acme/"):
        return None
    OPENED.append(Model(name) if name == "acme/writes" else Calling(name))
    return OPENED[-1]
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The provider's module, installed; `acme.registry` sees it."""
    import sys

    folder = tmp_path / "installed"
    made = fake_distribution(
        folder,
        "acme-model",
        entry_points={"agentd.models": {"acme": "acme_model"}},
        modules={"acme_model": PLUGIN},
    )
    monkeypatch.syspath_prepend(made.folder)
    distributions = [*metadata.distributions(), *metadata.distributions(path=[str(folder)])]
    unique = {d.metadata["Name"]: d for d in distributions}
    registry = Registry(distributions=unique.values())
    module: Any = registry.load("model", "acme")
    module.registry = registry
    yield module
    del sys.modules["acme_model"]


def text(said: str, reason: str = "end_turn") -> list[Any]:
    """An answer in pieces of five characters."""
    from agentd.protocols import ModelFinish, ModelText
    from agentd.types import Usage

    pieces = [ModelText(said[start : start + 5]) for start in range(0, len(said), 5)]
    return [*pieces, ModelFinish(reason=reason, usage=Usage(input_tokens=10, output_tokens=2, requests=1))]


def calling(*calls: tuple[str, str, str], said: str = "I call.") -> list[Any]:
    from agentd.protocols import ModelToolCall

    events = text(said, "tool_use")
    made = [ModelToolCall(id=id, name=name, arguments=given, raw=f"mine {id}") for id, name, given in calls]
    return [*events[:-1], *made, events[-1]]


@every_way
def test_its_model_runs_code_until_it_answers(way: str, acme: Any, serve: Any, patched: Any) -> None:
    acme.SCRIPT += [text("I look.\n```bash:execute\necho one\n```\nIt says two."), text("All done.")]
    server = serve()
    client = patched(server, asynchronous=way.startswith("async"), registry=acme.registry)
    outcome = call(way, client, model="acme/writes")
    assert text_of(way, outcome) == "All done."
    assert server.requests == [], "the client's own server was asked"
    (model,) = acme.OPENED
    kinds = [told[0] for told in model.told]
    assert kinds == ["start", "task", "answer", "results", "answer"]
    assert model.told[1] == ("task", "go")
    assert model.told[2][1] == "I look.\n```bash:execute\necho one\n```\n", (
        "a guess behind a block was recorded"
    )
    assert "```bash:execute" in model.told[0][1]
    assert "completed, exit code 0]\none\n" in model.told[3][1]
    assert model.closed == 1
    if not outcome.items:
        assert isinstance(outcome.whole, ChatCompletion if "chat" in way else Response)
        assert [e["output"] for e in outcome.whole.agentd["executions"]] == ["one\n"]
        usage = outcome.whole.usage
        assert usage.total_tokens == 24
    else:
        (done,) = [e for e in outcome.shown if e.type == "code_execution"]
        assert (done.output, done.exit_code) == ("one\n", 0)


@every_way
def test_what_its_model_thinks_comes_in_the_sdks_own_objects(
    way: str, acme: Any, serve: Any, patched: Any
) -> None:
    from agentd.protocols import ModelText

    thought = [ModelText("", reasoning="I "), ModelText("", reasoning="think.")]
    acme.SCRIPT += [[*thought, *text("I look.\n```bash:execute\ntrue\n```\n")], [*thought, *text("Done.")]]
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    outcome = call(way, client, model="acme/writes")
    assert text_of(way, outcome) == "Done."
    if outcome.items:
        assert "".join(e.text for e in outcome.shown if e.type == "reasoning") == "I think." * 2
    elif "chat" in way:
        assert outcome.whole.choices[0].message.reasoning_content == "I think."
    else:
        (item,) = [item for item in outcome.whole.output if item.type == "reasoning"]
        assert [part.text for part in item.content] == ["I think."]
    if way.endswith("responses-stream"):
        items = outcome.items[-1].response.output
        assert [item.type for item in items] == [
            "reasoning",
            "message",
            "code_interpreter_call",
            "reasoning",
            "message",
        ]


@pytest.mark.parametrize("way", [w for w in WAYS if "chat-stream" in w])
def test_a_chat_stream_is_one_coherent_stream_of_the_sdks_chunks(
    way: str, acme: Any, serve: Any, patched: Any
) -> None:
    acme.SCRIPT += [text("```bash:execute\ntrue\n```\n"), text("Done.", "max_tokens")]
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    items = call(way, client, model="acme/writes", stream_options={"include_usage": True}).items
    assert all(isinstance(item, ChatCompletionChunk) for item in items)
    assert len({item.id for item in items}) == 1
    assert {item.model for item in items} == {"acme/writes"}
    assert items[0].choices[0].delta.role == "assistant"
    assert [i.choices[0].finish_reason for i in items if i.choices and i.choices[0].finish_reason] == [
        "length"
    ]
    assert items[-1].usage.total_tokens == 24


@pytest.mark.parametrize("way", [w for w in WAYS if "responses-stream" in w])
def test_a_responses_stream_is_one_coherent_stream_of_the_sdks_events(
    way: str, acme: Any, serve: Any, patched: Any
) -> None:
    acme.SCRIPT += [text("Look.\n```bash:execute\ntrue\n```\n"), text("Done.")]
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    items = call(way, client, model="acme/writes").items
    kinds = [item.type for item in items]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds.count("response.created") == kinds.count("response.completed") == 1
    assert [item.sequence_number for item in items] == list(range(len(items)))
    added = [i.output_index for i in items if i.type == "response.output_item.added"]
    assert added == list(range(len(added)))
    final = items[-1].response
    assert [item.type for item in final.output] == ["message", "code_interpreter_call", "message"]
    assert final.output_text.endswith("Done.")
    assert final.usage.total_tokens == 24
    assert Response.model_validate(final.to_dict()).id == final.id


@every_way
def test_tools_are_called_natively_and_the_providers_own_form_of_a_call_goes_back(
    way: str, acme: Any, serve: Any
) -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    acme.SCRIPT += [
        calling(("c1", "add", '{"a": 1, "b": 2}'), ("c2", "add", '{"a": 5, "b": 5}')),
        text("3 and 10."),
    ]
    server = serve()
    plain = server.async_client() if way.startswith("async") else server.client()
    client = patch_openai_with_mcp(plain, tools=[add], registry=acme.registry)
    try:
        outcome = call(way, client, model="acme/calls")
        assert text_of(way, outcome) == "3 and 10."
    finally:
        client.cleanup_mcp()
    (model,) = acme.OPENED
    assert ("offer", ["add"]) in model.told
    assert ("answer", "I call.", [("add", "mine c1"), ("add", "mine c2")]) in model.told
    assert ("called", [("c1", "3"), ("c2", "10")]) in model.told
    if outcome.items:
        assert sorted(e.result for e in outcome.shown if e.type == "tool_call") == ["10", "3"]


@every_way
def test_a_call_of_the_callers_own_tool_comes_back(way: str, acme: Any, serve: Any, patched: Any) -> None:
    own: Any = {"name": "mine", "parameters": {"type": "object"}}
    tool = {"type": "function", "function": own} if "chat" in way else {"type": "function", **own}
    acme.SCRIPT += [calling(("c1", "mine", '{"a": 1}'))]
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    outcome = call(way, client, model="acme/calls", tools=[tool])
    assert ("offer", ["mine"]) in acme.OPENED[0].told
    if "chat" in way and outcome.items:
        pieces = [p for i in outcome.items if i.choices for p in i.choices[0].delta.tool_calls or ()]
        assert [(p.id, p.function.name, p.function.arguments) for p in pieces] == [("c1", "mine", '{"a": 1}')]
        assert "tool_calls" in [i.choices[0].finish_reason for i in outcome.items if i.choices]
    elif "chat" in way:
        (made,) = outcome.whole.choices[0].message.tool_calls
        assert (made.id, made.function.name) == ("c1", "mine")
        assert outcome.whole.choices[0].finish_reason == "tool_calls"
    else:
        response = outcome.items[-1].response if outcome.items else outcome.whole
        (item,) = [i for i in response.output if i.type == "function_call"]
        assert (item.call_id, item.name, item.arguments) == ("c1", "mine", '{"a": 1}')


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_callers_conversation_is_told_in_order(api: str, acme: Any, serve: Any, patched: Any) -> None:
    acme.SCRIPT += [text("ok")]
    client = patched(serve(), registry=acme.registry)
    if api == "chat":
        function = {"name": "mine", "arguments": "{}"}
        given: dict[str, Any] = {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": function},
                        {"id": "2", "type": "function", "function": function},
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "x"},
                {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "y"}]},
                {"role": "assistant", "content": "Fine."},
                {"role": "user", "content": "go"},
            ]
        }
    else:
        named = {"type": "function_call", "name": "mine", "arguments": "{}"}
        given = {
            "instructions": "Be kind.\n\nBe brief.",
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
                },
                {"type": "reasoning", "id": "r", "summary": []},
                {**named, "call_id": "1"},
                {**named, "call_id": "2"},
                {"type": "function_call_output", "call_id": "1", "output": "x"},
                {
                    "type": "function_call_output",
                    "call_id": "2",
                    "output": [{"type": "input_text", "text": "y"}],
                },
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Fine."}],
                },
                {"role": "user", "content": "go"},
            ],
        }
    call(f"sync-{api}-whole", client, model="acme/calls", **given)
    told = acme.OPENED[0].told
    assert told[0][0] == "start"
    assert told[0][1].startswith("Be kind.\n\n")
    assert "Be brief." in told[0][1]
    assert "You act by writing code." in told[0][1]
    assert told[1:6] == [
        ("task", "a\nb"),
        ("answer", "", [("mine", None), ("mine", None)]),
        ("called", [("1", "x"), ("2", "y")]),
        ("answer", "Fine.", []),
        ("task", "go"),
    ]


@pytest.mark.parametrize("way", [w for w in WAYS if w.endswith("whole")])
def test_the_conversation_can_be_continued_with_the_messages_that_the_run_has_added(
    way: str, acme: Any, serve: Any, patched: Any
) -> None:
    acme.SCRIPT += [text("```bash:execute\necho one\n```\n"), text("One."), text("Again.")]
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    first = call(way, client, model="acme/writes").whole
    key = "messages" if "chat" in way else "input"
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    said = [{"role": "user", "content": "go"}, *first.agentd["messages"], {"role": "user", "content": "more"}]
    call(way, client, model="acme/writes", **{key: said})
    kinds = [told[0] for told in acme.OPENED[1].told]
    assert kinds == ["start", "task", "answer", "task", "answer", "task", "answer"]
    assert "one\n" in acme.OPENED[1].told[3][1]


# --- who serves which name -----------------------------------------------------------------------------


@every_way
def test_a_name_that_no_plugin_takes_is_the_clients_and_is_asked_for_once(
    way: str, acme: Any, serve: Any, patched: Any
) -> None:
    server = serve("One.", "Two.")
    client = patched(server, registry=acme.registry)
    sync = way.replace("async", "sync")
    assert text_of(sync, call(sync, client)) == "One."
    assert text_of(sync, call(sync, client)) == "Two."
    assert [name for name, _ in acme.ASKED] == ["m"]
    assert len(server.requests) == 2


def test_a_provider_is_told_what_its_requests_shall_have_and_never_the_clients_key(
    acme: Any, serve: Any, patched: Any
) -> None:
    acme.SCRIPT += [text("ok"), text("ok")]
    server = serve()
    client = patched(server, registry=acme.registry)
    call("sync-chat-whole", client, model="acme/writes", temperature=0.5, n=1)
    call("sync-chat-whole", client, model="acme/writes", extra_body=None, api_key="mine")
    address = {"base_url": f"{server.base_url}/"}
    assert [
        ("acme/writes", {**address, "request": {"temperature": 0.5}}),
        ("acme/writes", {**address, "api_key": "mine", "request": {"extra_body": None}}),
    ] == acme.ASKED


@pytest.mark.parametrize("name", ["anthropic", "zebra"])
def test_providers_are_asked_in_the_order_of_sessions(name: str, acme: Any, tmp_path: Path) -> None:
    """The plugin whose name stands before the slash comes first, then the others by name; `openai` is the client."""
    pytest.importorskip("agentd_model_litellm", reason="needs LiteLLM: pip install agentd-model-litellm")
    folder = tmp_path / name
    points = {"agentd.models": {name: "acme_model"}}
    fake_distribution(folder, name, entry_points=points)
    found = [*metadata.distributions(), *metadata.distributions(path=[str(folder)])]
    registry = Registry(distributions={d.metadata["Name"]: d for d in found}.values())
    service = registry.serve_client("anthropic/claude-x", "https://api.openai.com/v1", "chat", {})
    assert service is not None, "LiteLLM serves this name"
    assert service.create is not None
    before_litellm = {"anthropic": 2, "zebra": 1}  # `acme` is asked in both cases
    assert len(acme.ASKED) == before_litellm[name]


def test_a_model_that_nobody_serves_names_what_to_install(tmp_path: Path) -> None:
    import openai
    from agentd.registry.config import PluginConfig
    from agentd_openai import patch_openai_with_ptc

    registry = Registry(config=PluginConfig(block=("model:litellm",)))
    client = patch_openai_with_ptc(openai.OpenAI(api_key="none"), registry=registry, tools=[], cwd=tmp_path)
    with pytest.raises(MissingPluginError, match="agentd-model-litellm"):
        call("sync-chat-whole", client, model="anthropic/claude-x")


# --- what is refused -----------------------------------------------------------------------------------

IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
SOUND = {"role": "assistant", "content": "x", "audio": {"id": "a"}}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            r"messages\[0\]\.content\[0\]: of the type 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": "go"}, SOUND]}, r"messages\[1\]\.audio: is not carried"),
        ({"messages": [{"role": "function", "name": "f", "content": ""}]}, "'function' is not carried"),
        (
            {"messages": [{"role": "user", "content": "go"}, {"role": "system", "content": "late"}]},
            r"messages\[\d\]: a system message must stand before all others",
        ),
        ({"n": 2}, "n: must be 1"),
        ({"modalities": ["text", "audio"]}, "modalities: the model 'acme/calls'"),
        ({"functions": [{"name": "f"}]}, "functions: is not carried"),
        ({"tool_choice": "required"}, "tool_choice: must be 'auto'"),
        (
            {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
            r"tools\[0\]: must be a function.*'custom'",
        ),
    ],
)
def test_what_cannot_be_carried_is_refused_with_its_place(
    given: Any, told: str, acme: Any, serve: Any, patched: Any
) -> None:
    with pytest.raises(ConfigError, match=told):
        call("sync-chat-whole", patched(serve(), registry=acme.registry), model="acme/calls", **given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id: .*send the whole conversation"),
        ({"conversation": "conv_1"}, "conversation: is not carried"),
        ({"background": True}, "background: is not carried"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, r"input\[0\]: of the type 'item_reference'"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "of the type 'input_image'"),
    ],
)
def test_what_openais_server_keeps_cannot_be_carried(
    given: Any, told: str, acme: Any, serve: Any, patched: Any
) -> None:
    with pytest.raises(ConfigError, match=told):
        call("sync-responses-whole", patched(serve(), registry=acme.registry), model="acme/calls", **given)


def test_a_model_without_native_calls_says_so(acme: Any, serve: Any, patched: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(ConfigError, match="'acme/writes' calls no tools natively"):
        call("sync-chat-whole", patched(serve(), registry=acme.registry), model="acme/writes", tools=[tool])
    client = patched(serve(), registry=acme.registry, bash_tool=True)
    with pytest.raises(ConfigError, match="'acme/writes' calls no tools natively"):
        call("sync-chat-whole", client, model="acme/writes")
    said = [{"role": "user", "content": "go"}, {"role": "tool", "tool_call_id": "1", "content": "x"}]
    with pytest.raises(ConfigError, match="'acme/writes' takes no results of native tool calls"):
        call("sync-chat-whole", patched(serve(), registry=acme.registry), model="acme/writes", messages=said)


@every_way
def test_a_stream_without_its_end_is_an_error_and_never_half_an_answer(
    way: str, acme: Any, serve: Any, patched: Any
) -> None:
    acme.SCRIPT += [text("Half an ans")[:-1]]
    client = patched(serve(), asynchronous=way.startswith("async"), registry=acme.registry)
    with pytest.raises(ModelStreamError, match=r"'acme/writes'.*without its finish marker"):
        call(way, client, model="acme/writes")
    assert acme.OPENED[0].closed == 1


def test_bash_is_called_natively(acme: Any, serve: Any, patched: Any) -> None:
    acme.SCRIPT += [calling(("c1", "bash", json.dumps({"command": "echo one"}))), text("ok")]
    client = patched(serve(), registry=acme.registry, bash_tool=True)
    whole = call("sync-responses-whole", client, model="acme/calls").whole
    assert [item.type for item in whole.output] == ["code_interpreter_call", "message"]
    assert ("called", [("c1", "one\n[completed, exit code 0]")]) in acme.OPENED[0].told


@every_stream
def test_the_client_s_own_models_still_stream(way: str, acme: Any, serve: Any, patched: Any) -> None:
    client = patched(serve(Answer(text="mine")), asynchronous=way.startswith("async"), registry=acme.registry)
    assert text_of(way, call(way, client)) == "mine"
