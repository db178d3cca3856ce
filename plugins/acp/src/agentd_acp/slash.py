"""Commands that a person types as a message: those of `agentd chat` that make sense in an editor."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from agentd_chat.commands import ChatCommands
from agentd_chat.typed import COMMANDS
from agentd_cli.prompt.lines import read_command
from rich.console import Console

if TYPE_CHECKING:
    from agentd_chat.talk import Talk

__all__ = ["SLASH_COMMANDS", "SlashCommands"]

SLASH_COMMANDS: Final = tuple(
    spec for spec in COMMANDS if spec.name in ("undo", "diff", "cost", "model", "jobs")
)
_UNDONE: Final = "The editor still shows that turn; the model knows nothing of it any more."
_COLUMNS: Final = 120


class SlashCommands:
    """The commands of a talk."""

    def __init__(self, talk: Talk) -> None:
        self._commands = ChatCommands(talk)

    def is_one(self, text: str) -> bool:
        """Tell whether a message is a command; one that begins with another slash is for the model."""
        name = text.split(maxsplit=1)[0] if text.split() else ""
        return name in {f"/{spec.name}" for spec in SLASH_COMMANDS}

    async def carry_out(self, text: str) -> str:
        """Do what a message asks for, and return what is to be said about it, as Markdown. Raises `AgentdError`."""
        asked = read_command(text.strip()[1:], SLASH_COMMANDS)
        answer = await self._commands.carry_out(asked)
        page = io.StringIO()
        Console(file=page, width=_COLUMNS, no_color=True, markup=False, highlight=False, emoji=False).print(
            answer
        )
        shown = "\n".join(line.rstrip() for line in page.getvalue().splitlines())
        note = f"\n\n{_UNDONE}" if asked.command.name == "undo" else ""
        language = "diff" if asked.command.name == "diff" else "text"
        fence = "`" * 4
        return f"{fence}{language}\n{shown}\n{fence}{note}"
