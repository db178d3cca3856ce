"""Lines that a person has entered: commands, which begin with a slash, and all else."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
from agentd.errors import AgentdError, suggest

__all__ = ["CommandSpec", "Invocation", "LineError", "command_named", "continues", "read_command"]


class LineError(AgentdError, ValueError):
    """A line asks for something that does not exist, or lacks something."""


@attrs.frozen(kw_only=True)
class CommandSpec:
    """A command: its name without the slash, what its argument is, and whether it must have one.

    :ivar argument: what kind of thing its argument is, for completion; empty for none.
    :ivar word: how the argument is written in the help; by default its kind in capitals.
    """

    name: str
    help: str
    argument: str = ""
    word: str = ""
    required: bool = False

    @property
    def usage(self) -> str:
        """How it is written: `/history [N]`."""
        name = f"/{self.name}"
        if not self.argument:
            return name
        word = self.word or self.argument.upper()
        return f"{name} {word}" if self.required else f"{name} [{word}]"


@attrs.frozen
class Invocation:
    """A command with its argument, which is checked for presence only."""

    command: CommandSpec
    argument: str = ""


def read_command(text: str, commands: Sequence[CommandSpec]) -> Invocation:
    """Read `NAME ARGUMENT`, the slash gone already. Raises `LineError`."""
    name, *rest = text.split(maxsplit=1)[:2] or [""]
    spec = next((one for one in commands if one.name == name), None)
    if spec is None:
        known = [f"/{one.name}" for one in commands]
        raise LineError(
            f"unknown command {'/' + name!r}; there are: {', '.join(known)}{suggest('/' + name, known)}"
            " (a message that begins with a slash: //)"
        )
    argument = rest[0] if rest else ""
    if spec.required and not argument:
        raise LineError(f"/{name} needs an argument: {spec.usage}")
    if argument and not spec.argument:
        raise LineError(f"/{name} takes no argument, got {argument!r}")
    return Invocation(spec, argument)


def command_named(word: str, commands: Sequence[CommandSpec]) -> Sequence[CommandSpec]:
    """Return the command of this name, with or without its slash, or all for an empty word. Raises `LineError`."""
    if not word:
        return commands
    name = word.removeprefix("/")
    found = [one for one in commands if one.name == name]
    if not found:
        listed = ", ".join(f"/{one.name}" for one in commands)
        hint = suggest(name, [one.name for one in commands])
        raise LineError(f"unknown command {'/' + name!r}; there are: {listed}{hint}")
    return found


def continues(text: str) -> bool:
    """Tell whether the line goes on behind its end: it ends with a backslash that no other one escapes."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1
