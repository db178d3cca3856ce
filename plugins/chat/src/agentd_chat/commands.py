"""Commands: carries out what lines with a slash ask of a talk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentd.errors import suggest
from agentd_cli.prompt.lines import LineError, command_named
from rich.console import Group

from agentd_chat import views
from agentd_chat.attachments import (
    AttachedFile,
    named_files,
    read_attachment,
    task_of,
    unnamed,
    unquoted,
)
from agentd_chat.changes import changed_lines
from agentd_chat.typed import COMMANDS, ChatMessage

if TYPE_CHECKING:
    from typing import Any

    from agentd_cli.prompt.lines import Invocation
    from rich.console import RenderableType

    from agentd_chat.talk import Talk

__all__ = ["ChatCommands"]


class ChatCommands:
    """The commands of one talk, and what the next message brings along."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self.named = ""
        """The files that the last message has named, in words."""
        self._sent: list[AttachedFile] = []
        self._attached: list[AttachedFile] = list(talk.settings.brought)

    def task(self, said: ChatMessage) -> str | list[dict[str, Any]]:
        """Return what the model is told: the message with its files. Raises `LineError` for one that cannot be read.

        Names that look like files and are none stand in the notes of the talk.
        """
        folder = self._talk.settings.cwd
        named = [read_attachment(name, folder) for name in named_files(said.text, folder)]
        attached, self._attached = self._attached, []
        self._sent = attached
        self.named = ", ".join(f"{one.name} ({one.kind})" for one in named)
        if missing := unnamed(said.text, folder):
            self._talk.notes.append(
                f"no file, so it is text alone: {', '.join('@' + name for name in missing)}"
            )
        return task_of(said.text, [*attached, *named])

    def not_sent(self) -> None:
        """Nobody has answered the last message: what was attached to it goes with the next one."""
        self._attached, self._sent = [*self._sent, *self._attached], []

    async def carry_out(self, asked: Invocation) -> RenderableType:
        """Do it and return what there is to say about it. Raises what the talk raises."""
        argument = asked.argument
        match asked.command.name:
            case "undo":
                return await self._undo()
            case "diff":
                return await self._diff(argument)
            case "cost":
                talk = self._talk
                return views.cost(
                    talk.spent,
                    turns=len(talk.kept.turns),
                    limit_usd=talk.settings.max_cost_usd,
                    unpriced=talk.kept.unpriced,
                )
            case "model":
                return await self._model(argument)
            case "jobs":
                return views.jobs(await self._talk.jobs())
            case "attach":
                folder = self._talk.settings.cwd
                name = argument if named_files(f'@"{argument}"', folder) else unquoted(argument)
                attached = read_attachment(name, folder)
                self._attached.append(attached)
                return views.note(f"{name} ({attached.kind}) goes with the next message")
            case _:
                return views.help_of(command_named(argument, COMMANDS), keys=not argument)

    async def _undo(self) -> RenderableType:
        undone = await self._talk.undo()
        words = " ".join(undone.task.split())
        words = words if len(words) <= 60 else f"{words[:59]}…"
        if not undone.files:
            return views.note(f"taken back: {words!r}; files stay as they are, for no checkpoint was kept")
        lines = [views.note(f"taken back: {words!r}, with what it did to files and shell")]
        if undone.jobs:
            lines.append(
                views.note(f"ended, as files were replaced: the jobs {', '.join(undone.jobs)}", "yellow")
            )
        if undone.kept_as:
            lines.append(
                views.note(
                    f"what was until now is kept as {undone.kept_as}: agentd run --rewind {undone.kept_as} ..."
                )
            )
        return Group(*lines)

    async def _diff(self, argument: str) -> RenderableType:
        if argument not in ("", "all"):
            raise LineError(f"/diff: takes nothing or 'all', got {argument!r}{suggest(argument, ['all'])}")
        changed = changed_lines(await self._talk.changes(everything=bool(argument)))
        whose = "the conversation" if argument else "the last turn"
        return Group(*changed) if changed else views.note(f"{whose} has changed no files")

    async def _model(self, name: str) -> RenderableType:
        talk = self._talk
        if not name:
            place = f", executor {talk.place}" if talk.place else ""
            return views.note(f"model {talk.model}{place}; /model NAME goes on with another one")
        await talk.switch_model(name)
        return views.note(f"model {name} from now on; it reads the conversation so far")
