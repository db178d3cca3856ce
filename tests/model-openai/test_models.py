"""The two model adapters over a real HTTP server and the real SDK, sync and async."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

import anyio
import openai
import pytest
from agentd.errors import ConfigError, MissingPluginError, ModelError, ModelStreamError
from agentd.protocols import ModelFinish, ModelText
from agentd.registry import Registry
from agentd_model_openai import ChatModel, ResponsesModel, open_model
from agentd_model_openai.routing import needs_litellm
from agentd_model_openai.source import _shut
from fake_openai import Answer, FakeOpenAI

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("api", ["chat", "responses"])
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


def _on_trio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


@asynccontextmanager
async def model_of(server: FakeOpenAI, api: str, kind: str, **settings: Any) -> AsyncIterator[Any]:
    if kind == "async" and _on_trio():
        pytest.skip(
            "the SDK's async streams leave generators open, which trio complains about: use OpenAI there"
        )
    client = server.client() if kind == "sync" else server.async_client()
    try:
        yield (ChatModel if api == "chat" else ResponsesModel)("m", client=client, **settings)
    finally:
        closed = client.close()
        if closed is not None:
            await closed


async def read(model: Any, seen: list[str] | None = None) -> tuple[str, ModelFinish | None]:
    text, finish = "", None
    async with model.stream() as events:
        async for event in events:
            if isinstance(event, ModelText):
                text += event.text
                if seen is not None:
                    seen.append(event.text)
            else:
                finish = event
    return text, finish


@BOTH
@KINDS
@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_arrives_with_its_usage(api: str, kind: str, streamed: bool) -> None:
    with FakeOpenAI(Answer(text="Hello, wörld", cached=40, reasoning=5)) as server:
        async with model_of(server, api, kind, streamed=streamed, prices={"m": (10.0, 20.0, 1.0)}) as model:
            model.start("Be kind.")
            model.add_task("Hi")
            text, finish = await read(model)
    assert text == "Hello, wörld"
    assert finish is not None
    assert (finish.reason, finish.usage.input_tokens, finish.usage.output_tokens) == ("stop", 100, 10)
    assert (finish.usage.cached_input_tokens, finish.usage.reasoning_tokens) == (40, 5)
    assert finish.usage.cost_usd == pytest.approx((60 * 10 + 40 * 1 + 10 * 20) / 1e6)
    sent = server.requests[0]
    if api == "chat":
        assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    else:
        assert sent["instructions"] == "Be kind."
        assert sent["input"] == [{"role": "user", "content": "Hi"}]


@BOTH
@KINDS
async def test_a_stream_that_is_cut_is_an_error_and_never_a_half_answer(api: str, kind: str) -> None:
    with FakeOpenAI(Answer(text="Hello there", cut_after=5)) as server:
        async with model_of(server, api, kind) as model:
            got: list[str] = []
            with pytest.raises(ModelStreamError, match="without its finish marker"):
                await read(model, got)
    assert "".join(got) == "Hello"


@BOTH
@KINDS
async def test_a_malformed_chunk_is_a_stream_error_with_its_cause(api: str, kind: str) -> None:
    with FakeOpenAI(Answer(text="Hello there", malformed_after=5)) as server:
        async with model_of(server, api, kind) as model:
            with pytest.raises(ModelStreamError, match="the stream broke") as caught:
                await read(model)
    assert isinstance(caught.value.__cause__, ValueError)


@BOTH
@KINDS
async def test_a_disconnect_in_the_middle_is_a_stream_error(api: str, kind: str) -> None:
    with FakeOpenAI(Answer(text="Hello there", disconnect_after=5)) as server:
        async with model_of(server, api, kind) as model:
            with pytest.raises(ModelStreamError):
                await read(model)


@BOTH
@KINDS
async def test_an_empty_stream_is_an_error(api: str, kind: str) -> None:
    class Nothing:
        response = None

        def __iter__(self) -> Any:
            return iter(())

        async def __aiter__(self) -> Any:
            for _ in ():
                yield _

    async def aask(**_: Any) -> Any:
        return Nothing()

    model: Any = (ChatModel if api == "chat" else ResponsesModel)(
        "m", create=aask if kind == "async" else lambda **_: Nothing()
    )
    with pytest.raises(ModelStreamError, match="was empty"):
        await read(model)


@BOTH
@KINDS
@pytest.mark.parametrize(
    ("status", "hint"), [(429, "wait and try again"), (500, "try again later"), (401, "check the API key")]
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_refusal_names_the_next_step_and_keeps_the_cause(
    api: str, kind: str, status: int, hint: str, streamed: bool
) -> None:
    with FakeOpenAI(Answer(status=status, text="nope")) as server:
        async with model_of(server, api, kind, streamed=streamed) as model:
            with pytest.raises(ModelError, match=hint) as caught:
                await read(model)
    assert isinstance(caught.value.__cause__, openai.APIStatusError)


@BOTH
async def test_a_server_that_is_not_there_is_named_as_unreachable(api: str) -> None:
    with FakeOpenAI() as server:
        pass
    client = server.client()
    model: Any = (ChatModel if api == "chat" else ResponsesModel)("m", client=client)
    with pytest.raises(ModelError, match="was not reached"):
        await read(model)
    client.close()


@BOTH
@KINDS
async def test_leaving_a_stream_early_closes_the_connection(api: str, kind: str) -> None:
    with FakeOpenAI(Answer(text="x" * 40, forever=True)) as server:
        async with model_of(server, api, kind) as model:
            async with model.stream() as events:
                async for event in events:
                    if event.text:
                        break
            hung_up = await anyio.to_thread.run_sync(server.hung_up.wait, 10)
    assert hung_up


def test_a_provider_that_waits_for_room_hears_of_the_end() -> None:
    """The buffers on the way are full, and the thread that reads has emptied ours before it lets go."""
    full, hung_up = threading.Event(), threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            room = select.poll()
            room.register(connection, select.POLLOUT)
            while room.poll(300):
                connection.send(b"x" * 65_536, socket.MSG_DONTWAIT)
            full.set()
            while True:
                connection.sendall(b"x" * 65_536)
        hung_up.set()

    with socket.create_server(("127.0.0.1", 0)) as listener, openai.DefaultHttpxClient() as client:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        with client.stream("GET", f"http://127.0.0.1:{port}") as response:
            assert full.wait(20)
            _shut(SimpleNamespace(response=response))
            for _ in response.iter_raw():
                pass
        assert hung_up.wait(5)


@BOTH
async def test_a_sync_client_that_waits_for_a_slow_model_lets_the_loop_run(api: str) -> None:
    answer = Answer(text="Hello there", wait_after=5)
    with FakeOpenAI(answer) as server:
        async with model_of(server, api, "sync") as model:
            seen: list[str] = []

            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(read, model, seen)
                    while "".join(seen) != "Hello":  # arrives although the rest does not
                        await anyio.sleep(0.001)
                    answer.gate.set()
    assert "".join(seen) == "Hello there"


@BOTH
async def test_cancelling_while_the_provider_is_silent_returns_at_once(api: str) -> None:
    answer = Answer(text="Hello", wait_after=3)
    with FakeOpenAI(answer) as server:
        async with model_of(server, api, "sync") as model:
            with anyio.move_on_after(0.2) as scope:
                await read(model)
            assert scope.cancelled_caught
            answer.gate.set()


async def test_a_server_without_stream_options_is_asked_again_without_them() -> None:
    with FakeOpenAI("one", "two") as server:
        server.reject_stream_options = True
        async with model_of(server, "chat", "async") as model:
            assert (await read(model))[0] == "one"
            assert (await read(model))[0] == "two"
    assert ["stream_options" in r for r in server.requests] == [True, False, False]


async def test_a_response_cut_by_the_provider_says_why() -> None:
    with FakeOpenAI(Answer(text="half", finish="max_output_tokens")) as server:
        async with model_of(server, "responses", "async") as model:
            _, finish = await read(model)
    assert finish is not None
    assert finish.reason == "max_output_tokens"


async def test_a_mistake_in_the_options_passes_as_what_it_is() -> None:
    with FakeOpenAI("x") as server:
        async with model_of(server, "chat", "async", options={"no_such_option": 1}) as model:
            with pytest.raises(TypeError, match="no_such_option"):
                await read(model)


REASONING: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "s3cret"}


async def test_reasoning_items_are_passed_back_whole_with_their_ids() -> None:
    bare = {"id": "rs_2", "type": "reasoning", "summary": []}
    with FakeOpenAI(Answer(text="answer", items=[REASONING, bare]), "x") as server:
        async with model_of(server, "responses", "sync", input="task") as model:
            await read(model)
            model.add_answer("answer")
            model.add_results("results")
            await read(model)
    sent = server.requests[1]["input"]
    assert sent[1] == REASONING
    assert sent[2] == bare
    assert (sent[3]["id"], sent[3]["content"][0]["text"]) == ("msg_1", "answer")
    assert sent[4] == {"role": "user", "content": "results"}


async def test_without_storing_only_encrypted_reasoning_is_passed_back() -> None:
    bare = {"id": "rs_2", "type": "reasoning", "summary": []}
    with FakeOpenAI(Answer(text="answer", items=[REASONING, bare]), "x") as server:
        async with model_of(server, "responses", "sync", input="task", options={"store": False}) as model:
            await read(model)
            model.add_answer("answer")
            await read(model)
    assert [i.get("id") for i in server.requests[1]["input"]] == [None, "rs_1", "msg_1"]


async def test_an_unknown_price_leaves_the_cost_unknown() -> None:
    with FakeOpenAI("x") as server:
        async with model_of(server, "chat", "async", prices={"other": (1.0, 1.0)}) as model:
            _, finish = await read(model)
    assert finish is not None
    assert finish.usage.cost_usd is None


@pytest.mark.parametrize(
    ("name", "address", "needed"),
    [
        ("gpt-5", None, False),
        ("claude-sonnet-4-20250514", None, True),
        ("claude-sonnet-4-20250514", "http://localhost:8000/v1", False),
        ("anthropic/claude-x", "https://api.openai.com/v1/", True),
        ("gemini-3-pro", "https://api.openai.com/v1", True),
        ("openai/gpt-5", None, False),
        ("my-org/my-finetune", None, False),
        ("moonshot/kimi", "https://eu.api.openai.com/v1", True),
        ("claude-x", "https://api.openai.com.example/v1", False),
    ],
)
def test_a_model_goes_through_litellm_only_when_its_name_says_so(
    name: str, address: str | None, needed: bool
) -> None:
    assert needs_litellm(name, address) is needed


def test_a_model_that_needs_litellm_names_the_distribution() -> None:
    registry = Registry()
    registry._chosen.pop(("model", "litellm"), None)  # as uninstalled
    with pytest.raises(MissingPluginError, match="pip install agentd-model-litellm"):
        registry.open_model("anthropic/claude-x")


def test_an_unknown_api_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be 'chat' or 'responses', got 'completion'"):
        open_model("m", api="completion")  # type: ignore[arg-type]
