"""The replay server: a real OpenAI-compatible HTTP endpoint on loopback that plays a recorded model.

It serves chat completions and responses, streamed and not, embeddings and the list of models, keeps a
journal of what it was asked, and can be told to fail in the ways that real providers do. Standard library
only; nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

import attrs

from agentd_demo import wire
from agentd_demo.recording import Recording, RecordingMismatch, Turn

__all__ = ["ReplayFault", "ReplayServer", "Request"]

FaultKind = Literal["status", "cut", "disconnect", "malformed", "empty", "stall"]
Order = Literal["conversation", "request"]


@attrs.frozen
class ReplayFault:
    """A way to fail.

    - `status`: answer with the HTTP status `status` (and `retry_after_s` as a header) and an error object;
    - `cut`: end the stream in an orderly way after `after` events, without a finish marker;
    - `disconnect`: close the connection after `after` events (0: before any answer);
    - `malformed`: send something that is no JSON after `after` events, then go on;
    - `empty`: an answer with status 200 and an empty body;
    - `stall`: send nothing more after `after` events until the client goes away or the server stops.
    """

    kind: FaultKind
    status: int = 429
    after: int = 0
    retry_after_s: float | None = None


@attrs.define
class Request:
    """One entry of the journal.

    `closed_early`: the client went away before the stream's end. The names of headers are in lower case.
    """

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    status: int = 0
    sent_chunks: int = 0
    closed_early: bool = False
    answer: str = ""
    done: threading.Event = attrs.field(factory=threading.Event)

    @property
    def messages(self) -> list[tuple[str, str]]:
        """The (role, text) pairs that were sent."""
        return wire.conversation(self.body)

    @property
    def last(self) -> str:
        """The text of the last message that was sent."""
        return self.messages[-1][1] if self.messages else ""


class ReplayServer:
    """Replay `recording` (a `Recording`, or texts and `Turn`s) on 127.0.0.1 at a free port.

    A context manager; `base_url` ends in `/v1`, `requests` is the journal. `order` says how the next turn
    is found: `conversation` counts the answers that the request holds (needed when several conversations
    run at once), `request` plays one turn after the other whatever is asked; the default is the first for a
    `Recording` and the second for a list. `faults` maps the number of a model request (from 0, retries
    count) to what goes wrong with it; a request that fails uses up no turn. `repeat` starts again after
    the last turn (`order="request"`).
    """

    def __init__(
        self,
        recording: Recording | Sequence[str | Turn],
        *,
        order: Order | None = None,
        faults: Mapping[int, ReplayFault] | None = None,
        repeat: bool = False,
    ) -> None:
        whole = isinstance(recording, Recording)
        self.recording = recording if isinstance(recording, Recording) else Recording.of(recording)
        self.order: Order = order or ("conversation" if whole else "request")
        self.faults = dict(faults or {})
        self.repeat = repeat
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self._played = 0
        self._asked = 0
        self._stored: dict[str, list[tuple[str, str]]] = {}
        self.stopped = threading.Event()
        self._server: _ReplayServer | None = None
        self._thread: threading.Thread | None = None

    # --- running ---

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Listen. The socket is open when this returns."""
        if self._server is None:
            self._server = _ReplayServer(self)
            self._thread = threading.Thread(
                target=self._server.serve_forever, args=(0.05,), name="agentd-replay", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop listening, close every connection and wait for their threads. May be called again."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is not None and thread is not None:
            self.stopped.set()
            server.shutdown()
            thread.join()
            server.drop_connections()
            server.server_close()

    @property
    def base_url(self) -> str:
        """The address for `OpenAI(base_url=...)`."""
        if self._server is None:
            raise RuntimeError("the replay server does not run; use it with `with`, or call start()")
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    # --- answering ---

    def next_fault(self) -> ReplayFault | None:
        """Count a model request and return what is to go wrong with it."""
        with self._lock:
            number = self._asked
            self._asked += 1
            return self.faults.get(number)

    def answer(self, body: dict[str, Any]) -> tuple[Turn, wire.Reply]:
        """Find the turn that answers `body`. Raises `RecordingMismatch`."""
        with self._lock:
            previous = body.get("previous_response_id")
            pairs = [*self._stored.get(previous or "", ()), *wire.conversation(body)]
            received = _between_answers(pairs)
            number = None
            if self.order == "request":
                number = self._played % len(self.recording.turns) if self.repeat else self._played
            turn, text = self.recording.answer(received, turn=number)
            self._played += 1
            kind = "chatcmpl" if "messages" in body else "resp"
            reply = wire.Reply(
                id=f"{kind}_{uuid.uuid4().hex}",
                model=str(body.get("model", self.recording.model)),
                pieces=_pieces(text, turn.chunk),
                input_tokens=max(1, sum(len(text) for _, text in pairs) // 4),
                previous_id=previous,
                metadata=body.get("metadata") or {},
            )
            if kind == "resp" and body.get("store") is not False:
                self._stored[reply.id] = [*pairs, ("assistant", text)]
            return turn, reply


def _between_answers(pairs: Sequence[tuple[str, str]]) -> list[str]:
    received = [""]
    for role, text in pairs:
        if role == "assistant":
            received.append("")
        else:
            received[-1] += text + "\n"
    return received


def _pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), max(1, size))]


class _ReplayServer(ThreadingHTTPServer):
    """Knows its connections, so that closing it leaves no thread behind."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, replay: ReplayServer) -> None:
        self.replay = replay
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        with self._connections_lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that goes away in the middle is a part of the job; anything else is a defect to see.
        import sys

        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Disconnect(OSError):
    """The server hangs up on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _ReplayServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; the journal tells it all."""

    def do_GET(self) -> None:
        if self.path.rstrip("/") == "/v1/models":
            model = {
                "id": self.server.replay.recording.model,
                "object": "model",
                "created": 0,
                "owned_by": "replay",
            }
            self._json(200, {"object": "list", "data": [model]})
        else:
            self._error(404, f"no such path: {self.path}")

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        except ValueError as error:
            self._error(400, f"the request's body is no JSON: {error}")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        entry = Request(self.path, body, headers)
        self.server.replay.requests.append(entry)
        try:
            self._route(self.path.rstrip("/"), entry)
        except OSError:
            entry.closed_early = True
            self.close_connection = True
        finally:
            entry.done.set()

    def _route(self, path: str, entry: Request) -> None:
        if path == "/v1/embeddings":
            entry.status = 200  # before the answer: who has read that may look here
            self._json(200, wire.embeddings(entry.body))
        elif path in ("/v1/chat/completions", "/v1/responses"):
            self._model(entry)
        else:
            entry.status = self._error(404, f"no such path: {self.path}")

    def _model(self, entry: Request) -> None:
        replay = self.server.replay
        fault = replay.next_fault()
        if fault is not None and self._failed_at_once(fault, entry):
            return
        try:
            turn, reply = replay.answer(entry.body)
        except RecordingMismatch as error:
            entry.status = self._error(422, str(error))
            return
        entry.answer = reply.text
        chat = "messages" in entry.body
        if not entry.body.get("stream"):
            data = wire.chat_object(reply) if chat else wire.response_object(reply)
            entry.status = 200  # before the answer: who has read that may look here
            self._json(200, data)
            return
        options = entry.body.get("stream_options") or {}
        include_usage = bool(options.get("include_usage"))
        events = wire.chat_chunks(reply, include_usage=include_usage) if chat else wire.response_events(reply)
        self._stream(events, turn, fault, entry)

    def _failed_at_once(self, fault: ReplayFault, entry: Request) -> bool:
        if fault.kind == "status":
            entry.status = fault.status
            self._error(fault.status, "failed as asked", retry_after_s=fault.retry_after_s)
        elif fault.kind == "empty":
            entry.status = 200
            self._body(200, b"", "text/event-stream")
        elif fault.kind == "disconnect" and fault.after == 0:
            self._hang_up()
        else:
            return False
        return True

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
        raise _Disconnect("hung up as asked")

    def _stream(self, events: Iterator[bytes], turn: Turn, fault: ReplayFault | None, entry: Request) -> None:
        entry.status = 200
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        stopped = self.server.replay.stopped
        for number, event in enumerate(events):
            if fault is not None and number == fault.after and self._broke_off(fault):
                break
            self._chunk(event)
            entry.sent_chunks += 1
            if turn.delay_s and stopped.wait(turn.delay_s):
                raise _Disconnect("the server stops")
        self._chunk(b"")

    def _broke_off(self, fault: ReplayFault) -> bool:
        """Carry out a fault in the middle of a stream; tell whether the stream ends there."""
        if fault.kind == "malformed":
            self._chunk(b'data: {"id": "half a ch\n\n')
            return False
        if fault.kind == "stall":
            self._wait_for_the_end()
        if fault.kind in ("disconnect", "stall"):
            self._hang_up()
        return True

    def _wait_for_the_end(self) -> None:
        stopped = self.server.replay.stopped
        self.connection.settimeout(0.05)
        while not stopped.is_set():
            try:
                if not self.connection.recv(1, socket.MSG_PEEK):
                    return
            except TimeoutError:
                continue

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    # --- whole answers ---

    def _json(self, status: int, data: object, retry_after_s: float | None = None) -> int:
        return self._body(status, json.dumps(data).encode(), "application/json", retry_after_s)

    def _body(self, status: int, data: bytes, kind: str, retry_after_s: float | None = None) -> int:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        if retry_after_s is not None:
            self.send_header("Retry-After", f"{retry_after_s:g}")
        self.end_headers()
        self.wfile.write(data)
        return status

    def _error(self, status: int, message: str, *, retry_after_s: float | None = None) -> int:
        error = {"message": message, "type": "replay_error", "param": None, "code": None}
        return self._json(status, {"error": error}, retry_after_s)
