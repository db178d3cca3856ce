"""Output: apart, in order, live, bounded, any bytes; exit codes and figures."""

from __future__ import annotations

import threading

import pytest
from agentd.protocols import Executor
from agentd.types import BashAction, Limits, OutputChunk, PythonAction

from agentd_testing.executors.base import LIMITS, ExecutorBase

__all__ = ["OutputPart"]


class OutputPart(ExecutorBase):
    """What code prints and how it ends."""

    @pytest.mark.anyio
    async def test_standard_input_is_what_an_action_brings(self, executor: Executor) -> None:
        assert (await self.bash(executor, "cat", stdin="to bash")).stdout == b"to bash"
        assert (await self.python(executor, "print(input())", stdin=b"to Python\n")).stdout == b"to Python\n"
        assert (await self.bash(executor, "cat")).stdout == b"", "without it, standard input is empty"

    @pytest.mark.anyio
    async def test_stdout_and_stderr_come_apart_and_as_any_bytes(self, executor: Executor) -> None:
        result = await self.bash(executor, r"printf 'a\xff\x00b'; printf 'sandbox error' >&2; exit 5")
        assert result.stdout == b"a\xff\x00b", "output must come as the bytes that were written, not decoded"
        assert result.stderr == b"sandbox error", "no line of stderr may be filtered or mixed into stdout"
        assert (result.status, result.exit_code) == ("failed", 5)

    @pytest.mark.anyio
    async def test_text_beyond_ascii_passes_unchanged_in_both_languages(self, executor: Executor) -> None:
        assert (await self.bash(executor, "echo 'grüß 日本 🚀'")).stdout.decode() == "grüß 日本 🚀\n"
        assert (await self.python(executor, "print('grüß 日本 🚀')")).stdout.decode() == "grüß 日本 🚀\n"

    @pytest.mark.anyio
    async def test_output_arrives_while_the_code_runs(self, executor: Executor) -> None:
        seen: list[OutputChunk] = []
        arrived = threading.Event()

        def on_output(chunk: OutputChunk) -> None:
            seen.append(chunk)
            (executor.workspace_dir / "go").touch()  # the block waits for this: it must see its output go out
            arrived.set()

        code = (
            "import os, time\nprint('first', flush=True)\n"
            "while not os.path.exists('go'): time.sleep(0.005)\nprint('second')"
        )
        result = await executor.run(PythonAction(code=code, timeout_s=15), on_output=on_output)
        assert arrived.is_set(), "on_output was never called"
        assert result.status == "completed", "output must go to on_output while the code runs, not at its end"
        assert b"".join(chunk.data for chunk in seen) == b"first\nsecond\n", (
            "on_output must get all of it, in order"
        )

    @pytest.mark.anyio
    async def test_the_middle_of_a_flood_is_dropped_and_counted(self, limits_executor: Executor) -> None:
        code = "import sys; sys.stdout.write('H' * 600 + 'm' * 10**6 + 'T' * 600)"
        result = await self.python(limits_executor, code)
        assert result.stdout.startswith(b"H" * 500), "the first half of `output_bytes` must be kept"
        assert result.stdout.endswith(b"T" * 500), "the last half of `output_bytes` must be kept"
        assert len(result.stdout) < 5000, "what is beyond `output_bytes` must not be kept"
        assert result.dropped_bytes >= 10**6 - 1000, "`dropped_bytes` must count what was left out"

    @pytest.fixture
    def limits(self, request: pytest.FixtureRequest) -> Limits:
        """Small output for the test of the flood, the usual limits for the others."""
        return (
            Limits(timeout_s=30, grace_s=0.3, output_bytes=1000)
            if "limits_executor" in request.fixturenames
            else LIMITS
        )

    @pytest.fixture
    def limits_executor(self, executor: Executor) -> Executor:
        """An executor with small limits."""
        return executor

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("command", "code"),
        [
            ("true", 0),
            ("false", 1),
            ("exit 3", 3),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("echo 'unclosed", 2),
            ("no_such_command_at_all", 127),
            ("set -e; false; echo never", 1),
            ("exec true", 0),
            ("cat", 0),
            ("exec 0<&- 1>&- 2>&-", 0),
        ],
    )
    async def test_a_bash_block_ends_with_its_exit_code_and_the_session_goes_on(
        self, executor: Executor, command: str, code: int
    ) -> None:
        result = await self.bash(executor, command, timeout_s=15)
        assert result.status != "timeout", f"{command!r} must end by itself (standard input is empty)"
        assert result.exit_code == code
        assert (await self.bash(executor, "set +e; echo usable")).stdout == b"usable\n"

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("source", "code"),
        [
            ("import sys; sys.exit()", 0),
            ("import sys; sys.exit(7)", 7),
            ("import sys; sys.exit('why')", 1),
            ("1 / 0", 1),
            ("x = (", 1),
            ("import os; os._exit(6)", 6),
            ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", 143),
        ],
    )
    async def test_a_python_block_ends_with_its_exit_code(
        self, executor: Executor, source: str, code: int
    ) -> None:
        result = await self.python(executor, source)
        assert result.exit_code == code
        assert result.status == ("completed" if code == 0 else "failed")

    @pytest.mark.anyio
    async def test_a_traceback_names_the_blocks_line_and_shows_it(self, executor: Executor) -> None:
        result = await self.python(executor, "def f():\n    return 1 / 0\n\nf()")
        text = result.stderr.decode()
        assert "line 4" in text, "lines must be counted from the block's own first line"
        assert "return 1 / 0" in text, "the source line must be shown"
        assert text.endswith("ZeroDivisionError: division by zero\n")

    @pytest.mark.anyio
    async def test_a_large_block_runs(self, executor: Executor) -> None:
        result = await self.bash(executor, "true\n" * 1500 + "# " + "x" * 2_000_000 + "\necho end")
        assert result.stdout == b"end\n", (
            "code must not be passed where there is no room for it (arguments, environment)"
        )
        result = await self.python(executor, "x = '" + "y" * 2_000_000 + "'\nprint(len(x))")
        assert result.stdout == b"2000000\n"

    @pytest.mark.anyio
    async def test_a_nul_byte_and_lone_surrogates_in_source_are_no_crash(self, executor: Executor) -> None:
        for action in (
            BashAction(command="echo a\0b"),
            PythonAction(code="print(1)\0"),
            PythonAction(code="x = '\udcff'"),
            BashAction(command="echo '\udcff'"),
        ):
            await executor.run(action)
        await self.check_usable(executor)
