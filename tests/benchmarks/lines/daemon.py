"""The daemon: from the notification that a subscribed resource has changed to the request that tells the model.

Ours and theirs: the daemon in a process of its own, with one agent, one stdio server that says when its resource has
changed (`notifying_server.py`), and a model on loopback. The time is from the moment before the server writes the
notification to the arrival of the model's request; the tool call that reads the new state is in it. Changes come at
random moments, each after the last one was answered: 0.8.6 looks for notifications twice a second.
Floor: the MCP SDK's client and the OpenAI SDK in one bare program: hear, call the tool, ask.
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks import notifying_server
from benchmarks.kit import FakeModel
from benchmarks.line import Figures, Line, Row
from benchmarks.notifying_server import URI

LINE = Line(
    name="daemon",
    rows=(
        Row(key="wake_ms", title="daemon: from a notification to the model's request", unit="ms", ratio=10),
    ),
)
PATIENCE_S = 60.0
WARM = 3
Start = Callable[["Board", "Model"], AbstractContextManager[None]]
"""Starts a program that asks the model when the board has changed, and ends it."""


class _Reply:
    """What `FakeModel` answers with, in the place of an HTTP library's response."""

    def __init__(self, status: int, *, headers: Any = None, json: Any = None, content: bytes = b"") -> None:
        self.kind = (headers or {}).get("content-type", "application/json")
        self.body = content or _json(json)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


class _Library:
    Response = _Reply


class Model(ThreadingHTTPServer):
    """A model on loopback that notes when each request arrives, and whether it has been answered."""

    daemon_threads = True

    def __init__(self) -> None:
        self.fake = FakeModel("", blocks=0)
        self.arrivals: queue.Queue[tuple[float, str]] = queue.Queue()
        self.answered: queue.Queue[None] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.base_url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Model:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that is ended at the end of a measurement hangs up."""

    def __exit__(self, *exc: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Model

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        arrived = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.arrivals.put((arrived, str(body["messages"][-1]["content"])))
        reply = self.server.fake._reply(_Library, body)
        self.send_response(200)
        self.send_header("Content-Type", reply.kind)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)
        self.server.answered.put(None)


class Board:
    """The server under test's other end: changes it."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("board.sock")
        self._listener.listen()
        self._listener.settimeout(PATIENCE_S)
        self.argv = [str(Path(notifying_server.__file__).resolve()), str(Path("board.sock").resolve())]

    def connected(self) -> None:
        """Wait for the server to start."""
        connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE_S)
        self._lines = connection.makefile("rwb", buffering=0)

    def change(self) -> float:
        """Let the resource change; return when the server began to say so."""
        self._lines.write(b"\n")
        return float(self._lines.readline())


def _measured(quick: bool, start: Start) -> Figures:
    with Model() as model:
        board = Board()
        with start(board, model):
            board.connected()
            _until_it_listens(board, model)
            waits = [_wait(board, model) for _ in range(WARM + (12 if quick else 30))]
    return {"wake_ms": statistics.median(waits[WARM:]) * 1000}


def _until_it_listens(board: Board, model: Model) -> None:
    """Change the board until the program, which says nowhere that it has subscribed, has asked the model."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        board.change()
        try:
            model.answered.get(timeout=2)
        except queue.Empty:
            continue
        while True:  # those that came while it started
            try:
                model.answered.get(timeout=2)
            except queue.Empty:
                model.arrivals = queue.Queue()
                return
    raise TimeoutError("the model was never asked")


def _wait(board: Board, model: Model) -> float:
    time.sleep(random.uniform(0.05, 0.55))
    began = board.change()
    arrived, _ = model.arrivals.get(timeout=PATIENCE_S)
    model.answered.get(timeout=PATIENCE_S)
    return arrived - began


@contextmanager
def _process(argv: list[str], model: Model) -> Iterator[None]:
    env = {**os.environ, "OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "none"}
    # its standard input stays open: 0.8.6 ends without one
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


def _configuration(board: Board) -> str:
    server = {"type": "stdio", "command": sys.executable, "arguments": board.argv}
    agent = {
        "name": "watcher",
        "model": "gpt-4o",
        "system_prompt": "Watch the board.",
        "mcp_servers": [server],
        "subscriptions": [URI],
    }
    Path("agents.yaml").write_text(json.dumps({"agents": [agent]}))
    return "agents.yaml"


def ours(quick: bool) -> Figures:
    """`agentd agents.yaml`, as a service runs it."""

    def start(board: Board, model: Model) -> AbstractContextManager[None]:
        argv = [sys.executable, "-m", "agentd", _configuration(board), "--state-dir", "state", "--no-repl"]
        return _process(argv, model)

    return _measured(quick, start)


def theirs(quick: bool) -> Figures:
    """The same configuration."""

    def start(board: Board, model: Model) -> AbstractContextManager[None]:
        return _process([sys.executable, "-m", "agentd.app", _configuration(board)], model)

    return _measured(quick, start)


def floor(quick: bool) -> Figures:
    """A program of the two SDKs, in a thread of this process."""

    def start(board: Board, model: Model) -> AbstractContextManager[None]:
        return _bare(board.argv, model.base_url)

    return _measured(quick, start)


@contextmanager
def _bare(argv: list[str], base_url: str) -> Iterator[None]:
    from mcp import Client, StdioServerParameters
    from openai import AsyncOpenAI

    warnings.simplefilter("ignore")  # the SDK deprecates `subscribe_resource`, which this server needs
    ended = threading.Event()

    async def listen() -> None:
        changed = asyncio.Event()

        async def hear(message: object) -> None:
            if type(message).__name__ == "ResourceUpdatedNotification":
                changed.set()

        openai = AsyncOpenAI(base_url=base_url, api_key="none")
        server = StdioServerParameters(command=sys.executable, args=argv)
        async with Client(server, message_handler=hear) as client:
            await client.session.subscribe_resource(URI)
            while not ended.is_set():
                try:
                    await asyncio.wait_for(changed.wait(), 1)
                except TimeoutError:
                    continue
                changed.clear()
                state = await client.call_tool("board", {})
                messages: Any = [{"role": "user", "content": str(state)}]
                await openai.chat.completions.create(model="gpt-4o", messages=messages)

    thread = threading.Thread(target=asyncio.run, args=(listen(),))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
