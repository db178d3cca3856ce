"""Commands that go on while the agent does something else: what they print comes at once; some have a terminal."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from uuid import uuid4

from agentd.errors import ExecutorError
from agentd.types import ActionResult, OutputChunk, PythonAction
from agentd_runner.host.command_sandbox import CommandSandbox
from agents.sandbox.errors import ExecTransportError, PtySessionNotFoundError
from agents.sandbox.session.pty_output import collect_pty_output
from agents.sandbox.session.pty_types import (
    PTY_PROCESSES_MAX,
    PtyExecUpdate,
    allocate_pty_process_id,
    clamp_pty_yield_time_ms,
    process_id_to_prune_from_meta,
    resolve_pty_write_yield_time_ms,
)

__all__ = ["LiveCommands"]

ECHO_S = 0.1  # what was typed is shown, and perhaps answered, by then


class LiveCommand:
    """A command that has been started: what it has printed since the last look, and its task."""

    def __init__(self, argv: Sequence[str], terminal: str) -> None:
        self.argv = tuple(argv)
        self.terminal = terminal  # the name of its pipe for what is typed; empty without a terminal
        self.chunks: deque[bytes] = deque()
        self.lock = asyncio.Lock()
        self.news = asyncio.Event()
        self.last_used = time.monotonic()
        self.task: asyncio.Task[ActionResult] | None = None
        self._loop = asyncio.get_running_loop()

    def show(self, chunk: OutputChunk) -> None:
        """Take output. Called by the I/O thread of the executors."""
        self._loop.call_soon_threadsafe(self._take, chunk.data)

    def _take(self, data: bytes) -> None:
        self.chunks.append(data)
        self.news.set()

    def is_done(self) -> bool:
        """Whether it has ended, and all of its output is here."""
        return self.task is not None and self.task.done()

    def exit_code(self) -> int:
        """Return its exit code.

        :raises ExecTransportError: if its sandbox has ended.
        """
        assert self.task is not None
        try:
            return self.task.result().exit_code
        except ExecutorError as error:
            raise ExecTransportError(command=self.argv, cause=error, message=str(error)) from error
        except asyncio.CancelledError:
            return 137


class LiveCommands:
    """Those of one session, by the numbers that the model knows them by."""

    def __init__(self) -> None:
        self._commands: dict[int, LiveCommand] = {}

    async def start(
        self,
        sandbox: CommandSandbox,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        tty: bool,
        yield_time_s: float | None,
        max_output_tokens: int | None,
    ) -> PtyExecUpdate:
        """Start a command, and return what it prints until it ends or the time is up."""
        command = LiveCommand(argv, f".agentd-terminal-{uuid4().hex[:12]}" if tty else "")
        if tty:
            code = _code(f"run({list(argv)!r}, {command.terminal!r})")
            action = PythonAction(code=code, state="fresh", cwd=".", env=dict(env))
            running = sandbox.act(action, on_output=command.show)
        else:
            running = sandbox.run(argv, env=env, on_output=command.show)
        number = allocate_pty_process_id(set(self._commands))
        if len(self._commands) >= PTY_PROCESSES_MAX:
            await self._prune()
        self._commands[number] = command
        command.task = asyncio.create_task(running)
        command.task.add_done_callback(lambda _task: command.news.set())
        wait_ms = 10_000 if yield_time_s is None else int(yield_time_s * 1000)
        return await self._update(number, command, clamp_pty_yield_time_ms(wait_ms), max_output_tokens)

    async def type(
        self,
        sandbox: CommandSandbox,
        number: int,
        chars: str,
        *,
        yield_time_s: float | None,
        max_output_tokens: int | None,
    ) -> PtyExecUpdate:
        """Type into a command's terminal, or only wait; return what it has printed since the last time.

        :raises PtySessionNotFoundError: if no command has this number.
        :raises RuntimeError: if it has no terminal.
        """
        command = self._commands.get(number)
        if command is None:
            raise PtySessionNotFoundError(session_id=number)
        if chars:
            if not command.terminal:
                raise RuntimeError(
                    "stdin is not available for this process"
                )  # the SDK's tool knows these words
            if not command.is_done():
                code = _code(f"type_into({command.terminal!r})")
                await sandbox.act(PythonAction(code=code, state="fresh", cwd=".", stdin=chars))
                await asyncio.sleep(ECHO_S)
        wait_ms = 250 if yield_time_s is None else int(yield_time_s * 1000)
        wait_ms = resolve_pty_write_yield_time_ms(yield_time_ms=wait_ms, input_empty=not chars)
        command.last_used = time.monotonic()
        return await self._update(number, command, wait_ms, max_output_tokens)

    async def end_all(self) -> None:
        """End them with all their processes."""
        commands = list(self._commands.values())
        self._commands.clear()
        await _end(*commands)

    async def _update(
        self, number: int, command: LiveCommand, wait_ms: int, max_output_tokens: int | None
    ) -> PtyExecUpdate:
        output, tokens, is_over = await collect_pty_output(
            output_chunks=command.chunks,
            output_lock=command.lock,
            output_notify=command.news,
            is_done=command.is_done,
            yield_time_ms=wait_ms,
            max_output_tokens=max_output_tokens,
        )
        if not is_over:
            return PtyExecUpdate(number, output, None, tokens)
        self._commands.pop(number, None)
        return PtyExecUpdate(None, output, command.exit_code(), tokens)

    async def _prune(self) -> None:
        """End the one that was not looked at for the longest time."""
        known = [(number, one.last_used, one.is_done()) for number, one in self._commands.items()]
        number = process_id_to_prune_from_meta(known)
        if number is not None:
            await _end(self._commands.pop(number))


async def _end(*commands: LiveCommand) -> None:
    """Cancel each once (a second time would cut short its wait for its processes' end), and wait for all."""
    tasks = [command.task for command in commands if command.task is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@cache
def _text() -> str:
    return files("agentd_openai_agents.inside").joinpath("terminal.py").read_text(encoding="utf-8")


def _code(call: str) -> str:
    return f"{_text()}\n\n{call}\n"
