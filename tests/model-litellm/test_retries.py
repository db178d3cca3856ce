"""Asking again: where nothing of the answer was passed on, bounded, with the provider's patience, visible."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
import openai
import pytest
from agentd.errors import ConfigError, ModelError, ModelStreamError
from agentd.session.session import Session
from agentd_model_openai import ChatModel, open_model
from agentd_model_openai.retry import Repeatable, Retries, asked_wait, client_count, is_transient, repeated
from formats import ANSWER, BLOCK, FORMATS, Format, ask
from llm_server import LlmServer, Relay

# LiteLLM reads attributes of pydantic's that are on their way out
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
NAMED = pytest.mark.parametrize("fmt", FORMATS, ids=[f.name for f in FORMATS])
STREAMED = [f for f in FORMATS if f.own or f.api == "chat"]
SOON = [{"type": "fail", "status": 429, "retry_after": 0.3, "times": 1}]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd_model_openai.retry.FIRST_WAIT_S", 0.02)


@pytest.mark.anyio
@NAMED
async def test_a_refusal_after_code_ran_is_asked_again_when_the_provider_says(
    fmt: Format, server: LlmServer, relay: Relay, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.script({"type": "reply", "text": BLOCK}, {"type": "reply", "text": ANSWER})
    relay.faults[1] = SOON
    with caplog.at_level(logging.WARNING, "agentd.models"):
        async with Session(fmt.model, cwd=tmp_path, tools=[], **fmt.session(relay.url)) as session:
            end = await session.ask("go")
    assert (end.text, end.turns) == (ANSWER, 2)
    assert (tmp_path / "ran").read_text() == "42\n"  # the block ran once
    assert len(relay.bodies) == 3
    assert relay.bodies[1] == relay.bodies[2]
    assert relay.times[2] - relay.times[1] >= 0.3
    [line] = [r.getMessage() for r in caplog.records if r.name == "agentd.models"]
    assert "RateLimitError (429); asking again in 0.3 s (1 of at most 2)" in line
    assert "retry_after_ignored" not in str(server.ask("/_llmock/verdict"))


@pytest.mark.parametrize("fmt", STREAMED, ids=[f.name for f in STREAMED])
@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
def test_a_stream_that_breaks_before_its_first_text_is_asked_again(
    fmt: Format, kind: str, server: LlmServer, relay: Relay, patched: Any
) -> None:
    server.script({"type": "reply", "text": BLOCK}, *[{"type": "reply", "text": ANSWER}] * 2)
    relay.faults[1] = [{"type": "stream_fault", "kind": kind, "after_chunks": 0}]
    client = patched(relay.url + fmt.path if fmt.own else None, max_retries=2)
    told = ask(fmt, client, relay.url, stream=True)
    assert told.error is None
    assert told.text.endswith(ANSWER)
    assert told.text.count(ANSWER) == 1
    assert len(relay.bodies) == 3
    if fmt.api == "responses":
        assert [i.type for i in told.items].count("response.created") == 1
        assert [i.sequence_number for i in told.items] == list(range(len(told.items)))


@pytest.mark.parametrize("fmt", STREAMED, ids=[f.name for f in STREAMED])
def test_a_stream_of_which_a_block_may_have_started_is_never_asked_again(
    fmt: Format, server: LlmServer, relay: Relay, patched: Any, tmp_path: Path
) -> None:
    server.script(*[{"type": "reply", "text": BLOCK + "\n\nAnd so on."}] * 3)
    after = {"openai-chat": 9, "openai-responses": 12, "anthropic-chat": 11, "gemini-chat": 8}[fmt.name]
    relay.faults[0] = [{"type": "stream_fault", "kind": "disconnect", "after_chunks": after}]
    client = patched(relay.url + fmt.path if fmt.own else None, max_retries=2)
    told = ask(fmt, client, relay.url, stream=True)
    assert isinstance(told.error, ModelStreamError) or (tmp_path / "work0" / "ran").read_text() == "42\n"
    assert len([b for b in relay.bodies if "tee -a ran" not in str(b)]) == 1


@NAMED
def test_a_client_decides_how_often_and_the_last_error_arrives(
    fmt: Format, server: LlmServer, relay: Relay, patched: Any
) -> None:
    server.script({"type": "fail", "status": 503, "retry_after": 0.01, "times": None})
    client = patched(relay.url + fmt.path if fmt.own else None, max_retries=1)
    told = ask(fmt, client, relay.url, stream=False)
    assert isinstance(told.error, ModelError)
    assert isinstance(told.error, openai.APIStatusError)
    assert len(relay.bodies) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("fmt", FORMATS[::2], ids=[f.name for f in FORMATS[::2]])
async def test_max_retries_among_the_models_options(
    fmt: Format, server: LlmServer, relay: Relay, tmp_path: Path
) -> None:
    server.script({"type": "fail", "status": 500, "times": None})
    given = fmt.session(relay.url)
    given["model_options"] = {**given.get("model_options", {}), "max_retries": 3}
    async with Session(fmt.model, cwd=tmp_path, tools=[], **given) as session:
        with pytest.raises(ModelError, match="the provider failed"):
            await session.ask("go")
    assert len(relay.bodies) == 4
    assert all("max_retries" not in body for body in relay.bodies)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_what_would_fail_again_is_asked_once(
    status: int, server: LlmServer, relay: Relay, patched: Any
) -> None:
    relay.faults[0] = status
    told = ask(FORMATS[2], patched(None, max_retries=2), relay.url, stream=True)
    assert isinstance(told.error, ModelError)
    assert len(relay.bodies) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"type": "fail", "status": 429, "retry_after": 3600},
        {"type": "fail", "status": 429, "code": "insufficient_quota", "retry_after": 0.01},
    ],
    ids=["patience of an hour", "used up quota"],
)
@pytest.mark.anyio
async def test_a_provider_that_will_not_answer_soon_is_asked_once(
    fault: dict[str, Any], server: LlmServer, relay: Relay, tmp_path: Path
) -> None:
    relay.faults[0] = [fault]
    async with Session("gpt-x", cwd=tmp_path, tools=[], **FORMATS[0].session(relay.url)) as session:
        with pytest.raises(ModelError, match=r"asks to wait 3600 s|billing page"):
            await session.ask("go")
    assert len(relay.bodies) == 1


@pytest.mark.anyio
async def test_cancelling_ends_the_waiting_at_once(server: LlmServer, relay: Relay, tmp_path: Path) -> None:
    server.script({"type": "fail", "status": 429, "retry_after": 50, "times": None})
    waiting = anyio.Event()
    handler = logging.Handler()
    handler.emit = lambda record: waiting.set()  # type: ignore[method-assign]
    log = logging.getLogger("agentd.models")
    log.addHandler(handler)
    try:
        begin = time.monotonic()
        async with (
            Session("gpt-x", cwd=tmp_path, tools=[], **FORMATS[0].session(relay.url)) as session,
            anyio.create_task_group() as group,
        ):
            group.start_soon(session.ask, "go")
            await waiting.wait()
            group.cancel_scope.cancel()
    finally:
        log.removeHandler(handler)
    assert time.monotonic() - begin < 20
    assert len(relay.bodies) == 1


def test_embeddings_through_litellm_are_asked_again(server: LlmServer, relay: Relay, patched: Any) -> None:
    relay.faults[0] = 500
    given = {"model": "litellm_proxy/vectors", "input": "one", "api_base": f"{relay.url}/v1", "api_key": "k"}
    assert len(patched(None, max_retries=2).embeddings.create(**given).data[0].embedding) == 1536
    assert len(relay.bodies) == 2


def test_embeddings_that_fail_are_agentds_error_and_the_sdks(
    server: LlmServer, relay: Relay, patched: Any
) -> None:
    relay.faults[0] = 401
    given = {"model": "litellm_proxy/vectors", "input": "one", "api_base": f"{relay.url}/v1", "api_key": "k"}
    with pytest.raises(openai.AuthenticationError, match="check the API key") as told:
        patched(None).embeddings.create(**given)
    assert isinstance(told.value, ModelError)
    assert len(relay.bodies) == 1


@pytest.mark.parametrize("bad", [-1, "2", 1.5, True])
def test_a_number_of_retries_that_is_none_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match="max_retries: must be a whole number from 0 on"):
        open_model("gpt-x", options={"max_retries": bad})


@pytest.mark.anyio
async def test_the_total_time_is_bounded() -> None:
    asked: list[float] = []

    async def fail() -> None:
        asked.append(time.monotonic())
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await repeated(fail, Retries(count=10_000, total_s=0.3), "m")
    assert 2 < len(asked) < 100
    assert asked[-1] - asked[0] < 1.0


@pytest.mark.anyio
async def test_a_mistake_in_a_program_is_raised_at_once() -> None:
    asked: list[int] = []

    def create(**kwargs: Any) -> Any:
        asked.append(1)
        raise TypeError("unexpected keyword argument 'temprature'")

    model = ChatModel("m", create=Repeatable(create, Retries()))
    with pytest.raises(TypeError, match="temprature"):
        async with model.stream():
            pass
    assert asked == [1]


def failure(status: int, **headers: str) -> openai.APIStatusError:
    given = {k.replace("_", "-"): v for k, v in headers.items()}
    reply: Any = httpx.Response(status, headers=given, request=httpx.Request("POST", "http://localhost"))
    return openai.APIStatusError("no", response=reply, body=None)


def test_the_patience_that_is_asked_for_is_read_in_every_form() -> None:
    assert asked_wait(failure(429, retry_after="7")) == 7
    assert asked_wait(failure(429, retry_after="1", retry_after_ms="250")) == 0.25
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    assert 20 < (asked_wait(failure(429, retry_after=date)) or 0) <= 30
    assert asked_wait(failure(429, retry_after="soon")) is None
    assert asked_wait(ConnectionResetError()) is None


@pytest.mark.parametrize(
    ("exc", "again"),
    [
        (failure(408), True),
        (failure(409), True),
        (failure(529), True),
        (failure(422), False),
        (failure(500, x_should_retry="false"), False),
        (failure(400, x_should_retry="true"), True),
        (ConnectionResetError(), True),
        (ValueError("what"), False),
    ],
)
def test_what_may_pass(exc: Exception, again: bool) -> None:
    assert is_transient(exc) is again


def test_a_clients_own_number_is_found() -> None:
    with openai.OpenAI(api_key="k", base_url="http://localhost", max_retries=7) as client:
        assert client_count(client.responses.create) == 7
        assert client_count(client.chat.completions.create) == 7
    assert client_count(print, default=0) == 0
