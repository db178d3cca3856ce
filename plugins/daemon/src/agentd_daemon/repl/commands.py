"""Commands: carries out what input lines ask of the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, get_args

from agentd.errors import suggest
from agentd_cli.prompt.lines import Invocation, LineError, command_named

from agentd_daemon.control import AgentStatus, AnswerScope, Control
from agentd_daemon.repl import views
from agentd_daemon.repl.lines import COMMANDS, ShownMessage

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Commands"]

_MAX_HISTORY = 1_000
_SCOPES: Final[tuple[AnswerScope, ...]] = get_args(AnswerScope)


class Commands:
    """One person's commands: which agent they talk with, and which checkpoints they made.

    :param control: the daemon.
    :param agent: the agent to begin with; empty for the first.
    """

    def __init__(self, control: Control, agent: str = "") -> None:
        self._control = control
        self._wanted = agent
        self.checkpoints: list[str] = []  # ids and labels, for completion

    @property
    def current(self) -> str:
        """The agent that is talked with. The configuration may have lost it: then the first one, or none."""
        names = self.names()
        if self._wanted in names:
            return self._wanted
        return names[0] if names else ""

    def names(self) -> list[str]:
        """The names of all agents."""
        return [status.name for status in self._control.agents()]

    def cancel(self) -> bool:
        """Cancel the turn of the current agent. False: none runs."""
        return bool(self.current) and self._control.cancel(self.current)

    async def carry_out(self, asked: ShownMessage | Invocation) -> RenderableType | None:
        """Do what was asked and return what there is to say about it. Raises what the daemon raises."""
        if isinstance(asked, ShownMessage):
            return await self._tell(asked)
        argument = asked.argument
        match asked.command.name:
            case "agents":
                return views.agents(self._control.agents(), self.current)
            case "use":
                self._wanted = self._known(argument).name
                return views.note(f"talking with {argument}")
            case "tools":
                return views.tools(await self._control.tools(self._agent()))
            case "history":
                return views.messages(self._control.history(self._agent(), _count(argument)))
            case "snapshot":
                return await self._snapshot(argument or None)
            case "rewind":
                restored = await self._control.rewind(self._agent(), argument)
                return views.note(f"{self.current} is back at {restored}")
            case "approvals":
                return views.questions(self._control.questions())
            case "allow" | "deny":
                return self._answer(asked.command.name == "allow", argument)
            case "resume":
                return self._resume(self._known(argument).name)
            case _:
                return views.commands(command_named(argument, COMMANDS))

    async def _tell(self, message: ShownMessage) -> RenderableType | None:
        name = self._known(message.agent).name if message.agent else self._agent()
        trigger = await self._control.submit(name, message.text)
        status = self._known(name)
        if status.state == "parked":
            return views.note(f"{name} is parked; it reads {trigger} after /resume {name}", "yellow")
        if status.state == "retrying" or (status.current and status.current != trigger):
            return views.note(f"{name} is busy; it reads {trigger} next")
        return None

    async def _snapshot(self, label: str | None) -> RenderableType:
        made = await self._control.snapshot(self._agent(), label)
        for name in (made, label):
            if name and name not in self.checkpoints:
                self.checkpoints.append(name)
        return views.note(f"kept as {made}; go back with: /rewind {label or made}")

    def _answer(self, allowed: bool, argument: str) -> RenderableType:
        id, _, rest = argument.partition(" ")
        scope, reason = (rest.strip() or "once", "") if allowed else ("once", rest.strip())
        if scope not in _SCOPES:
            raise LineError(f"/allow: must be {', '.join(_SCOPES)}, got {scope!r}{suggest(scope, _SCOPES)}")
        return views.note(self._control.answer(id, allowed=allowed, scope=scope, reason=reason))

    def question_ids(self) -> list[str]:
        """The ids of the questions that nobody has answered."""
        return [id for status in self._control.agents() for id in status.questions]

    def _resume(self, name: str) -> RenderableType:
        resumed = self._control.resume(name)
        return views.note(f"{name} tries again" if resumed else f"{name} is not parked")

    def _agent(self) -> str:
        if not self.current:
            raise LineError("there are no agents; the configuration has none, or none that runs")
        return self.current

    def _known(self, name: str) -> AgentStatus:
        for status in self._control.agents():
            if status.name == name:
                return status
        names = self.names()
        listed = ", ".join(map(repr, names)) or "none"
        raise LineError(f"unknown agent {name!r}; there are: {listed}{suggest(name, names)}")


def _count(argument: str) -> int:
    if not argument:
        return 20
    if not argument.isdecimal() or not 1 <= int(argument[:6]) <= _MAX_HISTORY:
        raise LineError(f"/history: N must be a number from 1 to {_MAX_HISTORY:,}, got {argument!r}")
    return int(argument)
