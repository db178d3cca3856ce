"""Tool calls out of running code."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import anyio
import attrs
import pytest
from agentd.events import ToolCall
from agentd.protocols import Executor
from agentd.types import PythonAction
from agentd_skills import AgentSkillsRenderer
from agentd_tools import ToolSet

from agentd_testing.executors.base import ExecutorBase

__all__ = ["ToolsPart"]


@attrs.frozen
class Attached:
    """An executor with tools, the calls that were seen, and what lets the tool `blocks` return."""

    executor: Executor
    calls: queue.SimpleQueue[ToolCall]
    release: threading.Event


def _double(x: int) -> int:
    """Double it."""
    return 2 * x


def _same(x: str) -> str:
    """Give it back."""
    return x


def _fails() -> None:
    """Never works."""
    raise ValueError("on purpose")


async def _later(x: int) -> int:
    """Wait a little."""
    await anyio.sleep(0)
    return x


class ToolsPart(ExecutorBase):
    """How code calls the host's tools."""

    @pytest.fixture
    def attached(self, executor: Executor, workspace: Path) -> Iterator[Attached]:
        """An executor with tools; their bindings lie in the workspace, as in a session."""
        calls: queue.SimpleQueue[ToolCall] = queue.SimpleQueue()
        release = threading.Event()

        def blocks() -> str:
            """Wait for the test."""
            release.wait(20)
            return "released"

        functions: dict[str, Callable[..., Any]] = {
            "double": _double,
            "same": _same,
            "fails": _fails,
            "later": _later,
        }
        for name, function in functions.items():
            function.__name__ = name
        tools = ToolSet([*functions.values(), blocks], on_call=calls.put)
        renderer = AgentSkillsRenderer()
        renderer.render(tools.specs(), workspace / "skills")
        executor.attach(tools=tools, layout=renderer.layout(workspace / "skills"))
        yield Attached(executor, calls, release)
        release.set()
        tools.close()

    @pytest.mark.anyio
    async def test_a_call_gets_its_result_and_names_its_action(self, attached: Attached) -> None:
        action = PythonAction(
            code="from lib.tools import double\nprint(double(21), type(double(1)).__name__)"
        )
        result = await attached.executor.run(action, action_id="block-7")
        assert result.output == "42 int\n"
        first = attached.calls.get(timeout=5)  # calls are reported beside the block, not before its end
        assert (first.name, first.result) == ("double", "42")
        assert first.code_id == "block-7", "a call must name the `action_id` of the action it comes from"

    @pytest.mark.anyio
    @pytest.mark.parametrize("state", ["fresh", "kept"])
    async def test_calls_of_all_sizes_one_after_the_other_are_answered_in_order(
        self, attached: Attached, state: Literal["fresh", "kept"]
    ) -> None:
        code = (
            "from lib.tools import double, fails, same\n"
            "for n in range(70): assert double(n) == 2 * n, n\n"
            "for size in (0, 1, 4000, *range(4060, 4110), 5000, 70_000, 7, 300_000, 2):\n"
            "    for sign in 'x\\n':\n"  # a text goes by as it is, or with each of its signs escaped
            "        text = sign * size\n"
            "        assert same(text) == text, (size, sign)\n"
            "    try: fails()\n"
            "    except Exception as error: assert 'on purpose' in str(error), error\n"
            "import os\n"
            "if not (pid := os.fork()): os._exit(double(4))\n"
            "print(double(21), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
        )
        result = await attached.executor.run(PythonAction(code=code, state=state))
        assert result.output == "42 8\n"

    @pytest.mark.anyio
    async def test_children_of_both_languages_and_curl_call_tools(self, attached: Attached) -> None:
        program = "from lib.tools import double; print(double(4))"
        assert (await self.bash(attached.executor, f"python3 -c '{program}'")).output == "8\n"
        code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', '{program}'], check=True)"
        assert (await self.python(attached.executor, code)).output == "8\n"

    @pytest.mark.anyio
    async def test_the_endpoint_wants_the_token(self, attached: Attached) -> None:
        code = (
            "import http.client, os, socket\n"
            "def ask(token, body=b''):\n"
            "    host, _, path = os.environ['AGENTD_TOOLS_URL'].removeprefix('http://').partition('/')\n"
            "    connection = http.client.HTTPConnection(host)\n"
            "    if where := os.environ.get('AGENTD_TOOLS_SOCKET'):\n"
            "        connection.sock = socket.socket(socket.AF_UNIX); connection.sock.connect(where)\n"
            "    headers = {'Authorization': 'Bearer ' + token} if token else {}\n"
            "    connection.request('POST', (path and '/' + path) + '/call/double', body, headers)\n"
            "    reply = connection.getresponse(); body = reply.read().decode(); connection.close()\n"
            "    return reply.status, body if reply.status == 200 else ''\n"
            "print(ask(os.environ['AGENTD_TOOLS_TOKEN'], b'{\"x\": 6}'), ask(''), ask('wrong'))\n"
        )
        assert (await self.python(attached.executor, code)).output == "(200, '12') (401, '') (401, '')\n"
        assert attached.calls.qsize() <= 1, "a call without the token must not reach the tools"

    @pytest.mark.anyio
    async def test_failures_are_exceptions_in_the_code(self, attached: Attached) -> None:
        code = (
            "from lib.tools import ToolError, ToolInputError, double, fails\n"
            "try: fails()\n"
            "except ToolError as e: print('on purpose' in str(e))\n"
            "try: double('7')\n"
            "except ToolInputError as e: print('input')\n"
        )
        assert (await self.python(attached.executor, code)).output == "True\ninput\n"

    @pytest.mark.anyio
    async def test_async_tools_threads_and_kept_blocks_call(self, attached: Attached) -> None:
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "from lib.tools import double, later\n"
            "with ThreadPoolExecutor(4) as pool: print(later(3), sum(pool.map(double, range(50))))\n"
        )
        assert (await self.python(attached.executor, code)).output == "3 2450\n"
        assert (await self.python(attached.executor, code, state="kept")).output == "3 2450\n"

    @pytest.mark.anyio
    async def test_large_values_and_text_pass_unchanged(self, attached: Attached) -> None:
        code = "from lib.tools import same\ns = 'é' + 'a' * 3_000_000\nprint(same(s) == s, repr(same('42')))"
        assert (await self.python(attached.executor, code)).output == "True '42'\n"

    @pytest.mark.anyio
    async def test_a_call_that_waits_ends_with_its_block_and_holds_up_nobody(
        self, attached: Attached
    ) -> None:
        code = "from lib.tools import blocks; blocks()"
        with anyio.move_on_after(0.5) as waiting:
            await self.python(attached.executor, code)
        assert waiting.cancelled_caught
        assert (
            await self.python(attached.executor, "from lib.tools import double; print(double(1))")
        ).output == "2\n"

    @pytest.mark.anyio
    async def test_new_bindings_reach_a_session_that_runs(self, attached: Attached, workspace: Path) -> None:
        def triple(x: int) -> int:
            """Triple it."""
            return 3 * x

        await self.bash(attached.executor, "true")
        tools = ToolSet([triple])
        renderer = AgentSkillsRenderer()
        renderer.render(tools.specs(), workspace / "skills")
        attached.executor.attach(tools=tools, layout=renderer.layout(workspace / "skills"))
        result = await self.python(attached.executor, "from lib.tools import triple; print(triple(3))")
        assert result.output == "9\n", "attach() may be called again while the session runs"
        tools.close()

    @pytest.mark.anyio
    async def test_without_tools_a_block_runs(self, executor: Executor) -> None:
        executor.attach(tools=None, layout=None)
        await self.check_usable(executor)
