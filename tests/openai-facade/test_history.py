"""`history=` of patched clients: what is sent stays within the limit in all ways of calling, and what comes back is
whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ConfigError, ContextLengthError
from agentd.registry import Registry
from agentd_history import History
from agentd_openai import patch_openai_with_mcp
from agentd_testing import fake_distribution
from fake_openai import Answer, FakeOpenAI
from ways import WAYS, call

TOO_LONG = Answer(status=400, error={"message": "too long", "code": "context_length_exceeded"})
BLOCK = "```bash:execute\nprintf 'result-%s\\n' NUMBER; printf '%04000d' 0\n```\n"

every_way = pytest.mark.parametrize("way", WAYS)
Patch = Callable[..., Any]


def said(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a request says, without the system prompt."""
    items = request["messages"] if "messages" in request else request["input"]
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    return [item for item in items if item.get("role") != "system"]


def tokens(items: list[dict[str, Any]]) -> int:
    return sum(len(str(item.get("content") or item.get("output") or "")) // 4 for item in items)


def texts(request: dict[str, Any]) -> list[str]:
    return [str(item.get("content")) for item in said(request)]


def talk(tasks: int, long: int = 400) -> list[dict[str, Any]]:
    """Return a conversation that ends with a task."""
    made: list[dict[str, Any]] = []
    for number in range(tasks):
        made += [{"role": "user", "content": f"task {number} " + "t" * long}]
        made += [{"role": "assistant", "content": f"answer {number} " + "a" * long}]
    return made[:-1]


def asked(way: str, client: Any, items: list[dict[str, Any]], **more: Any) -> Any:
    return call(way, client, **{"messages" if "chat" in way else "input": items}, **more)


def begins_alike(requests: list[dict[str, Any]]) -> int:
    """Count the requests that do not begin with the one before."""
    return sum(said(b)[: len(said(a))] != said(a) for a, b in pairwise(requests))


@every_way
def test_the_results_of_a_call_s_own_rounds_are_shortened_and_come_back_whole(
    way: str, patched: Patch
) -> None:
    script = [BLOCK.replace("NUMBER", str(n)) for n in range(12)]
    with FakeOpenAI(*script, "Done.") as server:
        client = patched(
            server, asynchronous=way.startswith("async"), history=History(rule="shorten", max_tokens=6_000)
        )
        outcome = call(way, client)
    assert len(server.requests) == 13
    assert max(tokens(said(r)) for r in server.requests) <= 6_000
    last = texts(server.requests[-1])
    assert last[0] == "go"
    results = [text for text in last if text.startswith("[result 1 of 1")]
    assert [f"result-{n}\n" in text for n, text in enumerate(results)] == [True] * 12
    assert all(len(text) > 4_000 for text in results[-2:])
    assert 1 <= begins_alike(server.requests) <= 4
    if outcome.whole is not None:
        record = outcome.whole.agentd
        assert sum("0" * 3_990 in str(m["content"]) for m in record["messages"]) == 12
        assert all(len(e["output"]) > 4_000 for e in record["executions"])


@every_way
def test_a_long_conversation_of_the_caller_s_is_cut_at_the_same_place_each_time(
    way: str, patched: Patch
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
    if "responses" in way:
        picture = {"type": "input_image", "image_url": "data:image/png;base64," + "A" * 40_000}
    with FakeOpenAI("Yes.", repeat=True) as server:
        for count in range(30, 36):
            client = patched(
                server, asynchronous=way.startswith("async"), history=History(max_tokens=2_000)
            )  # no client has anything of the one before
            items = talk(count)
            items[-1] = {"role": "user", "content": [{"type": "text", "text": "look"}, picture]}
            before = json.dumps(items)
            asked(way, client, [{"role": "system", "content": "Be brief."}, *items])
            assert json.dumps(items) == before
    for request, count in zip(server.requests, range(30, 36), strict=True):
        sent = said(request)
        assert sent[-1] == {"role": "user", "content": [{"type": "text", "text": "look"}, picture]}
        assert tokens(sent[:-1]) <= 2_000
        assert sent[-2]["content"].startswith(f"answer {count - 2} ")
        assert "Be brief." in str(request["messages" if "chat" in way else "input"][0])
    firsts = [said(r)[0]["content"].split()[1] for r in server.requests]
    assert len(set(firsts)) <= 2  # the cut is where it was, for some turns


@every_way
def test_a_provider_that_finds_it_too_long_is_asked_once_more_with_less(way: str, patched: Patch) -> None:
    with FakeOpenAI(TOO_LONG, "Yes.", TOO_LONG, TOO_LONG) as server:
        client = patched(server, asynchronous=way.startswith("async"), history=History())
        asked(way, client, talk(10))
        first, second = server.requests
        assert len(said(first)) == 19
        assert [t.split()[1] for t in texts(second)[::2]] == ["5", "6", "7", "8", "9"]
        client = patched(server, asynchronous=way.startswith("async"), history=History())
        with pytest.raises(ContextLengthError) as caught:
            asked(way, client, talk(10))
        assert isinstance(caught.value, openai.BadRequestError)
    assert len(server.requests) == 4


def test_without_a_history_nothing_is_cut_and_too_long_is_an_error(patched: Patch) -> None:
    with FakeOpenAI(TOO_LONG) as server, pytest.raises(ContextLengthError):
        asked("sync-chat-whole", patched(server), talk(10))
    assert len(said(server.requests[0])) == 19


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_calls_and_their_results_stay_together_and_old_results_are_shortened_in_their_form(
    api: str, patched: Patch
) -> None:
    items: list[dict[str, Any]] = []
    for number in range(12):
        long, id = f"text {number} " + "x" * 3_000, f"call_{number}"
        items.append({"role": "user", "content": f"task {number}"})
        if api == "chat":
            made = {"id": id, "type": "function", "function": {"name": "fetch", "arguments": "{}"}}
            items.append({"role": "assistant", "content": None, "tool_calls": [made]})
            items.append({"role": "tool", "tool_call_id": id, "content": long})
        else:
            items.append({"type": "function_call", "call_id": id, "name": "fetch", "arguments": "{}"})
            items.append({"type": "function_call_output", "call_id": id, "output": long})
        items.append({"role": "assistant", "content": "Read."})
    items.append({"role": "user", "content": "and now?"})
    with FakeOpenAI("Yes.", repeat=True) as server:
        asked(f"sync-{api}-whole", patched(server, history=History(max_tokens=3_000)), items)
        asked(f"sync-{api}-whole", patched(server, history=History(rule="shorten", max_tokens=5_000)), items)
    dropped, shortened = (said(r) for r in server.requests)
    assert 0 < len(dropped) < len(items) == len(shortened)
    for sent in (dropped, shortened):
        if api == "chat":
            calls = [c["id"] for m in sent for c in m.get("tool_calls") or ()]
            outputs = {m["tool_call_id"]: m["content"] for m in sent if m["role"] == "tool"}
        else:
            calls = [i["call_id"] for i in sent if i.get("type") == "function_call"]
            outputs = {i["call_id"]: i["output"] for i in sent if i.get("type") == "function_call_output"}
        assert calls == list(outputs)
        assert len(outputs["call_11"]) > 3_000
    assert "were cut here" in outputs["call_0"]
    assert outputs["call_0"].startswith("text 0 ")


def test_a_summary_is_written_once_by_the_call_s_model_and_is_part_of_the_cost(patched: Patch) -> None:
    def decide(request: dict[str, Any]) -> Answer:
        return Answer(text="A summary." if "removed from its memory" in str(request) else "Yes.")

    own = {"type": "function", "function": {"name": "mine", "parameters": {"type": "object"}}}
    with FakeOpenAI() as server:
        server.decide = decide
        client = patched(
            server,
            history=History(rule="summarise", max_tokens=2_000),
            prices={"m": (1_000.0, 10_000.0)},
        )
        ends = [
            asked("sync-chat-whole", client, talk(n), tools=[own], temperature=0.5).whole
            for n in (12, 13, 14)
        ]
    written = [r for r in server.requests if "removed from its memory" in str(r)]
    assert len(written) == 1
    assert written[0]["temperature"] == 0.5
    assert "tools" not in written[0]
    assert [e.choices[0].message.content for e in ends] == ["Yes."] * 3
    for request in server.requests:
        if request not in written:
            assert texts(request)[1].endswith("A summary.")
            assert "earlier tasks" in texts(request)[0]
    costs = [e.agentd["cost_usd"] for e in ends]
    assert costs == [pytest.approx(0.4), pytest.approx(0.2), pytest.approx(0.2)]


def test_system_messages_stay_wherever_they_stand(patched: Patch) -> None:
    items = talk(20)
    items.insert(10, {"role": "system", "content": "It is noon."})
    with FakeOpenAI("Yes.") as server:
        asked("sync-chat-whole", patched(server, history=History(max_tokens=1_500)), items)
    roles = [(m["role"], m["content"][:11]) for m in server.requests[0]["messages"]]
    assert roles[1] == ("system", "It is noon.")
    assert roles[2][1].startswith("task 1")


def test_outputs_that_the_provider_waits_for_stay_and_what_it_keeps_is_not_touched(patched: Patch) -> None:
    outputs = [{"type": "function_call_output", "call_id": "c", "output": "x" * 9_000}]
    with FakeOpenAI("Yes.", repeat=True) as server:
        client = patched(server, history=History(max_tokens=1_000))
        items = [*outputs, *talk(20)]
        client.responses.create(model="m", previous_response_id="resp_x", input=items)
        client.responses.create(model="m", conversation="conv_1", input=talk(20))
    first, second = (r["input"] for r in server.requests)
    assert first[0] == outputs[0]
    assert 5 < len(first) < 20
    assert len(second) == 39


def test_the_json_loop_has_a_history_of_its_own(tmp_path: Path) -> None:
    def fetch(number: int) -> str:
        """Return a long text."""
        return f"text {number} " + "x" * 2_000

    def decide(request: dict[str, Any]) -> Answer:
        number = sum(m["role"] == "tool" for m in request["messages"])
        return (
            Answer(text="Done.")
            if number == 10
            else Answer(calls=[(f"call_{number}", "fetch", f'{{"number": {number}}}')])
        )

    with FakeOpenAI() as server:
        server.decide = decide
        client = patch_openai_with_mcp(
            server.client(), tools=[fetch], history=History(rule="shorten", max_tokens=2_500)
        )
        done = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
        client.cleanup_mcp()
        client.close()
    assert done.choices[0].message.content == "Done."
    assert max(tokens(said(r)) for r in server.requests) <= 2_500
    assert [t["function"]["name"] for t in server.requests[-1]["tools"]] == ["fetch"]
    whole = [m for m in done.choices[0].message.agentd["messages"] if m["role"] == "tool"]
    assert [len(m["content"]) > 2_000 for m in whole] == [True] * 10


PLUGIN = """
from contextlib import asynccontextmanager
from agentd.hookspecs import hookimpl
from agentd.protocols import ModelFinish, ModelText

AGENTD_API = 1
REQUESTS = []

class Model:
    name = "acme/model"
    told = ()
    def start(self, text): self.told = (*self.told, ("start", text))
    def add_task(self, text): self.told = (*self.told, ("task", text))
    def add_answer(self, text, calls=()): self.told = (*self.told, ("answer", text))
    def add_results(self, text): self.told = (*self.told, ("results", text))
    @asynccontextmanager
    async def stream(self):
        REQUESTS.append(self.told)
        async def events():
            yield ModelText("Yes.")
            yield ModelFinish(reason="stop")
        yield events()

class Forgetting(Model):
    def reset(self): self.told = ()

@hookimpl
def agentd_open_model(name, options):
    return {"acme/model": Model, "acme/forgets": Forgetting}.get(name, lambda: None)()
"""


@pytest.mark.parametrize("way", ["sync-chat-whole", "sync-chat-stream", "sync-responses-whole"])
def test_a_provider_s_model_is_told_the_shorter_conversation_if_it_can_forget(
    way: str, tmp_path: Path, patched: Patch, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake_distribution(
        tmp_path / "site",
        "acme-models",
        entry_points={"agentd.models": {"acme": "acme_forgetting"}},
        modules={"acme_forgetting": PLUGIN},
    )
    monkeypatch.syspath_prepend(made.folder)
    found = [*metadata.distributions(), *metadata.distributions(path=[str(made.folder)])]
    registry = Registry(distributions={d.metadata["Name"]: d for d in found}.values())
    requests = registry.load("model", "acme").REQUESTS
    with FakeOpenAI() as server:
        client = patched(server, registry=registry, history=History(max_tokens=1_000))
        asked(way, client, talk(20), model="acme/forgets")
        with pytest.raises(ConfigError, match="'acme/model' cannot forget"):
            asked(way, client, talk(20), model="acme/model")
    del sys.modules["acme_forgetting"]
    (told,) = requests
    assert told[0][0] == "start"
    assert told[1][0] == "task"
    assert told[-1][1].startswith("task 19 ")
    assert 3 < len(told) < 12


def test_what_is_no_history_is_refused_before_anything_changes(patched: Patch) -> None:
    with FakeOpenAI() as server:
        client = server.client()
        with pytest.raises(ConfigError, match="must be a History of agentd-history, got 'drop'"):
            patch_openai_with_mcp(client, history="drop")
        assert not hasattr(client, "cleanup_mcp")
        client.close()
