"""Every method of the SDK that makes a model answer, as the table in docs/facade.md has it: patched, passed through or
refused."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import openai
import pytest
from agentd.errors import ConfigError, ModelError
from fake_openai import Answer
from places import ROOT
from pydantic import BaseModel
from surface_calls import CALLS, FORMED, apply, has_method

BLOCK = "I look.\n```bash:execute\necho one; exit 3\n```\n"
every_kind = pytest.mark.parametrize("kind", ["sync", "async"])
SYNC_AND_ASYNC = [(kind, name) for kind in ("sync", "async") for name in CALLS]
WITH_A_FORM = [(kind, name) for kind in ("sync", "async") for name in FORMED]


class Verdict(BaseModel):
    """What some answers are read as."""

    exit_code: int


def client_for(server: Any, patched: Any, kind: str, name: str) -> Any:
    client = patched(server, asynchronous=kind == "async")
    if not has_method(client, name):
        pytest.skip(f"openai {openai.__version__} has no {name}")
    return client


# --- patched -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "name"), SYNC_AND_ASYNC)
def test_a_block_runs_and_its_answer_comes_back(kind: str, name: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK, '{"exit_code": 3}')
    text = apply(kind, name, client_for(server, patched, kind, name))
    assert text.endswith('{"exit_code": 3}')
    assert len(server.requests) == 2
    assert "failed, exit code 3]\\none" in server.bodies[1].decode().replace("\\\\n", "\\n")
    assert "You act by writing code" in server.bodies[0].decode()


@pytest.mark.parametrize(("kind", "name"), WITH_A_FORM)
def test_the_last_answer_is_parsed_and_asked_for_again_once(
    kind: str, name: str, serve: Any, patched: Any
) -> None:
    server = serve(BLOCK, "The exit code is 3.", '{"exit_code": 3}')
    client = client_for(server, patched, kind, name)
    assert apply(kind, name, client, Verdict) == Verdict(exit_code=3)
    held = [r.get("response_format") or (r.get("text") or {}).get("format") for r in server.requests]
    assert [bool(h) for h in held] == [False, False, True]
    key = "input" if "responses" in name else "messages"
    assert "it is no JSON" in server.requests[2][key][-1]["content"]
    assert "exit_code" in server.bodies[0].decode()


@pytest.mark.parametrize(("kind", "name"), WITH_A_FORM)
def test_an_answer_that_fits_is_not_asked_for_again(kind: str, name: str, serve: Any, patched: Any) -> None:
    server = serve('{"exit_code": 0}')
    assert apply(kind, name, client_for(server, patched, kind, name), Verdict) == Verdict(exit_code=0)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("kind", "name"), SYNC_AND_ASYNC)
def test_a_refusal_is_the_sdks_exception_and_ours(kind: str, name: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK, Answer(status=429, text="slow down"))
    client = client_for(server, patched, kind, name)
    with pytest.raises(openai.RateLimitError, match="slow down") as caught:
        apply(kind, name, client)
    assert isinstance(caught.value, ModelError)
    assert [e["output"] for e in caught.value.agentd["executions"]] == ["one\n"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kind", "name"), SYNC_AND_ASYNC)
def test_ptc_disabled_is_the_sdks_own(kind: str, name: str, serve: Any, patched: Any) -> None:
    server = serve(BLOCK)
    client = client_for(server, patched, kind, name)
    assert apply(kind, name, client, ptc_enabled=False) == BLOCK
    assert "You act by writing code" not in server.bodies[0].decode()


@every_kind
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_leaving_a_helper_early_ends_the_run(api: str, kind: str, serve: Any, patched: Any) -> None:
    server = serve(Answer(text="word " * 50, wait_after=40))
    client = patched(server, asynchronous=kind == "async")
    given: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "go"}]} if api == "chat" else {"input": "go"}
    )
    resource = client.chat.completions if api == "chat" else client.responses

    async def leave() -> None:
        async with client, resource.stream(model="m", **given) as stream:
            async for _ in stream:
                break

    if kind == "async":
        asyncio.run(leave())
    else:
        with resource.stream(model="m", **given) as stream:
            next(iter(stream))
    runs = [getattr(t, "future", None) or t.task for t in client._agentd.state.tasks]
    assert all(run.done() for run in runs)


@every_kind
def test_a_raw_answer_has_the_providers_headers(kind: str, serve: Any, patched: Any) -> None:
    client = patched(serve(BLOCK, "done"), asynchronous=kind == "async")

    def ask() -> Any:
        messages = [{"role": "user", "content": "go"}]
        return client.chat.completions.with_raw_response.create(model="m", messages=messages)

    async def ask_async() -> Any:
        async with client:
            return await ask()

    raw = asyncio.run(ask_async()) if kind == "async" else ask()
    assert raw.headers["server"].startswith("BaseHTTP")
    assert raw.http_response.json()["choices"][0]["message"]["content"] == "done"
    assert raw.parse().agentd["executions"][0]["exit_code"] == 3


def test_the_callers_headers_and_further_fields_reach_the_provider(serve: Any, patched: Any) -> None:
    server = serve(BLOCK, "{}")
    patched(server).chat.completions.parse(
        model="m",
        messages=[{"role": "user", "content": "go"}],
        extra_body={"min_p": 0.1},
        temperature=0.5,
    )
    assert [(r["min_p"], r["temperature"]) for r in server.requests] == [(0.1, 0.5)] * 2
    assert all("x-stainless-raw-response" not in json.dumps(r).lower() for r in server.requests)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_schema_holds_for_the_last_answer_of_create(
    api: str, streamed: bool, serve: Any, patched: Any
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    server = serve(BLOCK, '{"n": "three"}', '{"n": 3}')
    client = patched(server)
    if api == "chat":
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
        made = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "go"}], response_format=form, stream=streamed
        )
    else:
        form = {"type": "json_schema", "name": "n", "schema": schema}
        made = client.responses.create(model="m", input="go", text={"format": form}, stream=streamed)
    if not streamed:
        text = made.choices[0].message.content if api == "chat" else made.output_text
    elif api == "chat":
        text = "".join(c.choices[0].delta.content or "" for c in made)
    else:
        text = list(made)[-1].response.output_text
    assert text == '{"n": 3}'
    assert "$.n: 'three' is not of type 'integer'" in server.bodies[2].decode()


def test_what_is_said_before_a_formed_answer_is_shown_all_the_same(serve: Any, patched: Any) -> None:
    from agentd_openai.display import display_events

    client = patched(serve(BLOCK, "Hm.", "{}"))
    stream = client.chat.completions.create(
        model="m",
        messages=[{"role": "user", "content": "go"}],
        response_format={"type": "json_object"},
        stream=True,
    )
    shown = list(display_events(stream))
    assert "".join(e.text for e in shown if e.type == "text_delta").split() == ["I", "look.", "Hm.{}"]
    assert [e.exit_code for e in shown if e.type == "code_execution"] == [3]


# --- passed through, refused, and the whole of it ----------------------------------------------------------


@every_kind
def test_an_answer_in_the_background_is_refused(kind: str, serve: Any, patched: Any) -> None:
    client = patched(serve(), asynchronous=kind == "async")

    async def ask() -> Any:
        async with client:
            return await client.responses.create(model="m", input="go", background=True)

    with pytest.raises(ConfigError, match="background"):
        asyncio.run(ask()) if kind == "async" else client.responses.create(
            model="m", input="go", background=True
        )


def rows() -> Iterator[tuple[str, str]]:
    """Yield what the table in the documentation says about each pattern of a method's name."""
    text = (ROOT / "docs/facade.md").read_text(encoding="utf-8")
    table = text.partition("### Which methods")[2].partition("\n## ")[0]
    for line in table.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if len(cells) >= 2 and cells[1].startswith(("patched", "passed through", "refused")):
            for pattern in re.findall(r"`([\w.*]+)`", cells[0]):
                yield pattern, cells[1]


def methods(thing: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name of every method of a client's resources, and the method."""
    for name in dir(type(thing)):
        static = inspect.getattr_static(type(thing), name)
        if name.startswith(("_", "with_")):
            continue
        if inspect.isfunction(static) and path:
            yield f"{path}{name}", getattr(thing, name)
        elif isinstance(static, property) or type(static).__name__ == "cached_property":
            inner = getattr(thing, name, None)
            if type(inner).__module__.startswith("openai.resources"):
                yield from methods(inner, f"{path}{name}.")


@every_kind
def test_every_method_of_this_sdk_is_in_the_table_and_as_it_says(kind: str, serve: Any, patched: Any) -> None:
    client = patched(serve(), asynchronous=kind == "async")
    table = list(rows())
    assert len(table) > 20
    unknown = []
    for name, method in methods(client):
        said = next((what for pattern, what in table if fnmatchcase(name, pattern)), None)
        if said is None:
            unknown.append(name)
            continue
        is_the_sdks = inspect.unwrap(method) is method or hasattr(method, "__self__")
        assert is_the_sdks != said.startswith("patched"), name
    assert unknown == []
