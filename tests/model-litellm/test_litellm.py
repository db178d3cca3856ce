"""Models of other providers: a client that points at OpenAI, LiteLLM, and a server that plays the provider."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ModelError, ModelStreamError
from agentd.session.session import Session
from agentd_demo.recording import Turn
from agentd_demo.replay import ReplayFault, ReplayServer
from agentd_model_litellm.litellm import full_name
from agentd_model_openai.routing import open_model
from agentd_openai import patch_openai_with_ptc, unpatch_openai
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from ways import WAYS, call, text_of

if find_spec("litellm") is None:  # only looked for: the import is agentd's, which keeps it off the network
    pytest.skip("install agentd[litellm]", allow_module_level=True)
# LiteLLM reads attributes of pydantic's that are on their way out
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

MODEL = "deepseek/somebody"
BLOCK = "I look.\n```bash:execute\necho $((6*7))\n```\n"
ANSWER = "It is forty-two."
GO: Any = [{"role": "user", "content": "go"}]


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ReplayServer]]:
    """Start a server that LiteLLM takes for DeepSeek's, and for a proxy."""
    servers: list[ReplayServer] = []

    def start(*turns: str | Turn, **settings: Any) -> ReplayServer:
        server = ReplayServer(
            [t if isinstance(t, Turn) else Turn(text=t, chunk=5) for t in turns], **settings
        )
        server.start()
        servers.append(server)
        for name in ("DEEPSEEK", "LITELLM_PROXY"):
            monkeypatch.setenv(f"{name}_API_BASE", server.base_url)
            monkeypatch.setenv(f"{name}_API_KEY", "key-of-the-provider")
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Make patched clients that point at OpenAI's own address."""
    made: list[Any] = []

    def make(cls: type[Any] = openai.OpenAI) -> Any:
        client = patch_openai_with_ptc(cls(api_key="key-of-openai"), cwd=tmp_path / "work", tools=[])
        made.append(client)
        return client

    yield make
    for client in made:
        if hasattr(client, "cleanup_ptc"):
            client.cleanup_ptc()
        if isinstance(client, openai.OpenAI):
            client.close()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_calling_runs_the_code_of_another_providers_model(
    way: str, provider: Any, clients: Any
) -> None:
    server = provider(BLOCK, ANSWER)
    client = clients(openai.AsyncOpenAI if way.startswith("async") else openai.OpenAI)
    outcome = call(way, client, model=MODEL)
    first, second = server.requests
    assert first.headers["authorization"] == "Bearer key-of-the-provider"
    assert first.body["model"] == "somebody"
    assert "You act by writing code" in str(first.messages)
    assert ("assistant", BLOCK.strip()) in [(role, text.strip()) for role, text in second.messages]
    assert "42" in second.last
    if outcome.whole is None:
        executed = [e for e in outcome.shown if e.type == "code_execution"]
        assert executed[0].output == "42\n"
        shown = "".join(e.text for e in outcome.shown if e.type == "text_delta")
        assert shown.startswith("I look.")
        assert shown.endswith(ANSWER)
    else:
        assert type(outcome.whole) in (ChatCompletion, Response)
        assert outcome.whole.agentd["executions"][0]["output"] == "42\n"
        assert text_of(way, outcome) == ANSWER
        assert outcome.whole.usage.total_tokens > 0


def test_streamed_chunks_are_the_sdks_and_carry_the_usage_once(provider: Any, clients: Any) -> None:
    provider(ANSWER)
    stream = clients().chat.completions.create(
        model=MODEL, messages=GO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert {type(c).__name__ for c in chunks} == {"ChatCompletionChunk"}
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert [c.usage.total_tokens > 0 for c in chunks if c.usage] == [True]


def test_a_streamed_response_has_the_events_of_the_sdk_in_their_order(provider: Any, clients: Any) -> None:
    provider(ANSWER)
    events = list(clients().responses.create(model=MODEL, input="go", stream=True))
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert [e.type.removeprefix("response.") for e in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[-1].response.output_text == ANSWER


def test_a_stream_that_breaks_off_is_an_error_and_no_short_answer(provider: Any, clients: Any) -> None:
    provider(ANSWER, faults={0: ReplayFault("cut", after=3)})
    with pytest.raises(ModelStreamError, match="ended without its finish marker"):
        list(clients().chat.completions.create(model=MODEL, messages=GO, stream=True))


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_refusal_is_the_sdks_error_and_ours(api: str, provider: Any, clients: Any) -> None:
    provider(ANSWER, faults={n: ReplayFault("status", status=401) for n in range(5)})
    with pytest.raises(openai.AuthenticationError, match=r"check the API key .*DEEPSEEK_API_KEY") as told:
        call(f"sync-{api}-whole", clients(), model=MODEL)
    assert isinstance(told.value, ModelError)
    assert told.value.status_code == 401
    assert told.value.agentd["executions"] == []  # type: ignore[attr-defined]


def test_nothing_of_litellm_goes_to_standard_output(
    provider: Any, clients: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    provider(ANSWER, faults={0: ReplayFault("status", status=400)})
    with pytest.raises(openai.BadRequestError):
        clients().chat.completions.create(model=MODEL, messages=GO)
    assert capfd.readouterr().out == ""


def test_leaving_a_stream_hangs_up(provider: Any, clients: Any) -> None:
    server = provider(Turn(text="word " * 5000, chunk=5, delay_s=0.01))
    stream = clients().chat.completions.create(model=MODEL, messages=GO, stream=True)
    next(iter(stream))
    stream.close()
    assert server.requests[0].done.wait(20)
    assert server.requests[0].closed_early


def test_embeddings_of_other_providers_come_as_the_sdks_type(provider: Any, clients: Any) -> None:
    server = provider()
    answer = clients().embeddings.create(model="litellm_proxy/vectors", input=["a", "b"])
    assert type(answer) is CreateEmbeddingResponse
    assert [len(e.embedding) for e in answer.data] == [8, 8]
    assert answer.usage.total_tokens > 0
    assert server.requests[0].body["model"] == "vectors"

    async def ask() -> Any:
        async with clients(openai.AsyncOpenAI) as client:
            return await client.embeddings.create(model="litellm_proxy/vectors", input="a")

    assert asyncio.run(ask()).data[0].embedding == answer.data[0].embedding


def test_embeddings_of_the_clients_own_server_never_meet_litellm(provider: Any, tmp_path: Path) -> None:
    elsewhere = provider()
    with ReplayServer([]) as own, openai.OpenAI(base_url=own.base_url, api_key="k") as client:
        before = client.embeddings.create
        patch_openai_with_ptc(client, cwd=tmp_path, tools=[])
        assert client.embeddings.create is not before
        assert len(client.embeddings.create(model="litellm_proxy/v", input="a").data[0].embedding) == 8
        assert client.embeddings.with_raw_response.create(model="m", input="a").status_code == 200
        assert [r.body["model"] for r in own.requests] == ["litellm_proxy/v", "m"]
        unpatch_openai(client)
        assert "create" not in vars(client.embeddings)
    assert elsewhere.requests == []


@pytest.mark.anyio
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_session_speaks_with_another_providers_model(api: Any, provider: Any, tmp_path: Path) -> None:
    server = provider(BLOCK, ANSWER)
    async with Session(MODEL, cwd=tmp_path, tools=[], api=api, api_key="key-of-the-session") as session:
        end = await session.ask("go")
    assert end.stop_reason == "answer"
    assert server.requests[0].headers["authorization"] == "Bearer key-of-the-session"
    assert "42" in server.requests[1].last


def test_a_bare_name_goes_to_the_provider_that_one_means() -> None:
    assert full_name("claude-new-5") == "anthropic/claude-new-5"
    assert full_name("gemini-3-pro") == "gemini/gemini-3-pro"
    assert full_name("groq/claude-like") == "groq/claude-like"
    assert open_model("claude-new-5").name == "claude-new-5"


FIRST_IMPORT = """
import os, socket, sys, threading

threads, asked = set(), []

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("litellm."):
            threads.add(threading.current_thread().name)

def look_up(host, *more, real=socket.getaddrinfo, **named):
    asked.append(host)
    return real(host, *more, **named)

sys.meta_path.insert(0, Watch())
socket.getaddrinfo = look_up
before = dict(os.environ)

import openai
from agentd_openai import patch_openai_with_ptc

client = patch_openai_with_ptc(openai.OpenAI(api_key="none"), cwd=sys.argv[1], tools=[])
assert "litellm" not in sys.modules
answer = client.chat.completions.create(model="deepseek/x", messages=[{"role": "user", "content": "go"}])
assert answer.choices[0].message.content == "Yes."
assert dict(os.environ) == before, set(os.environ) ^ set(before)
assert threads == {"agentd-waiting"}, threads
assert set(asked) <= {"127.0.0.1"}, asked
client.cleanup_ptc()
client.close()
"""


@pytest.mark.slow
def test_the_first_import_leaves_environment_network_and_event_loop_alone(
    provider: Any, tmp_path: Path
) -> None:
    provider("Yes.")
    done = subprocess.run(
        [sys.executable, "-c", FIRST_IMPORT, str(tmp_path / "work")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
