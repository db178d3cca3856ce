"""A block's clock stands still while it waits for a tool, as long as the tool itself may take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from agentd.types import Action, ActionResult, BashAction, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host import executor as executor_module
from agentd_runner.host.pending import OpenActions
from agentd_skills import AgentSkillsRenderer
from agentd_tools import ToolSet, tool


def person(seconds: float) -> str:
    """Ask somebody who takes so long to answer."""
    time.sleep(seconds)
    return "yes"


async def sub_agent(seconds: float) -> str:
    """The same on the event loop."""
    await anyio.sleep(seconds)
    return "done"


@tool(timeout=0.6)
def limited() -> str:
    """Take longer than it may."""
    time.sleep(1)
    return "never"


@pytest.fixture
def executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SubprocessExecutor]:
    """Its host is not patient either: it gives a runner up 0.1 s after a block should have ended."""
    monkeypatch.setattr(executor_module, "HUNG_MARGIN_S", 0.1)
    tools = ToolSet([person, sub_agent, limited])
    renderer = AgentSkillsRenderer()
    renderer.render(tools.specs(), tmp_path / "skills")
    with SubprocessExecutor(tmp_path, limits={"timeout_s": 0.4, "grace_s": 0.1}) as made:
        made.attach(tools=tools, layout=renderer.layout(tmp_path / "skills"))
        yield made
    tools.close()


HTTP = (
    'curl -s --unix-socket $AGENTD_TOOLS_SOCKET -H "Authorization: Bearer $AGENTD_TOOLS_TOKEN" '
    "-d '{\"seconds\": 0.9}' $AGENTD_TOOLS_URL/call/person"
)


@pytest.mark.parametrize(
    ("action", "output"),
    [
        (PythonAction(code="from lib.tools import person; print(person(0.9))"), "yes\n"),
        (PythonAction(code="from lib.tools import person; print(person(0.9))", state="kept"), "yes\n"),
        (
            PythonAction(code="from lib.tools import sub_agent; print(sub_agent(0.9), sub_agent(0.5))"),
            "done done\n",
        ),
        (BashAction(command=HTTP), '"yes"'),
    ],
)
@pytest.mark.anyio
async def test_a_tool_may_take_longer_than_its_block(
    executor: SubprocessExecutor, action: Action, output: str, anyio_backend: str
) -> None:
    result = await executor.run(action)
    assert (result.output, result.status) == (output, "completed")
    assert result.wall_s > 0.9
    assert executor.run_sync(action).output == output


def test_several_threads_that_wait_at_once_wait_once(executor: SubprocessExecutor) -> None:
    code = (
        "from lib.tools import person\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(3) as pool: print(list(pool.map(person, [0.7, 0.8, 0.9])))\n"
        "import time; time.sleep(0.8)\n"
    )
    result = executor.run_sync(PythonAction(code=code))
    assert result.stdout == b"['yes', 'yes', 'yes']\n"
    assert result.status == "timeout"
    assert result.wall_s < 1.6


def test_a_block_that_then_takes_too_long_itself_is_ended_and_told_what_was_not_counted(
    executor: SubprocessExecutor,
) -> None:
    result = executor.run_sync(
        PythonAction(code="from lib.tools import person\nperson(0.7)\nwhile True: pass")
    )
    assert (result.status, result.exit_code) == ("timeout", 124)
    assert "timed out after 0.4 s, not counting 0.7 s for tools, and was ended" in result.message
    result = executor.run_sync(BashAction(command="sleep 5"))
    assert result.message == "timed out after 0.4 s and was ended with all its processes"


def test_a_tool_s_own_time_out_bounds_the_wait(executor: SubprocessExecutor) -> None:
    code = (
        "from lib.tools import ToolTimeoutError, limited\n"
        "try: limited()\n"
        "except ToolTimeoutError: print('too long')\n"
    )
    assert executor.run_sync(PythonAction(code=code)).output == "too long\n"


def test_a_call_whose_block_has_ended_counts_for_none() -> None:
    actions = OpenActions()
    actions.add(1, "one")
    opened = actions.begin_call(1)
    assert opened.name == "one"
    assert actions.waited(1)[1]
    actions.remove(1)
    assert actions.waited(1) == (0.0, False)
    actions.end_call(opened)
    late = actions.begin_call(1)
    assert late.name == ""
    assert not actions.waited(1)[1]
    actions.end_call(late)


def test_a_host_that_does_not_tell_the_time_has_blocks_ended_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hello(self: SubprocessExecutor, env: dict[str, str]) -> dict[str, object]:
        return {**whole(self, env), "tells_clock": False}

    whole = SubprocessExecutor._hello
    monkeypatch.setattr(SubprocessExecutor, "_hello", hello)
    with SubprocessExecutor(tmp_path, timeout=0.3) as executor:
        result: ActionResult = executor.run_sync(BashAction(command="sleep 5"))
    assert result.status == "timeout"
