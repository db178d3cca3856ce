"""A thread's connection to the host: what is sent over it and how the answer is waited for.

Standard library only; made for Python 3.8 and later. Written by agentd; changes are overwritten.

A request is u32 length, u16 length of the tool's name, the name, JSON.
An answer is u32 length, u8 (0 ok, 1 error), JSON.
The host may send a pair of pipes along with the answer to each 32nd call. Small calls go over them from then on, as
that costs the kernel less. For an answer that is too large for a pipe comes a head of length 0 with a 2, and the answer
over the socket.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from select import PIPE_BUF, POLLIN, poll  # as they are before code changes them for green threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAX_MESSAGE_BYTES", "NO_SIGNAL", "CallChannel"]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024 - 1024
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # code may have set SIGPIPE back to its default

ANSWER = struct.Struct("!IB")
HEAD = struct.Struct("!IH")
BUFFER = 1024 * 1024
KEPT = 8 * BUFFER
LARGE = 128 * 1024  # of glibc's malloc, which maps what is larger
PIPED = PIPE_BUF  # bytes that one write brings into a pipe whole
OFFERED_EVERY = 32
NUMBERS = (*range(900, 964), *range(200, 264))  # of pipes' descriptors
AWAKE_S = 100e-6
MAX_MISSES = 6  # after so many, one call in 64 is waited for awake


class CallChannel:
    """For one thread.

    :param sock: a Unix socket of which the host has the other end.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.large = False
        self.calls = 0
        self.misses = 0
        self.asleep = 0  # so many calls are not worth to stay awake
        self.writer = self.reader = -1
        self.look = self.look_piped = looking(sock.fileno())

    def __del__(self) -> None:
        self.sock.close()
        self._drop_pipes()

    def ask(self, name: bytes, data: bytes | list[bytes]) -> tuple[bool, bytes | bytearray]:
        """Call a tool; return whether the call failed, and the JSON of its reply.

        :raises OSError: or EOFError, if the host is gone.
        """
        self.calls += 1
        if isinstance(data, bytes):
            message = HEAD.pack(2 + len(name) + len(data), len(name)) + name + data
            if self.writer >= 0 and len(message) <= PIPED:
                os.write(self.writer, message)
                return self._receive(self._first(True))
            self.sock.sendall(message, NO_SIGNAL)
        else:
            size = 2 + len(name) + sum(map(len, data))
            if size > LARGE and not self.large:
                self._expect_large()
            self._send_parts([HEAD.pack(size, len(name)), name, *data])
        return self._receive(self._first(False))

    def _take_pipes(self, descriptors: list[int]) -> None:
        """Use the pipes from now on."""
        taken: list[int] = []
        try:
            with numbering:
                taken.extend(map(moved, descriptors))
        except OSError:  # no more descriptors
            pass
        for number in descriptors:
            os.close(number)
        if len(taken) == 2:
            self.writer, self.reader = taken
            self.look_piped = looking(self.reader)
        else:
            for number in taken:
                os.close(number)

    def _drop_pipes(self) -> None:
        for number in (self.writer, self.reader):
            if number >= 0:
                try:
                    os.close(number)
                except OSError:  # closed by the code
                    pass

    def _expect_large(self) -> None:
        """Make large messages cheap from now on: a larger buffer of the kernel's, and one of malloc's kept.

        glibc maps and unmaps each block above a threshold, so every page of a message is a page fault; it raises the
        threshold to the size of a mapped block that is freed. This one is never touched.
        """
        self.large = True
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            bytes(KEPT)
        except (OSError, MemoryError):
            pass  # slower, and as right

    def _send_parts(self, parts: list[bytes]) -> None:
        # In one go: a head of its own would wake the host for nothing.
        sent = self.sock.sendmsg(parts, [], NO_SIGNAL)
        if sent < sum(map(len, parts)):
            self.sock.sendall(memoryview(b"".join(parts))[sent:], NO_SIGNAL)

    def _first(self, piped: bool) -> bytes:
        """Wait for the beginning of the reply. Awake for a moment, if no other thread wants to run: on an
        idle machine, being woken would take longer than the call. Where that was in vain, not so often."""
        if self.asleep:
            self.asleep -= 1
        elif threading.active_count() == 1:
            look = self.look_piped if piped else self.look
            until = time.perf_counter() + AWAKE_S
            while not look(0):
                if time.perf_counter() > until:
                    self.misses = min(self.misses + 1, MAX_MISSES)
                    self.asleep = 2**self.misses - 1
                    break
                os.sched_yield()
            else:
                self.misses = 0
        if piped:
            return os.read(self.reader, PIPED)
        if self.writer < 0 and not self.calls % OFFERED_EVERY:
            return self._first_with_pipes()
        return self.sock.recv(65536)

    def _first_with_pipes(self) -> bytes:
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        data, rights, *_ = self.sock.recvmsg(65536, socket.CMSG_SPACE(struct.calcsize("2i")), flags)
        for _level, _kind, packed in rights:
            self._take_pipes(
                [number for (number,) in struct.iter_unpack("i", packed[: len(packed) // 4 * 4])]
            )
        return data

    def _receive(self, chunk: bytes) -> tuple[bool, bytes | bytearray]:
        """Return whether the call failed, and the JSON of its reply, which begins with this."""
        while len(chunk) < 5:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError("the session has ended")
            chunk += more
        size, failed = ANSWER.unpack_from(chunk)
        if len(chunk) == size + 4:
            return failed != 0, chunk[5:]
        if size == 0 and failed == 2:
            return self._receive(self.sock.recv(65536))
        if not 0 < size <= MAX_MESSAGE_BYTES or len(chunk) > size + 4:
            raise EOFError("the host sent a reply that breaks the protocol")
        if size > LARGE and not self.large:
            self._expect_large()
        size -= 1
        whole = bytearray(size)
        got = len(chunk) - 5
        whole[:got] = chunk[5:]
        view = memoryview(whole)
        while got < size:
            count = self.sock.recv_into(view[got:])
            if not count:
                raise EOFError("the session has ended")
            got += count
        return failed != 0, whole


numbering = threading.Lock()


def moved(number: int) -> int:
    """Return a copy of a descriptor with a high number: a program that closes all that it does not know, and then opens
    files, is not to find its calls in them. (`fcntl` would be an import, which takes as long as 30 calls.)"""
    for free in NUMBERS:
        try:
            os.fstat(free)
        except OSError:
            return os.dup2(number, free, inheritable=False)
    raise OSError("no number is free")


def looking(number: int) -> Any:
    """Return what tells, within so many milliseconds, whether there is something to read."""
    poller = poll()
    poller.register(number, POLLIN)
    return poller.poll
