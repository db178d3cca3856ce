"""What the sides of the benchmarks share: clocks, /proc, a model without latency. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "FakeModel",
    "amedian_ms",
    "cut",
    "descendants",
    "listening_ports",
    "median_ms",
    "memory_mib",
    "note",
    "pss_mib",
    "scratch",
    "threads",
]

_notes: list[str] = []


def note(text: str) -> None:
    """Say something about this side's figures that the report shows below its table."""
    if text not in _notes:
        _notes.append(text)


def taken_notes() -> list[str]:
    """Return what `note` was told in this process."""
    return list(_notes)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a fresh directory and make it the current one (0.8.6 writes `./logs`)."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="agentd-bench-", ignore_cleanup_errors=True) as name:
        os.chdir(name)
        try:
            yield Path(name)
        finally:
            os.chdir(before)


# --- clocks ------------------------------------------------------------------------------------


def median_ms(call: Callable[[], object], *, count: int, warm: int = 2) -> float:
    """Return the median time of one `call()` in milliseconds, over `count` after `warm` unmeasured ones."""
    for _ in range(warm):
        call()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


async def amedian_ms(call: Callable[[], Awaitable[object]], *, count: int, warm: int = 2) -> float:
    """The same for a coroutine function."""
    for _ in range(warm):
        await call()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def cut(text: str, size: int) -> list[str]:
    """Cut a text into pieces of `size` characters."""
    return [text[i : i + size] for i in range(0, len(text), size)]


# --- /proc -------------------------------------------------------------------------------------


def memory_mib(field: str = "VmRSS", pid: int | str = "self") -> float:
    """Return a memory field of /proc/PID/status in MiB; `VmHWM` is the peak of `VmRSS`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


def pss_mib(pid: int) -> float:
    """Return the proportional set size of a process in MiB: shared pages count by their share."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def threads(pid: int | str = "self") -> int:
    """Return the number of threads of a process."""
    return len(os.listdir(f"/proc/{pid}/task"))


def descendants(root: int | None = None) -> list[int]:
    """Return the pids of all processes below `root` (this process)."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = Path(f"/proc/{entry}/stat").read_text()
                parent = int(stat.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    queue = [root if root is not None else os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def listening_ports() -> int:
    """Return how many TCP sockets this process and its descendants listen on."""
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == "0A":  # TCP_LISTEN
                    listening.add(f"socket:[{columns[9]}]")
    held = set()
    for pid in [os.getpid(), *descendants()]:
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    held.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return len(listening & held)


# --- a model without latency ---------------------------------------------------------------------


class FakeModel:
    """An OpenAI chat model inside the process: `blocks` answers with the same code block, then `done`.

    It answers below the SDK (a transport for its HTTP client), so that the SDK itself is measured on
    every side and the network on none. The count starts again after each `done`.
    """

    def __init__(self, block: str, *, blocks: int) -> None:
        self._answer = f"I will run this.\n\n{block}\n"
        self._blocks = blocks
        self._given = 0
        self.requests = 0

    def _next(self) -> str:
        self.requests += 1
        if self._given == self._blocks:
            self._given = 0
            return "done"
        self._given += 1
        return self._answer

    def _reply(self, http: Any, body: dict[str, Any]) -> Any:
        text = self._next()
        head = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "gpt-4o"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            return http.Response(
                200, json={**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"content": part}, None) for part in cut(text, 16)
        ]
        chunks = [
            {
                **head,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
            }
            for delta, reason in [*deltas, ({}, "stop")]
        ]
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            chunks.append({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"]
        return http.Response(
            200, headers={"content-type": "text/event-stream"}, content="".join(lines).encode()
        )

    def client(self) -> Any:
        """Return an `OpenAI` client of this model."""
        import openai

        http = self._http_library(openai)
        transport = http.MockTransport(lambda request: self._reply(http, json.loads(request.content)))
        return openai.OpenAI(
            api_key="none", base_url="http://model.invalid/v1", http_client=http.Client(transport=transport)
        )

    def async_client(self) -> Any:
        """Return an `AsyncOpenAI` client of this model."""
        import openai

        http = self._http_library(openai)

        async def handle(request: Any) -> Any:
            return self._reply(http, json.loads(request.content))

        transport = http.MockTransport(handle)
        return openai.AsyncOpenAI(
            api_key="none",
            base_url="http://model.invalid/v1",
            http_client=http.AsyncClient(transport=transport),
        )

    @staticmethod
    def _http_library(openai: Any) -> Any:
        """The HTTP library that this version of the SDK is built on (httpx, or httpx2 since 3.x)."""
        import importlib

        for base in openai.DefaultHttpxClient.__mro__:
            name = base.__module__.split(".")[0]
            if name.startswith("httpx"):
                return importlib.import_module(name)
        raise RuntimeError(f"openai {openai.__version__} is built on an unknown HTTP library")
