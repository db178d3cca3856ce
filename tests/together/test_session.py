"""Sessions: several runs, cancellation at every point, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import deque
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError, MissingPluginError, ModelError, UnknownPluginError, WorkspaceError
from agentd.events import CodeDelta, CodeOutput, RunEnd, TextDelta
from agentd.registry import Registry
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.turn.transcript import Transcript
from agentd.types import Budgets
from agentd_demo.replay import ReplayServer
from fake_openai import Answer, FakeOpenAI
from places import SUPPORT
from script_model import RecordingExecutor, ScriptModel


def bash(source: str) -> str:
    return f"```bash:execute\n{source}\n```\n"


def running(marker: str) -> bool:
    """Tell whether a process whose command line holds `marker` lives."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    return True
            except OSError:
                continue
    return False


@pytest.fixture
def marker() -> str:
    """A time to sleep that no other process sleeps."""
    return f"1{uuid.uuid4().int % 10**8:08d}.5"


async def gone(marker: str) -> bool:
    for _ in range(500):
        if not running(marker):
            return True
        await anyio.sleep(0.01)
    return False


@pytest.mark.anyio
async def test_a_session_runs_real_code_and_gives_its_events(tmp_path: Path) -> None:
    model = ScriptModel("I look.\n" + bash("echo hello; exit 4"), "It said hello.")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        events = [event async for event in session.run("Say hello")]
    kinds = [e.type for e in events if e.type != "text_delta"]
    assert kinds[1] == "code_delta"
    kinds = [kind for kind in kinds if kind != "code_delta"]
    assert kinds == [
        "run_start",
        "code_start",
        "code_output",
        "code_execution",
        "turn_end",
        "turn_end",
        "run_end",
    ]
    assert "failed, exit code 4" in model.results[0]
    assert session.transcript.executions[0].output == "hello\n"


@pytest.mark.anyio
async def test_output_arrives_while_the_code_runs(tmp_path: Path) -> None:
    wait = "echo before; while [ ! -e seen ]; do sleep 0.01; done; echo after"
    async with Session(ScriptModel(bash(wait), "done"), cwd=tmp_path, tools=[]) as session:
        with anyio.fail_after(30):
            async for event in session.run("go"):
                if isinstance(event, CodeOutput) and event.text == "before\n":
                    (tmp_path / "seen").touch()  # only now does the code go on
    assert session.transcript.executions[0].output == "before\nafter\n"


@pytest.mark.anyio
async def test_tools_are_called_from_code_and_seen_as_events(tmp_path: Path) -> None:
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    async def later(x: int) -> str:
        """Async."""
        await anyio.lowlevel.checkpoint()
        return f"late {x}"

    code = "from lib.tools import double, later\nprint(double(21), later(1))"
    model = ScriptModel(f"```python:execute\n{code}\n```\n", "done")
    async with Session(model, cwd=tmp_path, tools=[double, later]) as session:
        events = [e async for e in session.run("go")]
    calls = [e for e in events if e.type == "tool_call"]
    assert [(c.name, c.status) for c in calls] == [("double", "completed"), ("later", "completed")]
    assert calls[0].code_id == next(e.id for e in events if e.type == "code_start")
    assert session.transcript.executions[0].output == "42 late 1\n"
    assert "double" in model.messages[0][1]


@pytest.mark.anyio
async def test_the_tool_call_budget_ends_the_run(tmp_path: Path) -> None:
    def step() -> int:
        """One."""
        return 1

    code = "from lib.tools import step\nfor _ in range(5): step()"
    model = ScriptModel(f"```python:execute\n{code}\n```\n", repeat=True)
    async with Session(model, cwd=tmp_path, tools=[step], budgets=Budgets(max_tool_calls=8)) as session:
        end = await session.ask("go")
    assert (end.stop_reason, end.turns) == ("tool_calls", 2)


@pytest.mark.anyio
async def test_several_runs_continue_one_conversation(tmp_path: Path) -> None:
    model = ScriptModel("One.", "Two.")
    async with Session(
        model, executor=RecordingExecutor(tmp_path), tools=[], instructions="Be brief."
    ) as session:
        assert (await session.ask("first")).text == "One."
        assert (await session.ask("second")).text == "Two."
    assert [role for role, _ in model.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert model.messages[0][1].startswith("Be brief.\n\nYou act by writing code.")
    assert session.usage.requests == 2
    assert session.cost_usd is None


@pytest.mark.anyio
async def test_leaving_the_iteration_ends_the_code(tmp_path: Path, marker: str) -> None:
    model = ScriptModel(bash(f"echo started; sleep {marker}"), "never")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        async for event in session.run("go"):
            if isinstance(event, CodeOutput):
                while not running(marker):
                    await anyio.sleep(0.001)
                break
        gc.collect()
        assert await gone(marker)
        assert session._busy is not None
        async with session._busy:  # the run is over when it has let go of this
            pass
        assert session.transcript.executions[0].status == "cancelled"
        assert "started" in session.transcript.executions[0].output
        model.answers = ["still here"]
        assert (await session.ask("go on")).text == "still here"


@pytest.mark.anyio
async def test_a_cancelled_scope_ends_the_code_before_it_is_left(tmp_path: Path, marker: str) -> None:
    model = ScriptModel(bash(f"echo started; sleep {marker}"), "never")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        with anyio.CancelScope() as scope:
            async for event in session.run("go"):
                if isinstance(event, CodeOutput):
                    scope.cancel()
        assert scope.cancelled_caught
        assert not running(marker)


@pytest.mark.anyio
async def test_a_cancelled_ask_ends_the_code(tmp_path: Path, marker: str) -> None:
    model = ScriptModel(bash(f"sleep {marker}"), "never")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(session.ask, "go")
            while not running(marker):
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
        assert not running(marker)


@pytest.mark.anyio
async def test_leaving_the_session_ends_a_run_that_still_goes_on(tmp_path: Path, marker: str) -> None:
    model = ScriptModel(bash(f"echo started; sleep {marker}"), "never")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        run = session.run("go")
        async for event in run:
            if isinstance(event, CodeOutput):
                break
    assert not running(marker)


@pytest.mark.anyio
async def test_an_error_in_the_body_comes_out_as_itself(tmp_path: Path) -> None:
    async def body() -> None:
        async with Session(ScriptModel("x"), cwd=tmp_path, tools=[]) as session:
            async for _ in session.run("go"):
                raise KeyError("mine")

    with pytest.raises(KeyError):
        await body()


@pytest.mark.anyio
async def test_an_error_of_the_run_is_raised_after_its_events(tmp_path: Path) -> None:
    model = ScriptModel(["Part", ModelError("refused")])
    async with Session(model, executor=RecordingExecutor(tmp_path), tools=[]) as session:
        events: list[Any] = []

        async def collect() -> None:
            async for event in session.run("go"):
                events.append(event)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(ModelError, match="refused"):
            await collect()
    assert isinstance(events[-1], RunEnd)
    assert events[-1].stop_reason == "error"
    assert session.transcript.messages[-1].content == "Part"


@pytest.mark.anyio
async def test_a_named_executor_is_closed_with_the_session_and_an_instance_is_not(tmp_path: Path) -> None:
    mine = RecordingExecutor(tmp_path)
    async with Session(ScriptModel(bash("x"), "done"), executor=mine, tools=[]) as session:
        await session.ask("go")
        assert session.workspace == tmp_path.resolve()
    assert not mine.closed


@pytest.mark.anyio
async def test_a_transcript_continues_in_a_new_session(tmp_path: Path) -> None:
    model = ScriptModel(bash("x"), "done")
    async with Session(model, executor=RecordingExecutor(tmp_path), tools=[]) as session:
        await session.ask("go")
    session.transcript.save(tmp_path / "t.json")
    loaded = Transcript.load(tmp_path / "t.json")
    assert loaded == session.transcript
    again = ScriptModel("and more")
    async with Session(again, executor=RecordingExecutor(tmp_path), tools=[], transcript=loaded) as session:
        await session.ask("more")
    assert [r for r, _ in again.messages] == [
        "system", "user", "assistant", "results", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert again.messages[1:5] == model.messages[1:5]


@pytest.mark.anyio
async def test_a_failing_sink_is_left_out_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Sink:
        def __init__(self, broken: bool) -> None:
            self.broken, self.seen = broken, 0

        def emit(self, event: Any) -> None:
            self.seen += 1
            if self.broken:
                raise OSError("disk full")

        def close(self) -> None:
            self.seen += 100

    bad, good = Sink(True), Sink(False)
    async with Session(
        ScriptModel("x"), executor=RecordingExecutor(tmp_path), tools=[], sinks=[bad, good]
    ) as session:
        await session.ask("go")
    assert (bad.seen, good.seen) == (101, 104)  # and both are closed
    assert "disk full" in caplog.text


@pytest.mark.anyio
async def test_a_model_by_name_is_asked_over_http_and_its_client_closed(tmp_path: Path) -> None:
    for api in ("chat", "responses"):
        with FakeOpenAI(bash("echo $((6*7))"), "It is 42.") as server:
            async with Session(
                "some-model",
                base_url=server.base_url,
                api_key="none",
                api=api,
                cwd=tmp_path,
                tools=[],  # type: ignore[arg-type]
            ) as session:
                assert (await session.ask("go")).text == "It is 42."
        assert session.usage.input_tokens == 200
        assert server.requests[0]["model"] == "some-model"


@pytest.mark.anyio
async def test_without_tools_nothing_is_written_into_the_workspace(tmp_path: Path) -> None:
    async with Session(ScriptModel(bash("true"), "done"), cwd=tmp_path, tools=[]) as session:
        await session.ask("go")
        assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


@pytest.mark.anyio
async def test_a_thousand_sessions_open_without_a_thread_each(tmp_path: Path) -> None:
    before = threading.active_count()
    async with anyio.create_task_group() as group:
        opened = 0
        everybody = anyio.Event()

        async def one() -> None:
            nonlocal opened
            async with Session(ScriptModel("x"), cwd=tmp_path, tools=[]):
                opened += 1
                if opened == 1000:
                    everybody.set()
                await everybody.wait()

        for _ in range(1000):
            group.start_soon(one)
        await everybody.wait()
        assert threading.active_count() - before <= 4


def test_an_unknown_executor_is_named_with_what_is_installed(tmp_path: Path) -> None:
    with (
        pytest.raises(UnknownPluginError, match=r"unknown executor 'subproces'.*did you mean 'subprocess'"),
        SyncSession(ScriptModel("x"), executor="subproces", cwd=tmp_path, tools=[]) as session,
    ):
        session.ask("go")


def test_an_unknown_parser_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UnknownPluginError, match="unknown parser 'fense'"),
        SyncSession(ScriptModel("x"), parsers=["fense"], cwd=tmp_path, tools=[]) as session,
    ):
        session.ask("go")


def test_a_workspace_that_is_a_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match="must be a directory, but this is a file; give another cwd"):
        Session(ScriptModel("x"), cwd=tmp_path / "file")


def test_a_session_that_is_not_open_says_how_to_open_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="async with Session"):
        Session(ScriptModel("x"), cwd=tmp_path).run("go")


@pytest.mark.anyio
async def test_a_session_is_opened_once(tmp_path: Path) -> None:
    session = Session(ScriptModel("x"), executor=RecordingExecutor(tmp_path), tools=[])
    async with session:
        pass
    with pytest.raises(
        ConfigError, match=r"opened once; to go on, make one with transcript=session\.transcript"
    ):
        await session.__aenter__()


def test_the_sync_twin_gives_the_same_events(tmp_path: Path) -> None:
    with SyncSession(ScriptModel("Hi.\n" + bash("echo 1"), "done"), cwd=tmp_path, tools=[]) as session:
        kinds = [e.type for e in session.run("go") if not isinstance(e, TextDelta | CodeDelta)]
        assert kinds == [
            "run_start", "code_start", "code_output", "code_execution", "turn_end", "turn_end", "run_end",
        ]  # fmt: skip
        session.session._conversation.model.answers = ["again"]  # type: ignore[union-attr]
        assert session.ask("more").text == "again"


def test_a_sync_session_that_a_forked_child_inherits_says_so_and_goes_on_in_the_parent(
    tmp_path: Path,
) -> None:
    with SyncSession(ScriptModel("one", "two"), cwd=tmp_path, tools=[]) as session:
        assert session.ask("go").text == "one"
        child = os.fork()
        if child == 0:
            try:
                session.ask("more")
            except ConfigError as error:
                session.close()
                os._exit(7 if "parent of this process" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert session.ask("more").text == "two"


def test_a_forked_child_cannot_go_on_with_the_run_of_its_parent_which_goes_on_there(tmp_path: Path) -> None:
    with SyncSession(ScriptModel(bash("echo 1"), "done"), cwd=tmp_path, tools=[]) as session:
        events = session.run("go")
        next(events)
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(10)  # it must not wait for ever
            try:
                deque(events, maxlen=0)
            except ConfigError as error:
                os._exit(7 if "parent of this process" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert list(events)[-1].type == "run_end"


def test_leaving_the_sync_iteration_ends_the_code(tmp_path: Path, marker: str) -> None:
    with SyncSession(
        ScriptModel(bash(f"echo on; sleep {marker}"), "never"), cwd=tmp_path, tools=[]
    ) as session:
        for event in session.run("go"):
            if isinstance(event, CodeOutput):
                break
        gc.collect()
        assert not running(marker)


def test_the_sync_twin_works_inside_a_running_event_loop(tmp_path: Path) -> None:
    async def notebook() -> str:
        with SyncSession(ScriptModel("fine"), executor=RecordingExecutor(tmp_path), tools=[]) as session:
            return session.ask("go").text

    assert asyncio.run(notebook()) == "fine"


def test_ctrl_c_ends_a_sync_run_and_the_code(tmp_path: Path, marker: str) -> None:
    program = f"""
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell, it is ignored
sys.path.insert(0, {str(SUPPORT)!r})
from script_model import ScriptModel
from agentd.session.sync import SyncSession
model = ScriptModel("```bash:execute\\necho on; sleep {marker}\\n```\\n", "never")
try:
    with SyncSession(model, cwd={str(tmp_path)!r}, tools=[]) as session:
        for event in session.run("go"):
            print(event.type, flush=True)
except KeyboardInterrupt:
    print("interrupted", session.transcript.executions[0].status, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            for line in child.stdout:
                if line == "code_output\n":
                    break
            child.send_signal(signal.SIGINT)
            rest, _ = child.communicate(timeout=20)
        finally:
            child.kill()
    assert rest.splitlines()[-1] == "interrupted cancelled"
    assert child.returncode == 0
    assert not running(marker)


def test_a_program_that_forgets_to_close_ends_all_the_same(tmp_path: Path, marker: str) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(SUPPORT)!r})
from script_model import ScriptModel
from agentd.session.sync import SyncSession
block = "```bash:execute\\n%s\\n```\\n"
model = ScriptModel(block % "sleep {marker} & echo on" + block % "sleep {marker}", "never")
session = SyncSession(model, cwd={str(tmp_path)!r}, tools=[])
session.__enter__()
events = session.run("go")
for event in events:
    if event.type == "code_output":
        break
print("bye", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.returncode) == ("bye\n", 0)
    assert not running(marker)


@pytest.mark.anyio
async def test_a_stream_cut_by_the_provider_keeps_the_transcript(tmp_path: Path) -> None:
    text = "Look.\n" + bash("echo one") + bash("echo two")
    cut = Answer(text=text, cut_after=len(text) - 8)
    with FakeOpenAI(cut) as server:
        async with Session("m", base_url=server.base_url, api_key="x", cwd=tmp_path, tools=[]) as session:
            with pytest.raises(ModelError, match="finish marker"):
                await session.ask("go")
    assert session.transcript.messages[-1].role == "results"
    assert session.transcript.executions[0].code == "echo one\n"


@pytest.mark.anyio
async def test_a_prepared_session_has_its_tools_and_client_and_has_asked_nobody(tmp_path: Path) -> None:
    with ReplayServer(["Hello."]) as server:
        settings: dict[str, Any] = {
            "base_url": server.base_url,
            "api_key": "none",
            "mode": "tools",
            "tools": (),
        }
        async with Session("replay", cwd=tmp_path, **settings) as session:
            await session.prepare()
            assert not server.requests
            assert not session.transcript.messages
            assert (await session.ask("Hi")).text == "Hello."
        assert len(server.requests) == 1


@pytest.mark.anyio
async def test_what_is_wrong_is_told_by_prepare_and_again_by_the_run(tmp_path: Path) -> None:
    model = ScriptModel(["never said"])
    async with Session(model, tools=[5], cwd=tmp_path) as session:
        for work in (session.prepare, lambda: session.ask("Hi")):
            with pytest.raises(ConfigError, match="no tool source plugin takes"):
                await work()


# --- arguments -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"parsers": "xml"}, r"parsers: must be a list, got 'xml'; write \['xml'\]"),
        ({"sinks": "console"}, r"sinks: must be a list, got 'console'; write \['console'\]"),
        ({"mcp_servers": "npx x"}, r"mcp_servers: must be a list, got 'npx x'; write \['npx x'\]"),
        ({"mcp_servers": {"command": "x"}}, "mcp_servers: must be a list, got a mapping"),
        ({"tools": print}, "tools: must be a list, got <built-in function print>"),
        ({"skills": "a"}, r"skills: must be a list, got 'a'; write \['a'\]"),
        ({"sinks": [5]}, r"sinks: must be names, or objects with emit\(\) and close\(\), got \[5\]"),
        ({"budgets": {"max_turns": 3}}, "budgets: must be a Budgets, got a mapping"),
        ({"executor_options": "x"}, "executor_options: must be a mapping, got 'x'"),
        ({"bash_tool": "yes"}, "bash_tool: must be true or false, got 'yes'"),
        ({"instructions": None}, "instructions: must be a string, got nothing"),
        ({"cwd": 5}, "cwd: must be a string or a PathLike, got 5"),
        ({"skills_dir": 5}, "skills_dir: must be a string or a PathLike, got 5"),
        ({"transcript": []}, "transcript: must be a Transcript, got a list"),
        ({"mode": "tool"}, "mode: must be 'ptc' or 'tools', got 'tool'; did you mean 'tools'?"),
        ({"api": "respones"}, "did you mean 'responses'?"),
        ({"prices": 5, "base_url": 5}, "prices: must be a mapping, got 5\nbase_url: must be a string, got 5"),
    ],
)
def test_an_argument_of_another_type_is_refused_by_name(argument: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Session("gpt-5", **argument)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"executor": "srtt"}, "unknown executor 'srtt'.*did you mean 'srt'?"),
        ({"executor_options": {"timeot": 3}}, "unknown option 'timeot'"),
        ({"parsers": ["xmll"]}, "unknown parser 'xmll'"),
        ({"parsers": [("xml", {"strict": True})]}, "unknown option 'strict' of the parser 'xml'"),
        ({"parsers": []}, "parsers: must name at least one"),
        ({"parsers": [5]}, "parsers: must be a plugin's name or a pair"),
        ({"renderer": "agentskill"}, "unknown skill renderer 'agentskill'"),
        ({"renderer": ("agentskills", {"x": 1})}, "unknown option 'x'"),
        ({"sinks": ["consol"]}, "unknown event sink 'consol'"),
        (
            {"snapshots": "pack"},
            "unknown snapshot store 'pack'; installed: 'packs', 'store'; did you mean 'packs'?",
        ),
        ({"model": 5}, "model: must be a name or a Model object, got 5"),
    ],
)
async def test_a_name_that_there_is_not_is_told_when_a_session_is_opened(
    argument: dict[str, Any], told: str, tmp_path: Path
) -> None:
    session = Session(**{"model": ScriptModel("never said"), "cwd": tmp_path, **argument})
    with pytest.raises((ConfigError, UnknownPluginError), match=told):
        await session.open()
    with pytest.raises(ConfigError, match="not open"):
        session.run("go")
    await session.aclose()


@pytest.mark.anyio
async def test_without_any_plugin_opening_names_what_to_install(tmp_path: Path) -> None:
    nothing = Registry(distributions=[])
    for settings, brings in [
        ({}, "agentd-executor-subprocess"),
        ({"executor": RecordingExecutor(tmp_path)}, "agentd-parser-fence"),
        ({"executor": "srt"}, "agentd-executor-srt"),
        ({"mode": "tools", "sinks": ["jsonl"]}, "agentd-sink-jsonl"),
    ]:
        with pytest.raises(MissingPluginError, match=f"pip install {brings}$"):
            await Session("gpt-5", cwd=tmp_path, registry=nothing, **settings).open()
    async with Session("gpt-5", mode="tools", cwd=tmp_path, registry=nothing) as session:
        with pytest.raises(MissingPluginError, match=r"pip install agentd-tools$"):
            await session.ask("go")
