"""An agent's conversation between two tasks: taking back what led to nothing, and having it summed up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from agentd.protocols import ModelText, OwnedModel
from agentd.registry import Registry
from agentd.session.session import Session
from agentd.turn.transcript import Message

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


async def ask_apart(registry: Registry, settings: Mapping[str, Any], text: str) -> str:
    """Ask a model something in a conversation of its own and return the answer.

    :param settings: see `agentd_daemon.sessions.model_settings`.
    :raises ModelError: if it does not answer.
    """
    given = {name: value for name, value in settings.items() if value is not None}
    given["request"] = given.pop("model_options", {})
    model = registry.open_model(given.pop("model"), given)
    try:
        model.add_task(text)
        async with model.stream() as events:
            return "".join([event.text async for event in events if isinstance(event, ModelText)])
    finally:
        if isinstance(model, OwnedModel):
            await model.aclose()
