"""An independent server for the wire formats (llmock), and a relay in front of it for what it cannot break.

llmock plays OpenAI's two APIs, Anthropic's and Gemini's, and their faults in streams. The relay counts the
requests, sets off one of llmock's faults with a certain request, and breaks whole answers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

__all__ = ["LlmServer", "Relay"]


class LlmServer:
    """`llmock serve` on a free port of loopback, in a process of its own. Use as a context manager."""

    def __enter__(self) -> LlmServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [str(Path(sys.executable).parent / "llmock"), "serve", "--port", str(self.port)]
        quiet: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
        environment = {"PATH": os.environ["PATH"], "LLMOCK_TOOL_MODE": "off"}
        self._process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
        end = time.monotonic() + 30
        while True:
            try:
                self.ask("/health")
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.__exit__()
                    raise RuntimeError("llmock did not start") from None
                time.sleep(0.02)  # nothing to wait on: the port opens when it opens

    def __exit__(self, *exc_info: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(5)

    def ask(self, path: str, data: Any = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.load(reply)

    def reset(self) -> None:
        self.ask("/_llmock/reset", {})

    def script(self, *behaviours: dict[str, Any]) -> None:
        self.ask("/_llmock/scenario", {"behaviors": list(behaviours)})


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of these tests."""


class Relay:
    """Passes requests on to llmock, byte by byte. Use as a context manager.

    `faults` says what happens to the request of that number: a list of llmock's behaviours, set off just
    before; a status that llmock then answers with; or a way to break the answer: `refuse` (no byte of it),
    `half`, `malformed` (half of the JSON), `hollow` (`{}`), `page` (HTML), `silent` (an empty stream).
    """

    def __init__(self, server: LlmServer) -> None:
        self.server = server
        self.faults: dict[int, list[dict[str, Any]] | int | str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self._http = _Quiet(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Relay:
        serve = {"poll_interval": 0.01}
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs=serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = 0

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                self.close_connection = True
                body = self.rfile.read(int(self.headers["Content-Length"]))
                number = len(relay.bodies)
                relay.bodies.append(json.loads(body))
                relay.times.append(time.monotonic())
                fault = relay.faults.get(number)
                if fault == "refuse":
                    return
                if isinstance(fault, list):
                    relay.server.script(*fault)
                lines = [f"{self.command} {self.path} HTTP/1.1"]
                dropped = ("connection", "accept-encoding", "host")
                lines += [f"{k}: {v}" for k, v in self.headers.items() if k.lower() not in dropped]
                lines += [f"host: 127.0.0.1:{relay.server.port}", "connection: close"]
                if isinstance(fault, int):
                    lines.append(f"x-llmock-force-status: {fault}")
                with socket.create_connection(("127.0.0.1", relay.server.port)) as there:
                    there.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                    if isinstance(fault, str):
                        answer = b"".join(iter(lambda: there.recv(65536), b""))
                        self.wfile.write(broken(answer, fault))
                        return
                    while data := there.recv(65536):
                        self.wfile.write(data)

        return Handler


def broken(answer: bytes, fault: str) -> bytes:
    head, _, body = answer.partition(b"\r\n\r\n")
    if fault == "half":
        return head + b"\r\n\r\n" + body[: len(body) // 2]
    kind = b"text/html" if fault == "page" else b"application/json"
    kind = b"text/event-stream" if fault == "silent" else kind
    body = {
        "malformed": body[: len(body) // 2],
        "hollow": b"{}",
        "page": b"<html>Bad gateway</html>",
        "silent": b"",
    }[fault]
    head = re.sub(rb"(?im)^(content-length|content-type|transfer-encoding):.*\r?\n?", b"", head).rstrip()
    return head + b"\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body
