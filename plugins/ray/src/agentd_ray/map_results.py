"""What the tasks of a map come to, how far a map is, and what it may use."""

from __future__ import annotations

from typing import Any, Literal

import attrs
from agentd.errors import ConfigError
from agentd.types import Usage

__all__ = ["MapBudget", "MapCounts", "MapResult", "MapStatus"]

MapStatus = Literal["answered", "stopped", "failed", "not_done"]


@attrs.frozen(kw_only=True)
class MapBudget:
    """What all tasks of a map may use together, those of earlier runs of the same name included. None for no limit.

    It is looked at before a task is handed out. What runs then runs to its end, and may exceed it by as much as the
    `budgets` of those sessions allow.

    :ivar max_cost_usd: US dollars.
    :ivar max_tokens: input and output tokens together.
    :ivar wall_time_s: seconds from the beginning of this run of the map.
    :ivar max_failures: tasks that may fail after all their retries; one more, and no further task is handed out.
    """

    max_cost_usd: float | None = None
    max_tokens: int | None = None
    wall_time_s: float | None = None
    max_failures: int | None = None

    def __attrs_post_init__(self) -> None:
        for name, value in attrs.asdict(self).items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (is_number and value >= 0):
                raise ConfigError(
                    f"MapBudget: {name} must be a number of at least 0, or None; got {value!r:.80}"
                )

    def spent(self, usage: Usage, *, seconds: float, failures: int) -> str:
        """Say which limit is reached; an empty string if none is."""
        if self.max_cost_usd is not None:
            if usage.requests and (usage.cost_usd is None or usage.unpriced_requests):
                return "its money budget cannot be kept, as no price of the model is known: give prices="
            if (usage.cost_usd or 0.0) >= self.max_cost_usd:
                return f"its budget of ${self.max_cost_usd:g} is spent (${usage.cost_usd or 0.0:.4f})"
        if self.max_tokens is not None and usage.total_tokens >= self.max_tokens:
            return f"its budget of {self.max_tokens} tokens is spent ({usage.total_tokens})"
        if self.wall_time_s is not None and seconds >= self.wall_time_s:
            return f"its {self.wall_time_s:g} seconds are over"
        if self.max_failures is not None and failures > self.max_failures:
            return f"{failures} tasks have failed, and {self.max_failures} may"
        return ""


@attrs.frozen(kw_only=True)
class MapResult:
    """What one task has come to.

    :ivar index: the task's place in the list, from 0.
    :ivar id: what it is known by.
    :ivar task: the task as it was given.
    :ivar status: `answered`; `stopped` (`stop_reason` says by what: a budget of its session, a refusal); `failed` after
        all retries (`error`); `not_done`, as a budget of the map was spent (`error` says which).
    :ivar text: the answer.
    :ivar value: the answer as a value of `output`.
    :ivar turns: rounds of its last attempt.
    :ivar attempts: how often it was tried in the run that did it.
    :ivar seconds: from its first attempt to its end.
    :ivar usage: tokens and money of all its turns.
    :ivar conversation: its conversation in the store, where one can go on with it; empty without a store.
    :ivar is_from_journal: True if an earlier run of this name has done it.
    :ivar exception: what its last attempt raised, in this run.
    """

    index: int
    id: str
    task: Any
    status: MapStatus
    text: str = ""
    value: Any = None
    stop_reason: str = ""
    error: str = ""
    turns: int = 0
    attempts: int = 0
    seconds: float = 0.0
    usage: Usage = attrs.field(factory=Usage)
    conversation: str = ""
    is_from_journal: bool = False
    exception: BaseException | None = attrs.field(default=None, repr=False)

    def __str__(self) -> str:
        return self.text

    @property
    def is_final(self) -> bool:
        """True if a further run of the map takes it as it is; what has failed is tried again there."""
        return self.status in ("answered", "stopped")


@attrs.define
class MapCounts:
    """How far a map is: tasks by what they have come to, sessions at work, retries, and what all of it used."""

    total: int = 0
    running: int = 0
    answered: int = 0
    stopped: int = 0
    failed: int = 0
    not_done: int = 0
    from_journal: int = 0
    retries: int = 0
    usage: Usage = attrs.field(factory=Usage)

    @property
    def done(self) -> int:
        """Tasks that have come to something."""
        return self.answered + self.stopped + self.failed + self.not_done

    def count(self, result: MapResult) -> None:
        """Take a result in."""
        setattr(self, result.status, getattr(self, result.status) + 1)
        self.from_journal += result.is_from_journal
        self.usage += result.usage
