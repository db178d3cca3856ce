"""An `agentd serve` in a thread of the test, with a scripted model behind it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
from agentd_serve.keys import KeyRing
from agentd_serve.server import ServeSettings, serve_until
from fake_openai import FakeOpenAI
from life import started_at

__all__ = ["Served", "is_gone", "until"]


def until(is_so: Callable[[], Any]) -> Any:
    """Wait until something is so that nobody tells of."""
    end = time.monotonic() + 60
    while not (found := is_so()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, though nobody may have waited for it yet."""
    return not started_at(pid)


class Served:
    """Use as a context manager. `settings` are those of `ServeSettings`."""

    def __init__(self, fake: FakeOpenAI, root: Path, **settings: Any) -> None:
        given: dict[str, Any] = {
            "models": ("m1",),
            "ring": KeyRing(),
            "port": 0,
            "root": root,
            "session": {"executor": "subprocess"},
            "base_url": fake.base_url,
            "api_key": "none",
        }
        self.settings = ServeSettings(**{**given, **settings})
        self.url = ""
        self._clients: list[openai.OpenAI] = []
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()

        def told(address: str) -> None:
            self.url = address
            self._ready.set()

        await serve_until(self.settings, told, self._end.wait)

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(60)
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def begin_to_end(self) -> None:
        """What SIGTERM does."""
        with suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._end.set)

    def __exit__(self, *exc_info: object) -> None:
        for client in self._clients:
            client.close()
        self.begin_to_end()
        self._thread.join(90)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error

    # --- clients -------------------------------------------------------------------------------------------

    def client(self, key: str = "none", **settings: Any) -> openai.OpenAI:
        made = openai.OpenAI(base_url=self.url, api_key=key, **{"max_retries": 0, **settings})
        self._clients.append(made)
        return made

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def send(
        self, body: object, path: str = "/v1/chat/completions", *, method: str = "POST", **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Send a request, and return status, headers and the body, read as JSON if it is that."""
        connection = http.client.HTTPConnection(*self.address, timeout=60)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        try:
            connection.request(method, path, None if method in ("GET", "DELETE") else data, sent)
            reply = connection.getresponse()
            text = reply.read()
            found = {name.lower(): value for name, value in reply.getheaders()}
        finally:
            connection.close()
        is_json = found.get("content-type", "") == "application/json"
        return reply.status, found, json.loads(text) if is_json else text

    def begin(self, body: object, path: str = "/v1/chat/completions") -> socket.socket:
        """Send a request, and return the socket, unread."""
        data = json.dumps(body).encode()
        opened = socket.create_connection(self.address, timeout=60)
        host = f"{self.address[0]}:{self.address[1]}"
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        opened.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        return opened
