"""Tool calls out of running code: over the channel, over HTTP, from children, from threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from agentd.events import ToolCall
from agentd.registry import Registry
from agentd.types import BashAction, Limits, PythonAction, PythonState
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.inside.frames import MAX_DIRECT_CHANNELS
from agentd_tools import ToolSet


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def same(x: str) -> str:
    """Give it back."""
    return x


def large() -> str:
    """More than a socket holds."""
    return "a" * 1_000_000


def fails() -> None:
    """Never works."""
    raise ValueError("on purpose")


async def later(x: int) -> int:
    """Wait a little."""
    await anyio.sleep(0)
    return x


def größe(x: str) -> int:
    """Count its characters."""
    return len(x)


class World:
    def __init__(self, executor: SubprocessExecutor, calls: list[ToolCall], release: threading.Event) -> None:
        self.executor = executor
        self.calls = calls
        self.release = release

    def python(self, code: str) -> tuple[str, int]:
        return self.executor.execute_python(code)

    def bash(self, code: str) -> tuple[str, int]:
        return self.executor.execute_bash(code)


@pytest.fixture(params=["child", "fork"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """The runner is a child of the program or, beside another one, a fork."""
    calls: list[ToolCall] = []
    release = threading.Event()

    def blocks() -> str:
        """Wait for the test."""
        release.wait(20)
        return "released"

    tools = ToolSet([double, same, large, fails, later, blocks, größe], on_call=calls.append)
    skills = tmp_path / "skills"
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), skills)
    with ExitStack() as stack:
        if request.param == "fork":
            neighbour = stack.enter_context(SubprocessExecutor(tmp_path / "neighbour"))
            neighbour.execute_bash("true")
        executor = stack.enter_context(SubprocessExecutor(tmp_path / "work", timeout=30))
        executor.attach(tools=tools, layout=renderer.layout(skills))
        yield World(executor, calls, release)
    release.set()
    tools.close()


def test_a_python_block_calls_a_tool_and_the_call_names_its_action(world: World) -> None:
    code = "from lib.tools import double\nprint(double(21), type(double(1)).__name__)"
    result = world.executor.run_sync(PythonAction(code=code), action_id="block-7")
    assert result.output == "42 int\n"
    assert [(c.name, c.result, c.code_id) for c in world.calls][:1] == [("double", "42", "block-7")]


def test_a_child_of_bash_and_a_child_of_python_call_tools(world: World) -> None:
    assert world.bash("python -c 'from lib.tools import double; print(double(4))'") == ("8\n", 0)
    code = (
        "import subprocess, sys\n"
        "code = 'from lib.tools import double; print(double(5))'\n"
        "print(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout, end='')\n"
    )
    assert world.python(code) == ("10\n", 0)


def test_curl_calls_a_tool_with_the_token_and_not_without(world: World) -> None:
    curl = "curl -s --unix-socket $AGENTD_TOOLS_SOCKET"
    auth = '-H "Authorization: Bearer $AGENTD_TOOLS_TOKEN"'
    assert world.bash(f"{curl} {auth} -d '{{\"x\": 6}}' $AGENTD_TOOLS_URL/call/double") == ("12", 0)
    assert world.calls[-1].name == "double"
    output, _ = world.bash(f"{curl} -w ' %{{http_code}}' -d '{{\"x\": 6}}' $AGENTD_TOOLS_URL/call/double")
    assert output.endswith(" 401")
    names = [t["name"] for t in json.loads(world.bash(f"{curl} {auth} $AGENTD_TOOLS_URL/tools")[0])]
    assert names == ["double", "same", "large", "fails", "later", "blocks", "größe"]
    assert json.loads(world.bash(f"{curl} {auth} $AGENTD_TOOLS_URL/health")[0]) == {"status": "ok"}
    output, _ = world.bash(
        f"{curl} {auth} -w ' %{{http_code}}' -d '{{\"x\": \"6\"}}' $AGENTD_TOOLS_URL/call/double"
    )
    assert output.endswith(" 422")
    assert "ToolInputError" in output
    assert world.bash(f"{curl} {auth} -o /dev/null -w '%{{http_code}}' $AGENTD_TOOLS_URL/nothing")[0] == "404"
    assert len(world.calls) == 2


def test_a_tools_name_may_be_beyond_ascii(world: World) -> None:
    assert world.python("from lib.tools import größe; print(größe(x='日本'))") == ("2\n", 0)
    curl = 'curl -s --unix-socket $AGENTD_TOOLS_SOCKET -H "Authorization: Bearer $AGENTD_TOOLS_TOKEN"'
    for name in ("größe", "gr%C3%B6%C3%9Fe"):  # as it is typed, and as the standard of URLs has it
        assert world.bash(f'{curl} -d \'{{"x": "日本"}}\' $AGENTD_TOOLS_URL/call/{name}') == ("2", 0)


def test_the_socket_is_in_a_private_folder(world: World) -> None:
    assert world.bash("stat -c %a $(dirname $AGENTD_TOOLS_SOCKET)") == ("700\n", 0)


def test_async_tools_threads_and_forked_children_work(world: World) -> None:
    code = (
        "import threading, multiprocessing\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from lib.tools import double, later\n"
        "print(later(3), double(1))\n"
        "with ThreadPoolExecutor(8) as pool: print(sum(pool.map(double, range(200))))\n"
        "with multiprocessing.Pool(2) as pool: print(sum(pool.map(double, range(10))))\n"
    )
    assert world.python(code) == ("3 2\n39800\n90\n", 0)


def test_a_kept_namespace_calls_tools_block_after_block(world: World) -> None:
    first = world.executor.run_sync(
        PythonAction(code="from lib.tools import double", state="kept"), action_id="a"
    )
    assert first.exit_code == 0
    for name in ("b", "c"):
        action = PythonAction(code="print(double(2))", state="kept")
        assert world.executor.run_sync(action, action_id=name).output == "4\n"
    assert [c.code_id for c in world.calls] == ["b", "c"]


def test_a_thread_of_a_kept_interpreter_outlasts_the_block_that_it_calls_in(world: World) -> None:
    """Its call is answered in a later block; the block's own thread has a channel of the host's for each block."""
    code = (
        "import threading\nfrom lib.tools import blocks, double\n"
        "said = []\nthread = threading.Thread(target=lambda: said.append(blocks()))\n"
        "thread.start(); print(double(1))"
    )
    assert world.executor.run_sync(PythonAction(code=code, state="kept")).output == "2\n"
    line = world.executor._connection._line  # type: ignore[union-attr]
    assert line is not None
    opened: list[int] = []
    take, line._open = line._open, lambda data, descriptor: (opened.append(1), take(data, descriptor))[1]  # type: ignore[method-assign]
    for number in (2, 3):
        action = PythonAction(code=f"print(double({number}), double({number}))", state="kept")
        assert world.executor.run_sync(action).output == f"{2 * number} {2 * number}\n"
    assert len(opened) == 2
    world.release.set()
    action = PythonAction(code="thread.join(20); print(said)", state="kept")
    assert world.executor.run_sync(action).output == "['released']\n"


class Crowd:
    """Counts how many large calls are in the program at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.here = self.most = 0

    def swap(self, x: str) -> str:
        """Give as much back."""
        with self.lock:
            self.here += 1
            self.most = max(self.most, self.here)
        time.sleep(0.02)
        with self.lock:
            self.here -= 1
        return x.upper()


@pytest.mark.parametrize("state", ["fresh", "kept"])  # over the direct line, and through the runner
def test_large_calls_wait_in_the_code_until_there_is_room_for_them(
    tmp_path: Path, state: PythonState
) -> None:
    crowd = Crowd()
    tools = ToolSet([crowd.swap])
    skills = tmp_path / "skills"
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), skills)
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from lib.tools import swap\n"
        "with ThreadPoolExecutor(12) as pool:\n"
        "    print(sum(len(text) for text in pool.map(swap, ['x' * 2_500_000] * 12)))\n"
    )
    limits = Limits(host_mib=8, timeout_s=40)
    with SubprocessExecutor(tmp_path / "work", limits=limits) as executor:
        executor.attach(tools=tools, layout=renderer.layout(skills))
        assert executor.run_sync(PythonAction(code=code, state=state)).output == "30000000\n"
    assert 1 <= crowd.most <= 3
    tools.close()


@pytest.mark.slow
def test_text_stays_text_and_50_mb_pass_both_ways(world: World) -> None:
    """0.8.6: text "42" became a number."""
    assert world.python("from lib.tools import same; print(repr(same('42')))") == ("'42'\n", 0)
    code = "from lib.tools import same\ns = 'é' + 'a' * 50_000_000\nprint(same(s) == s)"
    assert world.python(code) == ("True\n", 0)
    output, _ = world.python("from lib.tools import same\nsame('a' * 70_000_000)")
    assert "at most" in output


def test_a_tool_that_waits_does_not_hold_up_the_others_and_ends_with_its_block(world: World) -> None:
    code = (
        "import threading\n"
        "from lib.tools import blocks, double\n"
        "threading.Thread(target=blocks, daemon=True).start()\n"
        "print(double(3))\n"
    )
    assert world.python(code) == ("6\n", 0)

    async def cancelled() -> bool:
        with anyio.move_on_after(0.5) as scope:
            await world.executor.run(PythonAction(code="from lib.tools import blocks; blocks()"))
        return scope.cancelled_caught

    assert anyio.run(cancelled)
    world.release.set()
    assert world.python("from lib.tools import blocks; print(blocks())") == ("released\n", 0)


def test_a_tool_that_was_quick_and_then_hangs_holds_up_nobody(tmp_path: Path) -> None:
    release = threading.Event()

    def moody(hang: bool) -> str:
        """Quick, until it is not."""
        if hang:
            release.wait(20)
        return "done"

    tools = ToolSet([moody])
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), tmp_path / "skills")
    with SubprocessExecutor(tmp_path / "a") as one, SubprocessExecutor(tmp_path / "b") as two:
        one.attach(tools=tools, layout=renderer.layout(tmp_path / "skills"))
        quick = "from lib.tools import moody\nfor _ in range(50): moody(False)"
        assert one.execute_python(quick) == ("", 0)
        waiting = "import threading\n" + quick + "\nprint('now', flush=True)\nprint(moody(True))"
        results: list[tuple[str, int]] = []
        hanging = threading.Thread(target=lambda: results.append(one.execute_python(waiting)))
        hanging.start()
        for _ in range(20):  # the same session and another: both go on while the tool hangs
            assert one.execute_python("from lib.tools import moody; print(moody(False))") == ("done\n", 0)
            assert two.execute_bash("echo free") == ("free\n", 0)
        release.set()
        hanging.join(20)
        assert results == [("now\ndone\n", 0)]
    tools.close()


def test_new_bindings_reach_a_session_that_runs(world: World, tmp_path: Path) -> None:
    def triple(x: int) -> int:
        """Triple it."""
        return 3 * x

    world.bash("true")
    tools = ToolSet([triple])
    renderer = Registry().create_skill_renderer()
    renderer.render(tools.specs(), tmp_path / "skills")
    world.executor.attach(tools=tools, layout=renderer.layout(tmp_path / "skills"))
    assert world.python("from lib.tools import triple; print(triple(3))") == ("9\n", 0)
    assert world.bash("python -c 'from lib.tools import triple; print(triple(1))'") == ("3\n", 0)
    tools.close()


HOSTILE = """
import os, socket, struct
broker = socket.socket(fileno=int(os.environ['AGENTD_TOOLS_FD']))

def channel(kind=b'C', ours=None, theirs=None):
    if theirs is None:
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack('i', theirs.fileno()))]
    broker.sendmsg([kind], rights)
    theirs.close()
    return ours

def request(name, data):
    body = struct.pack('!H', len(name)) + name + data
    return struct.pack('!I', len(body)) + body

def said(ours):
    try:
        return ours.recv(100)[5:] or 'closed'
    except ConnectionResetError:
        return 'closed'

double = request(b'double', b'{"x":1}')
"""


BEFORE = pytest.mark.parametrize("before", [0, MAX_DIRECT_CHANNELS], ids=["to the host", "by the runner"])
"""How many channels an action has already: the first ones go to the host."""


@BEFORE
def test_hostile_requests_end_their_channel_and_nothing_else(world: World, before: int) -> None:
    code = HOSTILE + (
        f"before = [channel() for _ in range({before})]\n"
        "for data in (b'\\xff' * 8, b'\\0\\0\\0\\1xx', b'\\0\\0\\0\\4\\xff\\xffab'):\n"
        "    a = channel(); a.sendall(data); print(said(a))\n"
        "a = channel(); a.sendall(request(b'\\xff', b'{}')); print(b'UnknownTool' in said(a))\n"
        "a = channel()\n"
        "for byte in double: a.send(bytes([byte]))\n"
        "print(said(a))\n"
        "for data in (b'X', b'D[0,0,0,0]', b'C'):\n"
        "    broker.send(data)\n"
        "kept = [channel() for _ in range(1500)]\n"
        "broker.send(b'')\n"
    )
    result = world.executor.run_sync(PythonAction(code=code, timeout_s=20))
    first, second, third, *rest = result.stdout.decode().splitlines()
    assert (first, second, rest) == ("closed", "closed", ["True", "b'2'"])
    assert third == "closed" or "ToolError" in third
    assert world.executor.run_sync(BashAction(command="echo on")).stdout == b"on\n"
    assert world.python("from lib.tools import double; print(double(1))") == ("2\n", 0)


def test_what_is_no_channel_of_the_hosts_kind_is_closed(world: World) -> None:
    code = HOSTILE + (
        "for theirs in (open('/dev/null'), open('/dev/zero'), socket.socket(), socket.socketpair(type=2)[0]):\n"
        "    channel(b'C', None, theirs)\n"
        "a = channel(); a.sendall(double * 2); print(said(a))\n"  # one after the other, please
        "a = channel(); a.sendall(struct.pack('!IH', 1 << 27, 6)); print(said(a))\n"
        "ours, theirs = socket.socketpair()\n"
        "mine = theirs.dup(); mine.setblocking(True)\n"
        "mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 200000))\n"
        "channel(b'C', ours, theirs); ours.sendall(double)\n"
        "try: mine.recv(100)\n"  # under the host's nose
        "except BlockingIOError: pass\n"
        "mine.close(); ours.settimeout(0.2)\n"
        "try: ours.recv(1)\n"
        "except TimeoutError: pass\n"
        "from lib.tools import double; print(double(2))\n"
    )
    assert world.python(code) == ("closed\nclosed\n4\n", 0)


def test_more_threads_than_the_host_gives_channels_to_call_at_once(world: World) -> None:
    code = (
        "import threading\n"
        "from lib.tools import double\n"
        "meet, got = threading.Barrier(100), []\n"
        "def work(i):\n"
        "    got.append(double(i)); meet.wait(20); got.append(double(i))\n"
        "threads = [threading.Thread(target=work, args=(i,)) for i in range(100)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(sorted(got) == sorted([2 * i for i in range(100)] * 2))\n"
    )
    assert world.python(code) == ("True\n", 0)


BURST = (
    "import threading\n"
    "from lib.tools import double, later\n"
    "meet, got = threading.Barrier(1000), []\n"
    "def work(i):\n"
    "    meet.wait(20); got.append(double(i) == 2 * i and later(i) == i); meet.wait(20)\n"
    "threads = [threading.Thread(target=work, args=(i,)) for i in range(1000)]\n"
    "[t.start() for t in threads]; [t.join() for t in threads]\n"
    "print(len(got), all(got))\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["fresh", "kept"])
def test_a_thousand_calls_at_once_wait_their_turn_and_all_are_answered(
    world: World, state: PythonState
) -> None:
    result = world.executor.run_sync(PythonAction(code=BURST, state=state, timeout_s=60))
    assert (result.output, result.exit_code) == ("1000 True\n", 0)


@pytest.mark.slow
def test_many_blocks_with_many_threads_each_are_all_answered(world: World) -> None:
    async def run_all() -> list[bool]:
        code = BURST.replace("1000", "100")
        done: list[bool] = []

        async def run_one() -> None:
            result = await world.executor.run(PythonAction(code=code, timeout_s=60))
            done.append(result.output == "100 True\n")

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(run_one)
        return done

    assert anyio.run(run_all) == [True] * 20


@BEFORE
def test_a_call_that_nobody_waits_for_is_carried_out(world: World, before: int) -> None:
    code = f"before = [channel() for _ in range({before})]; channel().sendall(double); os._exit(0)"
    assert world.python(HOSTILE + code) == ("", 0)
    deadline = time.monotonic() + 5
    while not world.calls and time.monotonic() < deadline:
        time.sleep(0.001)  # the block has ended, the call goes on
    assert [(call.name, call.result) for call in world.calls] == [("double", "2")]


def test_answers_that_the_code_does_not_read_hold_up_nobody(world: World) -> None:
    code = HOSTILE + (
        "def exactly(a, size):\n"
        "    data = b''\n"
        "    while len(data) < size: data += a.recv(size - len(data))\n"
        "    return data\n"
        "big = request(b'large', b'{}')\n"
        "held = [channel() for _ in range(20)]\n"
        "for a in held: a.sendall(big)\n"
        "from lib.tools import double\n"
        "print(double(2))\n"
        "print({len(exactly(a, struct.unpack('!I', exactly(a, 4))[0])) for a in held})\n"
    )
    assert world.python(code) == ("4\n{1000003}\n", 0)


def test_hostile_http_requests_are_refused_and_the_session_goes_on(world: World) -> None:
    code = (
        "import os, socket\n"
        "token = os.environ['AGENTD_TOOLS_TOKEN'].encode()\n"
        "auth = b'\\r\\nAuthorization: Bearer ' + token + b'\\r\\n'\n"
        "def ask(data):\n"
        "    with socket.socket(socket.AF_UNIX) as s:\n"
        "        s.settimeout(5)\n"
        "        s.connect(os.environ['AGENTD_TOOLS_SOCKET'])\n"
        "        s.sendall(data)\n"
        "        return s.recv(100).split(b'\\r\\n')[0].decode() or 'closed'\n"
        "print(ask(b'nonsense\\r\\n\\r\\n'))\n"
        "print(ask(b'GET /a/99999999999999/health HTTP/1.1' + auth + b'\\r\\n'))\n"
        "print(ask(b'GET /a/\\xb2/health HTTP/1.1' + auth + b'\\r\\n'))\n"
        "print(ask(b'POST /call/double HTTP/1.1' + auth + b'Content-Length: \\xb2\\r\\n\\r\\n'))\n"
        "print(ask(b'POST /call/double HTTP/1.1' + auth + b'Content-Length: 99999999999\\r\\n\\r\\n'))\n"
        "print(ask(b'POST /call/double HTTP/1.1' + auth + b'Transfer-Encoding: chunked\\r\\n\\r\\n'))\n"
        "print(ask(b'x' * 20000))\n"
    )
    output, exit_code = world.python(code)
    assert [line.split()[1] for line in output.splitlines()] == [
        "400",
        "200",
        "404",
        "411",
        "413",
        "411",
        "431",
    ]
    assert exit_code == 0
    assert world.python("from lib.tools import double; print(double(1))") == ("2\n", 0)


def test_a_client_whose_request_is_refused_may_send_its_body_and_then_reads_why(world: World) -> None:
    code = (
        "import os, socket\n"
        "with socket.socket(socket.AF_UNIX) as s:\n"
        "    s.settimeout(20)\n"
        "    s.connect(os.environ['AGENTD_TOOLS_SOCKET'])\n"
        "    s.sendall(b'POST /call/double HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n' % (8 << 20))\n"
        "    for _ in range(8):\n"
        "        s.sendall(bytes(1 << 20))\n"
        "    with s.makefile('rb') as answer:\n"
        "        text = answer.read()\n"
        "print(text.split(b' ')[1].decode(), b'AGENTD_TOOLS_TOKEN' in text)\n"
    )
    assert world.python(code) == ("401 True\n", 0)


def test_without_tools_a_call_says_so(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        output, _ = executor.execute_bash(
            "curl -s --unix-socket $AGENTD_TOOLS_SOCKET -d '{}' "
            '-H "Authorization: Bearer $AGENTD_TOOLS_TOKEN" $AGENTD_TOOLS_URL/call/x'
        )
        assert "this session has no tools" in output
