"""Triggers of a configuration that cannot be at work side by side, such as two webhooks at one port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentd.registry import Registry

    from agentd_daemon.config.loading import Examination, Origin
    from agentd_daemon.config.problems import Problem
    from agentd_daemon.config.values import AgentConfig
    from agentd_daemon.triggers import ExclusiveTrigger

__all__ = ["clashing_triggers"]


def clashing_triggers(found: Examination, registry: Registry) -> Iterator[Problem]:
    """Yield a problem for each trigger that clashes with one before it, of the same agent or another. Starts nothing.

    What a plugin says against a trigger alone is not told here.
    """
    known: dict[str, list[tuple[ExclusiveTrigger, AgentConfig, int, Origin]]] = {}
    for agent, origin in zip(found.agents, found.origins, strict=True):
        for index, trigger in enumerate(agent.triggers):
            made = _made(registry, trigger.kind, trigger.options)
            if made is None:
                continue
            others = known.setdefault(trigger.kind, [])
            for other, whose, where, its in others:
                if text := _clash(trigger.kind, made, other):
                    yield _problem(text, (agent, index, origin), (whose, where, its))
                    break
            else:
                others.append((made, agent, index, origin))


def _made(registry: Registry, kind: str, options: dict[str, object]) -> ExclusiveTrigger | None:
    from agentd.errors import AgentdError

    from agentd_daemon.triggers import ExclusiveTrigger

    try:
        made = registry.create_trigger(kind, options)
    except AgentdError:
        return None
    return made if isinstance(made, ExclusiveTrigger) else None


def _clash(kind: str, one: ExclusiveTrigger, other: ExclusiveTrigger) -> str:
    try:
        return one.clash(other)
    # A plugin's boundary; what it says may hold values of options, which may be secrets.
    except Exception as error:
        return f"`clash` of the trigger {kind!r} failed with {type(error).__name__}: a defect of the plugin"


def _problem(
    text: str, this: tuple[AgentConfig, int, Origin], other: tuple[AgentConfig, int, Origin]
) -> Problem:
    import re

    from agentd_daemon.config.checks import Finding

    option = re.match(r"option '([^']+)'", text)
    (agent, index, origin), (whose, where, its) = this, other
    below = ("options", option[1]) if option and option[1] in agent.triggers[index].options else ()
    position = its.problem(Finding(("triggers", where, *below), "")).position
    first = f"{whose.triggers[where].called!r} of the agent {whose.name!r}" + (
        f" ({position})" if position else ""
    )
    return origin.problem(Finding(("triggers", index, *below), f"{text}; the other one is {first}"))
