"""Carrying out calls: side by side, in time, once, and whatever a tool does."""

from __future__ import annotations

import asyncio
import datetime
import enum
import json
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import anyio
import attrs
import pydantic
import pytest
from agentd.errors import ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from agentd.events import ToolCall
from agentd.protocols import OnProgress, SourceHost, ToolDispatcher, ToolReply
from agentd.types import ToolSpec
from agentd_tools import MAX_MESSAGE_BYTES, ToolSet, tool
from agentd_tools.threads import tool_pool


def submit(tools: ToolSet, name: str, **arguments: object) -> tuple[threading.Event, list[ToolReply]]:
    """Submit from this thread, as an I/O thread does; the event is set by the reply."""
    replies: list[ToolReply] = []
    answered = threading.Event()

    def reply(value: ToolReply) -> None:
        replies.append(value)
        answered.set()

    tools.submit(name, json.dumps(arguments).encode(), "act_1", reply)
    return answered, replies


def error_of(reply: ToolReply) -> dict[str, str]:
    assert not reply.ok
    data = json.loads(reply.payload)
    assert isinstance(data, dict)
    return data


class Server:
    """A tool source as a plugin would write it."""

    def __init__(self, name: str, **tools: Callable[..., object]) -> None:
        self.name = name
        self.tools = dict(tools)
        self.closed = False
        self.host: SourceHost | None = None

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        self.host = host
        schema: dict[str, object] = {"type": "object", "properties": {"q": {}}, "required": ["q"]}
        schema["additionalProperties"] = False
        return [ToolSpec(name=n, input_schema=schema) for n in self.tools]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        await anyio.lowlevel.checkpoint()
        return self.tools[name](**arguments)

    async def aclose(self) -> None:
        self.closed = True


# --- results -----------------------------------------------------------------------------------


class Level(enum.Enum):
    HIGH = "high"


@dataclass
class Point:
    x: int


@attrs.frozen
class Size:
    w: int


class Model(pydantic.BaseModel):
    when: datetime.date


@pytest.mark.parametrize(
    "value",
    [None, True, False, 0, -1, 2**64, -(2**200), 1.5, "", "42", "null", "\x00é\ud800", [], [[1, None]], {},
     {"a": {"b": [1.0, "x"]}}],
)  # fmt: skip
def test_every_json_value_arrives_as_itself(value: object) -> None:
    def echo(v) -> object:  # type: ignore[no-untyped-def]
        return v

    def give() -> object:
        return value

    tools = ToolSet([echo, give])
    for result in (tools.call_sync("echo", {"v": value}), tools.call_sync("give", {})):
        assert result == value
        assert type(result) is type(value)


def test_the_text_42_stays_a_text() -> None:
    def answer() -> str:
        return "42"

    assert ToolSet([answer]).call_sync("answer", {}) == "42"


def test_richer_python_types_become_json_by_rule() -> None:
    ident = uuid.uuid4()

    def give() -> object:
        return {
            "point": Point(1), "size": Size(2), "model": Model(when=datetime.date(2026, 1, 2)), "level": Level.HIGH,
            "time": datetime.datetime(2026, 1, 2, 3), "id": ident, "raw": b"hi", "set": {1}, "tuple": (1, 2),
            "range": range(2), 3: "key",
        }  # fmt: skip

    assert ToolSet([give]).call_sync("give", {}) == {
        "point": {"x": 1}, "size": {"w": 2}, "model": {"when": "2026-01-02"}, "level": "high",
        "time": "2026-01-02T03:00:00", "id": str(ident), "raw": b"hi", "set": [1], "tuple": [1, 2],
        "range": [0, 1], "3": "key",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "returned what JSON cannot hold: object; allowed are"),
        (3j, "complex"),
        ({(1, 2): 3}, "str"),
        (threading.Lock(), "lock"),
    ],
)
def test_a_result_that_json_cannot_hold_names_tool_and_type(value: object, words: str) -> None:
    def bad_result() -> object:
        return value

    with pytest.raises(ToolError, match=r"bad_result\(\) returned") as caught:
        ToolSet([bad_result]).call_sync("bad_result", {})
    assert words in str(caught.value)


def test_numbers_that_json_lacks_arrive_as_what_they_are() -> None:
    def measure() -> object:
        return {"deep": [1, None, {"x": float("inf"), "y": float("nan"), "text": "NaN, null"}]}

    value = ToolSet([measure]).call_sync("measure", {})
    assert repr(value) == "{'deep': [1, None, {'x': inf, 'y': nan, 'text': 'NaN, null'}]}"


def test_a_result_that_contains_itself_is_an_error() -> None:
    def loop() -> object:
        value: list[object] = []
        value.append(value)
        return value

    with pytest.raises(ToolError, match="contains itself"):
        ToolSet([loop]).call_sync("loop", {})


def test_none_inside_a_result_is_no_error() -> None:
    def give() -> dict[str, object]:
        return {"a": None, "b": [None, 1.5]}

    assert ToolSet([give]).call_sync("give", {}) == {"a": None, "b": [None, 1.5]}


def test_fifty_megabytes_go_in_and_out_and_more_than_fits_is_refused() -> None:
    def double(text: str) -> int:
        return len(text)

    def make(size: int) -> str:
        return "x" * size

    async def make_async(size: int) -> str:
        return "x" * size

    tools = ToolSet([double, make, make_async])
    assert tools.call_sync("double", {"text": "y" * 50_000_000}) == 50_000_000
    for name in ("make", "make_async"):
        assert len(str(tools.call_sync(name, {"size": 50_000_000}))) == 50_000_000
        with pytest.raises(ToolError, match=rf"{name}\(\) returned .* bytes of JSON; at most"):
            tools.call_sync(name, {"size": MAX_MESSAGE_BYTES})
    with pytest.raises(ToolInputError, match="at most"):
        tools.call_sync("double", {"text": "y" * MAX_MESSAGE_BYTES})


# --- failures ----------------------------------------------------------------------------------


class Final(BaseException):
    """What no `except Exception` catches."""


class Nasty(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a text")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("no such thing"), "calculate() raised ValueError: no such thing"),
        (KeyError(), "calculate() raised KeyError"),
        (SystemExit(3), "calculate() raised SystemExit: 3"),
        (KeyboardInterrupt(), "calculate() raised KeyboardInterrupt"),
        (Nasty(), "calculate() raised Nasty"),
        (GeneratorExit(), "calculate() raised GeneratorExit"),
        (Final(), "calculate() raised Final"),
        (ToolError("in my own words"), "in my own words"),
    ],
)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_raising_tool_answers_with_type_and_message(error: BaseException, message: str, kind: str) -> None:
    def calculate() -> None:
        raise error

    async def calculate_async() -> None:
        raise error

    calculate_async.__name__ = "calculate"
    tools = ToolSet([calculate if kind == "sync" else calculate_async])
    for _ in range(2):  # and the pool and the loop go on
        answered, replies = submit(tools, "calculate")
        assert answered.wait(10)
        assert error_of(replies[0]) == {"type": "ToolError", "message": message}


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(30)


async def raises_a_cancellation() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("calculate", [cancels_itself, raises_a_cancellation])
def test_an_async_tool_that_cancels_itself_ends_only_its_own_call(calculate: Callable[..., object]) -> None:
    waiting, release = threading.Event(), anyio.Event()

    async def patient() -> str:
        waiting.set()
        await release.wait()
        return "still here"

    async def let_go() -> None:
        release.set()

    tools = ToolSet([calculate, patient, let_go])
    others, their_replies = submit(tools, "patient")
    assert waiting.wait(10)
    answered, replies = submit(tools, calculate.__name__)
    assert answered.wait(10)
    assert "was cancelled" in error_of(replies[0])["message"]
    tools.call_sync("let_go", {})
    assert others.wait(10)
    assert json.loads(their_replies[0].payload) == "still here"


def test_a_tool_that_ends_the_event_loop_of_all_sets_leaves_them_another_one() -> None:
    """asyncio lets SystemExit of a task that a tool has started out of its loop."""
    program = """
import asyncio
from agentd_tools import ToolSet
async def ends_it() -> None:
    async def leave() -> None: raise SystemExit(3)
    task = asyncio.ensure_future(leave())
    await asyncio.sleep(30)
async def later(n: int) -> int: return n
tools = ToolSet([ends_it, later])
try:
    tools.call_sync("ends_it", {})
except Exception as error:
    print(error)
for n in range(3):
    print(ToolSet([later], timeout_s=10).call_sync("later", {"n": n}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40)
    assert done.stdout.splitlines() == ["ends_it() was given up: it was cancelled", "0", "1", "2"]


def test_the_traceback_stays_on_the_host(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("bad")

    with caplog.at_level(logging.DEBUG, "agentd.tools"):
        answered, replies = submit(ToolSet([fail]), "fail")
        assert answered.wait(10)
    assert __file__ not in replies[0].payload.decode()
    assert __file__ in caplog.text


def test_an_unknown_tool_is_answered_with_what_there_is() -> None:
    def calculate() -> None: ...

    tools = ToolSet([calculate])
    _, replies = submit(tools, "calclate")
    assert error_of(replies[0])["type"] == "UnknownToolError"
    assert "did you mean 'calculate'?" in error_of(replies[0])["message"]
    with pytest.raises(UnknownToolError):
        tools.call_sync("nothing", {})


# --- time --------------------------------------------------------------------------------------


def test_blocking_tools_run_side_by_side() -> None:
    meeting = threading.Barrier(8)

    def meet() -> int:
        return meeting.wait(10)

    tools = ToolSet([meet])
    started = [submit(tools, "meet") for _ in range(8)]
    assert all(answered.wait(10) for answered, _ in started)
    assert {json.loads(replies[0].payload) for _, replies in started} == set(range(8))


def test_no_more_than_max_workers_run_at_once_and_all_get_their_turn() -> None:
    gate, lock = threading.Event(), threading.Lock()
    running, peak = 0, 0
    two_in = threading.Event()

    def work() -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
            if running == 2:
                two_in.set()
        gate.wait(10)
        with lock:
            running -= 1

    tools = ToolSet([work], max_workers=2)
    started = [submit(tools, "work") for _ in range(6)]
    assert two_in.wait(10)
    gate.set()
    assert all(answered.wait(10) for answered, _ in started)
    assert peak == 2


def test_calls_that_are_handed_back_count_as_all_others_do() -> None:
    """A tool that was quick is run by the thread that submits its calls, and may be slow from then on."""
    gate, lock = threading.Event(), threading.Lock()
    running = peak = 0
    gate.set()

    def work() -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        gate.wait(20)
        with lock:
            running -= 1

    tools = ToolSet([work], max_workers=4)
    for _ in range(5):
        answered, _ = submit(tools, "work")
        assert answered.wait(10)
    gate.clear()
    all_answered = threading.Semaphore(0)
    jobs = [
        tools.submit("work", b"{}", "", lambda _reply: all_answered.release(), may_hand_back=True)
        for _ in range(40)
    ]
    at_hand = [job for job in jobs if job is not None]
    assert at_hand  # else this tests nothing: five quick calls went before
    threads = [threading.Thread(target=job) for job in at_hand]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:  # the first runs the tool; the others give their calls on and are free
        thread.join(10)
        assert not thread.is_alive()
    gate.set()
    for _ in range(40):
        assert all_answered.acquire(timeout=10)
    assert peak <= 4
    again, replies = submit(tools, "work")
    assert again.wait(10)
    assert replies[0].ok


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_tool_that_takes_too_long_is_answered_and_its_place_is_free_again(kind: str) -> None:
    release, cancelled = threading.Event(), threading.Event()

    def hang() -> None:
        release.wait(30)

    async def hang_async() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    def quick() -> int:
        return 1

    hang_async.__name__ = "hang"
    tools = ToolSet([hang if kind == "sync" else hang_async, quick], timeout_s=0.05, max_workers=1)
    threads = tool_pool.threads
    answered, replies = submit(tools, "hang")
    assert answered.wait(10)
    assert error_of(replies[0]) == {
        "type": "ToolTimeoutError", "message": "hang() did not answer within 0.05 s",
    }  # fmt: skip
    tools.timeout_s = 10
    assert ToolSet([quick], max_workers=1).call_sync("quick", {}) == 1
    answered, replies = submit(tools, "quick")
    assert answered.wait(10)
    assert replies[0].ok
    if kind == "async":
        assert cancelled.wait(10)
    assert tool_pool.threads <= threads + 2
    release.set()


def test_a_call_that_waited_for_a_place_until_its_time_was_up_never_runs() -> None:
    release = threading.Event()
    ran: list[int] = []

    @tool(timeout=30)
    def hold() -> None:
        release.wait(30)

    def late(n: int) -> None:
        ran.append(n)

    tools = ToolSet([hold, late], timeout_s=0.05, max_workers=1)
    first, _ = submit(tools, "hold")
    second, replies = submit(tools, "late", n=1)
    assert second.wait(10)
    assert error_of(replies[0])["type"] == "ToolTimeoutError"
    release.set()
    assert first.wait(10)
    assert ToolSet([late], max_workers=1).call_sync("late", {"n": 2}) is None
    third, replies = submit(tools, "late", n=3)  # the one place is free again
    assert third.wait(10)
    assert replies[0].ok
    assert ran == [2, 3]


def test_an_awaitable_that_a_plain_function_returned_is_cancelled_when_its_time_is_up() -> None:
    cancelled = threading.Event()

    def promised() -> object:
        async def forever() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        return forever()

    with pytest.raises(ToolTimeoutError):
        ToolSet([promised], timeout_s=0.05).call_sync("promised", {})
    assert cancelled.wait(10)


def test_a_tools_own_timeout_counts_more_than_the_sets() -> None:
    @tool(timeout=0.01)
    def hang() -> None:
        threading.Event().wait(1)

    with pytest.raises(ToolTimeoutError, match=r"0\.01 s"):
        ToolSet([hang], timeout_s=60).call_sync("hang", {})


def test_a_thousand_sets_share_their_threads() -> None:
    def quick() -> int:
        return 1

    async def later() -> int:
        return 2

    sets = [ToolSet([quick, later]) for _ in range(1000)]
    assert sum(int(str(s.call_sync("quick", {}))) + int(str(s.call_sync("later", {}))) for s in sets) == 3000
    ours = [t.name for t in threading.enumerate() if t.name in ("agentd-timeouts", "agentd-async-tools")]
    assert len(ours) <= 2


def test_a_process_that_used_tools_ends_at_once_and_its_forked_child_can_use_them() -> None:
    program = """
import os, threading, warnings
from agentd_tools import ToolSet
async def later(n: int) -> int: return n
def now(n: int) -> int: return n
def hang() -> None: threading.Event().wait(60)
tools = ToolSet([later, now, hang])
def use(): return [tools.call_sync("now", {"n": 1}), tools.call_sync("later", {"n": 2})]
assert use() == [1, 2]
tools.submit("hang", b"{}", "", lambda reply: None)
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
pid = os.fork()
if not pid:
    os._exit(0 if use() == [1, 2] else 1)
assert os.waitpid(pid, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, check=False, timeout=40
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- async and sources -------------------------------------------------------------------------


@pytest.mark.anyio
async def test_async_tools_run_on_the_loop_that_serves(anyio_backend: str) -> None:
    home = threading.get_ident()
    first, second = anyio.Event(), anyio.Event()

    async def set_and_wait(which: str) -> bool:
        mine, other = (first, second) if which == "a" else (second, first)
        mine.set()  # an object of this loop: elsewhere this would not wake the other
        await other.wait()
        return threading.get_ident() == home

    tools = ToolSet([set_and_wait])
    results: list[object] = []

    async def call(which: str) -> None:
        results.append(await tools.call("set_and_wait", {"which": which}))

    async with anyio.create_task_group() as group:
        await group.start(tools.serve)
        async with anyio.create_task_group() as calls:
            calls.start_soon(call, "a")
            calls.start_soon(call, "b")
        group.cancel_scope.cancel()
    assert results == [True, True]


@pytest.mark.anyio
async def test_calls_of_a_loop_that_ends_are_answered(anyio_backend: str) -> None:
    begun = anyio.Event()

    async def hang() -> None:
        begun.set()
        await anyio.sleep_forever()

    tools = ToolSet([hang])
    async with anyio.create_task_group() as group:
        await group.start(tools.serve)
        answered, replies = submit(tools, "hang")
        await begun.wait()
        group.cancel_scope.cancel()
    assert answered.is_set()
    assert "given up" in error_of(replies[0])["message"]


@pytest.mark.anyio
async def test_cancelling_a_call_gives_it_up(anyio_backend: str) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    tools = ToolSet([hang])
    async with anyio.create_task_group() as group:
        group.start_soon(tools.call, "hang", {})
        await anyio.to_thread.run_sync(begun.wait)
        group.cancel_scope.cancel()
    assert await anyio.to_thread.run_sync(ended.wait, 10)


def test_generators_and_async_generators_give_the_list_of_what_they_yield() -> None:
    def count(n: int):  # type: ignore[no-untyped-def]
        yield from range(n)

    async def count_async(n: int):  # type: ignore[no-untyped-def]
        for i in range(n):
            yield i

    def hidden(n: int) -> object:
        return count(n)

    def promised(n: int) -> object:
        async def later() -> int:
            return n

        return later()

    tools = ToolSet([count, count_async, hidden, promised])
    for name in ("count", "count_async", "hidden"):
        assert tools.call_sync(name, {"n": 3}) == [0, 1, 2]
    assert tools.call_sync("promised", {"n": 3}) == 3


@pytest.mark.anyio
async def test_tools_of_sources_are_listed_named_and_called(anyio_backend: str) -> None:
    def echo(q: str) -> str:
        return f"function {q}"

    one = Server("srv", echo=lambda q: f"one {q}")
    two = Server("srv", echo=lambda q: f"two {q}")
    tools = ToolSet([echo], [one, two])
    assert len(tools.specs()) == 1
    await tools.start()
    assert [(b.python_name, b.spec.source) for b in tools.bindings] == [
        ("echo", "local"), ("srv_echo", "srv"), ("srv_2_echo", "srv-2"),
    ]  # fmt: skip
    async with anyio.create_task_group() as group:
        await group.start(tools.serve)
        assert await tools.call("echo", {"q": "x"}) == "function x"
        assert await tools.call("srv_echo", {"q": "x"}) == "one x"
        assert await tools.call("srv_2_echo", {"q": "x"}) == "two x"
        with pytest.raises(ToolInputError, match="argument 'q' is missing; unknown argument 'p'"):
            await tools.call("srv_echo", {"p": "x"})
        group.cancel_scope.cancel()
    await tools.aclose()
    assert one.closed
    assert two.closed


@pytest.mark.anyio
async def test_sources_are_closed_side_by_side_and_every_error_is_kept(
    anyio_backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    class ClosesTogether(Server):
        """Comes to its end when the other one is closing, too."""

        here: ClassVar[int] = 0
        both = anyio.Event()

        async def aclose(self) -> None:
            ClosesTogether.here += 1
            if ClosesTogether.here == 2:
                self.both.set()
            await self.both.wait()
            raise OSError(f"{self.name} is broken")

    third = Server("third")
    tools = ToolSet([], [ClosesTogether("one"), ClosesTogether("two"), third])
    await tools.start()
    with anyio.fail_after(10):
        await tools.aclose()
    assert third.closed
    told = [(record.getMessage(), str(record.exc_info[1])) for record in caplog.records if record.exc_info]
    assert sorted(told) == [
        (f"closing the tool source {name!r} failed", f"{name} is broken") for name in ("one", "two")
    ]


@pytest.mark.anyio
async def test_a_changed_list_is_taken_in_by_refresh(anyio_backend: str) -> None:
    server = Server("srv", first=lambda q: 1)
    tools = ToolSet([], [server])
    told = threading.Event()
    tools.on_change = told.set
    await tools.start()
    assert not await tools.refresh()
    server.tools["second"] = lambda q: 2
    assert server.host is not None
    server.host.changed()
    assert told.is_set()
    assert await tools.refresh()
    assert [b.python_name for b in tools.bindings] == ["first", "second"]


@pytest.mark.anyio
async def test_one_broken_source_leaves_the_others_if_not_strict(anyio_backend: str) -> None:
    class Broken(Server):
        async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
            raise OSError("no such command")

    tools = ToolSet([], [Broken("bad"), Server("good", echo=lambda q: q)])
    with pytest.raises(ToolError, match="the tools of 'bad' could not be listed: no such command"):
        await tools.start()
    await tools.start(strict=False)
    assert [b.python_name for b in tools.bindings] == ["echo"]
    assert isinstance(tools.failures["bad"], OSError)


def test_after_the_end_calls_are_refused_and_running_ones_answered() -> None:
    begun, release = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        release.wait(30)

    tools = ToolSet([hang])
    answered, replies = submit(tools, "hang")
    assert begun.wait(10)
    tools.close()
    assert answered.is_set()
    assert "the session has ended" in error_of(replies[0])["message"]
    _, replies = submit(tools, "hang")
    assert "cannot be called any more" in error_of(replies[0])["message"]
    release.set()


# --- events and catalog ------------------------------------------------------------------------


def test_every_call_is_told_with_arguments_result_and_action() -> None:
    told: list[ToolCall] = []

    def add(a: int, b: str = "") -> int:
        return a

    tools = ToolSet([add], on_call=told.append)
    for arguments in ({"a": 1}, {"a": "x"}, {"a": 1, "b": "y" * 100_000}):
        answered, _ = submit(tools, "add", **arguments)
        assert answered.wait(10)
    tools.call_sync("add", {"a": 2})  # by now the earlier ones have been told
    assert [t.status for t in told[:3]] == ["completed", "failed", "completed"]
    assert (told[0].name, told[0].arguments, told[0].result, told[0].code_id) == (
        "add",
        '{"a": 1}',
        "1",
        "act_1",
    )
    assert len(told[2].arguments) < 3000
    assert len({t.id for t in told}) == len(told)


def test_the_catalog_is_the_json_array_for_get_tools() -> None:
    def add(a: int) -> int:
        """Add."""
        return a

    tools = ToolSet([add])
    (entry,) = json.loads(tools.catalog())
    assert entry["name"] == "add"
    assert entry["description"] == "Add."
    assert entry["input_schema"]["required"] == ["a"]
    dispatcher: ToolDispatcher = tools
    assert dispatcher.catalog() is tools.catalog()
