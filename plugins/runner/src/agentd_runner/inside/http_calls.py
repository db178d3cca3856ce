"""Tool calls over HTTP, for code that has no other way: one request a connection (RFC 9112)."""

from __future__ import annotations

import struct

from .frames import MAX_CALL
from .poller import Poller
from .primitives import accept, socket, to_json
from .setup import RunnerSetup
from .tool_calls import ToolCalls, ToolSocket

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable

    OnJob = Callable[
        ["ToolHttpCall", str, bytes], None
    ]  # told what is asked about jobs, and the request's body


class ToolHttpServer:
    """Serves the tools over HTTP: on a socket in the host's private folder, or on our own loopback."""

    def __init__(self, setup: RunnerSetup, poller: Poller, calls: ToolCalls, on_job: OnJob) -> None:
        self.setup = setup
        self.calls = calls
        self.on_job = on_job
        if setup.socket_path:
            self.url = "http://localhost"
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(setup.socket_path)
        else:
            self.listener = socket.socket(socket.AF_INET)
            self.listener.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.listener.listen(64)
        self.listener.setblocking(False)
        poller.watch(self.listener.fileno(), self.on_connection)

    def on_connection(self, _event: int) -> None:
        try:
            connection = accept(self.listener)
        except OSError:
            return
        if self.calls.is_full():
            connection.close()
        else:
            ToolHttpCall(self.setup, self.calls, connection, self.on_job)


class ToolHttpCall(ToolSocket):
    """One HTTP/1.1 request to the tools endpoint; the connection is closed after its answer (RFC 9112)."""

    MAX_HEAD = 16 * 1024

    def __init__(
        self, setup: RunnerSetup, calls: ToolCalls, connection: socket.socket, on_job: OnJob
    ) -> None:
        super().__init__(calls, connection)
        self.setup = setup
        self.on_job = on_job
        self.waiting = False
        self.refused = False
        self.passed_over = 0
        self.action = 0

    def take_data(self, data: bytes) -> None:
        if self.waiting:  # it sends more than it was asked for, or the body of what was refused by its head
            self.passed_over += len(data)
            if not self.refused or self.passed_over > 2 * MAX_CALL:
                self.close()
            return
        self.received += data
        head, separator, _ = bytes(self.received[: self.MAX_HEAD]).partition(b"\r\n\r\n")
        if separator:
            self.request(head, len(head) + 4)
        elif len(self.received) > self.MAX_HEAD:
            self.fail(431, "ToolError", "the request's head is too long")

    def request(self, head: bytes, body_at: int) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3:
            self.fail(400, "ToolError", "no HTTP request")
            return
        method, target, _ = words
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if not _same(headers.get("authorization", ""), f"Bearer {self.setup.token}"):
            self.fail(401, "ToolError", "send the header 'Authorization: Bearer $AGENTD_TOOLS_TOKEN'")
            return
        if "transfer-encoding" in headers or not headers.get("content-length", "0").isdecimal():
            self.fail(411, "ToolError", "send the body with a Content-Length")
            return
        length = int(headers.get("content-length", "0"))
        if length > MAX_CALL:
            self.fail(413, "ToolError", f"{length} bytes of arguments; at most {MAX_CALL} are allowed")
            return
        if len(self.received) - body_at < length:
            if headers.get("expect", "").lower() == "100-continue" and len(self.received) == body_at:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self.waiting = True
        self.route(method, target.partition("?")[0], bytes(self.received[body_at : body_at + length]))

    def route(self, method: str, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if parts[0] == "a" and len(parts) > 2 and parts[1].isdecimal():
            self.action = int(parts[1]) & 0xFFFFFFFF
            parts = parts[2:]
        if method == "GET" and parts == ["health"]:
            self.answer(200, b'{"status":"ok"}')
        elif method == "GET" and parts == ["tools"]:
            self.answer(200, self.setup.catalog.encode())
        elif method == "POST" and parts[0] == "call" and len(parts) == 2:
            name = _unquote(parts[1]).encode()
            self.calls.begin_call(self, self.action, struct.pack("!H", len(name)) + name + (body or b"{}"))
        elif method == "POST" and parts[0] == "jobs" and len(parts) == 2:
            self.on_job(self, parts[1], body or b"{}")
        else:
            self.fail(404, "UnknownToolError", "there are POST call/NAME, GET tools, GET health")

    def reply(self, payload: bytes) -> None:
        if payload[:1] == b"\0":
            self.answer(200, payload[1:])
        else:
            self.answer(422, b'{"error":' + payload[1:] + b"}")

    def fail(self, status: int, kind: str, message: str) -> None:
        self.waiting = self.refused = True
        self.answer(status, to_json({"error": {"type": kind, "message": message}}))

    def answer(self, status: int, body: bytes) -> None:
        head = (
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.send(head.encode() + body)

    def all_sent(self) -> None:
        if self.refused:
            # Closing now would reset the connection of a client that still sends, unread the answer.
            try:
                self.connection.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()
        elif self.waiting:  # not after `100 Continue`
            self.close()


def _same(left: str, right: str) -> bool:
    """Compare in constant time (`hmac` would load OpenSSL)."""
    if len(left) != len(right):
        return False
    difference = 0
    for a, b in zip(left, right, strict=True):
        difference |= ord(a) ^ ord(b)
    return difference == 0


def _unquote(text: str) -> str:
    from urllib.parse import unquote  # seldom wanted, and dear to import

    return unquote(text)
