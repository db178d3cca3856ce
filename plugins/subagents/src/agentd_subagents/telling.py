"""What an agent does, told to the run that has started it: events below the block that called `spawn_agent`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

import attrs
from agentd.events import Approval, CodeStart, Event, ToolCall, TurnEnd
from agentd.protocols import OnProgress
from agentd_tools.calling import SourceCall

__all__ = ["AgentTeller"]

_LINE: Final = 80


@attrs.define(eq=False)
class AgentTeller:
    """An event sink of the agent's session. Its tool calls and questions become the caller's, its turns progress.

    :param call: the call of `spawn_agent`.
    :param borrowed: tools that the caller's own tool set answers, which tells of them itself.
    :param after_turn: called after each turn.
    """

    call: SourceCall
    borrowed: Collection[str]
    on_progress: OnProgress | None
    max_turns: int | None
    after_turn: Callable[[], None]
    turns: int = attrs.field(init=False, default=0)

    def emit(self, event: Event) -> None:
        """Take an event of the agent."""
        session, call = self.call.session, self.call
        if isinstance(event, Approval) or (isinstance(event, ToolCall) and event.name not in self.borrowed):
            session.tell(attrs.evolve(event, id=f"{call.event_id}/{event.id}", code_id=call.action_id))
        elif isinstance(event, CodeStart):
            first = event.code.strip().partition("\n")[0][:_LINE]
            self._progress(f"turn {event.turn}: {event.target}: {first}")
        elif isinstance(event, TurnEnd):
            self.turns = event.turn
            self._progress(f"turn {event.turn} is over")
            self.after_turn()

    def _progress(self, message: str) -> None:
        if self.on_progress is not None:
            total = None if self.max_turns is None else float(self.max_turns)
            self.on_progress(float(self.turns), total, message)

    def close(self) -> None:
        """Nothing is held."""
