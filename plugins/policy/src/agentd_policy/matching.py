"""The rules that may match the calls of one tool, and their plain reading: the first that matches counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import attrs
from agentd_tools.policy import Decision

from agentd_policy.arguments import Match, climbs, read_arguments, texts_in

__all__ = ["ArgumentPattern", "Ask", "CostUsd", "ToolCandidate", "ToolVerdict", "first_match"]

CostUsd = Callable[[str], float | None]
"""Returns what the conversation of an action has cost so far; None if that is not known."""


@attrs.frozen
class Ask:
    """Somebody is to be asked. `told` says which rule wants it; `is_fixed` is as in `Decision`; `rule` is what that
    rule matches, whatever its number: an answer for longer than once holds for it alone."""

    told: str
    is_fixed: bool = False
    rule: str = "default"


@attrs.frozen
class ArgumentPattern:
    """What the texts of an argument (`*`: of all) must be like.

    :ivar like: the patterns.
    :ivar match: tells whether a text is like one of them.
    :ivar has_its_type: tells whether a value has a type that the tool's schema names; None if it names none.
    """

    name: str
    like: tuple[str, ...]
    match: Match
    has_its_type: Callable[[object], bool] | None


@attrs.frozen
class ToolCandidate:
    """A rule that may match the calls of a tool, made ready for them: what it says, and whether that is `allow`."""

    said: Decision | Ask
    cost_over_usd: float | None = None
    patterns: tuple[ArgumentPattern, ...] = ()
    allows: bool = False


ToolVerdict: TypeAlias = Callable[[bytes, str], Decision | Ask]
"""Judges a call of one tool by its arguments and its action."""


def first_match(
    candidates: Sequence[ToolCandidate], default: Decision | Ask, cost_usd: CostUsd
) -> ToolVerdict:
    """Return what says what the first matching rule says. The arguments are read once, if a rule looks at them."""

    def judge(content: bytes, action_id: str) -> Decision | Ask:
        given: dict[str, object] | None = None
        is_read = False
        # By argument: whether its type is right, the texts in it, each with its spellings, and all of these together.
        seen: dict[str, tuple[bool, list[tuple[str, ...]], list[str]]] = {}
        for candidate in candidates:
            if candidate.cost_over_usd is not None:
                cost = cost_usd(action_id)
                if cost is not None and cost <= candidate.cost_over_usd:
                    continue
            if candidate.patterns and not is_read:
                given, is_read = read_arguments(content), True
            for pattern in candidate.patterns:
                name, match, matches = pattern.name, pattern.match, not candidate.allows
                if given is not None:
                    found = seen.get(name)
                    if found is None:
                        value = given if name == "*" else given.get(name)
                        typed = pattern.has_its_type is None or pattern.has_its_type(value)
                        texts = texts_in(value) if typed else []
                        found = seen[name] = typed, texts, [text for spellings in texts for text in spellings]
                    typed, texts, every = found
                    if typed and candidate.allows:
                        matches = bool(texts) and all(
                            any(map(match, spellings)) and not climbs(spellings[0]) for spellings in texts
                        )
                    elif typed:
                        matches = any(map(match, every))
                if not matches:
                    break
            else:
                return candidate.said
        return default

    return judge
