"""Code that starts agents: with a folder of their own or a copy, with tools, with budgets, in real executors."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import native
import pytest
from agentd.events import Approval, CodeStart, RunEnd, ToolCall, ToolProgress
from agentd.types import Budgets
from agentd_executor_subprocess.executor import SubprocessExecutor
from fake_openai import Answer
from host_processes import command_lines
from nested_play import Play, block, only_output, opened

pytestmark = pytest.mark.anyio


@pytest.fixture(name="agents_folder", autouse=True)
def fixture_agents_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where agents work; nothing is left there."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.glob("agentd-agent-*")) == []


@pytest.fixture(name="executor", params=["subprocess", "native"])
def fixture_executor(request: pytest.FixtureRequest) -> str:
    if request.param == "native":
        native.need_native()
    return str(request.param)


def writes(text: str) -> Any:
    """An agent that runs some Python and then says `made it`."""
    return lambda task, results: "made it" if results else block(text)


async def test_an_agent_works_in_an_empty_folder_and_its_files_can_be_read(
    tmp_path: Path, executor: str
) -> None:
    code = """
from pathlib import Path
from lib.tools import spawn_agent
found = spawn_agent("make a file")
print(found["answer"], found["turns"], found["deleted"], found["left_out"], len(found["files"]))
for path in sorted(found["files"]):
    print(path.split("/", 2)[0], path.split("/", 2)[2], Path(path).read_text())
print(Path("own.txt").read_text())
"""
    does = """
import os, pathlib
print("own.txt" in os.listdir("."), os.path.exists("skills"))
pathlib.Path("sub").mkdir()
pathlib.Path("sub/a.txt").write_text("A")
pathlib.Path("own.txt").write_text("the agent's")
"""
    work = tmp_path / "work"
    work.mkdir()
    (work / "own.txt").write_text("the run's")
    with Play(code, agent=writes(does)) as server:
        output = await only_output(opened(server, work, executor=executor))
        seen = [m["content"] for r in server.requests for m in r["messages"] if "[result 1" in m["content"]]
    assert output == ("made it 2 [] [] 2\nagents own.txt the agent's\nagents sub/a.txt A\nthe run's\n")
    assert any("\nFalse False\n" in text for text in seen), seen


async def test_an_agent_with_a_copy_changes_nothing_of_the_workspace(tmp_path: Path, executor: str) -> None:
    code = """
from pathlib import Path
from lib.tools import spawn_agent
found = spawn_agent("change them", workspace="copy")
print(sorted(Path(p).name for p in found["files"]), found["deleted"], found["left_out"])
print([Path(p).read_text() for p in sorted(found["files"])])
print(Path("a.txt").read_text(), Path("b.txt").exists())
"""
    does = """
import os, pathlib
print(pathlib.Path("sub/c.txt").read_text(), os.readlink("link"), os.path.exists("pipe"))
pathlib.Path("a.txt").write_text("changed")
pathlib.Path("b.txt").unlink()
os.symlink("/etc/hostname", "out")
"""
    work = tmp_path / "work"
    (work / "sub").mkdir(parents=True)
    (work / "a.txt").write_text("a")
    (work / "b.txt").write_text("b")
    (work / "sub" / "c.txt").write_text("c")
    (work / "link").symlink_to("sub/c.txt")
    os.mkfifo(work / "pipe")
    with Play(code, agent=writes(does)) as server:
        output = await only_output(opened(server, work, executor=executor))
        seen = [m["content"] for r in server.requests for m in r["messages"] if "[result 1" in m["content"]]
    assert output == "['a.txt'] ['b.txt'] ['out']\n['changed']\na True\n"
    assert any("\nc sub/c.txt False\n" in text for text in seen)


async def test_a_workspace_that_is_too_large_is_not_copied(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, spawn_agent
open("large", "wb").write(b"x" * (2 * 2**20))
try:
    spawn_agent("x", workspace="copy")
except ToolError as error:
    print(error)
"""
    with Play(code) as server:
        output = await only_output(opened(server, tmp_path / "work", models={"copy_mib": 1}))
    assert "workspace: this one has more than 1 MiB" in output


async def test_the_answer_of_an_agent_may_be_a_value(tmp_path: Path) -> None:
    code = """
from lib.tools import spawn_agent
schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
print(spawn_agent("count", schema=schema)["answer"]["n"] + 1)
"""
    with Play(code, agent=lambda task, results: '{"n": 41}' if results else block("print(41)")) as server:
        assert await only_output(opened(server, tmp_path / "work")) == "42\n"


async def test_an_answer_of_an_agent_that_is_not_json_is_an_error(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, spawn_agent
try:
    spawn_agent("count", schema={"type": "integer"})
except ToolError as error:
    print(error, error.data)
"""
    with Play(code, agent=lambda task, results: "forty") as server:
        output = await only_output(opened(server, tmp_path / "work"))
    assert output.startswith("the agent has not answered as asked: the answer does not have its form")
    assert output.endswith("{'text': 'forty'}\n")


async def test_an_agent_has_the_tools_that_it_was_given_and_no_others(tmp_path: Path) -> None:
    def look(what: str) -> str:
        """Look something up."""
        return what.upper()

    def secret() -> str:
        """Never given away."""
        return "secret"

    code = """
from lib.tools import ToolError, spawn_agent
print(spawn_agent("look", tools=["look", "ask_model"])["answer"])
try:
    spawn_agent("look", tools=["lok"])
except TypeError as error:
    print(error)
"""
    does = """
from lib import tools
print(tools.look("a"), tools.ask_model("b"), hasattr(tools, "secret"), hasattr(tools, "spawn_agent"))
"""
    with Play(code, agent=writes(does)) as server:
        session = opened(server, tmp_path / "work", tools=[look, secret])
        async with session:
            events = [event async for event in session.run("go")]
        seen = [m["content"] for r in server.requests for m in r["messages"] if "[result 1" in m["content"]]
    output = session.transcript.executions[0].output
    assert output.startswith("made it\ntools: there is no tool 'lok'; there are: look, secret")
    assert "did you mean 'look'?" in output
    assert any("\nA about b False False\n" in text for text in seen)
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(call.name, call.code_id) for call in calls] == [
        (name, "run1_code1") for name in ("look", "ask_model", "spawn_agent", "spawn_agent")
    ]
    progress = [event.message for event in events if isinstance(event, ToolProgress)]
    assert any(text.startswith("turn 1") for text in progress)


async def test_an_agent_that_starts_itself_comes_to_a_clear_end(tmp_path: Path) -> None:
    again = """
from lib.tools import ToolError, spawn_agent
try:
    print(spawn_agent("again", tools=["spawn_agent"])["answer"])
except ToolError as error:
    print("it ends:", error)
    print(spawn_agent("again")["answer"])
"""
    started: list[str] = []

    def agent(task: str, results: int) -> str:
        if results:
            return "done below"
        started.append(task)
        return block(again)

    with Play(again, agent=agent) as server:
        session = opened(server, tmp_path / "work", models={"depth": 3})
        output = await only_output(session)
        seen = [m["content"] for r in server.requests for m in r["messages"] if "[result 1" in m["content"]]
    assert output == "done below\n"
    # The run starts one, which starts one, which may not hand the tool on, and starts the last, which has no such tool.
    assert started == ["again"] * 3
    assert any(
        "it ends: tools: 'spawn_agent' cannot be given: agents may not start agents" in t for t in seen
    )
    assert any("ModuleNotFoundError" in t for t in seen), seen


async def test_no_agents_at_all_with_a_depth_of_zero(tmp_path: Path) -> None:
    code = "from lib import tools\nprint(hasattr(tools, 'ask_model'), hasattr(tools, 'spawn_agent'))"
    with Play(code) as server:
        assert await only_output(opened(server, tmp_path / "work", models={"depth": 0})) == "True False\n"


async def test_agents_run_side_by_side_within_the_width_and_failures_are_values(tmp_path: Path) -> None:
    code = """
from lib.tools import spawn_agents
found = spawn_agents([f"task {i}" for i in range(5)])
print([one["result"] and one["result"]["answer"] for one in found])
print(found[3]["error"])
"""
    now, most, lock = [0], [0], threading.Lock()

    def agent(task: str, results: int) -> Any:
        if task.startswith("task 3"):
            return Answer(status=400, text="no")
        return f"did {task}" if results else block("import time\ntime.sleep(0.2)")

    with Play(code, agent=agent) as server:
        session = opened(server, tmp_path / "work", models={"width": 2})
        async with session:
            async for event in session.run("go"):
                if isinstance(event, ToolProgress):
                    with lock:
                        now[0] = len(list((tmp_path / "tmp").glob("agentd-agent-*")))
                        most[0] = max(most[0], now[0])
    output = session.transcript.executions[0].output
    assert output.startswith(
        "['did task 0', 'did task 1', 'did task 2', None, 'did task 4']\nthe agent has failed"
    )
    assert 1 <= most[0] <= 2


async def test_a_block_of_an_agent_that_hangs_is_ended_and_the_agent_goes_on(tmp_path: Path) -> None:
    code = "from lib.tools import spawn_agent\nprint(spawn_agent('x')['answer'])"
    answers = {0: block("import time\ntime.sleep(1000)")}

    def agent(task: str, results: int) -> str:
        return answers.get(results, "it hung")

    with Play(code, agent=agent) as server:
        models = {"executor_options": {"timeout": 1.0}}
        assert await only_output(opened(server, tmp_path / "work", models=models)) == "it hung\n"
        seen = [m["content"] for r in server.requests for m in r["messages"] if "[result 1" in m["content"]]
    assert any("timeout" in text for text in seen)


async def test_an_agent_s_time_is_what_it_was_given(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, spawn_agent
try:
    spawn_agent("x", budgets={"wall_time_s": 1.0})
except ToolError as error:
    print(error, error.data["stop_reason"])
"""
    hangs = block("import time\ntime.sleep(1000)")
    with Play(code, agent=lambda task, results: hangs) as server:
        output = await only_output(opened(server, tmp_path / "work"))
    assert output == "the agent ended without an answer: wall_time wall_time\n"


async def test_what_agents_cost_is_part_of_the_run_and_no_agent_has_more_than_is_left(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, spawn_agent
try:
    spawn_agent("x", budgets={"max_turns": 100})
except ToolError as error:
    print(error)
"""
    with Play(code, agent=lambda task, results: block("print(1)")) as server:
        session = opened(server, tmp_path / "work", budgets=Budgets(max_cost_usd=0.9))
        async with session:
            end = await session.ask("go")
        assert session.transcript.executions[0].output == "the agent ended without an answer: cost\n"
        assert (end.stop_reason, len(server.requests)) == ("cost", 5)  # of 0.9: 0.2 here, 4 * 0.2 there
        assert end.usage.cost_usd == pytest.approx(1.0, abs=0.01)


async def test_tokens_that_agents_use_side_by_side_end_all_of_them(tmp_path: Path) -> None:
    code = """
from lib.tools import spawn_agents
print([one["error"] for one in spawn_agents(["x", "y", "z"])])
"""
    with Play(code, agent=lambda task, results: block("print(1)")) as server:
        session = opened(server, tmp_path / "work", budgets=Budgets(max_tokens=1100))
        async with session:
            end = await session.ask("go")
        assert end.stop_reason == "tokens"
        assert len(server.requests) <= 10 + 3
    assert "the agent was ended: the run's tokens are used up" in session.transcript.executions[0].output


async def test_cancelling_the_run_ends_its_agents_and_their_code(tmp_path: Path, executor: str) -> None:
    mark = f"marked{os.getpid()}"
    code = "from lib.tools import spawn_agents\nspawn_agents(['x', 'y'])"
    hangs = f"```bash:execute\npython3 -c 'import time; time.sleep(1000)' {mark}\n```\n"
    with Play(code, agent=lambda task, results: hangs) as server:
        async with opened(server, tmp_path / "work", executor=executor) as session:
            run = session.run("go")
            async for event in run:
                if isinstance(event, CodeStart):
                    break
            with anyio.fail_after(60):
                while len(command_lines(mark)) < 2:
                    await anyio.sleep(0.02)
                await run.aclose()
                while command_lines(mark):
                    await anyio.sleep(0.02)
                while list((tmp_path / "tmp").glob("agentd-agent-*")):
                    await anyio.sleep(0.02)
    assert command_lines(mark) == []


async def test_the_policy_holds_in_the_agent_and_its_question_is_below_the_block(tmp_path: Path) -> None:
    code = "from lib.tools import spawn_agent\nprint(spawn_agent('x', tools=['send'])['answer'])"
    sent: list[str] = []
    asked: list[tuple[str, str]] = []

    def send(what: str) -> str:
        """Send something."""
        sent.append(what)
        return "sent"

    async def approve(question: Any) -> bool:
        asked.append((question.request.kind, question.request.name))
        return question.request.name != "b.txt"

    does = """```a.txt:create
A
```
```b.txt:create
B
```
```python:execute
from lib.tools import send
print(send("it"))
```
"""
    rules = {
        "rules": [
            {"verdict": "allow", "name": "spawn_agent"},
            {"verdict": "ask", "name": "send"},
            {"verdict": "ask", "kind": "create"},
        ],
        "default": "deny",
    }
    with Play(code, agent=lambda task, results: "made it" if results else does) as server:
        session = opened(server, tmp_path / "work", tools=[send], policy=rules, approver=approve)
        async with session:
            events = [event async for event in session.run("go")]
        assert isinstance(events[-1], RunEnd)
        seen = [m["content"] for r in server.requests for m in r["messages"] if "[result 1" in m["content"]]
    assert session.transcript.executions[0].output == "made it\n"
    assert sorted(asked) == [("create", "a.txt"), ("create", "b.txt"), ("tool", "send")]
    assert sent == ["it"]
    assert any("the file was not written" in text for text in seen)
    told = [event for event in events if isinstance(event, Approval) and event.decision]
    assert sorted(event.name for event in told) == ["a.txt", "b.txt", "send"]
    assert {event.code_id for event in told} == {"run1_code1"}


async def test_an_executor_object_cannot_be_had_twice_so_one_is_named_for_agents(tmp_path: Path) -> None:
    code = """
from lib.tools import ToolError, spawn_agent
try:
    print(spawn_agent("x")["answer"])
except ToolError as error:
    print(error)
"""
    for models, said in (({}, "models_from_code(executor=...)"), ({"executor": "subprocess"}, "made it")):
        executor = SubprocessExecutor(tmp_path / "work")
        with Play(code, agent=writes("print(1)")) as server:
            output = await only_output(opened(server, tmp_path / "work", models=models, executor=executor))
        await executor.aclose()
        assert said in output


async def test_agents_of_a_session_without_code_have_none_either(tmp_path: Path) -> None:
    def look(what: str) -> str:
        """Look something up."""
        return what.upper()

    def decide(request: dict[str, Any]) -> Answer:
        tools = [tool["function"]["name"] for tool in request.get("tools") or ()]
        results = [m for m in request["messages"] if m["role"] == "tool"]
        if results:
            return Answer(text="done")
        if "spawn_agent" in tools:
            return Answer(calls=[("c1", "spawn_agent", '{"task": "x", "tools": ["look"]}')])
        return Answer(calls=[("c2", "look", '{"what": "a"}')])

    with Play("") as server:
        server.decide = decide
        session = opened(server, tmp_path / "work", mode="tools", tools=[look])
        async with session:
            end = await session.ask("go")
    assert end.text == "done"
    (output,) = [call.output for m in session.transcript.messages for call in m.calls if call.output]
    assert '"answer": "done"' in output or '"answer":"done"' in output
    assert not (tmp_path / "work" / "agents").exists()
