"""Streams that are not what a provider should send: long lines, content of other types."""

from __future__ import annotations

import gzip
import resource
from collections.abc import Iterator
from typing import Any

import pytest
from agentd.errors import ModelStreamError
from agentd_model_openai import ChatModel, ResponsesModel
from fake_openai import Answer, FakeOpenAI

MIB = 1024 * 1024
ENOUGH = 24  # MiB: beyond the limit, and harmless if there were none


def long_line() -> Iterator[bytes]:
    yield b'data: {"id": "'
    for _ in range(ENOUGH):
        yield b"x" * MIB


def lines_without_an_end() -> Iterator[bytes]:
    for _ in range(ENOUGH * 16):
        yield b"data: " + b"x" * (MIB // 16) + b"\n"


def compressed_line() -> Iterator[bytes]:
    yield gzip.compress(b'data: {"id": "' + b"x" * (ENOUGH * 16 * MIB))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def read(model: Any) -> str:
    text = ""
    async with model.stream() as events:
        async for event in events:
            text += getattr(event, "text", "")
    return text


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize(
    ("pieces", "encoding"), [(long_line, ""), (lines_without_an_end, ""), (compressed_line, "gzip")]
)
async def test_a_line_without_an_end_is_an_error_before_it_fills_the_memory(
    pieces: Any, encoding: str, api: str, kind: str
) -> None:
    bodies = pieces() if encoding == "" else list(pieces())
    with FakeOpenAI(Answer(pieces=bodies, encoding=encoding), repeat=True) as server:
        client = server.client(max_retries=2) if kind == "sync" else server.async_client(max_retries=2)
        model = (ChatModel if api == "chat" else ResponsesModel)("m", client=client)
        model.add_task("go")
        before = peak_mib()
        with pytest.raises(ModelStreamError, match="longer than 16 MiB"):
            await read(model)
        assert len(server.requests) == 1  # it would be the same again
        closed = client.close()
        if closed is not None:
            await closed
    if encoding:
        assert peak_mib() - before < ENOUGH * 16 / 2


def chunk(content: object, finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "Hello"}], "Hello"),
        (
            [
                {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}]},
                {"type": "text", "text": "Hi"},
            ],
            "Hi",
        ),
        (["He", "llo"], "Hello"),
        ([], ""),
    ],
)
async def test_the_text_of_parts_is_read(content: object, text: str) -> None:
    with FakeOpenAI(Answer(pieces=[chunk(content), chunk("!", "stop")])) as server, server.client() as client:
        assert await read(ChatModel("m", client=client)) == f"{text}!"


@pytest.mark.anyio
@pytest.mark.parametrize("content", [7, {"text": "x"}, True])
async def test_content_of_another_type_is_a_clear_error(content: object) -> None:
    answer = Answer(pieces=[chunk("a"), chunk(content, "stop")])
    with (
        FakeOpenAI(answer) as server,
        server.client() as client,
        pytest.raises(ModelStreamError, match="neither text nor a list of parts"),
    ):
        await read(ChatModel("m", client=client))
