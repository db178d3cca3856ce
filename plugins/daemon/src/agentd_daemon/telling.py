"""What an agent is told when it wakes."""

from __future__ import annotations

import difflib

from agentd.turn.transcript import cut_middle

from agentd_daemon.config.values import SubscriptionConfig
from agentd_daemon.journal import Trigger

__all__ = ["mark_of", "task_of"]

MAX_DIFF_LINES = 20_000
"""Of both contents together, beyond which no difference is made: it takes time with the square."""


def mark_of(trigger: Trigger) -> str:
    """Return what the task of a change has in its text, and no other."""
    return f"[task {trigger.id}]"


def task_of(
    trigger: Trigger, config: SubscriptionConfig | None, max_chars: int, *, goes_on: bool = False
) -> str:
    """Return the task for the model: a person's message, or what has changed.

    :param config: the subscription, if it is still in the configuration.
    :param max_chars: how long a content may be; the middle of a longer one is cut.
    :param goes_on: the conversation breaks off in the middle of this task, so the content is known.
    """
    parts = [_repeat(trigger)] if trigger.attempts > 1 else []
    if not trigger.uri:
        return "\n\n".join([*parts, trigger.task])
    if goes_on:
        return "\n\n".join(
            [*parts, f"Go on where it broke off; what has changed stands above. {mark_of(trigger)}"]
        )
    parts.append(_headline(trigger))
    if trigger.task:
        parts.append(trigger.task)
    if config is not None and config.diff and trigger.previous:
        parts.append(_block("difference", difference(trigger.previous, trigger.content), max_chars))
    parts.append(_block("content", trigger.content, max_chars))
    return "\n\n".join(parts)


def _repeat(trigger: Trigger) -> str:
    return (
        f"[This is attempt {trigger.attempts} at the task {trigger.id}: an earlier one was interrupted or failed, and "
        "may have done a part of it. Look before you do something twice.]"
    )


def _headline(trigger: Trigger) -> str:
    more = f" {trigger.coalesced + 1} times since you were told last; this is the newest state" * bool(
        trigger.coalesced
    )
    return f"The resource {trigger.uri} has changed{more}. {mark_of(trigger)}"


def _block(tag: str, text: str, max_chars: int) -> str:
    return f"<{tag}>\n{cut_middle(text, max_chars)}\n</{tag}>"


def difference(before: str, after: str) -> str:
    """Return a unified diff of two contents."""
    old, new = before.splitlines(), after.splitlines()
    if len(old) + len(new) > MAX_DIFF_LINES:
        return f"(not made: {len(old)} and {len(new)} lines)"
    return "\n".join(difflib.unified_diff(old, new, "before", "now", lineterm="", n=2))
