"""The form of an agent's answers: a JSON Schema of its configuration, and a task whose answer has to fit it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from agentd.errors import AnswerError, ConfigError
from agentd.events import RunEnd

from agentd_daemon.remote import kept_end, keyed

if TYPE_CHECKING:
    from agentd_daemon.journal import Trigger
    from agentd_daemon.places import AgentSession

__all__ = ["answer_of", "answer_schema", "ask_for_answer"]


def answer_schema(answer: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the schema that a configuration names: its own text, or that of a file of JSON.

    :raises ConfigError: if the file cannot be read, or holds no JSON object.
    """
    if answer is None or isinstance(answer, Mapping):
        return None if answer is None else dict(answer)
    path = Path(answer).expanduser()
    try:
        schema = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(f"answer: the file {str(path)!r} cannot be read as JSON: {why}") from None
    if not isinstance(schema, dict):
        got = type(schema).__name__
        raise ConfigError(f"answer: the file {str(path)!r} must hold a JSON object, got {got}")
    return schema


async def ask_for_answer(
    session: AgentSession, task: str, schema: Mapping[str, Any] | None, trigger: Trigger
) -> RunEnd:
    """Give a session a task and return the end of its run. With a schema, its text is the value that was checked.

    :param trigger: what the task is about; this attempt at it is the run's key.
    :raises AnswerError: if the model answers, and its answer does not fit, also when it is asked for it again.
    """
    session = keyed(session, _key(trigger))
    if schema is None:
        return await session.ask(task)
    end: RunEnd | None = None
    try:
        async for event in session.run(task, output=schema):
            end = event if isinstance(event, RunEnd) else end
    except AnswerError:
        if end is None or end.stop_reason == "answer":
            raise
        return end  # it did not come to an answer: that is what its reader is told
    assert end is not None
    return _plain(end)


async def answer_of(
    session: AgentSession, trigger: Trigger, answer: str | Mapping[str, Any] | None
) -> RunEnd | None:
    """Return how the attempt at a trigger has ended that was under way when the daemon was killed; None if it has not,
    or its session does not know."""
    if trigger.state != "interrupted":
        return None
    end = await kept_end(session, _key(trigger))
    return end if end is None or answer is None or end.stop_reason != "answer" else _plain(end)


def _key(trigger: Trigger) -> str:
    return f"{trigger.id}/{trigger.attempts}"


def _plain(end: RunEnd) -> RunEnd:
    return attrs.evolve(end, text=json.dumps(json.loads(end.text), ensure_ascii=False))
