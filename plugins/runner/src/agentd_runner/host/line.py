"""The direct line: sockets over which code in a local place calls tools without the runner between.

A runner's pipe carries tool calls everywhere, also into a virtual machine, at the price of two more processes'
turns a call. Where the runner is a plain child process, the host gives it one end of a socket pair, and the runner
passes each channel that code asks for on to the host: what the code's thread writes, the host's I/O thread reads.
"""

from __future__ import annotations

import array
import os
import selectors
import socket
import struct
import sys
import threading

import attrs

from agentd_runner.host.held import SMALL_BYTES, HeldBytes
from agentd_runner.host.hub import Hub
from agentd_runner.host.tool_calls import CallQueue
from agentd_runner.inside import frames

__all__ = ["Line", "LineEnds", "line_pair"]

# Code may hold the same socket, make it a blocking one and empty it before we do: each call says that it must not wait.
SEND = socket.MSG_DONTWAIT | frames.NO_SIGNAL
RECEIVE_RIGHTS = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)
REQUEST_HEAD = struct.Struct("!IH")
ANSWER_HEAD = struct.Struct("!IB")
MAX_UNREAD = 512 * 1024 * 1024  # of answers; what comes on top ends its channel
AT_ONCE = 16  # parts of a large request that are read before other channels have their turn
SEND_BUFFER = 1024 * 1024  # of the kernel's, for answers that are larger than its own choice


@attrs.frozen
class LineEnds:
    """A line as the host has it: its own end, and the descriptor's number of the other in the runner."""

    ours: socket.socket
    theirs: int


def line_pair() -> tuple[LineEnds, socket.socket]:
    """Return a new line, and the runner's end, for the runner to inherit under its number."""
    kind = (
        socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
    )  # messages keep their bounds
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    return LineEnds(ours, theirs.fileno()), theirs


class Line:
    """The channels of one runner. All methods belong to the hub's thread, but `close`, which any may call."""

    def __init__(self, sock: socket.socket, hub: Hub, calls: CallQueue, held: HeldBytes) -> None:
        self.hub = hub
        self.calls = calls
        self.held = held
        self._sock = sock
        self._channels: set[_DirectChannel] = set()
        hub.watch(sock.fileno(), selectors.EVENT_READ, self._take)

    def close_in_child(self) -> None:
        """Let go of everything in a forked child, which has the descriptors but not the hub."""
        for sock in [self._sock, *(channel.sock for channel in self._channels)]:
            if sock.fileno() >= 0:
                os.close(sock.detach())
        self._channels.clear()

    def _take(self, _events: int) -> None:
        """Take the channels that the runner passes on."""
        for _ in range(frames.MAX_LINE_CHANNELS):
            try:
                data, ancillary, *_ = self._sock.recvmsg(16, socket.CMSG_SPACE(4), RECEIVE_RIGHTS)
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            for _level, _kind, packed in ancillary:
                for descriptor in array.array("i", packed[: len(packed) - len(packed) % 4]):
                    self._open(data, descriptor)
            if not data:
                self.hub.forget(self._sock.fileno())
                return

    def _open(self, data: bytes, descriptor: int) -> None:
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError:  # no socket
            os.close(descriptor)
            return
        of_its_kind = sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM
        if of_its_kind and len(data) == frames.U32.size and len(self._channels) < frames.MAX_LINE_CHANNELS:
            self._channels.add(_DirectChannel(self, sock, *frames.U32.unpack(data)))
        else:
            sock.close()

    def finish(self, action: int) -> None:
        """An action has ended: begin the calls that it made last, and close its channels."""
        self._take(0)
        for channel in [c for c in self._channels if c.action == action]:
            channel.ready(selectors.EVENT_READ)
            channel.close()

    def discard(self, channel: _DirectChannel) -> None:
        self._channels.discard(channel)

    def close(self) -> None:
        """Close all channels, and the line."""
        self.hub.call(self._close)

    def _close(self) -> None:
        for channel in list(self._channels):
            channel.close()
        if self._sock.fileno() >= 0:
            self.hub.forget(self._sock.fileno(), self._sock.close)


class _DirectChannel:
    """A thread of the code, which calls one tool after the other. What it sends is hostile: only itself may suffer.

    A request is u32 length, u16 length of the tool's name, the name, JSON. What the host holds of it, and of answers
    that the code does not read, is counted; a large request is received when there is room for all of it.
    An answer is u32 length, u8 (0 ok, 1 error), JSON.
    """

    def __init__(self, line: Line, sock: socket.socket, action: int) -> None:
        self.action = action
        self.sock = sock
        self._line = line
        self._received = bytearray()
        self._size = 0  # of the request that is received or carried out; 0: none is
        self._busy = False
        self._is_coming = False  # the rest of a large request, for which there is room
        self._is_large = False  # it has a larger send buffer
        self._lock = threading.Lock()  # of the socket, between an answer and the end
        self._unsent = memoryview(b"")
        self._watch(selectors.EVENT_READ)

    def ready(self, events: int) -> None:
        """Read or write what can be."""
        if events & selectors.EVENT_WRITE:
            self._send_more()
        if events & selectors.EVENT_READ and self.sock.fileno() >= 0:
            self._read()
            if self._is_coming:
                self._read_more()

    def _read_more(self) -> None:
        for _ in range(AT_ONCE):
            if not self._read() or not self._is_coming:
                return

    def _read(self) -> bool:
        """Read a part of a request; False if there is none."""
        try:
            data = self.sock.recv(frames.MESSAGE_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data or self._busy or self._unsent or not self._take(data):
            self.close()
            return False
        return True

    def _take(self, data: bytes | bytearray) -> bool:
        """Take a part of a request, and begin the call if it is whole; False for what is no request."""
        if self._received:
            self._received += data
            if self._size and len(self._received) < self._size:
                return True
            data = self._received
            self._received = bytearray()
            self._is_coming = False
        if len(data) < 6:
            self._received += data
            return True
        length, name_length = REQUEST_HEAD.unpack_from(data)
        size = 4 + length
        if length > frames.MAX_CALL or len(data) > size or name_length > length - 2:
            return False
        if len(data) < size:
            self._received += data
            self._reserve(size)
            return True
        if size > SMALL_BYTES and not self._size:
            self._line.held.add(size)
            self._size = size
        self._busy = True
        start = 6 + name_length
        name = data[6:start].decode("utf-8", "replace")
        arguments = data[start:] if type(data) is bytes else bytes(memoryview(data)[start:])
        del data
        self._line.calls.begin(self.action, name, arguments, self._reply)
        return True

    def _reserve(self, size: int) -> None:
        """Receive the rest when there is room for it."""
        hub = self._line.hub
        if size <= frames.MESSAGE_SIZE:
            self._size = size  # counted, too: how long it takes is the code's choice
            self._line.held.add(size)
        elif self._line.held.take(size, lambda: hub.call(lambda: self._receive(size))):
            self._size, self._is_coming = size, True
        else:
            hub.forget(self.sock.fileno())

    def _receive(self, size: int) -> None:
        if self.sock.fileno() < 0:
            self._line.held.give(size)
        else:
            self._size, self._is_coming = size, True
            self._watch(selectors.EVENT_READ)

    def _reply(self, ok: bool, payload: bytes) -> None:
        size, unsent = self._size, 0
        head = ANSWER_HEAD.pack(1 + len(payload), 0 if ok else 1)
        with self._lock:
            self._busy = False
            self._size = 0
            if self.sock.fileno() >= 0:
                large = len(payload) > frames.MESSAGE_SIZE
                sent = self._send_large(head, payload) if large else self._send(head + payload)
                unsent = len(head) + len(payload) - sent
                if unsent:
                    self._unsent = (
                        memoryview(payload)[-unsent:]
                        if sent >= len(head)
                        else memoryview(head + payload)[sent:]
                    )
                    self._line.held.add(unsent, unread=True)
                    self._watch(selectors.EVENT_READ | selectors.EVENT_WRITE)
        if size:
            self._line.held.give(size)
        self._line.calls.end(len(payload))
        if unsent and self._line.held.unread > MAX_UNREAD:
            self._line.hub.call(self.close)

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
        self._line.hub.watch(self.sock.fileno(), events, self.ready)

    def close(self) -> None:
        """End it; the answer of a call under way is dropped. In the hub's thread."""
        self._line.discard(self)
        with self._lock:
            if self.sock.fileno() < 0:
                return
            unsent, held = len(self._unsent), 0 if self._busy else self._size
            self._unsent = memoryview(b"")
            self._line.hub.forget(self.sock.fileno(), self.sock.close)
        self._line.held.give(unsent, unread=True)
        self._line.held.give(held)
