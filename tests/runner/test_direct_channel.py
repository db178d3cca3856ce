"""A channel of the direct line: its socket, and the pipes beside it."""

from __future__ import annotations

import array
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator

import pytest
from agentd_runner.host.direct_channel import MAX_PIPED, MESSAGE_BYTES, OFFERED_EVERY
from agentd_runner.host.held import HeldBytes
from agentd_runner.host.hub import shared_hub
from agentd_runner.host.line import Line, line_pair
from agentd_runner.host.pending import Reply
from agentd_runner.host.tool_calls import CallQueue
from agentd_runner.inside import frames

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the host offers pipes on Linux alone")
ACTION = 7


def request(name: str, arguments: bytes = b"{}") -> bytes:
    encoded = name.encode()
    return struct.pack("!IH", 2 + len(encoded) + len(arguments), len(encoded)) + encoded + arguments


def on_call(_action: int, name: str, arguments: bytes, reply: Reply, _queue: CallQueue) -> None:
    """`echo` gives its arguments, `large` a large text, `never` nothing; `thread` answers from another thread."""
    if name == "thread":
        thread = threading.Thread(target=reply, args=(True, arguments))
        thread.start()
    elif name != "never":
        reply(name != "fails", b"x" * 100_000 if name == "large" else arguments)


class Client:
    """A thread of the code."""

    def __init__(self, line: socket.socket) -> None:
        self.sock, theirs = socket.socketpair()
        self.sock.settimeout(10)
        with theirs:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))]
            line.sendmsg([frames.U32.pack(ACTION)], rights)
        self.pipes: list[int] = []

    def received(self) -> bytes:
        """What comes over the socket, and take the pipes that come with it."""
        data, rights, *_ = self.sock.recvmsg(65536, socket.CMSG_SPACE(8))
        for _level, _kind, packed in rights:
            self.pipes += array.array("i", packed)
        if len(data) >= 4:
            while len(data) < 4 + frames.U32.unpack_from(data)[0]:
                data += self.sock.recv(65536)
        return data

    def by_socket(self, name: str = "echo", arguments: bytes = b"{}") -> bytes:
        self.sock.sendall(request(name, arguments))
        return self.received()

    def by_pipe(self, name: str = "echo", arguments: bytes = b"{}") -> bytes:
        os.write(self.pipes[0], request(name, arguments))
        assert select.select([self.pipes[1]], [], [], 10)[0]
        return os.read(self.pipes[1], 65536)

    def with_pipes(self) -> Client:
        for _ in range(OFFERED_EVERY):
            assert self.by_socket() == b"\0\0\0\3\0{}"
        assert len(self.pipes) == 2
        return self

    def close(self) -> None:
        self.sock.close()
        while self.pipes:
            os.close(self.pipes.pop())


class Host:
    """A line, of which a test has the code's end."""

    def __init__(self) -> None:
        self.hub = shared_hub()
        ends, self.code = line_pair()
        held = HeldBytes(1 << 24)
        self.line = Line(ends.ours, self.hub, CallQueue(held, self.hub, on_call), held)
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self.code))
        return self.clients[-1]

    def settle(self) -> None:
        """Wait until the I/O thread has done what it was asked to, and has looked at what was ready before."""
        for _ in range(2):
            done = threading.Event()
            self.hub.call(done.set)
            assert done.wait(10)

    def close(self) -> None:
        self.line.close()
        self.settle()
        for client in self.clients:
            client.close()
        self.code.close()


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.close()


def test_small_calls_go_over_the_pipes_that_come_with_the_32nd_answer(host: Host) -> None:
    client = host.client()
    for _ in range(OFFERED_EVERY - 1):
        client.by_socket()
    assert not client.pipes
    client.by_socket()
    assert len(client.pipes) == 2
    assert client.by_pipe("echo", b"[1]") == b"\0\0\0\4\0[1]"
    assert client.by_pipe("fails", b"[2]") == b"\0\0\0\4\1[2]"
    assert [client.by_pipe("thread", b"%d" % n)[5:] for n in range(50)] == [b"%d" % n for n in range(50)]
    assert client.by_socket("echo", b"y" * 70_000)[5:] == b"y" * 70_000


def test_an_answer_that_does_not_fit_into_a_pipe_comes_over_the_socket(host: Host) -> None:
    client = host.client().with_pipes()
    fits = b"a" * (MESSAGE_BYTES - len(request("echo", b"")))
    assert client.by_pipe("echo", fits)[5:] == fits
    assert client.by_pipe("large") == b"\0\0\0\0\2"
    assert client.received()[5:] == b"x" * 100_000
    assert client.by_pipe("echo", b"[3]")[5:] == b"[3]"


@pytest.mark.parametrize(
    "sent",
    [
        b"\0\0",
        request("echo")[:-1],
        request("echo") + b"x",
        b"\xff" * 64,
        b"\0\0\0\3\0\7ab",
        b"\0" * MESSAGE_BYTES,
    ],
    ids=["a piece", "cut short", "too long", "a length beyond all", "a name beyond its end", "zeros"],
)
def test_what_is_no_whole_request_in_a_pipe_ends_its_channel_and_no_other(host: Host, sent: bytes) -> None:
    other, client = host.client().with_pipes(), host.client().with_pipes()
    os.write(client.pipes[0], sent)
    assert client.sock.recv(100) == b""
    assert os.read(client.pipes[1], 100) == b""
    assert other.by_pipe("echo", b"[4]")[5:] == b"[4]"


@pytest.mark.parametrize("first_by_pipe", [True, False])
def test_a_request_before_the_answer_to_the_last_one_ends_its_channel(
    host: Host, first_by_pipe: bool
) -> None:
    client = host.client().with_pipes()
    if first_by_pipe:
        os.write(client.pipes[0], request("never"))
        host.settle()
        client.sock.sendall(request("echo"))
    else:
        client.sock.sendall(request("never"))
        host.settle()
        os.write(client.pipes[0], request("echo"))
    assert client.sock.recv(100) == b""
    assert os.read(client.pipes[1], 100) == b""


def test_pipes_that_nobody_takes_are_offered_once(host: Host) -> None:
    client = host.client()
    for _ in range(4 * OFFERED_EVERY):
        client.sock.sendall(request("echo"))
        assert (
            client.sock.recv(100) == b"\0\0\0\3\0{}"
        )  # without room for descriptors: the kernel closes them
        host.settle()
        assert not any(channel.has_pipes for channel in host.line._channels)
    assert client.by_socket() == b"\0\0\0\3\0{}"


def test_flags_that_code_sets_on_its_ends_do_not_make_the_host_wait(host: Host) -> None:
    client = host.client().with_pipes()
    for number in client.pipes:
        os.set_blocking(number, False)
        os.set_blocking(number, True)
    host.settle()
    (channel,) = host.line._channels
    assert channel._pipes is not None
    assert not os.get_blocking(channel._pipes.requests)
    assert not os.get_blocking(channel._pipes.answers)


def test_an_answer_pipe_that_code_has_filled_ends_its_channel(host: Host) -> None:
    client = host.client().with_pipes()
    writer = os.open(f"/proc/self/fd/{client.pipes[1]}", os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"z" * MESSAGE_BYTES)
    os.close(writer)
    os.write(client.pipes[0], request("echo"))
    assert client.sock.recv(100) == b""


def test_code_that_closes_the_pipe_of_its_answers_sends_the_host_no_signal(host: Host) -> None:
    client = host.client().with_pipes()
    os.close(client.pipes.pop())
    os.write(client.pipes[0], request("echo"))
    host.settle()
    assert client.by_socket("echo", b"[5]")[5:] == b"[5]"


def test_only_so_many_channels_of_a_line_have_pipes(host: Host) -> None:
    for _ in range(MAX_PIPED):
        host.client().with_pipes()
    late = host.client()
    for _ in range(OFFERED_EVERY):
        late.by_socket()
    assert not late.pipes
    host.clients[0].close()
    host.settle()
    while not late.pipes:
        late.by_socket()


def test_the_last_call_over_a_pipe_is_begun_when_its_action_ends_and_no_descriptor_is_left() -> None:
    Host().close()  # what hosts share is there, whatever ran before this test
    before = set(os.listdir("/proc/self/fd"))  # of which other tests may still be closing theirs
    host = Host()
    called = threading.Event()
    host.line.calls._on_call = lambda *call: called.set() if call[1] == "last" else on_call(*call)
    client = host.client().with_pipes()

    def end() -> None:  # in the I/O thread, before it sees that the pipe is ready
        os.write(client.pipes[0], request("last"))
        host.line.finish(ACTION)

    host.hub.call(end)
    assert called.wait(10)
    assert client.sock.recv(100) == b""
    host.close()
    assert set(os.listdir("/proc/self/fd")) <= before
