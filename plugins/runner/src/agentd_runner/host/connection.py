"""One runner, as the host sees it: frames out, frames in, and who waits for which."""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import struct
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from agentd._concurrency.pool import unbounded_pool
from agentd.errors import ProtocolError, RunnerDiedError

from agentd_runner.host import border
from agentd_runner.host.held import EACH_BYTES, SMALL_BYTES, HeldBytes
from agentd_runner.host.hub import Hub
from agentd_runner.host.line import Line, LineEnds
from agentd_runner.host.pending import Pending, Waiter
from agentd_runner.host.process import LastWait, RunnerProcess
from agentd_runner.host.tool_calls import CallQueue, OnCall
from agentd_runner.inside import frames
from agentd_runner.inside.timings import SPARE_IDLE_S

__all__ = ["Connection"]

READ_SIZE = 1 << 16  # below malloc's mmap threshold: larger buffers cost small frames dear
PIPE_SIZE = 1 << 20  # of a pipe that large frames go through; a user has 64 of these
SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux
MAX_BACKLOG = 512 * 1024 * 1024  # bytes that a runner has not read yet before it counts as hung
MAX_CALLS = frames.MAX_CALLS_SENT  # tool calls of one runner at once
FREE_CALLS = 1024  # of them, so many small ones are not counted in bytes
STDERR_KEPT = 8192
FLEET = 16  # from so many runners of this program on, they share the time for which workers are kept ready


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
        connection._closed = connection._ending = True  # it is the parent's to end
        connection.lost = "it belongs to the parent process"
        connection._lock = threading.Lock()  # a thread of the parent may have held it
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)


class Connection:
    """The frames of one runner process. Thread-safe; reading happens in the hub's thread.

    `on_call(action, name, arguments, reply)` is called in that thread for every tool call, `waited(action)` when the
    action's time is up: for how many seconds it has waited for tools, and whether it does so now. A frame that is none
    of this protocol ends the runner, and whatever waits for it gets a `ProtocolError`.

    :param held_bytes: what may wait in the host for this session: calls and their results, and as much of output.
    :param output_bytes: what it may send of each stream of an action.
    """

    def __init__(
        self,
        process: RunnerProcess,
        hub: Hub,
        on_call: OnCall,
        ready: Waiter,
        line: LineEnds | None = None,
        waited: Callable[[int], tuple[float, bool]] = lambda action: (0.0, False),
        on_job: Callable[[dict[str, Any]], None] = border.refuse_job,
        *,
        held_bytes: int,
        output_bytes: int,
    ) -> None:
        self.process = process
        self.output_bytes = output_bytes
        self.lost: str | None = None
        self.end_reason = "its pipe was closed"
        self.hello: dict[str, Any] | None = None
        self._hub = hub
        self._ready = ready
        self._waited = waited
        self._on_job = on_job
        self._reader = frames.FrameReader(frames.TO_HOST)
        self._lock = threading.Lock()
        self._backlog: deque[memoryview] = deque()
        self._backlog_size = 0
        self._pending: dict[int, Pending] = {}
        self._held = HeldBytes(held_bytes)
        self._calls = CallQueue(self._held, hub, on_call)
        self._output_room = held_bytes
        self._coming = 0  # bytes of the call under way in the pipe, for which there is room
        self._open_calls: set[int] = set()
        self._stderr = b""
        self._wide: set[int] = set()
        self._closed = False
        self._ending = False  # what is left to do is to find out how it ended, and to tell those who wait
        self._is_broken = False  # it ended by a breach of the protocol
        _open.add(self)
        for descriptor in self.descriptors():
            os.set_blocking(descriptor, False)
        if process.stderr >= 0:
            hub.watch(process.stderr, selectors.EVENT_READ, self._read_stderr)
        self._line = None if line is None else Line(line.ours, hub, self._calls, self._held)
        hub.watch(process.stdout, selectors.EVENT_READ, self._read)

    @property
    def is_open(self) -> bool:
        """Whether actions may be sent. The end that `close` has begun is noted in `lost` a moment later."""
        return self.lost is None and not self._closed and not self._ending

    def descriptors(self) -> list[int]:
        """The pipe's ends on our side."""
        ends = [self.process.stdin, self.process.stdout, self.process.stderr]
        return [descriptor for descriptor in ends if descriptor >= 0]

    # --- sending

    def send(self, kind: int, ident: int, payload: bytes) -> None:
        """Send one frame; what the pipe does not take now is sent by the hub's thread."""
        data = memoryview(frames.pack(kind, ident, payload))
        with self._lock:
            if self.lost is not None or self._closed or self._ending:
                return
            if len(data) > READ_SIZE:
                self._widen(self.process.stdin)
            if not self._backlog:
                data = data[self._write(data) :]
            if not data:
                return
            first = not self._backlog
            self._backlog.append(data)
            self._backlog_size += len(data) + EACH_BYTES
            too_much = self._backlog_size > MAX_BACKLOG
            self._held.add(len(data) + EACH_BYTES, unread=True)
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
            before = self._backlog_size
            while self._backlog:
                data = self._backlog[0]
                sent = self._write(data)
                self._backlog_size -= sent
                if sent < len(data):
                    self._backlog[0] = data[sent:]
                    break
                self._backlog_size -= EACH_BYTES
                self._backlog.popleft()
            sent = before - self._backlog_size
            if not self._backlog:
                self._hub.forget(self.process.stdin)
        self._held.give(sent, unread=True)

    def send_json(self, kind: int, ident: int, value: Mapping[str, object]) -> None:
        self.send(kind, ident, json.dumps(value).encode())

    def run(self, ident: int, header: Mapping[str, object], body: bytes, pending: Pending) -> None:
        """Send an action. Raises `ProtocolError` if it does not fit into a frame."""
        if (open_now := len(_open)) > FLEET:
            header = {**header, "keep_s": SPARE_IDLE_S * FLEET / open_now}
        encoded = json.dumps(header).encode()
        size = 4 + len(encoded) + len(body)
        if size > frames.MAX_FRAME:
            raise ProtocolError(
                f"an action of {size} bytes; at most {frames.MAX_FRAME} fit into a frame: "
                "let the code make or fetch the data instead of carrying it"
            )
        self._ask(frames.RUN, ident, struct.pack("!I", len(encoded)) + encoded + body, pending)

    def ask(self, kind: int, ident: int, value: object, pending: Pending) -> None:
        """Send a request that a frame of the same kind answers: SHELL or IMPORTS."""
        self._ask(kind, ident, json.dumps(value).encode(), pending)

    def _ask(self, kind: int, ident: int, payload: bytes, pending: Pending) -> None:
        with self._lock:
            lost = self.lost
            if lost is None:
                self._pending[ident] = pending
        if lost is not None:
            pending.fail(self._failure(lost, pending))
            return
        self.send(kind, ident, payload)

    def _reply(self, call: int, size: int, begun: bool, ok: bool, payload: bytes) -> None:
        self._open_calls.discard(call)
        self.send(frames.REPLY, call, (b"\0" if ok else b"\1") + payload)
        if size:
            self._held.give(size)
        if begun:
            self._calls.end(len(payload))

    # --- receiving, in the hub's thread

    def _read_stderr(self, _events: int = 0) -> None:
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

    def _widen(self, descriptor: int) -> None:
        """Give a pipe more room when something large goes through it for the first time: fewer changes of processes."""
        if descriptor not in self._wide and SET_PIPE_SIZE is not None:
            self._wide.add(descriptor)
            try:
                fcntl.fcntl(descriptor, SET_PIPE_SIZE, PIPE_SIZE)
            except OSError:  # no pipe, or this user has too many large ones
                pass

    def _read(self, _events: int) -> None:
        size = READ_SIZE
        if self._reader.missing > READ_SIZE:
            self._widen(self.process.stdout)
            size = min(self._reader.missing, PIPE_SIZE)
        try:
            data = os.read(self.process.stdout, size)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(self.end_reason)
            return
        try:
            for frame in border.join_outputs(self._reader.feed(data)):
                self._frame(*frame)
        except frames.FrameError as error:
            self._break(str(error))
        if self._reader.missing or self._coming or self._held.size > self._held.limit:
            self._make_room()

    def _make_room(self) -> None:
        """Read no further before there is room for what comes: for all of a large call, whose length is known."""
        if self._ending:
            return
        reader = self._reader
        is_call = reader.missing > 0 and reader.head[0] == frames.CALL
        wanted = reader.length if is_call and reader.length > frames.MESSAGE_SIZE else 0
        if wanted == self._coming and self._held.size <= self._held.limit:
            return
        if self._held.take(wanted - self._coming, lambda: self._hub.call(lambda: self._read_on(wanted))):
            self._coming = wanted
        else:
            self._hub.forget(self.process.stdout)

    def _read_on(self, coming: int) -> None:
        if not self._ending:  # its descriptors are closed then
            self._coming = coming
            self._hub.watch(self.process.stdout, selectors.EVENT_READ, self._read)

    def _frame(self, kind: int, ident: int, payload: bytes) -> None:
        if self._ending:
            return
        if kind == frames.READY:
            self._greet(payload)
        elif kind == frames.FATAL:
            self.kill(border.read_fatal(payload))
        elif self.hello is None:
            raise frames.FrameError("the first frame must be READY")
        elif kind == frames.CALL:
            self._call(ident, payload)
        elif kind == frames.CLOCK:
            self._asked(ident, frames.EXIT)
            waited_s, waits = self._waited(ident)
            self.send_json(frames.CLOCK, ident, {"waited_s": waited_s, "waits": waits})
        elif kind == frames.EXIT:
            self._exit(ident, border.read_exit(payload))
        elif kind == frames.JOB:
            self._on_job(border.read_job(payload))
        elif kind in border.ANSWERS:
            self._take(ident, kind).reply(border.ANSWERS[kind](payload))
        else:
            self._output(kind, ident, payload)

    def _greet(self, payload: bytes) -> None:
        if self.hello is not None:
            raise frames.FrameError("READY came twice")
        self.hello = border.read_ready(payload)
        self._ready.set()

    def _asked(self, ident: int, kind: int) -> Pending:
        """Return what waits under this number for a frame of this kind."""
        pending = self._pending.get(ident)
        if pending is None or pending.ended_by != kind:
            raise frames.FrameError(f"it answered {ident}, which was not asked of it or has ended")
        return pending

    def _take(self, ident: int, kind: int) -> Pending:
        pending = self._asked(ident, kind)
        with self._lock:
            self._pending.pop(ident, None)
        return pending

    def _output(self, kind: int, ident: int, payload: bytes) -> None:
        pending = self._asked(ident, frames.EXIT)
        if kind == frames.DROPPED:
            pending.drop(*border.read_dropped(payload))
            return
        before = pending.kept_bytes
        pending.output("stdout" if kind == frames.STDOUT else "stderr", payload, self._output_room)
        self._output_room -= pending.kept_bytes - before

    def _exit(self, ident: int, result: dict[str, Any]) -> None:
        pending = self._take(ident, frames.EXIT)
        if result.pop("channels", 0) and self._line is not None:
            self._line.finish(ident)
        if not pending.outlasts:
            self._calls.drop(ident)
        self._output_room += pending.kept_bytes
        pending.end(result)

    def _call(self, call: int, payload: bytes) -> None:
        action, name, arguments = border.read_call(payload)
        if call in self._open_calls:
            raise frames.FrameError(f"two calls with the number {call} at once")
        open_now = len(self._open_calls)
        size = len(payload) if len(payload) > SMALL_BYTES or open_now >= FREE_CALLS else 0
        if size:
            self._held.add(size - self._coming)  # a large one is counted already
            self._coming = 0
        full = open_now >= MAX_CALLS
        self._open_calls.add(call)
        reply = partial(self._reply, call, size, not full)
        if full:
            error = {"type": "ToolError", "message": f"more than {MAX_CALLS} tool calls at once"}
            reply(False, json.dumps(error).encode())
        else:
            self._calls.begin(action, name, arguments, reply)

    # --- the end

    def kill(self, reason: str) -> None:
        """End the runner at once; whoever waits gets `RunnerDiedError` with this reason."""
        if self._begin_end():
            self.process.kill()
            self._hub.call(lambda: self._let_go(reason))

    def _break(self, reason: str) -> None:
        """The same with `ProtocolError`."""
        self._is_broken = True
        self.kill(f"it broke the protocol: {reason}")

    def _begin_end(self) -> bool:
        with self._lock:
            began, self._ending = not self._ending, True
        return began

    def _lose(self, reason: str) -> None:
        if self._begin_end():
            self._let_go(reason)

    def _let_go(self, reason: str) -> None:
        """Close the pipe. To find out how the runner has ended may take a moment, which no other session waits."""
        _open.discard(self)
        if self._line is not None:
            self._line.close()
        for descriptor in (self.process.stdin, self.process.stdout):
            self._hub.forget(descriptor, partial(os.close, descriptor))
        code = self.process.wait(0)
        if code is None:
            tell = partial(self._tell_end, reason)
            unbounded_pool.submit(LastWait(self.process, lambda code: self._hub.call(partial(tell, code))))
        else:
            self._tell_end(reason, code)

    def _tell_end(self, reason: str, code: int | None) -> None:
        """Say how it has ended to those who wait."""
        self._calls.drop()
        if self.process.stderr >= 0:
            self._read_stderr()
            self._hub.forget(self.process.stderr, partial(os.close, self.process.stderr))
        said = self._stderr.decode("utf-8", "replace").strip()
        lost = (
            f"the runner (pid {self.process.pid}) ended: {reason}"
            f"{f', exit code {code}' if code is not None else ''}{f'; it said: {said}' if said else ''}"
        )
        with self._lock:
            self.lost = lost
            pending, self._pending = self._pending, {}
        for waiting in pending.values():
            waiting.fail(self._failure(lost, waiting))
        self._ready.set()

    def _failure(self, lost: str, waiting: Pending) -> ProtocolError | RunnerDiedError:
        if self._is_broken:
            return ProtocolError(f"{lost}. The next action starts a new one, with a fresh shell")
        return RunnerDiedError(lost, partial=waiting.partial(lost))

    def close(self, grace_s: float, reason: str = "it was closed") -> None:
        """Close the pipe, wait for the runner to end its actions and itself, kill it if it does not."""
        # Said in words, too: a forked child of this program may hold the pipe open.
        self.send(frames.END, 0, b"")
        with self._lock:
            if self._closed:
                return
            self._closed, self.end_reason = True, reason
            ending = self._ending
        if not ending:
            self._hub.forget(self.process.stdin, self._shut)
        if self.process.wait(grace_s) is None:
            self.process.kill()
            self.process.wait(grace_s)
        self._hub.call(lambda: self._lose(reason))

    def _shut(self) -> None:
        # The descriptor's number stays ours until `_let_go` closes it; only the pipe's end goes away now.
        if not self._ending:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, self.process.stdin, inheritable=False)
            os.close(null)
