"""What `agentd serve` adds to a streamed answer without blocks, and what a stream costs it.

Ours, one client at a time, ten requests one after the other, in turn with ten to the model's server itself (a process
of its own on loopback, which sends 20 pieces 2 ms apart) and ten to a bare proxy: `first_ms` until the first piece,
`whole_ms` until the end, p50 of both over that server's own. `beside`: `first_ms` in those of the proxy, which a slow
machine changes least. `cold_ms`, `cold_beside`: the same as `first_ms` and `beside`, but with one request to each in
turn: what a server adds whose code and data are in no cache of the processor any more, as others have worked since.
`stream_mib`: what the server's memory grows by for each of 200 streams, when all have got a piece. `longest`: how many
times as long as the median of them the slowest takes from its first piece to its end; `direct`: the same at the model's
server itself. `cpu_ms`: the server's processor time for a request of one client, which a busy machine changes least.
Theirs: nothing, for 0.8.6 serves none. Floor: what a server adds that does nothing: a uvicorn that hands requests on
with httpx, and what comes back as it comes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.kit import memory_mib
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="serve",
    rows=(
        Row(
            key="first_ms",
            title="agentd serve: first piece of a streamed answer, added, p50",
            unit="ms",
            limit=2,
        ),
        Row(key="beside", title="  in what a bare uvicorn with httpx adds, asked in turn", unit="x"),
        Row(key="cold_ms", title="  when others have worked since the last request", unit="ms"),
        Row(key="cold_beside", title="  in what a bare uvicorn with httpx adds then", unit="x"),
        Row(key="whole_ms", title="  the whole of it, added, p50", unit="ms"),
        Row(key="cpu_ms", title="  processor time of the server", unit="ms"),
        Row(key="stream_mib", title="  memory of one of 200 streams at once", unit="MiB", limit=1),
        Row(key="longest", title="  the slowest of 200 streams, in medians", unit="", limit=1.5),
        Row(key="direct", title="  at the model's server itself", unit=""),
    ),
)
MODEL = """
import asyncio, json, socket
from uvicorn import Config, Server

def piece(delta, reason=None):
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    made = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(made).encode() + b"\\n\\n"

async def application(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    count, gap = json.loads(body)["metadata"]["shape"].split("/")
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(int(count)):
        if number:
            await asyncio.sleep(float(gap))
        data = piece({"content": f"word {number} "})
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": piece({}, "stop") + b"data: [DONE]\\n\\n"})

listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(1024)
print(listening.getsockname()[1], flush=True)
asyncio.run(Server(Config(application, log_level="error", lifespan="off")).serve([listening]))
"""
PROXY = """
import asyncio, socket, sys
import httpx
from uvicorn import Config, Server

client = httpx.AsyncClient(limits=httpx.Limits(max_connections=None))

async def application(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    told = {"Content-Type": "application/json"}
    async with client.stream("POST", sys.argv[1] + scope["path"], content=body, headers=told) as answer:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
        async for data in answer.aiter_raw():
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})

listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
listening.bind(("127.0.0.1", 0))
listening.listen(1024)
print(listening.getsockname()[1], flush=True)
config = Config(application, log_level="error", lifespan="off", http="h11", loop="asyncio", access_log=False)
asyncio.run(Server(config).serve([listening]))
"""
STREAMS = 200


def _body(pieces: int, gap_s: float) -> bytes:
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Go on."}]}
    return json.dumps({**asked, "metadata": {"shape": f"{pieces}/{gap_s}"}}).encode()


class _Client:
    """A connection to one of the servers."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> _Client:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def ask(self, body: bytes, had_first: Any = None) -> tuple[float, float]:
        """Return the seconds until the first piece came and until the end."""
        host = f"127.0.0.1:{self._port}"
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        began = time.perf_counter()
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        first = 0.0
        while True:
            line = await self._reader.readline()
            assert line, "the server has hung up"
            if not first and line.startswith(b"data: "):
                assert b"word 0" in line, line
                first = time.perf_counter() - began
                if had_first is not None:
                    had_first()
            if line == b"0\r\n":
                await self._reader.readline()
                return first, time.perf_counter() - began

    def close(self) -> None:
        self._writer.close()


@contextmanager
def _servers() -> Iterator[tuple[int, int, int, int]]:
    """Start all, and give the ports of the model's, of ours and of the proxy, and the pid of ours."""
    with subprocess.Popen([sys.executable, "-c", MODEL], stdout=subprocess.PIPE, text=True) as model:
        assert model.stdout is not None
        port = int(model.stdout.readline())
        command = [sys.executable, "-m", "agentd", "serve", "-m", "m", "--port", "0", "-e", "subprocess"]
        more = ["--base-url", f"http://127.0.0.1:{port}/v1", "--max-requests", str(STREAMS)]
        environment = {**os.environ, "OPENAI_API_KEY": "none"}
        with subprocess.Popen([*command, *more], stderr=subprocess.PIPE, text=True, env=environment) as ours:
            assert ours.stderr is not None
            line = ours.stderr.readline()
            assert "http://" in line, line + ours.stderr.read()
            try:
                with _proxy(port) as (bare, _):
                    yield port, int(line.split("/v1")[0].rpartition(":")[2]), bare, ours.pid
            finally:
                ours.send_signal(signal.SIGTERM)
                ours.wait(60)
                model.kill()


@contextmanager
def _proxy(model: int) -> Iterator[tuple[int, int]]:
    """Start the bare proxy, and give its port and its pid."""
    command = [sys.executable, "-c", PROXY, f"http://127.0.0.1:{model}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        try:
            yield int(proxy.stdout.readline()), proxy.pid
        finally:
            proxy.kill()


def _cpu_ms(pid: int) -> float:
    """Return the processor time that a process has taken."""
    columns = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(columns[11]) + int(columns[12])) * 1000 / os.sysconf("SC_CLK_TCK")


async def _added(model: int, measured: int, pid: int, *, bare: int | None = None, count: int) -> Figures:
    ports = (model, measured) if bare is None else (model, measured, bare)
    clients = [await _Client(port).open() for port in ports]
    await _in_turn(clients, count=10, at_once=10)  # what the first ones load
    before = _cpu_ms(pid)
    firsts, wholes = await _in_turn(clients, count=count, at_once=10)
    cpu_ms = (_cpu_ms(pid) - before) / count
    colds, _ = await _in_turn(clients, count=count, at_once=1)
    for client in clients:
        client.close()
    found = {"first_ms": firsts[1] - firsts[0], "whole_ms": wholes[1] - wholes[0], "cpu_ms": cpu_ms}
    found["cold_ms"] = colds[1] - colds[0]
    if bare is not None:
        found["beside"] = found["first_ms"] / (firsts[2] - firsts[0])
        found["cold_beside"] = found["cold_ms"] / (colds[2] - colds[0])
    return found


async def _in_turn(clients: list[_Client], *, count: int, at_once: int) -> tuple[list[float], list[float]]:
    """Ask each of them for so many answers, `at_once` of them before it is the next one's turn. Return the medians of
    the ms until the first piece and until the end."""
    body = _body(20, 0.002)
    taken: list[list[tuple[float, float]]] = [[] for _ in clients]
    for _ in range(count // at_once):
        for client, times in zip(clients, taken, strict=True):
            times += [await client.ask(body) for _ in range(at_once)]
    firsts, wholes = (
        [statistics.median(each[n] for each in times) * 1000 for times in taken] for n in (0, 1)
    )
    return firsts, wholes


async def _many(port: int, pid: int | None) -> tuple[float, float]:
    """Return the MiB that one of the streams takes, and how many medians the slowest lasts."""
    clients = [await _Client(port).open() for _ in range(STREAMS)]
    await asyncio.gather(*(client.ask(_body(2, 0)) for client in clients[:20]))  # what the first ones load
    before = memory_mib(pid=pid) if pid is not None else 0.0
    begun = 0
    grown = 0.0

    def had_first() -> None:
        nonlocal begun, grown
        begun += 1
        if begun == STREAMS and pid is not None:
            grown = memory_mib(pid=pid) - before

    times = await asyncio.gather(*(client.ask(_body(40, 0.1), had_first) for client in clients))
    for client in clients:
        client.close()
    wholes = [whole - first for first, whole in times]
    return grown / STREAMS, max(wholes) / statistics.median(wholes)


def ours(quick: bool) -> Figures:
    """The command, as people start it."""

    async def measure(model: int, port: int, bare: int, pid: int) -> Figures:
        figures = await _added(model, port, pid, bare=bare, count=20 if quick else 100)
        _, direct = await _many(model, None)
        mib, longest = await _many(port, pid)
        return {**figures, "stream_mib": mib, "longest": longest, "direct": direct}

    with _servers() as started:
        return asyncio.run(measure(*started))


def theirs(quick: bool) -> Figures:
    """Nothing of this kind."""
    return {}


def floor(quick: bool) -> Figures:
    """The proxy."""
    with subprocess.Popen([sys.executable, "-c", MODEL], stdout=subprocess.PIPE, text=True) as model:
        assert model.stdout is not None
        port = int(model.stdout.readline())
        try:
            with _proxy(port) as (bare, pid):
                return asyncio.run(_added(port, bare, pid, count=20 if quick else 100))
        finally:
            model.kill()
