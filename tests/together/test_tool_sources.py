"""Tool sources in conversations: opened once, side by side, changing, failing, and closed in every case."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from agentd.errors import ToolError
from agentd.events import Event, SourceLog, ToolCall, ToolProgress
from agentd.protocols import OnProgress, SourceHost, ToolOffer
from agentd.registry import Registry
from agentd.session.resources import SessionResources
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.transcript import Transcript
from agentd.types import Blob, ToolSpec
from agentd_tools import shelf
from agentd_tools.loops import TaskLoop
from fake_openai import FakeOpenAI
from script_model import RecordingExecutor, ScriptModel

Tool = Callable[..., Awaitable[object]]


class Source:
    """A tool source whose tools are async functions of the test; they get `on_progress` and the arguments."""

    instructions = ""

    def __init__(self, name: str = "srv", **tools: Tool) -> None:
        self.name = name
        self.tools = dict(tools)
        self.listed = 0
        self.closed = threading.Event()
        self.host: SourceHost | None = None
        self.broken: Exception | None = None
        self.timeout_s: float | None = None
        self.has_listed = threading.Event()

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        self.listed += 1
        self.host = host
        await anyio.lowlevel.checkpoint()
        self.has_listed.set()
        if self.broken is not None:
            raise self.broken
        return [ToolSpec(name=n, timeout_s=self.timeout_s) for n in self.tools]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        return await self.tools[name](on_progress, **arguments)

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.closed.set()

    def changed(self) -> None:
        assert self.host is not None
        self.host.changed()


class Sources(Registry):
    """Makes a `Source` of any object, as the MCP plugin does of servers."""

    def __init__(self, **tools: Tool) -> None:
        super().__init__()
        self.tools = tools
        self.made: list[Source] = []

    def create_tool_sources(self, spec: object, options: object = None) -> list[Source]:
        self.made.append(Source(f"srv{len(self.made)}", **self.tools))
        return [self.made[-1]]


async def nothing(on_progress: OnProgress) -> None: ...


def python(code: str) -> str:
    return f"```python:execute\n{code}\n```\n"


async def run(session: Session, task: str = "go") -> list[Event]:
    return [event async for event in session.run(task)]


# --- calls -------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_eight_threads_of_the_code_call_a_source_side_by_side(tmp_path: Path) -> None:
    inside = 0
    everyone = threading.Event()

    async def meet(on_progress: OnProgress, n: int) -> int:
        nonlocal inside
        inside += 1
        if inside == 8:
            everyone.set()
        while not everyone.is_set():
            await anyio.sleep(0.001)
        return n

    code = (
        "from concurrent.futures import ThreadPoolExecutor\nfrom lib.tools import meet\n"
        "with ThreadPoolExecutor(8) as pool: print(sum(pool.map(lambda n: meet(n=n), range(8))))"
    )
    model = ScriptModel(python(code), "done")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[Source(meet=meet)]) as session:
        await run(session)
    assert session.transcript.executions[0].output == "28\n"


@pytest.mark.anyio
async def test_binary_results_are_bytes_in_the_code_and_dollar_keys_come_unharmed(tmp_path: Path) -> None:
    async def picture(on_progress: OnProgress) -> object:
        return {"pages": [Blob(bytes(range(256)), "image/png", "img://1")], "$blob": "mine", "$$blob": None}

    code = (
        "from lib.tools import picture\nr = picture()\np = r['pages'][0]\n"
        "assert isinstance(p, bytes) and p == bytes(range(256))\n"
        "print(p, p.uri, open(p.save('a.png'), 'rb').read() == p, r['$blob'], r['$$blob'])"
    )
    curl = (
        'curl -s --unix-socket $AGENTD_TOOLS_SOCKET -H "Authorization: Bearer $AGENTD_TOOLS_TOKEN" -d "{}" '
        "$AGENTD_TOOLS_URL/call/picture | cut -c 1-19"
    )
    model = ScriptModel(python(code), f"```bash:execute\n{curl}\n```\n", "done")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[Source(picture=picture)]) as session:
        await run(session)
    first, second = (e.output for e in session.transcript.executions)
    assert first == "<Blob image/png, 256 bytes> img://1 True mine None\n"
    assert second == '{"pages":[{"$blob":\n'


@pytest.mark.anyio
async def test_a_call_that_takes_too_long_is_cancelled_at_the_source_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    cancelled = threading.Event()

    async def hang(on_progress: OnProgress) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    async def quick(on_progress: OnProgress) -> str:
        return "quick"

    code = (
        "from lib.tools import ToolTimeoutError, hang, quick\n"
        "try: hang()\nexcept ToolTimeoutError as e: print(e)\nprint(quick())"
    )
    source = Source(hang=hang, quick=quick)
    source.timeout_s = 0.5
    async with Session(
        ScriptModel(python(code), "."), cwd=tmp_path, tools=[], mcp_servers=[source]
    ) as session:
        await run(session)
    assert session.transcript.executions[0].output == "hang() did not answer within 0.5 s\nquick\n"
    assert cancelled.is_set()


@pytest.mark.anyio
async def test_leaving_a_run_cancels_the_calls_of_its_code(tmp_path: Path) -> None:
    begun, cancelled = anyio.Event(), anyio.Event()

    async def hang(on_progress: OnProgress) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()

    model = ScriptModel(python("from lib.tools import hang\nhang()"), ".")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[Source(hang=hang)]) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(run, session)
            with anyio.fail_after(30):
                await begun.wait()
            group.cancel_scope.cancel()
        with anyio.fail_after(30):
            await cancelled.wait()


@pytest.mark.anyio
async def test_a_source_with_a_loop_of_its_own_is_called_there(tmp_path: Path) -> None:
    async def where(on_progress: OnProgress) -> str:
        return threading.current_thread().name

    source = Source(where=where)
    source.loop = loop = TaskLoop()  # type: ignore[attr-defined]
    scope: list[anyio.CancelScope] = []

    async def serve() -> None:
        with anyio.CancelScope() as own:
            scope.append(own)
            await loop.serve()

    thread = threading.Thread(target=lambda: anyio.run(serve), name="own-loop")
    thread.start()
    model = ScriptModel(python("from lib.tools import where\nprint(where())"), ".")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[source]) as session:
        await run(session)
    loop.call_soon(scope[0].cancel)
    thread.join(10)
    assert session.transcript.executions[0].output == "own-loop\n"


# --- events ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_progress_and_log_messages_are_events_of_the_run(tmp_path: Path) -> None:
    async def work(on_progress: OnProgress) -> None:
        assert source.host is not None
        source.host.log("warning", "careful")
        on_progress(1, 2, "half")

    source = Source(work=work)
    model = ScriptModel(python("from lib.tools import work\nwork()"), ".")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[source]) as session:
        events = await run(session)
        assert source.host is not None
        source.host.log("info", "between the runs")
        model.answers.append([anyio.wait_all_tasks_blocked, "again"])
        later = await run(session)
    (progress,) = [e for e in events if isinstance(e, ToolProgress)]
    (call,) = [e for e in events if isinstance(e, ToolCall)]
    (log,) = [e for e in events if isinstance(e, SourceLog)]
    assert attrs.astuple(progress) == (call.id, "work", 1, 2, "half", call.code_id, "tool_progress")
    assert call.code_id == next(e.id for e in events if e.type == "code_start")
    assert (log.source, log.level, log.text) == ("srv", "warning", "careful")
    assert later[0].type == "run_start"
    assert [e.text for e in later if isinstance(e, SourceLog)] == ["between the runs"]
    assert (events[-1].type, later[-1].type) == ("run_end", "run_end")


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_patched_clients_stream_shows_progress_and_log_messages(tmp_path: Path, api: str) -> None:
    from agentd_openai import patch_openai_with_ptc
    from agentd_openai.display import display_events

    async def work(on_progress: OnProgress) -> None:
        assert source.host is not None
        source.host.log("error", "careful")
        on_progress(1, None, "step")

    source = Source(work=work)
    with FakeOpenAI(python("from lib.tools import work\nwork()"), "done") as server:
        client = patch_openai_with_ptc(server.client(), cwd=tmp_path, tools=[])
        if api == "chat":
            stream = client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "go"}], stream=True, mcp_servers=[source]
            )
        else:
            stream = client.responses.create(model="m", input="go", stream=True, mcp_servers=[source])
        events = list(display_events(stream))
        client.cleanup_ptc()
        client.close()
    assert source.closed.is_set()
    (progress,) = [e for e in events if isinstance(e, ToolProgress)]
    assert (progress.name, progress.done, progress.total, progress.message) == ("work", 1, None, "step")
    assert [(e.source, e.text) for e in events if isinstance(e, SourceLog)] == [("srv", "careful")]


# --- sources that change -----------------------------------------------------------------------


@pytest.mark.anyio
async def test_tools_that_change_in_the_middle_of_a_call_are_there_for_the_next_block(tmp_path: Path) -> None:
    async def late(on_progress: OnProgress) -> str:
        return "late"

    async def grow(on_progress: OnProgress) -> str:
        source.tools["late"] = late
        del source.tools["old"]
        source.has_listed.clear()
        source.changed()
        while not source.has_listed.is_set():  # the call outlives the change
            await anyio.sleep(0.001)
        return "grown"

    source = Source(grow=grow, old=nothing)
    model = ScriptModel(
        python("from lib.tools import grow\nprint(grow())"),
        python("from lib.tools import late, grow\nprint(late())"),
        "done",
        piece=1000,
    )
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[source]) as session:
        await run(session)
        prompt = await session.resources.prepare()
    assert [e.output for e in session.transcript.executions] == ["grown\n", "late\n"]
    assert model.results[0].endswith("[note: the tools have changed; new: late; gone: old]")
    assert "note" not in model.results[1], "it is said once"
    systems = [text for role, text in model.messages if role == "system"]
    assert len(systems) == 1
    assert "old" in systems[0], "the prompt of a running conversation stays, for the provider's cache"
    assert "late" in prompt, "a new conversation's tells what there is"


@pytest.mark.anyio
async def test_a_kept_interpreter_imports_tools_that_came_later_and_keeps_what_it_had(tmp_path: Path) -> None:
    async def broken(on_progress: OnProgress | None) -> object:
        raise ValueError("not today")

    source = Source(one=nothing, broken=broken)
    model = ScriptModel(
        python("from lib.tools import ToolError, one\nx = 41"),
        "First.",
        python("from lib.tools import two\nprint(x + 1, one(), two())"),
        python("from lib.tools import broken\ntry:\n    broken()\nexcept ToolError:\n    print('caught')"),
        "done",
        piece=1000,
    )
    executor = ("subprocess", {"state": "kept"})
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[source], executor=executor) as session:
        await run(session)
        await session.resources.prepare([source, Source("later", two=nothing)])
        await run(session)
    assert [e.output for e in session.transcript.executions][1:] == ["42 None None\n", "caught\n"]


@pytest.mark.anyio
async def test_a_change_between_two_runs_of_a_session_is_told_with_the_first_results(tmp_path: Path) -> None:
    source = Source(one=nothing)
    model = ScriptModel("Hello.", python("print(1)"), "done")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[source]) as session:
        await run(session)
        source.tools["two"] = nothing
        source.changed()
        await run(session)
    assert "[note: the tools have changed; new: two]" in model.results[0]


@pytest.mark.anyio
async def test_a_list_that_fails_later_keeps_the_old_tools_and_is_logged(tmp_path: Path) -> None:
    async def spoil(on_progress: OnProgress) -> str:
        source.broken = OSError("connection lost")
        source.changed()
        return "spoilt"

    source = Source(spoil=spoil)
    code = python("from lib.tools import spoil\nprint(spoil())")
    model = ScriptModel(code, code, "done")
    async with Session(model, cwd=tmp_path, tools=[], mcp_servers=[source]) as session:
        events = await run(session)
    assert [e.output for e in session.transcript.executions] == ["spoilt\n", "spoilt\n"]
    logs = [e for e in events if isinstance(e, SourceLog)]
    assert "could not be listed, so the old ones stay: connection lost" in logs[0].text
    assert logs[0].level == "error"
    assert "note" not in model.results[0]


class OfferedModel(ScriptModel):
    """A `ScriptModel` that may call tools natively; it keeps the names of what it was offered, each time."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*answers)
        self.offers: list[list[str]] = []

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        self.offers.append([tool.name for tool in tools])


@pytest.mark.anyio
async def test_a_run_makes_again_only_what_has_changed_since_the_last_one(tmp_path: Path) -> None:
    source = Source(one=nothing)
    model = OfferedModel("a", "b", "c", "d")
    async with Session(model, mode="tools", tools=[], mcp_servers=[source], cwd=tmp_path) as session:
        await session.ask("1")
        await session.ask("2")
        assert model.offers == [["one"]]
        source.tools["two"] = nothing
        source.changed()
        await session.resources.news("none")
        await session.ask("3")
        await session.ask("4")
    assert model.offers == [["one"], ["one", "two"]]


@pytest.mark.anyio
async def test_a_run_that_is_asked_for_at_once_after_a_change_has_the_new_tools(tmp_path: Path) -> None:
    source = Source(t0=nothing)
    model = OfferedModel(*"abcdefghij")
    async with Session(model, mode="tools", tools=[], mcp_servers=[source], cwd=tmp_path) as session:
        for number in range(1, 11):
            await session.ask("go")
            source.tools = {f"t{number}": nothing}
            source.changed()
    assert model.offers == [[f"t{number}"] for number in range(10)]


@pytest.mark.anyio
async def test_a_run_that_begins_while_a_changed_list_is_read_waits_for_it(tmp_path: Path) -> None:
    reads, goes_on = threading.Event(), threading.Event()

    class SlowSource(Source):
        async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
            if self.listed:
                reads.set()
                while not goes_on.is_set():
                    await anyio.sleep(0.005)
            return await super().list_tools(host)

    source = SlowSource(one=nothing)
    model = OfferedModel("a", "b")
    async with Session(model, mode="tools", tools=[], mcp_servers=[source], cwd=tmp_path) as session:
        await session.ask("1")
        source.tools["two"] = nothing
        source.changed()
        await anyio.to_thread.run_sync(reads.wait)
        async with anyio.create_task_group() as group:
            group.start_soon(session.ask, "2")
            await anyio.wait_all_tasks_blocked()
            assert model.requests == 1
            goes_on.set()
    assert model.offers == [["one"], ["one", "two"]]


@pytest.mark.anyio
async def test_a_model_that_was_told_anew_is_offered_the_tools_anew(tmp_path: Path) -> None:
    class ForgetfulModel(OfferedModel):
        def reset(self) -> None:
            self.messages.clear()

    model = ForgetfulModel("a", "b")
    async with Session(
        model, mode="tools", tools=[], mcp_servers=[Source(one=nothing)], cwd=tmp_path
    ) as session:
        await session.ask("1")
        await session.continue_from(Transcript())
        await session.ask("2")
    assert model.offers == [["one"], ["one"]]


@pytest.mark.anyio
async def test_a_burst_of_changes_is_few_lists(tmp_path: Path) -> None:
    source, quiet = Source(one=nothing), Source("quiet", two=nothing)
    bench = SessionResources(
        cwd=tmp_path, tools=[], mcp_servers=[source, quiet], executor=RecordingExecutor(tmp_path)
    )
    await bench.prepare()
    source.tools["three"] = nothing
    for _ in range(1000):
        source.changed()
    await bench.news("none")
    assert 2 <= source.listed <= 6
    assert quiet.listed == 1, "only who said so is asked"
    assert "three" in await bench.prepare()
    await bench.aclose()


# --- opened once -------------------------------------------------------------------------------


@attrs.define
class Parameters:
    """Like `mcp.StdioServerParameters`: equal by value, changeable, with `model_dump`."""

    command: str

    def model_dump(self) -> dict[str, object]:
        return attrs.asdict(self)


def bench_of(tmp_path: Path, registry: Sources, **settings: Any) -> SessionResources:
    return SessionResources(
        cwd=tmp_path, tools=[], registry=registry, executor=RecordingExecutor(tmp_path), **settings
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: "http://localhost/mcp",
        lambda: Path("/x/mcp.json"),
        lambda: {"command": "npx", "args": ["-y", "a"], "env": {"A": "1"}},
        lambda: Parameters("npx"),
    ],
)
@pytest.mark.anyio
async def test_an_equal_description_is_the_same_server(tmp_path: Path, make: Callable[[], Any]) -> None:
    registry = Sources(one=nothing)
    bench = bench_of(tmp_path, registry)
    first = make()
    for server in (first, first, make()):
        await bench.prepare([server])
        await bench.prepare()
    assert [s.listed for s in registry.made] == [1]
    await bench.aclose()
    assert registry.made[0].closed.is_set()


@pytest.mark.anyio
async def test_a_description_that_was_changed_is_another_server_and_objects_are_themselves(
    tmp_path: Path,
) -> None:
    class Thing:
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 0

    registry = Sources(one=nothing)
    bench = bench_of(tmp_path, registry)
    table = {"command": "a"}
    await bench.prepare(
        [table, "a", Path("a"), Thing(), Thing(), {"auth": Thing()}, {"lock": threading.Lock()}]
    )
    assert len(registry.made) == 7
    table["command"] = "b"
    await bench.prepare([table])
    assert len(registry.made) == 8
    assert [s.listed for s in registry.made] == [1] * 8, "a new server asks none of the others"
    await bench.aclose()


@pytest.mark.anyio
async def test_a_source_object_is_taken_as_it_is_from_servers_and_from_tools(tmp_path: Path) -> None:
    class Callable_(Source):
        def __call__(self) -> None: ...

    one, two = Source("one", a=nothing), Callable_("two", b=nothing)
    bench = SessionResources(
        cwd=tmp_path, tools=[two], mcp_servers=[one], executor=RecordingExecutor(tmp_path)
    )  # type: ignore[list-item]
    tools = await bench.prepare_tools()
    assert [(s.source, s.name) for s in tools.specs()] == [("one", "a"), ("two", "b")]
    assert not (tmp_path / "skills").exists(), "tools alone write nothing"
    await bench.prepare()
    assert (one.listed, two.listed) == (1, 1)
    await bench.aclose()
    assert one.closed.is_set()
    assert two.closed.is_set()


# --- failing -----------------------------------------------------------------------------------


class Failing(Sources):
    """The server `bad` fails to list, `worse` to be made."""

    def create_tool_sources(self, spec: object, options: object = None) -> list[Source]:
        if spec == "worse":
            raise ToolError("worse: no such command")
        (made,) = super().create_tool_sources(spec)
        made.name = str(spec)
        if spec == "bad":
            made.broken = OSError("died at start")
        return [made]


@pytest.mark.parametrize("bad", ["bad", "worse"])
@pytest.mark.anyio
async def test_a_server_that_fails_is_named_closed_and_does_not_spoil_later_calls(
    tmp_path: Path, bad: str
) -> None:
    registry = Failing(one=nothing)
    bench = bench_of(tmp_path, registry)
    await bench.prepare(["good"])
    with pytest.raises(ToolError, match=bad):
        await bench.prepare(["good", "new", bad])
    good, *others = registry.made
    assert not good.closed.is_set()
    assert all(s.closed.is_set() for s in others), "what was half opened is closed"
    assert "good" in await bench.prepare()
    assert good.listed == 1
    await bench.prepare(["new"])
    assert len(registry.made) == len(others) + 2, "the one that only was beside it can be had again"
    await bench.aclose()


@pytest.mark.anyio
async def test_a_start_that_is_cancelled_closes_what_was_opened(tmp_path: Path) -> None:
    registry = Sources()
    bench = bench_of(tmp_path, registry)
    begun = anyio.Event()

    class Slow(Source):
        async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
            begun.set()
            await anyio.sleep_forever()
            return []

    slow = Slow("slow")
    async with anyio.create_task_group() as group:
        group.start_soon(bench.prepare, [slow])
        await begun.wait()
        group.cancel_scope.cancel()
    assert slow.closed.is_set()
    await bench.prepare([Source("fine", x=nothing)])
    await bench.aclose()


@pytest.mark.anyio
async def test_a_source_that_never_answers_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Source):
        async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
            await anyio.sleep_forever()
            return []

    monkeypatch.setattr("agentd_tools.listing.LIST_S", 0.1)
    silent = Silent("silent")
    bench = bench_of(tmp_path, Sources(), mcp_servers=[Source("fine", x=nothing), silent])
    with pytest.raises(ToolError, match=r"'silent' did not list its tools within 0\.1 s"):
        await bench.prepare()
    assert silent.closed.is_set()
    await bench.aclose()


@pytest.mark.anyio
async def test_skills_that_cannot_be_written_again_harm_no_other_client(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(one=nothing)
    bench = bench_of(tmp_path, Sources(), mcp_servers=[source])
    await bench.prepare()
    (tmp_path / "skills").rename(tmp_path / "away")
    (tmp_path / "skills").symlink_to(tmp_path / "away")  # the renderer refuses to follow
    source.tools["two"] = nothing
    source.changed()
    await bench.news("none")
    assert "the tools could not be brought up to date" in caplog.text
    (tmp_path / "skills").unlink()
    source.tools["three"] = nothing
    source.changed()
    await bench.news("none")
    assert "three" in await bench.prepare()
    await bench.aclose()


def test_one_client_is_prepared_from_several_loops_at_once(tmp_path: Path) -> None:
    registry = Sources(one=nothing)
    bench = bench_of(tmp_path, registry)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                asyncio.run(_prepare(bench))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert [s.listed for s in registry.made] == [1]
    bench.close()


async def _prepare(bench: SessionResources) -> None:
    await bench.prepare(["http://localhost/mcp"])


# --- closing -----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_close_from_a_thread_and_from_inside_a_loop_closes_the_sources(tmp_path: Path) -> None:
    for inside in (True, False):
        source = Source(one=nothing)
        bench = SessionResources(
            cwd=tmp_path, tools=[], mcp_servers=[source], executor=RecordingExecutor(tmp_path)
        )
        await bench.prepare()
        if inside:
            bench.close()
        else:
            await anyio.to_thread.run_sync(bench.close)
        assert source.closed.is_set()
        bench.close()
        await bench.aclose()
        await bench.prepare()  # and it can be used again
        assert source.listed == 2
        bench.close()


def test_a_sync_session_closes_its_sources(tmp_path: Path) -> None:
    source = Source(one=nothing)
    with SyncSession(ScriptModel("Hi."), cwd=tmp_path, tools=[], mcp_servers=[source]) as session:
        assert session.ask("go").text == "Hi."
    assert source.closed.is_set()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "CLOSE_S", 0.1)


@pytest.mark.usefixtures("short_patience")
@pytest.mark.anyio
async def test_a_source_that_does_not_close_or_raises_keeps_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(Source):
        async def aclose(self) -> None:
            await anyio.sleep_forever()

    class Raising(Source):
        async def aclose(self) -> None:
            raise OSError("no")

    for sync in (True, False):
        last = Source("last", c=nothing)
        bench = SessionResources(
            cwd=tmp_path,
            tools=[],
            mcp_servers=[Stuck("stuck", a=nothing), Raising("raising", b=nothing), last],
            executor=RecordingExecutor(tmp_path),
        )
        await bench.prepare()
        with anyio.fail_after(30):
            if sync:
                bench.close()
            else:
                await bench.aclose()
        assert last.closed.is_set()
        assert "closing the tool source 'raising' failed" in caplog.text
        assert "did not close within" in caplog.text
        caplog.clear()


@pytest.mark.anyio
async def test_resources_that_are_dropped_closes_its_sources(tmp_path: Path) -> None:
    source = Source(one=nothing)
    bench = SessionResources(
        cwd=tmp_path, tools=[], mcp_servers=[source], executor=RecordingExecutor(tmp_path)
    )
    await bench.prepare()
    del bench
    gc.collect()
    assert await anyio.to_thread.run_sync(source.closed.wait, 10)


PROGRAM = """
import asyncio, subprocess, sys
from agentd.types import ToolSpec
from agentd.session.resources import SessionResources

class Source:
    name = "srv"
    async def list_tools(self, host=None):
        return [ToolSpec(name="one")]
    async def call(self, name, arguments, on_progress=None): ...
    async def aclose(self):
        await asyncio.sleep(0.01)
        print("closed", flush=True)

bench = SessionResources(cwd=sys.argv[1], executor="subprocess", tools=[], mcp_servers=[Source()])
asyncio.run(bench.prepare())
print("end", flush=True)
"""
NO_THREADS = """
import threading
def refuse(thread): raise RuntimeError("can't create new thread at interpreter shutdown")
threading.Thread.start = refuse
"""


@pytest.mark.parametrize("more", ["", NO_THREADS])
def test_what_nobody_closed_is_closed_when_the_interpreter_ends(tmp_path: Path, more: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + more, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("end\nclosed\n", "", 0)


SEVERAL = """
import asyncio, sys, time
from agentd.types import ToolSpec
from agentd.session.resources import SessionResources

closing = 0

class Source:
    name = "srv"
    async def list_tools(self, host=None):
        return [ToolSpec(name="one")]
    async def call(self, name, arguments, on_progress=None): ...
    async def aclose(self):
        global closing
        closing += 1
        while closing < 3:  # none of them closes before all are about to
            await asyncio.sleep(0.01)
        print("closed", flush=True)

settings = {"executor": "subprocess", "tools": []}
benches = [SessionResources(cwd=f"{sys.argv[1]}/{n}", mcp_servers=[Source()], **settings) for n in range(3)]
for bench in benches:
    asyncio.run(bench.prepare())
"""


def test_the_sources_of_several_sessions_close_side_by_side_at_the_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SEVERAL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("closed\n" * 3, "", 0)
