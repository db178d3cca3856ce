"""One runner, as the host sees it: frames out, frames in, and who waits for which."""

from __future__ import annotations

import json
import os
import selectors
import struct
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from agentd.errors import ProtocolError, RunnerDiedError
from agentd.protocols import OnOutput
from agentd.types import ActionResult, OutputChunk, OutputStream

from agentd_runner.host.hub import Hub
from agentd_runner.host.line import Line, LineEnds, OnCall
from agentd_runner.host.process import RunnerProcess
from agentd_runner.inside import frames

__all__ = ["Connection", "Pending", "Waiter"]

READ_SIZE = 1 << 16  # below malloc's mmap threshold: larger buffers cost small frames dear
MAX_BACKLOG = 512 * 1024 * 1024  # bytes that a runner has not read yet before it counts as hung
MAX_CALLS = 1024  # tool calls of one runner at once
STDERR_KEPT = 8192


class Waiter(Protocol):
    def set(self) -> None: ...


_open: weakref.WeakSet[Connection] = weakref.WeakSet()


def _close_in_child() -> None:
    # A forked child must not keep a runner alive after this program's end, nor read its frames.
    for connection in list(_open):
        if connection._line is not None:
            connection._line.close_in_child()
        for descriptor in connection.descriptors():
            try:
                os.close(descriptor)
            except OSError:
                pass
        connection.lost = "it belongs to the parent process"
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)


class Pending:
    """An action, or another request, that was sent and has not ended."""

    def __init__(self, waiter: Waiter, on_output: OnOutput | None = None) -> None:
        self.waiter = waiter
        self.on_output = on_output
        self.chunks: list[OutputChunk] = []
        self.dropped = 0
        self.result: ActionResult | None = None
        self.answer: Any = None
        """For a request that is no action: what the runner answered."""
        self.error: Exception | None = None

    def output(self, stream: OutputStream, data: bytes) -> None:
        chunk = OutputChunk(stream, data)
        self.chunks.append(chunk)
        if self.on_output is not None:
            self.on_output(chunk)

    def drop(self, payload: bytes) -> None:
        number, count = struct.unpack("!BQ", payload)
        self.dropped += count
        self.output("stdout" if number == 1 else "stderr", b"\n[... %d bytes left out ...]\n" % count)

    def end(self, payload: bytes) -> None:
        end: dict[str, Any] = json.loads(payload)
        self.result = ActionResult(chunks=tuple(self.chunks), dropped_bytes=self.dropped, **end)
        self.waiter.set()

    def reply(self, payload: bytes) -> None:
        self.answer = json.loads(payload)
        self.waiter.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.waiter.set()

    def partial(self, message: str) -> ActionResult:
        """What there is so far, as the result of an action that was cut off."""
        return ActionResult(
            status="failed",
            exit_code=137,
            chunks=tuple(self.chunks),
            dropped_bytes=self.dropped,
            message=message,
        )


class Connection:
    """The frames of one runner process. Thread-safe; reading happens in the hub's thread.

    `on_call(action, name, arguments, reply)` is called in that thread for every tool call, `waited(action)` when the
    action's time is up: for how many seconds it has waited for tools, and whether it does so now.
    """

    def __init__(
        self,
        process: RunnerProcess,
        hub: Hub,
        on_call: OnCall,
        ready: Waiter,
        line: LineEnds | None = None,
        waited: Callable[[int], tuple[float, bool]] = lambda action: (0.0, False),
    ) -> None:
        self.process = process
        self.lost: str | None = None
        self.ending = "its pipe was closed"
        self.hello: dict[str, Any] | None = None
        self._hub = hub
        self._on_call = on_call
        self._ready = ready
        self._waited = waited
        self._reader = frames.FrameReader(frames.TO_HOST)
        self._lock = threading.Lock()
        self._backlog: deque[memoryview] = deque()
        self._backlog_size = 0
        self._pending: dict[int, Pending] = {}
        self._open_calls: set[int] = set()
        self._stderr = b""
        self._closed = False
        _open.add(self)
        for descriptor in self.descriptors():
            os.set_blocking(descriptor, False)
        if process.stderr >= 0:
            hub.watch(process.stderr, selectors.EVENT_READ, self._read_stderr)
        self._line = None if line is None else Line(line.ours, hub, on_call)
        hub.watch(process.stdout, selectors.EVENT_READ, self._read)

    @property
    def is_open(self) -> bool:
        """Whether actions may be sent. The end that `close` has begun is noted in `lost` a moment later."""
        return self.lost is None and not self._closed

    def descriptors(self) -> list[int]:
        """The pipe's ends on our side."""
        ends = [self.process.stdin, self.process.stdout, self.process.stderr]
        return [descriptor for descriptor in ends if descriptor >= 0]

    # --- sending

    def send(self, kind: int, ident: int, payload: bytes) -> None:
        """Send one frame; what the pipe does not take now is sent by the hub's thread."""
        data = memoryview(frames.pack(kind, ident, payload))
        with self._lock:
            if self._closed or self.lost is not None:
                return
            if not self._backlog:
                data = data[self._write(data) :]
            if not data:
                return
            first = not self._backlog
            self._backlog.append(data)
            self._backlog_size += len(data)
            too_much = self._backlog_size > MAX_BACKLOG
        if too_much:
            self.kill(f"it did not read {MAX_BACKLOG >> 20} MiB that were sent to it")
        elif first:
            self._hub.watch(self.process.stdin, selectors.EVENT_WRITE, self._write_more)

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self.process.stdin, data)
        except BlockingIOError:
            return 0
        except OSError:  # it has gone; reading its output will say so
            return len(data)

    def _write_more(self, _events: int) -> None:
        with self._lock:
            while self._backlog:
                data = self._backlog[0]
                sent = self._write(data)
                self._backlog_size -= sent
                if sent < len(data):
                    self._backlog[0] = data[sent:]
                    return
                self._backlog.popleft()
        self._hub.forget(self.process.stdin)

    def send_json(self, kind: int, ident: int, value: Mapping[str, object]) -> None:
        self.send(kind, ident, json.dumps(value).encode())

    def run(self, ident: int, header: Mapping[str, object], body: bytes, pending: Pending) -> None:
        """Send an action. Raises `ProtocolError` if it does not fit into a frame."""
        encoded = json.dumps(header).encode()
        size = 4 + len(encoded) + len(body)
        if size > frames.MAX_FRAME:
            raise ProtocolError(
                f"an action of {size} bytes; at most {frames.MAX_FRAME} fit into a frame: "
                "let the code make or fetch the data instead of carrying it"
            )
        self._ask(frames.RUN, ident, struct.pack("!I", len(encoded)) + encoded + body, pending)

    def shell(self, ident: int, value: object, pending: Pending) -> None:
        """Ask for the shell's state (None), or replace it (`{"set": state}`)."""
        self._ask(frames.SHELL, ident, json.dumps(value).encode(), pending)

    def _ask(self, kind: int, ident: int, payload: bytes, pending: Pending) -> None:
        with self._lock:
            lost = self.lost
            if lost is None:
                self._pending[ident] = pending
        if lost is not None:
            pending.fail(RunnerDiedError(lost))
            return
        self.send(kind, ident, payload)

    def _reply(self, call: int, ok: bool, payload: bytes) -> None:
        self._open_calls.discard(call)
        self.send(frames.REPLY, call, (b"\0" if ok else b"\1") + payload)

    # --- receiving, in the hub's thread

    def _read_stderr(self, _events: int) -> None:
        try:
            data = os.read(self.process.stderr, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._stderr = (self._stderr + data)[-STDERR_KEPT:]
        else:
            self._hub.forget(self.process.stderr)

    def _read(self, _events: int) -> None:
        try:
            data = os.read(self.process.stdout, READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(self.ending)
            return
        try:
            for kind, ident, payload in self._reader.feed(data):
                self._frame(kind, ident, payload)
        except (frames.FrameError, ValueError, KeyError, TypeError, struct.error) as error:
            self.kill(f"it broke the protocol: {error}")

    def _frame(self, kind: int, ident: int, payload: bytes) -> None:
        if kind == frames.CALL:
            self._call(ident, payload)
        elif kind == frames.READY:
            hello = json.loads(payload)
            if hello["version"] != frames.VERSION:
                raise ValueError(f"it speaks version {hello['version']}, the host {frames.VERSION}")
            if hello["release"] != frames.RELEASE:
                raise ValueError(f"it is of agentd-runner {hello['release']}, the host of {frames.RELEASE}")
            self.hello = hello
            self._ready.set()
        elif kind == frames.CLOCK:
            self.send_json(
                frames.CLOCK, ident, dict(zip(("waited_s", "waits"), self._waited(ident), strict=True))
            )
        elif kind == frames.FATAL:
            self.kill(str(json.loads(payload)["message"]))
        elif kind in (frames.EXIT, frames.SHELL):
            if self._line is not None and kind == frames.EXIT:
                self._line.finish(ident)
            with self._lock:
                pending = self._pending.pop(ident, None)
            if pending is not None:
                take = pending.end if kind == frames.EXIT else pending.reply
                take(payload)
        else:
            pending = self._pending.get(ident)
            if pending is None:
                return
            if kind == frames.DROPPED:
                pending.drop(payload)
            else:
                pending.output("stdout" if kind == frames.STDOUT else "stderr", payload)

    def _call(self, call: int, payload: bytes) -> None:
        action, length = struct.unpack_from("!IH", payload)
        name = payload[6 : 6 + length].decode("utf-8", "replace")
        if len(self._open_calls) >= MAX_CALLS:
            error = {"type": "ToolError", "message": f"more than {MAX_CALLS} tool calls at once"}
            self._reply(call, False, json.dumps(error).encode())
            return
        self._open_calls.add(call)
        self._on_call(action, name, payload[6 + length :], partial(self._reply, call))

    # --- the end

    def kill(self, reason: str) -> None:
        """End the runner at once; whoever waits gets `RunnerDiedError` with this reason."""
        self.process.kill()
        self._hub.call(lambda: self._lose(reason))

    def _lose(self, reason: str) -> None:
        with self._lock:
            if self.lost is not None:
                return
            code = self.process.wait(0.2)
            said = self._stderr.decode("utf-8", "replace").strip()
            self.lost = (
                f"the runner (pid {self.process.pid}) ended: {reason}"
                f"{f', exit code {code}' if code is not None else ''}{f'; it said: {said}' if said else ''}"
            )
            pending, self._pending = self._pending, {}
        _open.discard(self)
        if self._line is not None:
            self._line.close()
        for descriptor in self.descriptors():
            self._hub.forget(descriptor, lambda d=descriptor: os.close(d))  # type: ignore[misc]
        self.process.kill()
        self.process.wait(0.5)  # or it stays as a zombie
        for waiting in pending.values():
            waiting.fail(RunnerDiedError(self.lost, partial=waiting.partial(self.lost)))
        self._ready.set()

    def close(self, grace_s: float, reason: str = "it was closed") -> None:
        """Close the pipe, wait for the runner to end its actions and itself, kill it if it does not."""
        # Said in words, too: a forked child of this program may hold the pipe open.
        self.send(frames.END, 0, b"")
        with self._lock:
            if self._closed:
                return
            self._closed, self.ending = True, reason
            lost = self.lost is not None
        if not lost:
            self._hub.forget(self.process.stdin, self._shut)
        if self.process.wait(grace_s) is None:
            self.process.kill()
            self.process.wait(grace_s)
        self._hub.call(lambda: self._lose(reason))

    def _shut(self) -> None:
        # The descriptor's number stays ours until `_lose` closes it; only the pipe's end goes away now.
        if self.lost is None:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self.process.stdin, inheritable=False)
            os.close(null)
