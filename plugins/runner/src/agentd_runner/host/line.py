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
import sys

import attrs

from agentd_runner.host.direct_channel import DirectChannel
from agentd_runner.host.held import HeldBytes
from agentd_runner.host.hub import Hub
from agentd_runner.host.tool_calls import CallQueue
from agentd_runner.inside import frames

__all__ = ["Line", "LineEnds", "line_pair"]

RECEIVE_RIGHTS = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)


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
        self._channels: set[DirectChannel] = set()
        hub.watch(sock.fileno(), selectors.EVENT_READ, self._take)

    def close_in_child(self) -> None:
        """Let go of everything in a forked child, which has the descriptors but not the hub."""
        if self._sock.fileno() >= 0:
            os.close(self._sock.detach())
        for channel in self._channels:
            channel.close_in_child()
        self._channels.clear()

    @property
    def piped(self) -> int:
        """How many channels have pipes."""
        return sum(channel.has_pipes for channel in list(self._channels))

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
            self._channels.add(DirectChannel(self, sock, *frames.U32.unpack(data)))
        else:
            sock.close()

    def finish(self, action: int) -> None:
        """An action has ended: begin the calls that it made last, and close its channels."""
        self._take(0)
        for channel in [c for c in self._channels if c.action == action]:
            channel.finish()

    def discard(self, channel: DirectChannel) -> None:
        self._channels.discard(channel)

    def close(self) -> None:
        """Close all channels, and the line."""
        self.hub.call(self._close)

    def _close(self) -> None:
        for channel in list(self._channels):
            channel.close()
        if self._sock.fileno() >= 0:
            self.hub.forget(self._sock.fileno(), self._sock.close)
