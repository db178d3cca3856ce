"""What a run may use before it is ended."""

from __future__ import annotations

import attrs

from agentd.errors import ConfigError
from agentd.events import StopReason
from agentd.types import Usage

__all__ = ["Budgets"]


@attrs.frozen(kw_only=True)
class Budgets:
    """The limits of one run. None lifts a limit; each has a default.

    Turns, tokens and tool calls are looked at before each request to the model, so the last round may go
    over them. The wall time also ends a round that is under way: running code is stopped and its output so
    far is kept. An answer that becomes too long is not read further, and counts as cut.

    :ivar max_turns: requests to the model.
    :ivar wall_time_s: seconds from the start of the run.
    :ivar max_tokens: input and output tokens of all rounds together.
    :ivar max_tool_calls: tool calls of all rounds together.
    :ivar max_rejected_rounds: rounds in a row in which no block could be run (an unknown language, say).
    :ivar max_answer_chars: characters of one answer: its text, and its native calls.
    :ivar max_result_chars: characters of one block's output that the model reads; the middle is cut.
    :ivar max_round_chars: the same for all blocks of a round together.
    """

    max_turns: int | None = 20
    wall_time_s: float | None = 600.0
    max_tokens: int | None = 2_000_000
    max_tool_calls: int | None = 1_000
    max_rejected_rounds: int | None = 3
    max_answer_chars: int | None = 16 * 1024 * 1024
    max_result_chars: int = 40_000
    max_round_chars: int = 120_000

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ConfigError(f"Budgets.{field.name}: must be above 0 or None (no limit), got {value!r}")

    def exceeded(self, *, turns: int, elapsed_s: float, usage: Usage, tool_calls: int) -> StopReason | None:
        """Return which limit forbids another round, or None."""
        if self.max_turns is not None and turns >= self.max_turns:
            return "max_turns"
        if self.wall_time_s is not None and elapsed_s >= self.wall_time_s:
            return "wall_time"
        if self.max_tokens is not None and usage.total_tokens >= self.max_tokens:
            return "tokens"
        if self.max_tool_calls is not None and tool_calls >= self.max_tool_calls:
            return "tool_calls"
        return None

    def result_chars(self, blocks: int) -> int:
        """Return how many characters of each block's output fit, if a round has `blocks` of them."""
        return max(1_000, min(self.max_result_chars, self.max_round_chars // max(1, blocks)))
