"""The loop: one prompt for as long as the person stays, and what happens to each line and event."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import anyio
import anyio.lowlevel
from agentd.errors import AgentdError
from agentd_cli.prompt.keys import bindings
from agentd_cli.prompt.lines import Invocation, LineError
from agentd_cli.prompt.past import open_past
from agentd_sink_console.neutral import neutral, one_line
from prompt_toolkit import PromptSession
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.output import ColorDepth, DummyOutput, Output
from rich.console import RenderableType

from agentd_daemon.control import Control
from agentd_daemon.repl import views
from agentd_daemon.repl.commands import Commands
from agentd_daemon.repl.completion import ReplCompleter
from agentd_daemon.repl.dumb import DumbPrompt
from agentd_daemon.repl.feed import Feed
from agentd_daemon.repl.lines import ShownMessage, parse
from agentd_daemon.repl.painter import styled
from agentd_daemon.repl.printed import printed_above
from agentd_daemon.repl.screen import Screen
from agentd_daemon.repl.terminal import TerminalStream, open_terminal
from agentd_daemon.repl.wrapping import cut, width_of, wrap

__all__ = ["Repl"]

_CONTINUATION = "… "
_LAST_LINES_S = 1.0  # after quitting, for the lines that were entered before
_MAX_PRINTED_CHARS = 4_096  # of one line
_MAX_WAITING = 100  # lines that wait for the answer to one before them


class Repl:
    """A person's talk with a daemon; see `run_repl` for the parameters."""

    def __init__(
        self,
        control: Control,
        *,
        input: Input | None,
        output: Output | None,
        agent: str | None,
        history_file: Path | None,
    ) -> None:
        self._control = control
        self._stream: TerminalStream | None = None
        if output is None:
            output, self._stream = open_terminal(sys.stdout)
        dumb = os.environ.get("TERM") == "dumb"
        self._color = not (dumb or os.environ.get("NO_COLOR"))
        self._screen = Screen(output, color=self._color, stream=self._stream)
        self._commands = Commands(control, agent or "")
        self._feed = Feed(self._screen, self._commands.names)
        self._entered, self._asked = anyio.create_memory_object_stream[ShownMessage | Invocation](
            _MAX_WAITING
        )
        self._working: anyio.CancelScope | None = None
        self._worked = anyio.Event()
        # A dumb terminal cannot be drawn on: the application reads keys only, and DumbPrompt shows them.
        self._session = self._make_session(input, DummyOutput() if dumb else output, history_file)
        self._dumb = DumbPrompt(output, self._session.default_buffer, self._name_shown) if dumb else None
        self._draw = self._dumb.draw if self._dumb else None

    def _make_session(
        self, input: Input | None, output: Output, history_file: Path | None
    ) -> PromptSession[str]:
        session: PromptSession[str] = PromptSession(
            self._prompt,
            input=input,
            output=output,
            color_depth=None if self._color else ColorDepth.DEPTH_1_BIT,
            multiline=True,
            prompt_continuation=self._continuation,
            completer=ReplCompleter(
                self._commands.names, self._commands.checkpoints, self._commands.question_ids
            ),
            complete_while_typing=False,
            history=open_past(history_file),
            key_bindings=bindings(self._interrupt),
        )
        # One application for the whole stay: between two of them the terminal would echo what is typed, and
        # turn Ctrl-C into a signal.
        session.default_buffer.accept_handler = self._accept
        return session

    async def run(self) -> None:
        """Talk until the person quits, then stop the daemon."""
        with ExitStack() as ends:
            if self._stream is not None:
                ends.callback(self._stream.close)
            ends.callback(lambda: self._screen.flush(self._session.app, self._draw))
            if self._stream is not None:  # the terminal is the one that the process prints to
                ends.enter_context(printed_above(self._show_printed))
            ends.callback(self._control.listen(self._feed.on_event))
            ends.enter_context(self._entered)
            ends.enter_context(self._asked)
            await self._talk()
        await anyio.lowlevel.checkpoint()  # raises if this was cancelled: then nobody has quit
        self._control.stop()

    async def _talk(self) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._screen.run, self._session.app, self._draw)
            group.start_soon(self._work)
            group.start_soon(self._end_when_cancelled)
            self._greet()
            # prompt_toolkit waits for its own tasks when it ends, which a cancelled scope would not let it
            # do; so it is shielded, and _end_when_cancelled asks it to go.
            with anyio.CancelScope(shield=True):
                await self._read()
            self._entered.close()
            with anyio.move_on_after(_LAST_LINES_S):
                await self._worked.wait()
            group.cancel_scope.cancel()

    async def _read(self) -> None:
        try:
            # Its handlers for SIGINT and for the loop's exceptions would take the place of the daemon's.
            await self._session.prompt_async(handle_sigint=False, set_exception_handler=False)
        except EOFError:  # Ctrl-D, or the terminal is gone
            pass

    async def _end_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._leave()

    def _leave(self) -> None:
        app = self._session.app
        if app.is_running and not app.is_done:
            app.exit(exception=EOFError)

    # --- lines ---

    def _accept(self, buffer: Buffer) -> bool:
        """Take the line that was entered. False: the input is to be emptied."""
        self._echo(buffer.text)
        try:
            asked = parse(buffer.text, self._commands.names())
        except LineError as exc:
            self._complain(exc)
            return False
        if isinstance(asked, Invocation) and asked.command.name == "quit":
            self._leave()  # at once, whatever the lines before it wait for
        elif asked is not None:
            try:
                self._entered.send_nowait(asked)
            except anyio.WouldBlock:
                self._complain(
                    LineError(f"not taken: {_MAX_WAITING} lines wait already; Ctrl-C ends the first")
                )
        return False

    async def _work(self) -> None:
        """Carry out what was asked, one after the other."""
        async for asked in self._asked:
            with anyio.CancelScope() as self._working:
                try:
                    answer = await self._commands.carry_out(asked)
                except Exception as exc:  # the daemon's side failed; the person goes on
                    self._complain(exc)
                else:
                    if answer is not None:
                        self._say(answer)
            self._working = None
        self._worked.set()

    def _interrupt(self) -> None:
        if self._working is not None:
            self._working.cancel()
            self._say(views.note("no longer waiting for that"))
        elif self._commands.cancel():
            self._say(views.note(f"cancelling the turn of {self._commands.current}"))
        else:
            self._say(views.note("nothing runs; to quit: Ctrl-D or /quit"))

    # --- what is shown ---

    def _greet(self) -> None:
        count = len(self._commands.names())
        agents = "1 agent" if count == 1 else f"{count} agents"
        self._say(views.note(f"{agents}; /help lists the commands, Ctrl-D quits"))

    def _complain(self, error: Exception) -> None:
        known = isinstance(error, AgentdError)
        self._say(views.note(str(error) if known else f"{type(error).__name__}: {error}", "bold red"))

    def _show_printed(self, lines: list[str]) -> None:
        width = self._screen.columns
        for line in lines:
            rows = wrap(neutral(line[:_MAX_PRINTED_CHARS]).replace("\n", " "), width, at_words=False)
            self._screen.show(styled(row, "2") if self._color else row for row in rows)

    def _say(self, shown: RenderableType) -> None:
        self._screen.show(views.rows(shown, columns=self._screen.columns, color=self._color))

    def _echo(self, line: str) -> None:
        """Keep what was entered on the screen, above the prompt that is empty again."""
        if self._dumb is None and line.strip():
            prompt = styled(self._name_shown(), "1") if self._color else self._name_shown()
            first, *others = neutral(line).split("\n")
            margin = self._continuation(width_of(self._name_shown()), 1, 0)
            self._screen.show([prompt + first, *(margin + other for other in others)])

    def _name_shown(self) -> str:
        name = one_line(self._commands.current) or "agentd"
        return f"{cut(name, max(1, self._screen.columns // 2))}> "

    def _prompt(self) -> StyleAndTextTuples:
        shown: StyleAndTextTuples = []
        for row in list(self._screen.live.values())[-max(1, self._screen.rows // 3) :]:
            text = cut(row.text, self._screen.columns - width_of(row.prefix))
            shown += [(f"bold ansi{row.colour}", row.prefix), ("", text), ("", "\n")]
        return [*shown, ("bold", self._name_shown())]

    def _continuation(self, width: int, line_number: int, is_soft_wrap: int) -> str:
        return _CONTINUATION.rjust(width)
