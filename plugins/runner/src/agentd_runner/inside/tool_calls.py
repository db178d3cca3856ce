"""Tool calls of the code: the sockets that they come in over, and the frames that they become."""

from __future__ import annotations

import os
import select
import struct

from .action import RunningAction
from .descriptors import close_quietly, free_descriptors, receive, send_with_descriptors
from .frames import (
    CALL,
    MAX_CALL,
    MAX_CALLS_SENT,
    MAX_CHANNELS,
    MAX_DIRECT_CHANNELS,
    MAX_LINE_CHANNELS,
    MESSAGE_SIZE,
    U32,
)
from .poller import Poller
from .primitives import socket
from .workers import SupervisedWorker


class ToolCalls:
    """The calls that wait for their answer, and the sockets that they came over."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.sockets: set[ToolSocket] = set()
        self.waiting: dict[int, ToolSocket] = {}
        self.held: dict[
            ToolSocket, None
        ] = {}  # in this order: have sent something, and are read when there is room
        self.last_call = 0
        self.passed_on = 0  # channels of the actions that run
        self.max_sockets = min(MAX_CHANNELS, free_descriptors())
        self.line: socket.socket | None = None

    def open_line(self, descriptor: int) -> None:
        """Take the direct line that was inherited under this number."""
        self.line = socket.socket(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        self.line.setblocking(False)

    def is_full(self) -> bool:
        return len(self.sockets) >= self.max_sockets

    def is_busy(self) -> bool:
        """Whether so many calls are on their way that more wait in their sockets, where they cost us nothing."""
        return len(self.waiting) >= MAX_CALLS_SENT

    def begin_call(self, connection: ToolSocket, action: int, body: bytes) -> None:
        """Send a call to the host: u16 length of the tool's name, the name, the arguments as JSON."""
        self.last_call = self.last_call % 0xFFFFFFFF + 1
        self.waiting[self.last_call] = connection
        self.poller.send(CALL, self.last_call, U32.pack(action) + body)

    def answer_call(self, ident: int, payload: bytes) -> None:
        """Hand the host's answer to whoever waits for it."""
        connection = self.waiting.pop(ident, None)
        if connection is not None:
            connection.reply(payload)
            self.poller.spin()
            while self.held and not self.is_busy():
                held = next(iter(self.held))
                del self.held[held]
                held.read_again()

    def take_message(self, action: RunningAction, is_kept: bool) -> bytes | None:
        """Take a message of the code, and the channel that came with it; None if there is no message now.

        A channel ("C") of a fresh block ends with it, and so may be passed on to the host. Those of a kept interpreter
        outlast the block, but for that of the thread that runs it ("M").
        """
        try:
            data, received = receive(action.worker.broker, 512, 1, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        for descriptor in received:
            wants_channel = data[:1] in (b"C", b"M")
            ends_with_block = not is_kept or data[:1] == b"M"
            if wants_channel and ends_with_block and self.pass_on(action, descriptor):
                close_quietly(descriptor)
            elif wants_channel and not self.is_full():
                self.open_channel(action.worker, descriptor)
            else:
                close_quietly(descriptor)
        return bytes(data)

    def open_channel(self, worker: SupervisedWorker, descriptor: int) -> None:
        try:
            ToolChannel(self, worker, socket.socket(fileno=descriptor))
        except OSError:  # no socket
            close_quietly(descriptor)

    def pass_on(self, action: RunningAction, descriptor: int) -> bool:
        """Give a channel to the host, if there is a line to it: then it takes the calls itself."""
        if self.line is None or action.passed_on >= MAX_DIRECT_CHANNELS:
            return False
        if self.passed_on >= MAX_LINE_CHANNELS // 2:
            return False
        try:
            send_with_descriptors(self.line, U32.pack(action.ident), [descriptor])
        except OSError:  # full, or the host is going
            return False
        action.passed_on += 1
        self.passed_on += 1
        return True

    def finish_action(self, action: RunningAction, is_kept: bool) -> None:
        """Carry out what the action's code has still sent, then close its channels."""
        for _ in range(MAX_CHANNELS):  # what was sent before the end is still carried out
            if not self.take_message(action, is_kept):
                break
        for channel in [c for c in self.sockets if c.worker is action.worker]:
            channel.on_ready(select.POLLIN)
            channel.close()
        self.let_go(action)

    def let_go(self, action: RunningAction) -> None:
        """The host closes the channels that it has of an action when it is told of its end."""
        self.passed_on -= action.passed_on


class ToolSocket:
    """A connection over which code calls tools. What it sends is the code's: nothing of it may raise."""

    def __init__(self, calls: ToolCalls, connection: socket.socket) -> None:
        self.calls = calls
        self.connection = connection
        self.worker: SupervisedWorker | None = None
        self.received = bytearray()
        self.unsent: bytes | memoryview = b""
        self.wanted = select.POLLIN
        connection.setblocking(False)
        calls.poller.watch(connection.fileno(), self.on_event)
        calls.sockets.add(self)

    def on_event(self, event: int) -> None:
        if event == select.POLLIN and self.calls.is_busy():
            self.calls.held[self] = None
            self.want_events(0)
        else:
            self.on_ready(event)

    def read_again(self) -> None:
        """Go on with a socket that was held."""
        self.want_events(select.POLLIN | (select.POLLOUT if self.unsent else 0))
        self.on_ready(select.POLLIN)

    def on_ready(self, event: int) -> None:
        try:
            if event & select.POLLOUT:
                self.write_more()
            if event & ~select.POLLOUT and self.connection.fileno() >= 0:
                self.read_some()
        except (ValueError, LookupError, struct.error):  # no request of this protocol
            self.close()

    def read_some(self) -> None:
        try:
            data = self.connection.recv(MESSAGE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.take_data(data)
        else:
            self.close()

    def take_data(self, data: bytes) -> None:
        """Act on what has arrived."""

    def reply(self, payload: bytes) -> None:
        """Send the answer to a call: u8 status and JSON."""

    def all_sent(self) -> None:
        """Called when all that was to be sent has been."""

    def send(self, data: bytes) -> None:
        if self.unsent:
            self.unsent = bytes(self.unsent) + data
        else:
            self.unsent = data
            self.write_more()

    def write_more(self) -> None:
        try:
            count = self.connection.send(self.unsent)
        except BlockingIOError:
            count = 0
        except OSError:
            self.close()
            return
        if count == len(self.unsent):  # nearly always
            self.unsent = b""
            self.want_events(select.POLLIN)
            self.all_sent()
        else:
            self.unsent = memoryview(self.unsent)[count:]
            self.want_events(select.POLLIN | select.POLLOUT)

    def want_events(self, events: int) -> None:
        if events != self.wanted:  # only then: poll() builds its table anew after every change
            self.wanted = events
            self.calls.poller.change_events(self.connection.fileno(), events)

    def close(self) -> None:
        if self.connection.fileno() >= 0:
            self.calls.poller.unwatch(self.connection.fileno())
            self.connection.close()
        self.calls.sockets.discard(self)
        self.calls.held.pop(self, None)


class ToolChannel(ToolSocket):
    """A private connection of one thread of the code: one tool call after the other."""

    def __init__(self, calls: ToolCalls, worker: SupervisedWorker, connection: socket.socket) -> None:
        super().__init__(calls, connection)
        self.worker: SupervisedWorker = worker

    def take_data(self, data: bytes) -> None:
        if not self.received and len(data) >= 4 and len(data) == 4 + U32.unpack_from(data)[0]:
            self.request(data[4:])  # nearly always: one request, whole
            return
        self.received += data
        if len(self.received) < 4:
            return
        (length,) = U32.unpack_from(self.received)
        if length > MAX_CALL:
            self.close()
        elif len(self.received) >= 4 + length:
            body = bytes(self.received[4 : 4 + length])
            del self.received[: 4 + length]
            self.request(body)

    def request(self, body: bytes) -> None:
        if len(body) < 2 or int.from_bytes(body[:2], "big") > len(body) - 2:
            self.close()
        else:
            self.calls.begin_call(self, self.worker.action, body)

    def reply(self, payload: bytes) -> None:
        self.send(U32.pack(len(payload)) + payload)
