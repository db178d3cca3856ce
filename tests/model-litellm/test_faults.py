"""What a provider may do wrong, for each wire format: always an error of agentd's, never a short answer."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest
from agentd.errors import ModelError, ModelStreamError
from agentd_model_litellm.litellm import _library
from agentd_model_openai.failure import broken_stream, refused
from formats import ANSWER, BLOCK, FORMATS, Format, Told, ask
from llm_server import LlmServer, Relay

# LiteLLM reads attributes of pydantic's that are on their way out
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
PATIENCE_S = 20

NAMED = pytest.mark.parametrize("fmt", FORMATS, ids=[f.name for f in FORMATS])
STREAMED = [f for f in FORMATS if f.own or f.api == "chat"]
"""LiteLLM's responses are asked for as a whole."""
REALLY_STREAMED = pytest.mark.parametrize("fmt", STREAMED, ids=[f.name for f in STREAMED])
LATER = pytest.mark.parametrize("round", [0, 1], ids=["first-round", "after-code-ran"])


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """Have LiteLLM imported already: that takes seconds, on a busy machine many, which say nothing of a fault."""
    _library()


def told_by(fmt: Format, fault: Any, round: int, *, stream: bool, relay: Relay, patched: Any) -> Told:
    """Meet the fault in that round; the rounds before it run a block."""
    replies = [{"type": "reply", "text": BLOCK}] * round + [{"type": "reply", "text": ANSWER}]
    relay.server.script(*replies)
    relay.faults[round] = fault
    client = patched(relay.url + fmt.path if fmt.own else None)
    begin = time.monotonic()
    told = ask(fmt, client, relay.url, stream=stream)
    assert time.monotonic() - begin < PATIENCE_S
    assert len(relay.bodies) == round + 1, "max_retries is 0"
    return told


def assert_kept(told: Told, round: int) -> None:
    """The error is agentd's, has a cause or says what was missing, and has what was done."""
    error: Any = told.error
    assert isinstance(error, ModelError), repr(error)
    assert error.__cause__ is not None or "finish" in str(error) or "was empty" in str(error)
    assert isinstance(error.__cause__, openai.OpenAIError) <= isinstance(error, openai.OpenAIError)
    assert [e["output"] for e in error.agentd["executions"]] == ["42\n"] * round
    assert len([m for m in error.agentd["messages"] if "tee -a ran" in str(m)]) == round
    assert "Traceback" not in str(error)
    assert "key-of-the" not in str(error)


@NAMED
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("status", "kind"), [(429, openai.RateLimitError), (500, openai.InternalServerError)]
)
def test_a_refusal_is_agentds_error_and_the_sdks(
    fmt: Format,
    status: int,
    kind: type[openai.APIStatusError],
    stream: bool,
    server: LlmServer,
    relay: Relay,
    patched: Any,
) -> None:
    told = told_by(fmt, status, 1, stream=stream, relay=relay, patched=patched)
    assert_kept(told, 1)
    assert isinstance(told.error, kind)
    assert told.error.status_code == status
    assert isinstance(told.error.__cause__, kind)


@NAMED
@pytest.mark.parametrize("fault", ["refuse", "half"])
def test_a_whole_answer_that_is_cut_off_is_a_connection_error(
    fmt: Format, fault: str, server: LlmServer, relay: Relay, patched: Any
) -> None:
    told = told_by(fmt, fault, 1, stream=False, relay=relay, patched=patched)
    assert_kept(told, 1)
    assert isinstance(told.error, (openai.APIConnectionError, openai.InternalServerError))


@NAMED
@pytest.mark.parametrize("fault", ["malformed", "hollow", "page"])
def test_a_whole_answer_without_sense_is_an_error(
    fmt: Format, fault: str, server: LlmServer, relay: Relay, patched: Any
) -> None:
    told = told_by(fmt, fault, 1, stream=False, relay=relay, patched=patched)
    assert_kept(told, 1)
    assert told.text == ""


@REALLY_STREAMED
@LATER
def test_a_stream_that_hangs_up_before_the_first_byte(
    fmt: Format, round: int, server: LlmServer, relay: Relay, patched: Any
) -> None:
    told = told_by(fmt, "refuse", round, stream=True, relay=relay, patched=patched)
    assert_kept(told, round)
    # LiteLLM calls Anthropic's hanging up an error within the server
    assert isinstance(told.error, (openai.APIConnectionError, openai.InternalServerError))
    assert "check the network" in str(told.error)
    assert ANSWER[:2] not in told.text


@REALLY_STREAMED
@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
@pytest.mark.parametrize("place", ["beginning", "middle"])
def test_a_stream_that_breaks(
    fmt: Format, kind: str, place: str, server: LlmServer, relay: Relay, patched: Any
) -> None:
    round = 1
    text_begins = {"openai-chat": 1, "openai-responses": 4, "anthropic-chat": 3, "gemini-chat": 0}
    after = 0 if place == "beginning" else text_begins[fmt.name] + 2
    fault = [{"type": "stream_fault", "kind": kind, "after_chunks": after}]
    told = told_by(fmt, fault, round, stream=True, relay=relay, patched=patched)
    assert_kept(told, round)
    answer = told.text.rpartition("```")[2].strip()
    if place == "middle":
        assert isinstance(told.error, ModelStreamError)
        assert answer == "It is"
        assert told.error.agentd["messages"][-1:]  # type: ignore[attr-defined]
        assert "It is" in str(told.error.agentd["messages"][-1])  # type: ignore[attr-defined]
    else:
        assert answer == ""
    ends = [i for i in told.items if getattr(i, "type", "") == "response.completed"]
    ends += [i for i in told.items if getattr(i, "choices", None) and i.choices[0].finish_reason]
    assert ends == []


@REALLY_STREAMED
def test_an_empty_stream_is_an_error(fmt: Format, server: LlmServer, relay: Relay, patched: Any) -> None:
    told = told_by(fmt, "silent", 1, stream=True, relay=relay, patched=patched)
    assert_kept(told, 1)
    assert isinstance(told.error, ModelStreamError)


@NAMED
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_an_answer_without_words_is_asked_for_again_once(
    fmt: Format, stream: bool, server: LlmServer, relay: Relay, patched: Any
) -> None:
    client = patched(relay.url + fmt.path if fmt.own else None)
    server.script({"type": "reply", "text": ""})
    told = ask(fmt, client, relay.url, stream=stream)
    assert told.error is None
    assert told.text
    server.script({"type": "reply", "text": ""}, {"type": "reply", "text": ""})
    told = ask(fmt, client, relay.url, stream=stream)
    assert "it answered nothing, twice: the provider ended the answer with 'stop'" in str(told.error)
    assert len(relay.bodies) == 4


@pytest.mark.parametrize("fmt", STREAMED[:3], ids=[f.name for f in STREAMED[:3]])
def test_a_provider_that_falls_silent_is_given_up_after_the_time_out(
    fmt: Format, server: LlmServer, relay: Relay, patched: Any
) -> None:
    server.script(
        {"type": "reply", "text": ANSWER},
        {"type": "stream_fault", "kind": "stall", "after_chunks": 5, "stall_seconds": 30},
    )
    begin = time.monotonic()
    told = ask(fmt, patched(relay.url + fmt.path if fmt.own else None), relay.url, stream=True, timeout=0.5)
    assert time.monotonic() - begin < PATIENCE_S
    assert_kept(told, 0)
    assert isinstance(told.error, ModelStreamError)


@pytest.mark.parametrize("model", ["gpt-x", "anthropic/claude-x", "gemini/gemini-x"])
def test_a_server_that_is_not_there_is_told_with_what_to_check(model: str, patched: Any) -> None:
    nowhere = "http://127.0.0.1:9/v1"
    own = "/" not in model
    more = {} if own else {"api_base": nowhere, "api_key": "k"}
    with pytest.raises(openai.APIError, match="check the network and the address") as told:
        patched(nowhere if own else None).chat.completions.create(
            model=model, messages=[{"role": "user", "content": "go"}], **more
        )
    assert isinstance(told.value, ModelError)


HINTS = [
    ("gpt-x", "/v1", 401, None, "check the API key .*OPENAI_API_KEY"),
    ("anthropic/claude-x", "/anthropic", 401, None, "check the API key .*ANTHROPIC_API_KEY"),
    (
        "gemini/gemini-x",
        "/gemini/v1beta",
        400,
        "API key not valid. Please pass a valid API key.",
        "GEMINI_API_KEY",
    ),
    ("gpt-x", "/v1", 404, "The model `gpt-x` does not exist", "check the model's name"),
    ("anthropic/claude-x", "/anthropic", 404, "model: claude-x", "check the model's name"),
    ("gpt-x", "/v1", 400, "This model's maximum context length is 8 tokens", "larger context"),
    ("anthropic/claude-x", "/anthropic", 400, "prompt is too long: 9 tokens > 8 maximum", "larger context"),
    (
        "gemini/gemini-x",
        "/gemini/v1beta",
        400,
        "The input token count (9) exceeds the maximum number of tokens allowed (8).",
        "larger context",
    ),
    ("gpt-x", "/v1", 429, "You exceeded your current quota", "billing page"),
    ("anthropic/claude-x", "/anthropic", 400, "Your credit balance is too low", "billing page"),
    ("gpt-x", "/v1", 429, None, "asks to wait 1 s"),
    ("gpt-x", "/v1", 503, None, "asks to wait|the provider failed: try again later"),
]


@pytest.mark.parametrize(("model", "path", "status", "message", "hint"), HINTS)
def test_what_users_meet_often_has_a_next_step(
    model: str, path: str, status: int, message: str | None, hint: str, server: LlmServer, patched: Any
) -> None:
    server.script({"type": "fail", "status": status, "message": message})
    url = f"http://127.0.0.1:{server.port}{path}"
    own = "/" not in model
    more = {} if own else {"api_base": url, "api_key": "k"}
    with pytest.raises(ModelError, match=hint):
        patched(url if own else None).chat.completions.create(
            model=model, messages=[{"role": "user", "content": "go"}], **more
        )


def test_a_missing_key_of_another_provider_names_its_variable(patched: Any) -> None:
    with pytest.raises(openai.AuthenticationError, match="ANTHROPIC_API_KEY"):
        patched(None).chat.completions.create(model="claude-x", messages=[{"role": "user", "content": "go"}])


def test_a_key_in_an_address_is_not_repeated() -> None:
    quoted = ConnectionError("no answer from 'https://host/v1beta/models/g:generate?key=s3cret&alt=sse'")
    assert "s3cret" not in str(refused("gemini/g", quoted))
    assert "key=***&alt=sse" in str(broken_stream("gemini/g", quoted))
