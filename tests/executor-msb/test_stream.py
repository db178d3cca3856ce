"""The adapter alone: a scripted command instead of a guest's, and the descriptors of the host's side."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from agentd_executor_msb.stream import StreamProcess
from agentd_executor_msb.thread import SdkThread, sdk_thread
from standin import Event


class Command:
    """A command as the SDK shows it; the test puts its events, and reads what was written to it."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event | Exception | None] = asyncio.Queue()
        self.written = b""
        self.closed = threading.Event()
        self.killed = threading.Event()
        self.may_write = asyncio.Event()
        self.may_write.set()

    def take_stdin(self) -> Command:
        return self

    async def write(self, data: bytes) -> None:
        await self.may_write.wait()
        self.written += data

    async def close(self) -> None:
        self.closed.set()

    async def recv(self) -> Event | None:
        event = await self.events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def kill(self) -> None:
        self.killed.set()
        await self.events.put(None)

    def say(self, thread: SdkThread, *events: Event | Exception | None) -> None:
        for event in events:
            thread.run(self.events.put(event))


@pytest.fixture
def thread() -> SdkThread:
    return sdk_thread()


@pytest.fixture
def command() -> Command:
    return Command()


@pytest.fixture
def process(thread: SdkThread, command: Command) -> Iterator[StreamProcess]:
    made = StreamProcess(thread, command, b"prelude;")
    yield made
    made.kill()
    for descriptor in {made.stdin, made.stdout, made.stderr} - {-1}:
        os.close(descriptor)
    made.wait(5)


def close(process: StreamProcess, name: str) -> None:
    """Close an end; its number may be another file's at once, so nobody closes it again."""
    os.close(getattr(process, name))
    setattr(process, name, -1)


def read_all(descriptor: int) -> bytes:
    data = b""
    while part := os.read(descriptor, 1 << 16):
        data += part
    return data


def fill(descriptor: int) -> int:
    written = 0
    try:
        while True:
            written += os.write(descriptor, b"x" * 65536)
    except BlockingIOError:
        return written


def test_what_is_written_arrives_behind_the_prelude_and_the_end_is_passed_on(
    process: StreamProcess, command: Command
) -> None:
    os.write(process.stdin, b"one ")
    os.write(process.stdin, b"two")
    close(process, "stdin")
    assert command.closed.wait(5)
    assert command.written == b"prelude;one two"


def test_both_outputs_the_pid_and_the_exit_code_come_through(
    process: StreamProcess, command: Command, thread: SdkThread
) -> None:
    command.say(
        thread,
        Event("started", pid=41),
        Event("stdout", data=b"\x00out"),
        Event("stderr", data=b"err"),
        Event("exited", code=3),
        None,
    )
    assert read_all(process.stdout) == b"\x00out"
    assert read_all(process.stderr) == b"err"
    assert process.wait(5) == 3
    assert process.pid == 41


def test_a_full_socket_makes_the_command_wait_and_nothing_is_lost(
    process: StreamProcess, command: Command, thread: SdkThread
) -> None:
    parts = [bytes([number]) * 300_000 for number in range(8)]
    command.say(thread, *(Event("stdout", data=part) for part in parts), Event("exited", code=0), None)
    assert process.wait(0.05) is None  # nobody reads yet: it cannot have ended
    assert read_all(process.stdout) == b"".join(parts)
    assert process.wait(5) == 0


def test_a_guest_that_does_not_read_makes_the_writer_wait(
    thread: SdkThread, process: StreamProcess, command: Command
) -> None:
    thread.loop.call_soon_threadsafe(command.may_write.clear)
    os.set_blocking(process.stdin, False)
    written = fill(process.stdin)
    assert written < 4 << 20  # sockets' buffers, no more
    thread.loop.call_soon_threadsafe(command.may_write.set)
    close(process, "stdin")
    assert command.closed.wait(5)
    assert len(command.written) == len(b"prelude;") + written


def test_a_command_that_cannot_start_says_why(
    process: StreamProcess, command: Command, thread: SdkThread
) -> None:
    command.say(thread, Event("failed", data=b"no such file"), None)
    assert read_all(process.stderr) == b"no such file"
    assert process.wait(5) == 127


def test_a_microvm_that_goes_away_ends_the_process_with_the_reason(
    process: StreamProcess, command: Command, thread: SdkThread
) -> None:
    command.say(thread, ConnectionError("the relay has gone"))
    assert read_all(process.stdout) == b""
    assert b"the relay has gone" in read_all(process.stderr)
    assert process.wait(5) == 137


def test_kill_ends_the_command_even_if_nobody_reads_its_output(
    process: StreamProcess, command: Command, thread: SdkThread
) -> None:
    command.say(thread, Event("stdout", data=b"x" * 10_000_000))
    process.kill()
    assert command.killed.wait(5)
    assert process.wait(5) == 137


def test_a_host_that_closes_its_end_ends_the_command(
    process: StreamProcess, command: Command, thread: SdkThread
) -> None:
    close(process, "stdout")
    command.say(thread, Event("stdout", data=b"into the void"))
    assert command.killed.wait(5)
    assert process.wait(5) == 137
