"""Input lines: what a line that a person has entered asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import attrs
from agentd.errors import AgentdError, suggest

__all__ = ["COMMANDS", "CommandSpec", "Invocation", "LineError", "ShownMessage", "continues", "parse"]

Argument = Literal["", "agent", "count", "label", "checkpoint", "command"]


class LineError(AgentdError, ValueError):
    """A line asks for something that does not exist, or lacks something."""


@attrs.frozen(kw_only=True)
class CommandSpec:
    """A command: its name without the slash, what its argument is, and whether it must have one."""

    name: str
    help: str
    argument: Argument = ""
    required: bool = False

    @property
    def usage(self) -> str:
        """How it is written: `/history [N]`."""
        word = {
            "": "",
            "agent": "NAME",
            "count": "N",
            "label": "LABEL",
            "checkpoint": "ID",
            "command": "COMMAND",
        }
        name = f"/{self.name}"
        if not self.argument:
            return name
        return f"{name} {word[self.argument]}" if self.required else f"{name} [{word[self.argument]}]"


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(name="agents", help="how every agent is"),
    CommandSpec(name="use", help="talk with another agent from now on", argument="agent", required=True),
    CommandSpec(name="tools", help="the tools of the current agent"),
    CommandSpec(name="history", help="the last N messages of its conversation (20)", argument="count"),
    CommandSpec(name="snapshot", help="keep its workspace and conversation", argument="label"),
    CommandSpec(name="rewind", help="go back to what was kept", argument="checkpoint", required=True),
    CommandSpec(name="resume", help="let a parked agent try again", argument="agent", required=True),
    CommandSpec(name="help", help="this list, or one command", argument="command"),
    CommandSpec(name="quit", help="stop the daemon; also: quit, exit, Ctrl-D"),
)
_BY_NAME = {spec.name: spec for spec in COMMANDS}
_QUIT = ("quit", "exit", "/exit")


@attrs.frozen
class ShownMessage:
    """Text for an agent; `agent` is empty for the current one."""

    text: str
    agent: str = ""


@attrs.frozen
class Invocation:
    """A command with its argument, which is checked for presence only."""

    command: CommandSpec
    argument: str = ""


def parse(line: str, agents: Iterable[str]) -> ShownMessage | Invocation | None:
    """Return what `line` asks for, or None if it is blank.

    `/NAME ARGUMENT` is a command; `AGENT: text` is for that agent if there is one of this name; `//text` is the
    text `/text`. Raises `LineError`.
    """
    text = line.strip()
    if not text:
        return None
    if text in _QUIT:
        return Invocation(_BY_NAME["quit"])
    if text.startswith("//"):
        return ShownMessage(text[1:])
    if text.startswith("/"):
        return _command(text[1:])
    return _message(text, agents)


def _command(text: str) -> Invocation:
    name, *rest = text.split(maxsplit=1)[:2] or [""]
    spec = _BY_NAME.get(name)
    if spec is None:
        known = [f"/{n}" for n in _BY_NAME]
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


def _message(text: str, agents: Iterable[str]) -> ShownMessage:
    # The longest name first: one may be the beginning of another.
    for agent in sorted(agents, key=len, reverse=True):
        if text.startswith(f"{agent}:"):
            said = text[len(agent) + 1 :].strip()
            if not said:
                raise LineError(f"nothing to tell {agent!r}: write {agent}: TEXT, or /use {agent}")
            return ShownMessage(said, agent)
    return ShownMessage(text)


def command_named(word: str) -> Sequence[CommandSpec]:
    """Return the command of this name, with or without its slash, or all for an empty word. Raises `LineError`."""
    return [_command_spec(word.removeprefix("/"))] if word else COMMANDS


def _command_spec(name: str) -> CommandSpec:
    if name not in _BY_NAME:
        raise LineError(f"unknown command {'/' + name!r}{suggest(name, _BY_NAME)}")
    return _BY_NAME[name]


def continues(text: str) -> bool:
    """Tell whether the line goes on behind its end: it ends with a backslash that no other one escapes."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1
