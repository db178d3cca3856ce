"""A session: one conversation that an editor has, with its folder, its policy and the turn that runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs
from acp.exceptions import RequestError
from acp.helpers import update_agent_message_text, update_available_commands
from acp.schema import (
    AvailableCommand,
    AvailableCommandInput,
    ConfigOptionUpdate,
    PromptResponse,
    SessionInfoUpdate,
    UnstructuredCommandInput,
    Usage as AcpUsage,
)
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ConfigError, ToolError
from agentd_chat.talk import Talk, TalkSettings
from agentd_cli import exits
from agentd_cli.prompt.lines import LineError
from agentd_mcp_bridge.errors import McpServerError
from agentd_policy.approvers import Approver
from agentd_sink_console.neutral import neutral

from agentd_acp.asking import EditorPerson
from agentd_acp.choices import options_of
from agentd_acp.prompts import EditorPrompt, read_prompt
from agentd_acp.replay import replayed
from agentd_acp.slash import SLASH_COMMANDS, SlashCommands
from agentd_acp.updates import TurnUpdates

if TYPE_CHECKING:
    from acp.interfaces import Client
    from acp.schema import StopReason
    from agentd.types import Usage
    from agentd_chat.kept import ConversationFolder, KeptConversation
    from agentd_chat.talk import TurnOutcome

    from agentd_acp.modes import PolicyModes

__all__ = ["EditorSession"]

_log: Final = logging.getLogger("agentd.acp")
ANSWER_S: Final = 3600.0
"""A question at an editor may wait so long: its person may be at lunch."""
_STOP_REASONS: Final[dict[str, StopReason]] = {
    "answer": "end_turn",
    "refused": "refusal",
    "cut": "max_tokens",
    "tokens": "max_tokens",
    "cancelled": "cancelled",
    **dict.fromkeys(("max_turns", "wall_time", "cost", "tool_calls", "rejected_blocks"), "max_turn_requests"),
}


class EditorSession:
    """A conversation at an editor. Made by `open`.

    :param client: the editor.
    :param settings: what the talk is made with, but for policy, approver and servers.
    :param folder: where it is kept; `kept` is the conversation.
    :param modes: its policies.
    :param servers: MCP servers of the editor, beside those of the settings.
    :param models: that the person may choose, beside the one of the settings.
    :param is_new: the conversation is on no disk yet.
    """

    def __init__(
        self,
        client: Client,
        settings: TalkSettings,
        folder: ConversationFolder,
        kept: KeptConversation,
        modes: PolicyModes,
        servers: Sequence[dict[str, Any]],
        models: Sequence[str] = (),
        *,
        is_new: bool = False,
    ) -> None:
        self.id = kept.id
        self.cwd = settings.cwd
        self.modes = modes
        self.folder = folder
        self._client = client
        self._kept = kept
        self._is_new = is_new
        self._settings = settings
        self._servers = list(servers)
        self._models = tuple(models)
        self._stack = AsyncExitStack()
        self._talk: Talk | None = None
        self._updates: TurnUpdates | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_cancelled = False
        self._title = kept.title
        self._notes: list[str] = []

    @property
    def is_busy(self) -> bool:
        """True while a turn runs, or a command."""
        return not self._idle.is_set()

    @property
    def talk(self) -> Talk:
        """The conversation itself."""
        assert self._talk is not None
        return self._talk

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.talk.model

    @property
    def models(self) -> list[str]:
        """The models that there are to choose from."""
        return list(dict.fromkeys([*self._models, self.model]))

    # --- opening and closing -------------------------------------------------------------------------

    async def open(self) -> EditorSession:
        """Hold the conversation, open it, and list the tools. A server of the editor that cannot be started is left
        out, and the person is told.

        :raises AgentdError: if it is open elsewhere, or cannot be opened.
        """
        try:
            self._stack.enter_context(self.folder.held(self.id))
            if not self._is_new:
                self._kept = self.folder.current(self._kept)
            while True:
                try:
                    await self._open_talk()
                    break
                except ToolError as error:  # a server's own, or one about its tools that was made of it
                    failed = error if isinstance(error, McpServerError) else error.__cause__
                    if not isinstance(failed, McpServerError):
                        raise
                    left = [one for one in self._servers if one["name"] != failed.server]
                    if len(left) == len(self._servers):
                        raise
                    self._servers = left
                    self._notes.append(f"left out: {exits.message_of(failed)}")
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _open_talk(self) -> None:
        person = EditorPerson(self._client, self.id, self.cwd, self.modes, lambda: self._updates)
        approver = Approver(
            person.ask,
            "the person at the editor",
            in_session=True,
            timeout_s=self.modes.timeout_s or ANSWER_S,
        )
        given = self._settings.session
        session = {
            **given,
            "policy": self.modes,
            "mcp_servers": [*given.get("mcp_servers", ()), *self._servers],
        }
        settings = attrs.evolve(self._settings, session=session, approver=approver)
        async with AsyncExitStack() as stack:
            talk = await stack.enter_async_context(Talk(settings, self.folder, self._kept))
            await talk.session.prepare()
            self._talk = talk
            self._models = (talk.model, *self._models)
            await self._stack.enter_async_context(stack.pop_all())

    async def aclose(self) -> None:
        """End the turn that runs, and whatever the session has started."""
        with suppress(AgentdError):
            await self.cancel()
        await self._idle.wait()
        self._idle.clear()  # no turn begins any more
        await self._stack.aclose()

    # --- what the editor asks for --------------------------------------------------------------------

    async def prompt(self, blocks: Sequence[Any]) -> PromptResponse:
        """Carry out a message of the person, or a command.

        :raises RequestError: if a turn runs, or the turn has failed.
        """
        if self.is_busy:
            raise RequestError.invalid_request(
                {"details": f"a turn runs in the session {self.id}: wait for its end, or cancel it"}
            )
        self._idle.clear()
        self._is_cancelled = False
        try:
            said = await call_in_thread(lambda: read_prompt(blocks, self.cwd))
            slash = SlashCommands(self.talk)
            if slash.is_one(said.text):
                return await self._command(slash, said.text)
            return await self._turn(said)
        finally:
            self._idle.set()

    async def cancel(self) -> None:
        """Stop the turn that runs, if one does, and wait until its code is gone."""
        if self.is_busy:
            self._is_cancelled = True
            await self.talk.stop()

    async def choose_model(self, name: str) -> None:
        """Go on with another model. Raises `AgentdError` if a turn runs, or if it cannot be had."""
        if self.is_busy:
            raise ConfigError(f"a turn runs in the session {self.id}: choose a model when that has ended")
        self._idle.clear()
        try:
            await self.talk.switch_model(name)
        finally:
            self._idle.set()

    async def tell_options(self) -> None:
        """Tell the editor what is chosen."""
        await self.send(
            ConfigOptionUpdate(session_update="config_option_update", config_options=options_of(self))
        )

    async def send(self, update: Any) -> None:
        """Send the editor an update. One that has gone away hears nothing."""
        with suppress(ConnectionError):
            await self._client.session_update(session_id=self.id, update=update)

    def note(self, notes: Iterable[str]) -> None:
        """Have the person told something, when the editor is greeted or with the next message."""
        self._notes += notes

    async def greet(self) -> None:
        """Tell the editor which commands there are, and what went wrong with its servers."""
        commands = [
            AvailableCommand(
                name=spec.name,
                description=spec.help,
                input=AvailableCommandInput(UnstructuredCommandInput(hint=spec.word or spec.argument))
                if spec.argument
                else None,
            )
            for spec in SLASH_COMMANDS
        ]
        await self.send(update_available_commands(commands))
        await self._tell_notes()

    async def replay(self) -> None:
        """Show the editor all that was said and done."""
        given = self._settings.session
        notations = given["registry"].create_notations(given.get("parsers"))
        for update in replayed(self.talk.kept.transcript, notations, self.cwd):
            await self.send(update)

    # --- inside --------------------------------------------------------------------------------------

    async def _command(self, slash: SlashCommands, text: str) -> PromptResponse:
        before = self.model
        try:
            shown = await slash.carry_out(text)
        except LineError as error:
            shown = str(error)
        except AgentdError as error:
            shown = exits.message_of(error)
        await self.send(update_agent_message_text(shown))
        await self._tell_notes()
        if self.model != before:
            await self.tell_options()
        return PromptResponse(stop_reason="cancelled" if self._is_cancelled else "end_turn")

    async def _turn(self, said: EditorPrompt) -> PromptResponse:
        if self._is_cancelled:  # while the message was read
            return PromptResponse(stop_reason="cancelled")
        updates = TurnUpdates(self.send, self.cwd, self.modes.before)
        self._updates = updates
        flushing = asyncio.create_task(updates.keep_flushing())
        try:
            outcome = await self.talk.turn(said.told, said.text, updates.handle)
        finally:
            flushing.cancel()
            self._updates = None
            await updates.close()
        await self._show_changes(updates, outcome)
        await self._tell_notes()
        await self._tell_title()
        return await self._response(outcome)

    async def _response(self, outcome: TurnOutcome) -> PromptResponse:
        """Return how the turn has ended. Raises `RequestError` if it has failed."""
        end = outcome.end
        usage = _usage(outcome.turn.usage)
        if self._is_cancelled:
            return PromptResponse(stop_reason="cancelled", usage=usage)
        if outcome.error is not None:
            raise RequestError(-32603, exits.message_of(outcome.error))
        reason = "cancelled" if end is None else end.stop_reason
        stop_reason = _STOP_REASONS.get(reason)
        if stop_reason is None:
            raise RequestError(
                -32603, (end.error if end is not None else "") or f"the turn has ended: {reason}"
            )
        if reason not in ("answer", "cancelled"):
            why = f": {neutral(end.error)}" if end is not None and end.error else ""
            await self.send(update_agent_message_text(f"\n\n*stopped ({reason}){why}*"))
        return PromptResponse(stop_reason=stop_reason, usage=usage)

    async def _show_changes(self, updates: TurnUpdates, outcome: TurnOutcome) -> None:
        """Show what code has changed in files, if there are checkpoints to compare."""
        if not (outcome.turn.before and outcome.turn.after):
            return
        try:
            changes = await self.talk.changes(everything=False)
        except (LineError, AgentdError) as error:
            _log.info("what the turn has changed is not shown: %s", error)
            return
        await updates.show_changes(changes, self.talk.session.resources.skills_dir)

    async def _tell_notes(self) -> None:
        talk = self.talk
        notes, talk.notes = [*self._notes, *talk.notes], []
        self._notes = []
        for note in dict.fromkeys(notes):
            await self.send(update_agent_message_text(f"*{neutral(note)}*\n\n"))

    async def _tell_title(self) -> None:
        title = self.talk.kept.title
        if title != self._title:
            self._title = title
            now = datetime.now(UTC).isoformat(timespec="seconds")
            await self.send(
                SessionInfoUpdate(session_update="session_info_update", title=neutral(title), updated_at=now)
            )


def _usage(usage: Usage) -> AcpUsage:
    return AcpUsage(
        total_tokens=usage.total_tokens,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        thought_tokens=usage.reasoning_tokens,
        cached_read_tokens=usage.cached_input_tokens,
    )
