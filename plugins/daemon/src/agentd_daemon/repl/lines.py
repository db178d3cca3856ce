"""Input lines: what a line that a person has entered asks for."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from agentd_cli.prompt.lines import CommandSpec, Invocation, LineError, read_command

__all__ = ["COMMANDS", "ShownMessage", "parse"]


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(name="agents", help="how every agent is"),
    CommandSpec(
        name="use", help="talk with another agent from now on", argument="agent", word="NAME", required=True
    ),
    CommandSpec(name="tools", help="the tools of the current agent"),
    CommandSpec(
        name="history", help="the last N messages of its conversation (20)", argument="count", word="N"
    ),
    CommandSpec(name="snapshot", help="keep its workspace and conversation", argument="label"),
    CommandSpec(
        name="rewind", help="go back to what was kept", argument="checkpoint", word="ID", required=True
    ),
    CommandSpec(
        name="resume", help="let a parked agent try again", argument="agent", word="NAME", required=True
    ),
    CommandSpec(name="approvals", help="what agents ask that nobody has answered"),
    CommandSpec(
        name="allow",
        help="let it be done: once, or for longer",
        argument="allowed",
        word="ID [once|session|always]",
        required=True,
    ),
    CommandSpec(
        name="deny",
        help="refuse it; the agent reads why",
        argument="denied",
        word="ID [REASON]",
        required=True,
    ),
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
        return read_command(text[1:], COMMANDS)
    return _message(text, agents)


def _message(text: str, agents: Iterable[str]) -> ShownMessage:
    # The longest name first: one may be the beginning of another.
    for agent in sorted(agents, key=len, reverse=True):
        if text.startswith(f"{agent}:"):
            said = text[len(agent) + 1 :].strip()
            if not said:
                raise LineError(f"nothing to tell {agent!r}: write {agent}: TEXT, or /use {agent}")
            return ShownMessage(said, agent)
    return ShownMessage(text)
