"""The loop: a prompt, a turn, and the prompt again; and what signals do meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from agentd.errors import AgentdError
from agentd_cli import exits
from agentd_cli.interrupts import Interrupts, code_of
from agentd_cli.prompt.keys import bindings
from agentd_cli.prompt.lines import Invocation, LineError
from agentd_cli.prompt.output import terminal_output
from agentd_cli.prompt.past import open_past
from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.output import ColorDepth

from agentd_chat import views
from agentd_chat.commands import ChatCommands
from agentd_chat.typed import ChatCompleter, ChatMessage, read_line

if TYPE_CHECKING:
    from agentd_chat.talk import Talk, TurnOutcome
    from agentd_chat.views import ChatView, SparseView

__all__ = ["ChatLoop", "one_turn"]

T = TypeVar("T")

_PROMPT = "› "
_CONTINUATION = "… "
_LEAVING = "Ctrl-C again leaves; the conversation is kept\n"


class ChatLoop:
    """A person's talk at a terminal.

    :param talk: open.
    :param view: shows it.
    :param past: the file that keeps what was typed.
    """

    def __init__(self, talk: Talk, view: ChatView, past: Path | None) -> None:
        self._talk = talk
        self._view = view
        self._commands = ChatCommands(talk)
        self._leaving = False  # Ctrl-C was pressed at the empty prompt
        self._is_over = False
        self._refused = ""  # a message that could not be sent: it is in the input again
        self._exit_code = exits.OK
        plain = bool(os.environ.get("NO_COLOR"))
        self._prompt: PromptSession[str] = PromptSession(
            self._message,
            output=terminal_output(sys.stdout, sys.stdout.fileno()) if not _is_dumb() else None,
            multiline=True,
            prompt_continuation=lambda width, line, wrapped: _CONTINUATION.rjust(width),
            completer=ChatCompleter(talk.settings.cwd, talk.models),
            complete_while_typing=False,
            history=open_past(past),
            key_bindings=bindings(self._on_ctrl_c),
            color_depth=ColorDepth.DEPTH_1_BIT if plain else None,
        )
        self._prompt.default_buffer.on_text_changed += lambda _: self._stay()

    async def run(self, first: str) -> int:
        """Talk until the person leaves; return the exit code.

        :param first: what is said before anything is typed; empty for nothing.
        """
        with self._signals():
            if first.strip():  # as if it had been typed
                self._view.say(views.note(f"{_PROMPT}{first.strip()}", "bold"))
            line: str | None = first
            while line is not None and not self._is_over:
                if line.strip():
                    await self._do(line)
                    self._tell_notes()
                if not self._is_over:
                    line = await self._read()
        self._view.close()
        return self._exit_code

    async def _read(self) -> str | None:
        """Return the next line; None if the person leaves."""
        self._leaving = False
        refused, self._refused = self._refused, ""
        try:
            return await self._prompt.prompt_async(
                default=refused, handle_sigint=False, set_exception_handler=False
            )
        except EOFError:  # Ctrl-D, or the terminal is gone
            return None

    # --- keys and signals ---

    def _on_ctrl_c(self) -> None:
        if self._leaving:
            self._leave()
        self._leaving = True

    def _stay(self) -> None:
        self._leaving = False

    def _leave(self) -> None:
        app = self._prompt.app
        if app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    def _message(self) -> StyleAndTextTuples:
        hint: StyleAndTextTuples = [("ansibrightblack", _LEAVING)] if self._leaving else []
        return [*hint, ("bold", _PROMPT)]

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """At the prompt, Ctrl-C is a key; as a signal it means a turn, and there is none. The others end the talk."""
        loop = asyncio.get_running_loop()

        def end(number: int) -> None:
            self._is_over, self._exit_code = True, code_of(number)
            self._leave()

        before = signal.signal(signal.SIGINT, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
            signal.signal(signal.SIGINT, before)

    async def _interruptible(self, work: Awaitable[T], stop: Callable[[], Awaitable[object]]) -> T:
        """Wait for work; the first Ctrl-C or SIGTERM stops it, the second ends the process at once."""
        loop = asyncio.get_running_loop()
        done: list[T] = []
        failure: AgentdError | None = None
        async with anyio.create_task_group() as group:
            with Interrupts() as interrupts:
                interrupts.on_first = lambda: _call_soon(loop, group.start_soon, stop)
                try:
                    done.append(await work)
                except AgentdError as error:  # here: a task group would wrap it
                    failure = error
            if (code := interrupts.exit_code) in (exits.TERMINATED, exits.HUNG_UP):
                self._is_over, self._exit_code = True, code
        if failure is not None:
            raise failure
        return done[0]

    # --- lines ---

    async def _do(self, line: str) -> None:
        try:
            asked = read_line(line)
            if isinstance(asked, ChatMessage):
                await self._say(asked)
            elif asked is not None and asked.command.name == "exit":
                self._is_over = True
            elif asked is not None:
                await self._command(asked)
        except LineError as error:
            self._view.say(views.note(str(error), "bold red"))

    async def _say(self, said: ChatMessage) -> None:
        try:
            told = self._commands.task(said)
        except LineError:
            self._refused = f"/{said.text}" if said.text.startswith("/") else said.text
            raise
        if self._commands.named:
            self._view.say(views.note(f"with {self._commands.named}"))
        self._tell_notes()
        outcome = await self._interruptible(
            self._talk.turn(told, said.text, self._view.emit), self._talk.stop
        )
        show_outcome(outcome, self._view)
        if outcome.withdrawn:
            self._commands.not_sent()

    async def _command(self, asked: Invocation) -> None:
        async def stop() -> None:
            scope.cancel()

        with anyio.CancelScope() as scope:
            try:
                self._view.say(await self._interruptible(self._commands.carry_out(asked), stop))
            except LineError:
                raise
            except AgentdError as error:
                self._view.say(views.note(f"/{asked.command.name}: {error}", "bold red"))
        if scope.cancelled_caught:
            self._view.say(views.note(f"/{asked.command.name}: stopped", "yellow"))

    def _tell_notes(self) -> None:
        notes, self._talk.notes = self._talk.notes, []
        for text in dict.fromkeys(notes):
            self._view.say(views.note(text, "yellow"))


def _is_dumb() -> bool:
    return os.environ.get("TERM", "") in (
        "dumb",
        "unknown",
    )  # prompt_toolkit has an output of its own for these


def _call_soon(loop: asyncio.AbstractEventLoop, start: Callable[..., Any], work: Callable[..., Any]) -> None:
    loop.call_soon_threadsafe(start, work)


def show_outcome(outcome: TurnOutcome, view: ChatView | SparseView) -> None:
    """Show what the events of a turn do not say."""
    if outcome.error is not None:
        view.say(views.note(exits.message_of(outcome.error), "bold red"))
    elif outcome.end is not None and outcome.end.error:
        view.say(views.note(outcome.end.error, "bold red"))
    if outcome.stopped or (outcome.end is not None and outcome.end.stop_reason == "cancelled"):
        view.say(views.not_finished(outcome.done, outcome.stopped))


async def one_turn(talk: Talk, view: ChatView | SparseView, text: str) -> int:
    """Carry out one turn without a prompt, and return the exit code."""
    loop = asyncio.get_running_loop()
    told = ChatCommands(talk).task(ChatMessage(text))
    async with anyio.create_task_group() as group:
        with Interrupts() as interrupts:
            interrupts.on_first = lambda: _call_soon(loop, group.start_soon, talk.stop)
            outcome = await talk.turn(told, text, view.emit)
    show_outcome(outcome, view)
    view.close()
    for text in talk.notes:
        print(f"agentd: {text}", file=sys.stderr)
    if interrupts.exit_code is not None:
        return interrupts.exit_code
    if outcome.error is not None:
        return exits.exit_code(outcome.error)
    return exits.OK if outcome.end is not None and outcome.end.stop_reason == "answer" else exits.UNFINISHED
