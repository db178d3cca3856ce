"""A channel of the direct line: a thread of the code, which calls one tool after the other."""

from __future__ import annotations

import array
import fcntl
import os
import select
import selectors
import socket
import struct
import threading
from typing import Protocol

from agentd_runner.host.held import SMALL_BYTES, HeldBytes
from agentd_runner.host.hub import Hub
from agentd_runner.host.tool_calls import CallQueue
from agentd_runner.inside import frames

__all__ = ["ChannelOwner", "DirectChannel", "PipePair"]

# Code may hold the same socket, make it a blocking one and empty it before we do: each call says that it must not wait.
SEND = socket.MSG_DONTWAIT | frames.NO_SIGNAL
REQUEST_HEAD = struct.Struct("!IH")
ANSWER_HEAD = struct.Struct("!IB")
MAX_UNREAD = 512 * 1024 * 1024  # of answers; what comes on top ends its channel
AT_ONCE = 16  # parts of a large request that are read before other channels have their turn
SEND_BUFFER = 1024 * 1024  # of the kernel's, for answers that are larger than its own choice

MESSAGE_BYTES = select.PIPE_BUF  # what one write brings into a pipe whole, or not at all
BY_SOCKET = ANSWER_HEAD.pack(0, 2)
OFFERED_EVERY = 32  # calls of a channel: new pipes cost both sides as much as they save in 15 to 30
MAX_PIPED = 16  # channels of a line; each has three descriptors more


class ChannelOwner(Protocol):
    """The line that a channel belongs to. `piped` is how many of its channels have pipes."""

    hub: Hub
    calls: CallQueue
    held: HeldBytes

    @property
    def piped(self) -> int: ...

    def discard(self, channel: DirectChannel) -> None:
        """It has ended."""


class PipePair:
    """Two pipes of one page beside a channel's socket: over them a call costs the kernel two thirds of the time.

    We make them, so that no flag of our ends is the code's to change. We keep the end that the code reads from as well:
    writing into a pipe that nobody reads would be a signal.
    """

    def __init__(self) -> None:
        """Make them. Raises `OSError` where that cannot be done."""
        self.requests, self.their_requests = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.their_answers, self.answers = os.pipe2(os.O_CLOEXEC)
        except OSError:
            os.close(self.requests)
            os.close(self.their_requests)
            raise
        self._open = [self.requests, self.their_requests, self.their_answers, self.answers]
        os.set_blocking(self.answers, False)  # of this end alone
        for end in (self.requests, self.answers):  # a user has so many pages for pipes
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, MESSAGE_BYTES)

    def given(self) -> array.array[int]:
        """Return what the code gets: where it writes its calls, and where it reads the answers."""
        return array.array("i", [self.their_requests, self.their_answers])

    def let_go(self) -> None:
        """The code has its ends: without ours, the end of the code is the end of its requests."""
        self._open.remove(self.their_requests)
        os.close(self.their_requests)

    def close(self) -> None:
        """Close all ends of ours."""
        while self._open:
            os.close(self._open.pop())


class DirectChannel:
    """A thread of the code, which calls one tool after the other. What it sends is hostile: only itself may suffer.

    A request is u32 length, u16 length of the tool's name, the name, JSON. What the host holds of it, and of answers
    that the code does not read, is counted; a large request is received when there is room for all of it.
    An answer is u32 length, u8 (0 ok, 1 error), JSON.

    With the answer to each 32nd call may come two descriptors, of a pipe for requests and one for answers. What
    comes over the first, whole and of at most `PIPE_BUF` bytes, is answered over the second; if the answer is larger,
    a head of length 0 with a 2 says so, and it comes over the socket.
    """

    def __init__(self, line: ChannelOwner, sock: socket.socket, action: int) -> None:
        self.action = action
        self.sock = sock
        self._line = line
        self._received = bytearray()
        self._rest = memoryview(b"")  # of a large request for which there is room
        self._size = 0  # of the request that is received or carried out; 0: none is
        self._busy = False
        self._is_large = False  # it has a larger send buffer
        self._lock = threading.Lock()  # of the descriptors, between an answer and the end
        self._unsent = memoryview(b"")
        self._begun = 0
        self._pipes: PipePair | None = None
        self._wants_pipes = hasattr(fcntl, "F_SETPIPE_SZ") and hasattr(os, "pipe2")
        self._is_piped = False  # the call under way
        self._is_broken = False
        self._watch(selectors.EVENT_READ)

    def close_in_child(self) -> None:
        """Close the descriptors in a forked child."""
        if self._pipes is not None:
            self._pipes.close()
        if self.sock.fileno() >= 0:
            os.close(self.sock.detach())

    def ready(self, events: int) -> None:
        """Read or write what can be."""
        if events & selectors.EVENT_WRITE:
            self._send_more()
            if self.sock.fileno() < 0:
                return
        if events & selectors.EVENT_READ:
            if not self._rest:
                self._read()
            if self._rest:
                self._read_rest()

    def finish(self) -> None:
        """Its action has ended: begin the call that it made last, and close it."""
        if self._pipes is not None:
            self._read_piped()
        if self.sock.fileno() >= 0:
            self.ready(selectors.EVENT_READ)
        self.close()

    def _read_piped(self, _events: int = 0) -> None:
        pipes = self._pipes
        if pipes is None:
            return
        try:
            data = os.read(pipes.requests, MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # it goes on over the socket, if at all
            with self._lock:
                self._wants_pipes = False
                self._drop_pipes()
            return
        if len(data) >= REQUEST_HEAD.size and not (self._busy or self._unsent or self._received):
            length, name_length = REQUEST_HEAD.unpack_from(data)
            if len(data) == 4 + length and name_length <= length - 2:
                self._is_piped = True
                self._begin(data, name_length)
                return
        self.close()

    def _read(self) -> None:
        try:
            data = self.sock.recv(frames.MESSAGE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data or self._busy or self._unsent or not self._take(data):
            self.close()

    def _read_rest(self) -> None:
        """Receive a large request where it is to lie, and begin the call when it is whole."""
        for _ in range(AT_ONCE):
            try:
                count = self.sock.recv_into(self._rest, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if not count:
                self.close()
                return
            self._rest = self._rest[count:]
            if not self._rest:
                data, self._received = self._received, bytearray()
                self._begin(data, int.from_bytes(data[4:6], "big"))
                return

    def _take(self, data: bytes) -> bool:
        """Take the beginning of a request, and begin the call if it is whole; False for what is no request."""
        if self._received:
            data = bytes(self._received) + data
            self._received.clear()
        if len(data) < REQUEST_HEAD.size:
            self._received += data
            return True
        length, name_length = REQUEST_HEAD.unpack_from(data)
        size = 4 + length
        if length > frames.MAX_CALL or len(data) > size or name_length > length - 2:
            return False
        if len(data) == size:
            if size > SMALL_BYTES:
                self._line.held.add(size)
                self._size = size
            self._begin(data, name_length)
            return True
        self._received += data
        if size <= frames.MESSAGE_SIZE:
            self._line.held.add(size)  # counted, too: how long it takes is the code's choice
            self._expect(size)
        elif self._line.held.take(size, lambda: self._line.hub.call(lambda: self._receive(size))):
            self._expect(size)
        else:
            self._line.hub.forget(self.sock.fileno())
        return True

    def _expect(self, size: int) -> None:
        """Make room for the rest of a request of this size."""
        self._size = size
        known = len(self._received)
        self._received = self._received.ljust(size, b"\0")
        self._rest = memoryview(self._received)[known:]

    def _receive(self, size: int) -> None:
        """There is room now."""
        if self.sock.fileno() < 0:
            self._line.held.give(size)
        else:
            self._expect(size)
            self._watch(selectors.EVENT_READ)

    def _begin(self, data: bytes | bytearray, name_length: int) -> None:
        self._busy = True
        self._begun += 1
        start = REQUEST_HEAD.size + name_length
        name = data[REQUEST_HEAD.size : start].decode("utf-8", "replace")
        arguments = data[start:] if type(data) is bytes else bytes(memoryview(data)[start:])
        del data
        self._line.calls.begin(self.action, name, arguments, self._reply)

    def _reply(self, ok: bool, payload: bytes) -> None:
        size, unsent = self._size, 0
        head = ANSWER_HEAD.pack(1 + len(payload), 0 if ok else 1)
        with self._lock:
            is_piped = self._is_piped
            self._busy = self._is_piped = False  # first: the next request may come before this ends
            self._size = 0
            if not (is_piped and self._answer_piped(head, payload)) and self.sock.fileno() >= 0:
                unsent = self._answer(head, payload)
        if size:
            self._line.held.give(size)
        self._line.calls.end(len(payload))
        if self._is_broken or (unsent and self._line.held.unread > MAX_UNREAD):
            self._line.hub.call(self.close)

    def _answer_piped(self, head: bytes, payload: bytes) -> bool:
        """Answer over the pipes; False if it goes over the socket. What cannot be written there now never will."""
        pipes = self._pipes
        if pipes is None:
            return True  # nobody reads it
        is_small = len(head) + len(payload) <= MESSAGE_BYTES
        try:
            os.write(pipes.answers, head + payload if is_small else BY_SOCKET)
        except OSError:  # filled by somebody else
            self._is_broken = True
            return True
        return is_small

    def _answer(self, head: bytes, payload: bytes) -> int:
        """Answer over the socket; return how much of it waits for the code to read."""
        if len(payload) > frames.MESSAGE_SIZE:
            sent = self._send_large(head, payload)
        elif self._begun % OFFERED_EVERY or self._pipes is not None or not self._wants_pipes:
            sent = self._send(head + payload)
        else:
            sent = self._send_with_pipes(head + payload)
        unsent = len(head) + len(payload) - sent
        if unsent:
            rest = memoryview(payload)[-unsent:] if sent >= len(head) else memoryview(head + payload)[sent:]
            self._unsent = rest
            self._line.held.add(unsent, unread=True)
            self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
        return unsent

    def _send_with_pipes(self, data: bytes) -> int:
        """Send an answer, and pipes for the calls to come with it."""
        if self._line.piped >= MAX_PIPED:
            return self._send(data)
        try:
            pipes = PipePair()
        except OSError:
            return self._send(data)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pipes.given())]
        try:
            sent = self.sock.sendmsg([data], rights, SEND)
        except OSError:
            pipes.close()
            return self._send(data)
        pipes.let_go()
        self._pipes = pipes
        self._line.hub.call(self._watch_pipes)
        return sent

    def _send_more(self) -> None:
        with self._lock:
            sent = self._send(self._unsent)
            self._unsent = self._unsent[sent:]
            if not self._unsent:
                self._watch(selectors.EVENT_READ)
        self._line.held.give(sent, unread=True)

    def _send(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data, SEND)
        except BlockingIOError:
            return 0
        except OSError:  # it has gone; reading says so
            return len(data)

    def _send_large(self, head: bytes, payload: bytes) -> int:
        """The same for two parts that are too large to be joined."""
        try:
            if not self._is_large:
                self._is_large = True
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            return self.sock.sendmsg([head, payload], [], SEND)
        except BlockingIOError:
            return 0
        except OSError:
            return len(head) + len(payload)

    def _watch(self, events: int) -> None:
        self._line.hub.call(lambda: self._watch_now(events))

    def _watch_now(self, events: int) -> None:
        if self.sock.fileno() >= 0:  # it may have been closed on the way into the hub's thread
            self._line.hub.watch(self.sock.fileno(), events, self.ready)

    def _watch_pipes(self) -> None:
        if self._pipes is not None:
            self._line.hub.watch(self._pipes.requests, selectors.EVENT_READ, self._read_piped)

    @property
    def has_pipes(self) -> bool:
        """Whether calls may come over pipes."""
        return self._pipes is not None

    def _drop_pipes(self) -> None:
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            self._line.hub.forget(pipes.requests, pipes.close)

    def close(self) -> None:
        """End it; the answer of a call under way is dropped. In the hub's thread."""
        self._line.discard(self)
        with self._lock:
            if self.sock.fileno() < 0:
                return
            unsent, held = len(self._unsent), 0 if self._busy else self._size
            self._unsent = memoryview(b"")
            self._drop_pipes()
            self._line.hub.forget(self.sock.fileno(), self.sock.close)
        self._line.held.give(unsent, unread=True)
        self._line.held.give(held)
