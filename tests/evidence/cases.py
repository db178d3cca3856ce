"""What every data set is turned into: cases with gold calls, and worlds that carry calls out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import attrs
from agentd.types import ToolSpec

__all__ = ["Case", "DataSet", "GoldCall", "GoldTurn", "World"]


@attrs.frozen
class GoldCall:
    """A call that the data set says solves the task, or a part of it."""

    name: str
    arguments: Mapping[str, Any]


@attrs.frozen
class GoldTurn:
    """What a person says, the calls that it wants, in their order, and the answer behind them."""

    text: str
    calls: Sequence[GoldCall]
    answer: str = "Done."


class World(Protocol):
    """One case's environment, with the data set's own tools on it. Made anew for each replay."""

    def specs(self) -> Sequence[ToolSpec]:
        """Return the tools that there are now."""

    def begin(self, turn: int) -> bool:
        """Do what happens before a turn (what the person does, say); tell whether the tools have changed."""

    def call(self, name: str, arguments: Mapping[str, Any]) -> object:
        """Carry out a call. What a tool refuses comes back as the text that the data set's own loop gives a model."""

    def end(self, turn: int) -> str:
        """Have the data set's own checker look after a turn; return what it objects to, or an empty string."""


@attrs.frozen
class Case:
    """A task. `instructions` are its system prompt, empty where the data set has none."""

    id: str
    data_set: str
    turns: Sequence[GoldTurn]
    world: Callable[[], World]
    instructions: str = ""

    @property
    def calls(self) -> int:
        """The number of gold calls."""
        return sum(len(turn.calls) for turn in self.turns)

    @property
    def names(self) -> tuple[str, ...]:
        """The tools that the gold calls use, in the order of their first use."""
        return tuple(dict.fromkeys(call.name for turn in self.turns for call in turn.calls))


@attrs.frozen
class DataSet:
    """A name, where it is from (distribution and version), its cases, and its tools for filling up others'."""

    name: str
    source: str
    cases: Callable[[], Iterator[Case]]
    tools: Callable[[], Mapping[str, Sequence[ToolSpec]]]
