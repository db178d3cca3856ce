"""A conversation that is too long for its model, in the words of the servers."""

from __future__ import annotations

from typing import Any

import pytest
from agentd.errors import ContextLengthError, ModelError
from agentd_model_openai import ChatModel, ResponsesModel
from fake_openai import Answer, FakeOpenAI

LLAMA_CPP = {
    "code": 400,
    "message": "the request exceeds the available context size. try increasing the context size",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 5012,
    "n_ctx": 4096,
}
OPENAI = {
    "message": "Your input exceeds the context window of this model.",
    "code": "context_length_exceeded",
}


async def read(model: Any) -> None:
    async with model.stream() as events:
        async for _ in events:
            pass


async def refused(api: str, error: dict[str, Any], streamed: bool) -> ModelError:
    with FakeOpenAI(Answer(status=400, error=error)) as server, server.client() as client:
        model: Any = (ChatModel if api == "chat" else ResponsesModel)("m", client=client, streamed=streamed)
        model.add_task("long")
        with pytest.raises(ModelError) as caught:
            await read(model)
    return caught.value


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_llama_cpps_error_is_known_with_both_numbers(api: str, streamed: bool) -> None:
    error = await refused(api, LLAMA_CPP, streamed)
    assert isinstance(error, ContextLengthError)
    assert (error.tokens, error.limit) == (5012, 4096)
    assert "(5,012 tokens of 4,096); the conversation is too long for this model" in str(error)


@pytest.mark.anyio
async def test_others_are_known_without_numbers() -> None:
    error = await refused("chat", OPENAI, True)
    assert isinstance(error, ContextLengthError)
    assert (error.tokens, error.limit) == (None, None)


@pytest.mark.anyio
async def test_another_bad_request_is_not_taken_for_it() -> None:
    error = await refused("chat", {"message": "unknown parameter: foo", "n_ctx": 4096}, True)
    assert not isinstance(error, ContextLengthError)
    assert "check the parameters" in str(error)
