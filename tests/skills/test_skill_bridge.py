"""The whole way of a call: a real Python process, the generated client, and a real tool set.

The runner between them is played by `Broker` and by a small HTTP server, written here against the wire
format: a request is its length, the length of the name, name, JSON; a reply its length, 0 or 1, JSON.
"""

from __future__ import annotations

import http.server
import json
import os
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

import pytest
from agentd.errors import ToolError
from agentd.protocols import ToolReply
from agentd_skills import AgentSkillsRenderer
from agentd_tools import ToolSet


def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


def echo(value: object) -> object:
    return value


def fail(kind: str) -> None:
    raise {"tool": ToolError("in my words"), "value": ValueError("bad value")}[kind]


def hang() -> None:
    threading.Event().wait(30)


def size(text: str) -> int:
    return len(text)


def make(count: int) -> str:
    return "x" * count


async def later(n: int) -> int:
    return n


FUNCTIONS: list[Callable[..., Any]] = [add, echo, fail, hang, size, make, later]


class Broker:
    """The runner's side of the fast way: takes channels from the broker socket and serves each."""

    def __init__(self, tools: ToolSet, child: socket.socket, ours: socket.socket) -> None:
        self.tools = tools
        self.child = child
        self.channels = 0
        self._ours = ours
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                message, ancillary, _, _ = self._ours.recvmsg(16, socket.CMSG_SPACE(4))
            except OSError:
                return
            if not message:
                return
            assert message == b"C"
            (descriptor,) = struct.unpack("i", ancillary[0][2])
            channel = socket.socket(fileno=descriptor)
            self.channels += 1
            self._open.append(channel)
            threading.Thread(target=self._serve, args=(channel,), daemon=True).start()

    def _serve(self, channel: socket.socket) -> None:
        with channel:
            while head := exactly(channel, 4):
                body = exactly(channel, struct.unpack("!I", head)[0])
                (length,) = struct.unpack_from("!H", body)
                name, data = body[2 : 2 + length].decode(), body[2 + length :]
                reply = answer(self.tools, name, data)
                payload = bytes([not reply.ok]) + reply.payload
                try:
                    channel.sendall(struct.pack("!I", len(payload)) + payload)
                except BrokenPipeError:  # the caller has given up
                    return

    def close(self) -> None:
        self.child.close()
        self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()


def exactly(channel: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        try:
            more = channel.recv(min(1 << 20, count - len(data)))
        except OSError:
            return b""
        if not more:
            return b""
        data += more
    return bytes(data)


def answer(tools: ToolSet, name: str, data: bytes) -> ToolReply:
    replies: list[ToolReply] = []
    answered = threading.Event()

    def reply(value: ToolReply) -> None:
        replies.append(value)
        answered.set()

    tools.submit(name, data, "act_1", reply)
    assert answered.wait(60)
    return replies[0]


class Handler(http.server.BaseHTTPRequestHandler):
    tools: ClassVar[ToolSet]

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        prefix, _, name = self.path.rpartition("/")
        if self.headers["Authorization"] != "Bearer s3cret" or prefix != "/deep/call":
            return self._send(401, b'{"error": {"type": "ToolError", "message": "no entry"}}')
        reply = answer(self.tools, unquote(name), data)
        return self._send(
            200 if reply.ok else 422, reply.payload if reply.ok else b'{"error": ' + reply.payload + b"}"
        )

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *args: object) -> None:
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Place:
    """A skills directory, a broker, and a way to run Python that sees them."""

    def __init__(self, directory: Path, tools: ToolSet, broker: Broker) -> None:
        self.directory = directory
        self.tools = tools
        self.broker = broker

    def run(self, code: str, *, fast: bool = True, **env: str) -> Any:
        """Run code whose last act is `print(json.dumps(...))`; return that."""
        number = self.broker.child.fileno()
        if fast:
            env["AGENTD_TOOLS_FD"] = str(number)
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", f"import json, os, sys, threading\n{code}"],
            env={"PYTHONPATH": str(self.directory), **env},
            pass_fds=[number] if fast else [],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.stderr == ""
        return json.loads(done.stdout)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tools = ToolSet(FUNCTIONS, timeout_s=30)
    AgentSkillsRenderer().render(tools.specs(), tmp_path / "skills")
    child, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    broker = Broker(tools, child, ours)
    yield Place(tmp_path / "skills", tools, broker)
    broker.close()


@pytest.fixture(params=["tcp", "unix"])
def over_http(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment for calls over HTTP, on TCP and on a Unix socket."""

    class Bound(Handler):
        tools = place.tools

    env = {"AGENTD_TOOLS_TOKEN": "s3cret", "AGENTD_TOOLS_URL": "http://localhost/deep"}
    server: socketserver.BaseServer
    if request.param == "unix":
        env["AGENTD_TOOLS_SOCKET"] = str(tmp_path / "tools.sock")
        server = UnixServer(env["AGENTD_TOOLS_SOCKET"], Bound)
    else:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        env["AGENTD_TOOLS_URL"] = f"http://127.0.0.1:{server.server_address[1]}/deep"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield env
    server.shutdown()
    thread.join()
    server.server_close()


VALUES = [None, True, 0, 2**70, -1.5, "", "42", "é\x00\ud800", [], [1, [None]], {}, {"a": {"b": "c"}}]


def test_values_of_every_json_type_go_and_come_with_their_type(place: Place) -> None:
    code = f"from lib.tools import *\nprint(json.dumps([echo(v) for v in {VALUES!r}]))"
    assert place.run(code) == VALUES
    assert place.broker.channels == 1, "one channel carries all calls of a thread"


LONG = {
    "plain": "x",
    "text": 'He said "no" \\ and\tleft.\r\n',
    "beyond ASCII": "Grüße, 世界 🎈",
    "control": "a\x00b\x1b[2J\x7f",
    "half a character": "\ud800",
    "tags": '{"$blob": "eA=="} $$blob":',
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_texts_go_and_come_as_they_are(place: Place, text: str) -> None:
    code = (
        f"from lib.tools import *\nlong = {text!r} * {100_000 // len(text)}\n"
        "print(json.dumps([echo(long) == long, echo([long]) == [long], echo(value={'k': long}) == {'k': long}]))"
    )
    assert place.run(code) == [True, True, True]


def test_async_tools_and_defaults_work(place: Place) -> None:
    code = "from lib.tools import add, later\nprint(json.dumps([add(1), add(1, 5), add(a=1), later(9)]))"
    assert place.run(code) == [3, 6, 3, 9]


ERRORS = """
import lib.tools as t
def error(call):
    try:
        return call()
    except t.ToolError as e:
        return [type(e).__name__, str(e), [c.__name__ for c in type(e).__mro__ if c.__module__ == "builtins"][0]]
"""


def test_tool_errors_are_exceptions_not_dictionaries(place: Place) -> None:
    code = ERRORS + (
        "print(json.dumps([error(lambda: t.fail('tool')), error(lambda: t.fail('value')),"
        "error(lambda: t.add('7')), error(lambda: t._call('ad', {})), t.add(1)]))"
    )
    assert place.run(code) == [
        ["ToolError", "in my words", "Exception"],
        ["ToolError", "fail() raised ValueError: bad value", "Exception"],
        ["ToolInputError", "add(): argument 'a': expected int, got str", "TypeError"],
        [
            "UnknownToolError",
            "unknown tool 'ad'; there are: add, echo, fail, hang, later, make, size; did you mean 'add'?",
            "LookupError",
        ],
        3,
    ]  # fmt: skip


def test_a_time_out_reaches_the_code_and_the_channel_goes_on(place: Place) -> None:
    place.tools = place.broker.tools = ToolSet(FUNCTIONS, timeout_s=0.5)
    code = ERRORS + "print(json.dumps([error(t.hang)[0], error(t.hang)[2], t.later(1)]))"
    assert place.run(code) == ["ToolTimeoutError", "TimeoutError", 1]


def test_what_json_cannot_hold_is_refused_before_it_is_sent(place: Place) -> None:
    code = ERRORS + (
        "print(json.dumps([error(lambda: t.echo(object())), error(lambda: t.echo(float('nan'))),"
        "error(lambda: t.size('x' * (64 * 1024 * 1024)))]))"
    )
    results = place.run(code)
    assert [r[0] for r in results] == ["ToolInputError"] * 3
    assert "an argument is of a type that JSON cannot hold: object" in results[0][1]
    assert "at most" in results[2][1]
    assert place.broker.channels == 1


def test_python_values_with_an_obvious_json_form_are_taken_as_arguments(place: Place) -> None:
    code = """
import pathlib, datetime, enum, dataclasses, uuid, decimal
from lib.tools import echo
class E(enum.Enum): A = "a"
@dataclasses.dataclass
class D: x: int
print(json.dumps(echo([pathlib.Path("/x"), datetime.date(2026, 1, 2), E.A, D(1), b"hi", {1}, (1, 2),
    uuid.UUID(int=0), decimal.Decimal("1.50"), (i for i in range(2))])))
"""
    assert place.run(code) == [
        "/x", "2026-01-02", "a", {"x": 1}, "aGk=", [1], [1, 2], "00000000-0000-0000-0000-000000000000", "1.50",
        [0, 1],
    ]  # fmt: skip


def test_threads_have_channels_of_their_own(place: Place) -> None:
    code = """
from lib.tools import echo
results = {}
barrier = threading.Barrier(8)
def work(i):
    barrier.wait()
    results[i] = [echo([i, n]) for n in range(50)] == [[i, n] for n in range(50)]
    barrier.wait()
threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps(sorted(results.items())))
"""
    assert place.run(code) == [[i, True] for i in range(8)]
    assert place.broker.channels == 8


def test_a_forked_child_makes_its_own_channel(place: Place) -> None:
    code = """
from lib.tools import echo
echo("before")
pid = os.fork()
values = [echo([pid > 0, n]) for n in range(200)]
good = values == [[pid > 0, n] for n in range(200)]
if not pid:
    os._exit(0 if good else 1)
print(json.dumps([good, os.waitpid(pid, 0)[1]]))
"""
    assert place.run(code) == [True, 0]
    assert place.broker.channels == 2


def test_an_interrupt_in_the_middle_does_not_mix_up_replies(place: Place) -> None:
    code = """
import signal, lib.tools as t
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGALRM, interrupt)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    t.hang()
except KeyboardInterrupt:
    print(json.dumps(t.echo("right")))
"""
    assert place.run(code) == "right"


def test_fifty_megabytes_go_both_ways(place: Place) -> None:
    code = "from lib.tools import *\nprint(json.dumps([size('y' * 50_000_000), len(make(50_000_000))]))"
    assert place.run(code) == [50_000_000, 50_000_000]


def test_the_hosts_end_is_a_tool_error(place: Place) -> None:
    code = ERRORS + (
        "print(json.dumps(t.echo(1)), flush=True, file=sys.stderr) if 0 else t.echo(1)\n"
        "t._call.__globals__['_state'].channel.sock.shutdown(2)\n"
        "print(json.dumps([error(lambda: t.echo(1)), t.echo(2)]))"
    )
    (kind, message, _), second = place.run(code)
    assert kind == "ToolError"
    assert "echo(): the connection to the host is lost" in message
    assert second == 2


def test_children_that_lost_the_descriptor_call_over_http(place: Place, over_http: dict[str, str]) -> None:
    code = """
import subprocess
child = "import json; from lib.tools import *; "
child += "print(json.dumps([echo(json.loads(%r)), size('x' * 3000000), len(make(3000000))]))"
values = json.dumps(VALUES)
done = subprocess.run([sys.executable, "-c", child % values], capture_output=True, text=True)
assert not done.stderr, done.stderr
print(done.stdout)
""".replace("VALUES", repr(VALUES))
    assert place.run(code, **over_http) == [VALUES, 3_000_000, 3_000_000]
    assert place.broker.channels == 0


def test_errors_over_http_are_the_same_exceptions(place: Place, over_http: dict[str, str]) -> None:
    code = ERRORS + (
        "print(json.dumps([error(lambda: t.fail('value')), error(lambda: t.add('7'))[0], "
        "error(lambda: t._call('a/b', {}))[0]]))"
    )
    assert place.run(code, fast=False, **over_http) == [
        ["ToolError", "fail() raised ValueError: bad value", "Exception"], "ToolInputError", "UnknownToolError",
    ]  # fmt: skip


def test_a_wrong_token_is_a_tool_error(place: Place, over_http: dict[str, str]) -> None:
    over_http["AGENTD_TOOLS_TOKEN"] = "guess"
    code = ERRORS + "print(json.dumps(error(lambda: t.add(1))))"
    assert place.run(code, fast=False, **over_http) == ["ToolError", "no entry", "Exception"]


def test_a_descriptor_that_is_something_else_by_now_is_not_used(
    place: Place, over_http: dict[str, str]
) -> None:
    code = """
import socket
other = socket.socketpair()[0] if sys.argv[-1:] == ["x"] else open(os.devnull)
os.environ["AGENTD_TOOLS_FD"] = str(other.fileno())
from lib.tools import add
result = add(1)
os.fstat(other.fileno())  # and is not closed either
other.close()
print(json.dumps(result))
"""
    assert place.run(code, fast=False, **over_http) == 3
    stream = code.replace('sys.argv[-1:] == ["x"]', "True").replace("[0] if", "[0] if")
    stream = stream.replace("socket.socketpair()[0]", "socket.socket()")
    assert place.run(stream, fast=False, **over_http) == 3


def test_outside_a_session_the_error_says_so(place: Place) -> None:
    code = ERRORS + "print(json.dumps(error(lambda: t.add(1))))"
    kind, message, _ = place.run(code, fast=False)
    assert kind == "ToolError"
    assert "run this inside an agentd session" in message
    kind, message, _ = place.run(code, fast=False, AGENTD_TOOLS_URL="http://127.0.0.1:9/")
    assert "cannot be reached over HTTP" in message


def test_the_generated_example_and_the_skills_command_reach_the_tools(place: Place) -> None:
    number = place.broker.child.fileno()
    env = {
        "PATH": f"/usr/bin:/bin:{place.directory}/bin",
        "AGENTD_PYTHON": sys.executable,
        "AGENTD_TOOLS_FD": str(number),
    }
    command = "skills run local add_example && skills exec <<< 'from lib.tools import add; print(add(40))'"
    done = subprocess.run(
        ["bash", "-c", command], env=env, pass_fds=[number], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("3\n42\n", "")


def test_no_descriptor_is_left_open_by_threads_that_end(place: Place) -> None:
    code = """
from lib.tools import echo
def count(): return len(os.listdir("/proc/self/fd"))
echo(1)
before = count()
for _ in range(20):
    t = threading.Thread(target=echo, args=(1,)); t.start(); t.join()
print(json.dumps(count() - before))
"""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("counting descriptors needs /proc")
    assert place.run(code) == 0
