"""16 agents on one event loop, each of which runs `sleep 0.1` at the same time.

Ours and theirs: 16 patched `AsyncOpenAI` clients in one `asyncio.gather`, each with a zero-latency
model that answers with one block and then without; every client has had one conversation before. `chat`
is the call without streaming, which in 0.8.6 runs the block on the event loop; with `stream=True` it
starts a `/bin/sh` for each. A task that sleeps 1 ms at a time measures the loop's longest block.
Floor: 16 `bash -c "sleep 0.1"` at once, and how long the loop then waits for a processor."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.kit import FakeModel
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="sixteen_sessions",
    rows=(
        Row(key="chat_ms", title="16 sessions x sleep 0.1, one event loop", unit="ms", ratio=10),
        Row(key="chat_block_ms", title="  the loop's longest block", unit="ms", limit=20),
        Row(key="stream_ms", title="  streamed", unit="ms"),
        Row(key="stream_block_ms", title="  the loop's longest block", unit="ms", limit=20),
    ),
)
BLOCK = "```bash:execute\nsleep 0.1\n```"
SESSIONS = 16


async def _timed(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Return how long `work` took and how long it kept the loop from a task that only wants 1 ms, in ms."""
    longest = 0.0
    done = False

    async def tick() -> None:
        nonlocal longest
        while not done:
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - begin - 0.001)

    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    begin = time.perf_counter()
    await work()
    took = time.perf_counter() - begin
    done = True
    await ticker
    return took * 1000, longest * 1000


async def _repeat(work: Callable[[], Awaitable[object]], count: int) -> tuple[float, float]:
    await work()
    runs = [await _timed(work) for _ in range(count)]
    return statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)


def _patched(quick: bool) -> Figures:
    """Both versions have the same public surface, so this is the code for both."""
    import os
    from pathlib import Path

    from agentd import patch_openai_with_ptc

    os.environ["AGENTD_LOG_DISABLE"] = "1"

    async def measure() -> Figures:
        clients: list[Any] = []
        for number in range(SESSIONS):
            folder = Path(f"session-{number}")
            folder.mkdir()
            model = FakeModel(BLOCK, blocks=1)
            clients.append(patch_openai_with_ptc(model.async_client(), cwd=str(folder)))

        async def chat(client: Any) -> None:
            messages = [{"role": "user", "content": "Sleep."}]
            response = await client.chat.completions.create(model="gpt-4o", messages=messages)
            assert response.choices[0].message.content.strip().endswith("done")

        async def stream(client: Any) -> None:
            messages = [{"role": "user", "content": "Sleep."}]
            events = await client.chat.completions.create(model="gpt-4o", messages=messages, stream=True)
            async for _ in events:
                pass

        count = 2 if quick else 5
        chat_ms, chat_block = await _repeat(lambda: asyncio.gather(*map(chat, clients)), count)
        stream_ms, stream_block = await _repeat(lambda: asyncio.gather(*map(stream, clients)), count)
        for client in clients:
            client.cleanup_ptc()
        return {
            "chat_ms": chat_ms,
            "chat_block_ms": chat_block,
            "stream_ms": stream_ms,
            "stream_block_ms": stream_block,
        }

    return asyncio.run(measure())


def ours(quick: bool) -> Figures:
    """The patched clients."""
    return _patched(quick)


def theirs(quick: bool) -> Figures:
    """The patched clients of 0.8.6."""
    return _patched(quick)


def floor(quick: bool) -> Figures:
    """The processes alone."""

    async def one() -> None:
        process = await asyncio.create_subprocess_exec("bash", "-c", "sleep 0.1")
        await process.wait()

    async def measure() -> Figures:
        took, block = await _repeat(lambda: asyncio.gather(*(one() for _ in range(SESSIONS))), 5)
        return {"chat_ms": took, "chat_block_ms": block, "stream_ms": took, "stream_block_ms": block}

    return asyncio.run(measure())
