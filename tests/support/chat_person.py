"""A person who talks with `agentd chat` at a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from person import Person

if TYPE_CHECKING:
    from agentd_demo.replay import ReplayServer
    from command_process import Command

__all__ = ["LOOKS", "WRITES", "ChatPerson", "block", "model"]

FENCE = "```"


def block(header: str, *lines: str) -> str:
    """A block as a model writes it."""
    return "\n".join([FENCE + header, *lines, FENCE, ""])


WRITES = "I write it.\n\n" + block(
    "bash:execute", "mkdir -p sub; cd sub; echo one > made.txt; export COLOUR=green"
)
LOOKS = block("bash:execute", "echo $COLOUR in $(basename $PWD)")


def model(agentd: Command, *turns: str, **more: Any) -> ReplayServer:
    """A model that gives one answer after the other, whatever it is asked."""
    server = agentd.replay(*turns, **more)
    server.order = "request"
    return server


class ChatPerson(Person):
    """Types when the prompt is there, and looks at all that was shown since."""

    def __init__(self, program: Sequence[str], env: Mapping[str, str], cwd: Path) -> None:
        super().__init__(program=program, env=env, cwd=cwd, columns=110, rows=50)

    def at_prompt(self) -> None:
        """Wait for an empty prompt."""
        self.see(lambda: self.prompt().rstrip() == "›" and not self.screen.cursor.hidden)

    def say(self, text: str) -> None:
        """Wait for the prompt, and enter a line."""
        self.at_prompt()
        self.type(f"{text}\r")

    def told(self, what: str) -> None:
        """Wait until a text was shown, on the screen or above it."""
        self.see(lambda: any(what in row for row in self.everything()))

    def leave(self) -> int:
        """Press Ctrl-D at the prompt and return the exit code."""
        self.at_prompt()
        self.type("\x04")
        return self.wait()
