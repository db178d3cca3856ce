"""Tool calls out of the sandbox: from Python, from its children, and over HTTP on the sandbox's own loopback."""

from __future__ import annotations

from collections.abc import Iterator

import native
import pytest
from agentd.registry import Registry
from agentd_executor_native.executor import NativeExecutor
from agentd_tools import ToolSet


def double(x: int) -> int:
    """Double it."""
    return 2 * x


def fails() -> None:
    """Never works."""
    raise ValueError("on purpose")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeExecutor]:
    workspace = tmp_path_factory.mktemp("tools") / "w"
    tools = ToolSet([double, fails])
    with native.make(workspace, timeout=20) as executor:
        renderer = Registry().create_skill_renderer()
        renderer.render(tools.specs(), workspace / "skills")
        executor.attach(tools=tools, layout=renderer.layout(workspace / "skills"))
        yield executor
    tools.close()


def test_a_python_block_and_its_children_call_tools(world: NativeExecutor) -> None:
    assert world.execute_python("from lib.tools import double; print(double(21))") == ("42\n", 0)
    child = "from lib.tools import double; print(double(4))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert world.execute_python(code) == ("8\n", 0)
    assert world.execute_bash("python -c 'from lib.tools import double; print(double(5))'") == ("10\n", 0)


def test_curl_calls_a_tool_on_the_sandbox_s_own_loopback(world: NativeExecutor) -> None:
    auth = '-H "Authorization: Bearer $AGENTD_TOOLS_TOKEN"'
    assert world.execute_bash(f"curl -s {auth} -d '{{\"x\": 6}}' $AGENTD_TOOLS_URL/call/double") == ("12", 0)
    assert world.execute_bash("echo ${AGENTD_TOOLS_URL%:*}")[0] == "http://127.0.0.1\n"
    assert world.execute_bash("curl -s -o /dev/null -w '%{http_code}' $AGENTD_TOOLS_URL/tools")[0] == "401"


def test_a_failing_tool_raises_in_the_code(world: NativeExecutor) -> None:
    code = "from lib.tools import ToolError, fails\ntry: fails()\nexcept ToolError as e: print(type(e).__name__, e)"
    assert "on purpose" in world.execute_python(code)[0]


def test_the_skills_command_is_there(world: NativeExecutor) -> None:
    output, code = world.execute_bash("skills list")
    assert code == 0
    assert output
