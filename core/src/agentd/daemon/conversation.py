"""An agent's conversation between two tasks: taking back what led to nothing, and having it summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from agentd.protocols import ModelText
from agentd.session import Session
from agentd.transcript import Message

__all__ = ["ask_apart", "is_unfinished", "take_back"]


async def take_back(session: Session, since: int) -> None:
    """Forget what was said after the first `since` messages and led to nothing, or each try would say it once more.

    What was done stays: an answer whose code or tools were run, up to their results.

    :raises AgentdError: if the model cannot be made, or cannot forget.
    """
    messages = session.transcript.messages
    done = max(
        (n for n, message in enumerate(messages, 1) if n > since and message.role == "results"), default=since
    )
    if done < len(messages):
        await session.continue_from(attrs.evolve(session.transcript, messages=messages[:done]))


def is_unfinished(messages: Sequence[Message], mark: str) -> bool:
    """Tell whether a conversation breaks off in the middle of the task whose text has `mark`, after some results."""
    task = next((message for message in reversed(messages) if message.role == "task"), None)
    return task is not None and mark in task.content and messages[-1].role == "results"


async def ask_apart(settings: Mapping[str, Any], text: str) -> str:
    """Ask a model something in a conversation of its own and return the answer.

    :param settings: see `agentd.daemon.sessions.model_settings`.
    :raises ModelError: if it does not answer.
    """
    from agentd.models.routing import open_model

    given = dict(settings)
    model = open_model(given.pop("model"), options=given.pop("model_options"), **given)
    try:
        model.add_task(text)
        async with model.stream() as events:
            return "".join([event.text async for event in events if isinstance(event, ModelText)])
    finally:
        close = getattr(model, "aclose", None)
        if close is not None:
            await close()
