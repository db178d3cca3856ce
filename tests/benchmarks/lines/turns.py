"""A conversation of 20 turns with a model that answers at once: 19 bash blocks (`/bin/true`), then an
answer without one.

Ours and theirs: the patched client, the same call, a client that has had one such conversation. The
model is a transport inside the process, so there is no network on any side. `chat` is
`client.chat.completions.create` on `OpenAI`; `streamed` is the same with `stream=True` on
`AsyncOpenAI`, where 0.8.6 runs a `/bin/sh` without state for each block.
Floor: the bare SDK, the same 20 requests with the messages growing the same way."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.kit import FakeModel, amedian_ms, median_ms
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="turns",
    rows=(
        Row(key="chat_ms", title="20 turns with bash, zero-latency model", unit="ms", ratio=6),
        Row(key="stream_ms", title="  streamed, AsyncOpenAI", unit="ms"),
    ),
)
BLOCK = "```bash:execute\n/bin/true\n```"
TURNS = 20


def _messages() -> list[dict[str, str]]:
    return [{"role": "user", "content": "Run it until it is done."}]


def _patched(quick: bool) -> Figures:
    """Both versions have the same public surface, so this is the code for both."""
    import os

    from agentd import patch_openai_with_ptc

    os.environ["AGENTD_LOG_DISABLE"] = "1"  # 0.8.6 writes a log of every conversation unless told not to
    model = FakeModel(BLOCK, blocks=TURNS - 1)
    client = patch_openai_with_ptc(model.client(), cwd=".")

    def converse() -> None:
        before = model.requests
        response = client.chat.completions.create(model="gpt-4o", messages=_messages())
        assert response.choices[0].message.content.strip().endswith("done")
        assert model.requests - before == TURNS, f"{model.requests - before} requests"

    figures: Figures = {"chat_ms": median_ms(converse, count=2 if quick else 5, warm=1)}
    client.cleanup_ptc()

    async def streamed() -> float:
        model = FakeModel(BLOCK, blocks=TURNS - 1)
        client = patch_openai_with_ptc(model.async_client(), cwd=".")

        async def converse() -> None:
            before = model.requests
            stream = await client.chat.completions.create(model="gpt-4o", messages=_messages(), stream=True)
            async for _ in stream:
                pass
            assert model.requests - before == TURNS, f"{model.requests - before} requests"

        try:
            return await amedian_ms(converse, count=2 if quick else 5, warm=1)
        finally:
            client.cleanup_ptc()

    figures["stream_ms"] = asyncio.run(streamed())
    return figures


def ours(quick: bool) -> Figures:
    """The patched client."""
    return _patched(quick)


def theirs(quick: bool) -> Figures:
    """The patched client of 0.8.6."""
    return _patched(quick)


def _grow(messages: list[dict[str, str]], answer: str) -> None:
    messages.append({"role": "assistant", "content": answer})
    messages.append({"role": "user", "content": "Execution results:\n```\n$ /bin/true\n\n```"})


def floor(quick: bool) -> Figures:
    """The SDK alone."""
    model = FakeModel(BLOCK, blocks=TURNS - 1)
    client = model.client()

    def converse() -> None:
        messages: Any = _messages()
        for _ in range(TURNS):
            response = client.chat.completions.create(model="gpt-4o", messages=messages)
            _grow(messages, response.choices[0].message.content)

    async def streamed() -> float:
        model = FakeModel(BLOCK, blocks=TURNS - 1)
        client = model.async_client()

        async def converse() -> None:
            messages: Any = _messages()
            for _ in range(TURNS):
                stream = await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
                parts = [chunk.choices[0].delta.content or "" async for chunk in stream]
                _grow(messages, "".join(parts))

        return await amedian_ms(converse, count=3 if quick else 7)

    return {"chat_ms": median_ms(converse, count=3 if quick else 7), "stream_ms": asyncio.run(streamed())}
