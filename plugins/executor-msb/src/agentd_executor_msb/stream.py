"""`StreamProcess`: a command that runs in a microVM, as a `RunnerProcess` with descriptors.

The SDK gives a running command as an asynchronous stream of events and an asynchronous sink for its input.
The host's side of the runner reads and writes descriptors. Between them stand socket pairs: one task
of the SDK's thread carries what is written to the sink, another what the command prints to the sockets. A
socket that is full makes its task wait, so neither side holds more than a socket's buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from typing import Protocol

from agentd_executor_msb.thread import SdkThread

__all__ = ["CommandHandle", "StreamProcess"]

READ_SIZE = 1 << 16
KILL_S = 5.0  # how long the microVM's agent may take to kill a command
KILLED = 137
NOT_STARTED = 127  # what a shell reports for a command that cannot be started


class CommandSink(Protocol):
    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


class CommandEvent(Protocol):
    """`event_type`: started (`pid`), stdout and stderr (`data`), exited (`code`), failed, stdin_error."""

    @property
    def event_type(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def data(self) -> bytes | None: ...
    @property
    def code(self) -> int | None: ...


class CommandHandle(Protocol):
    """The part of the SDK's `ExecHandle` that is used here."""

    def take_stdin(self) -> CommandSink | None: ...
    async def recv(self) -> CommandEvent | None: ...
    async def kill(self) -> None: ...


class StreamProcess:
    """A `RunnerProcess` around a command's handle. Made in any thread but the SDK's.

    :param prelude: bytes that the command reads before everything else.

    `pid` is that in the guest, 0 until the command has started.
    """

    def __init__(self, thread: SdkThread, handle: CommandHandle, prelude: bytes = b"") -> None:
        self.pid = 0
        self._owner = os.getpid()
        self._thread = thread
        self._handle = handle
        self._ended = threading.Event()
        self._killed = False
        self._code: int | None = None
        pairs = [socket.socketpair() for _ in range(3)]
        self.stdin, self.stdout, self.stderr = (ours.detach() for ours, _ in pairs)
        for _, theirs in pairs:
            theirs.setblocking(False)
        self._in, self._out, self._err = (theirs for _, theirs in pairs)
        self._pump = thread.start(self._carry(prelude))

    def kill(self) -> None:
        # Once: a second cancellation would cut short what closes the sockets.
        if not self._ended.is_set() and not self._killed and self._owner == os.getpid():
            self._killed = True
            self._thread.start(self._kill())

    def wait(self, timeout_s: float) -> int | None:
        if self._owner != os.getpid():  # a forked child: the thread that would say so is the parent's
            return KILLED
        return self._code if self._ended.wait(timeout_s) else None

    # --- in the SDK's thread

    async def _kill(self) -> None:
        await self._kill_command()
        self._pump.cancel()

    async def _kill_command(self) -> None:
        try:
            await asyncio.wait_for(self._handle.kill(), KILL_S)
        except Exception:  # the microVM has gone, and the command with it
            pass

    async def _carry(self, prelude: bytes) -> None:
        feeding = asyncio.ensure_future(self._feed(prelude))
        try:
            await self._deliver()
        except OSError:  # the host has closed its ends: nobody will read what the command prints
            await self._kill_command()
        finally:
            if self._code is None:
                self._code = KILLED
            self._ended.set()  # before the sockets close: whoever sees the end may ask for the code
            feeding.cancel()
            while not feeding.done():
                with contextlib.suppress(
                    asyncio.CancelledError
                ):  # of a kill: the sockets are closed all the same
                    await asyncio.wait([feeding])
            for end in (self._in, self._out, self._err):
                _shut(end)

    async def _next(self) -> CommandEvent | None:
        try:
            return await self._handle.recv()
        except Exception as error:  # the microVM has gone
            self._complain(error)
            return None

    def _complain(self, error: Exception) -> None:
        try:
            self._err.send(f"{type(error).__name__}: {error}\n".encode()[:READ_SIZE])
        except OSError:
            pass

    async def _feed(self, prelude: bytes) -> None:
        sink = self._handle.take_stdin()
        if sink is None:
            return
        loop = self._thread.loop
        for start in range(0, len(prelude), READ_SIZE):
            await sink.write(prelude[start : start + READ_SIZE])
        try:
            while data := await loop.sock_recv(self._in, READ_SIZE):
                await sink.write(data)
        except OSError:
            pass
        await sink.close()

    async def _deliver(self) -> None:
        loop = self._thread.loop
        while (event := await self._next()) is not None:
            kind, data = str(event.event_type), bytes(event.data or b"")
            if kind == "stdout":
                await loop.sock_sendall(self._out, data)
            elif kind == "stderr":
                await loop.sock_sendall(self._err, data)
            elif kind == "started":
                self.pid = event.pid or 0
            elif kind == "exited":
                self._code = event.code
            elif kind == "failed":
                self._code = event.code or NOT_STARTED
                await loop.sock_sendall(
                    self._err, data or b"the command could not be started in the microVM\n"
                )


def _shut(end: socket.socket) -> None:
    # Not only closed: a forked child of the host has a copy, which would keep the other side waiting.
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    end.close()
