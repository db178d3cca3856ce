"""An agent's conversation between two tasks: taking back what led to nothing, and what it has cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import attrs
from agentd.errors import AgentdError, ModelError
from agentd.events import RunEnd
from agentd.turn.spending import Spending, around
from agentd.turn.transcript import Message
from agentd_history.model import ask_apart

from agentd_daemon.config.values import AgentConfig, HistoryConfig
from agentd_daemon.journal import Journal, Trigger

if TYPE_CHECKING:
    from agentd.protocols import Model

    from agentd_daemon.places import AgentSession

__all__ = ["bill_of", "is_unfinished", "shorten", "take_back", "with_an_answer"]


async def take_back(session: AgentSession, since: int) -> None:
    """Forget what was said after the first `since` messages and led to nothing, or each try would say it once more.

    What was done stays: an answer whose code or tools were run, up to their results. A model that cannot even be made
    is a failure that the task tells of.
    """
    messages = session.transcript.messages
    done = max(
        (n for n, message in enumerate(messages, 1) if n > since and message.role == "results"), default=since
    )
    if done < len(messages):
        with suppress(AgentdError):
            await session.continue_from(attrs.evolve(session.transcript, messages=messages[:done]))


async def shorten(
    session: AgentSession, rule: HistoryConfig, model: Callable[[], Model], max_tokens: int
) -> bool:
    """Shorten the conversation if it is longer than so much, and tell whether that was done.

    :param model: makes one that a summary may be asked of.
    """

    async def summarise(text: str) -> str:
        return await ask_apart(model(), text)

    shorter = await rule.policy().shorter(session.transcript, summarise=summarise, max_tokens=max_tokens)
    if shorter is not None:
        await session.continue_from(shorter)
    return shorter is not None


def is_unfinished(messages: Sequence[Message], mark: str) -> bool:
    """Tell whether a conversation breaks off in the middle of the task whose text has `mark`, after some results."""
    task = next((message for message in reversed(messages) if message.role == "task"), None)
    return task is not None and mark in task.content and messages[-1].role == "results"


def with_an_answer(end: RunEnd, said: Sequence[Message], config: AgentConfig) -> RunEnd:
    """Return the end of a run, unless its time ran out while the provider kept silent: then raise `ModelError`."""
    answers = sum(message.role == "answer" for message in said)
    if end.stop_reason == "wall_time" and answers < end.turns:
        raise ModelError(
            f"model {config.model_name!r}: its provider said nothing until the time of the task was over "
            f"(`wall_time_s`: {config.budgets.wall_time_s:g}); a `timeout` in `model_options` gives up sooner"
        )
    return end


@contextmanager
def bill_of(trigger: Trigger, journal: Journal, config: AgentConfig) -> Iterator[None]:
    """Count what is spent inside on a trigger, together with what earlier attempts at it have spent."""
    spent = [note.usage for note in journal.turns(trigger.id)]
    token = around.set(Spending(config.budgets.max_cost_usd, spent))
    try:
        yield
    finally:
        around.reset(token)
