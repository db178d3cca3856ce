"""The policy: how long a conversation may be, and what becomes of its older part."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Literal, get_args

import attrs
from agentd.errors import ConfigError
from agentd.protocols import Model
from agentd.turn.transcript import Transcript

from agentd_history.bounding import bound, tokens, without_long_results
from agentd_history.memory import ConversationMemory, remembered
from agentd_history.model import RememberingModel, ask_apart

__all__ = ["History", "Rule"]

Rule = Literal["keep", "shorten", "drop", "summarise"]


def _check(history: History, attribute: object, value: object) -> None:
    name = getattr(attribute, "name", "")
    least = 1 if name == "max_tokens" else 0
    if type(value) is not int or value < least:
        raise ConfigError(f"History.{name}: must be a whole number from {least} on, got {value!r}")


def _check_rule(history: History, attribute: object, value: object) -> None:
    if value not in get_args(Rule):
        known = ", ".join(map(repr, get_args(Rule)))
        raise ConfigError(f"History.rule: must be one of {known}, got {value!r}")


@attrs.frozen(kw_only=True)
class History:
    """How a conversation is kept from growing without end. When it is longer than `max_tokens`, it is cut to half of
    that, between two turns: the results of old turns first, then old tasks with all that belongs to them.

    :param rule: `keep` leaves everything, `shorten` leaves of old results their head and tail, `drop` forgets old tasks
        after that, `summarise` has a model sum them up.
    :param max_tokens: of the conversation without the system prompt, by estimate: 4 characters a token.
    :param keep_turns: so many of the newest tasks stay, and the results of so many of the newest turns stay whole,
        whatever they cost. In a session, the newest task and turn always do.
    :param open_summariser: makes the model that writes summaries; None for one like the session's own.
    :raises ConfigError: for a rule that there is not, and numbers that are none.
    """

    rule: Rule = attrs.field(default="drop", validator=_check_rule)
    max_tokens: int = attrs.field(default=100_000, validator=_check)
    keep_turns: int = attrs.field(default=2, validator=_check)
    open_summariser: Callable[[], Model] | None = None

    async def shorter(
        self,
        transcript: Transcript,
        *,
        summarise: Callable[[str], Awaitable[str]] | None = None,
        max_tokens: int | None = None,
    ) -> Transcript | None:
        """Return a shorter transcript if this one is too long and the rule allows to cut it, else None.

        :param summarise: given instruction and material, returns the summary; without it, what goes is dropped.
        :param max_tokens: another limit than the policy's, of a provider that finds the conversation too long.
        """
        limit = self.max_tokens if max_tokens is None else max_tokens
        if self.rule == "keep" or tokens(transcript.messages) <= limit:
            return None
        shortened = without_long_results(transcript, limit // 2, self.keep_turns)
        best = transcript if shortened is None else shortened
        if self.rule != "shorten" and (shortened is None or tokens(best.messages) > limit // 2):
            cut = await bound(
                best,
                rule=self.rule,
                max_tokens=limit,
                keep_turns=self.keep_turns,
                summarise=summarise,
                at_once=True,  # or it would be full again after a turn or two, and each cut voids the cache
            )
            best = best if cut is None else cut
        return None if best is transcript else best

    def over(self, open_model: Callable[[], Model]) -> Model:
        """Return a model that tells one of `open_model` what this policy lets it remember; sessions call it.

        :raises ConfigError: if the model cannot forget (`reset`).
        """
        return RememberingModel(self._at_work(), open_model)

    def memory(
        self,
        *,
        retell: Callable[[Transcript], None],
        open_model: Callable[[], Model],
        summaries: MutableMapping[str, str] | None = None,
    ) -> ConversationMemory:
        """Return what keeps short a conversation that somebody else tells its model; patched clients call it.

        :param retell: has the model forget everything but its system prompt, and tells it this transcript.
        :param open_model: makes a model that writes a summary, unless `open_summariser` does.
        :param summaries: those that were written, by a digest of their material; new ones are added, old ones go.
        """
        kept = {} if summaries is None else summaries
        summarise = remembered(lambda text: ask_apart((self.open_summariser or open_model)(), text), kept)
        return ConversationMemory(self._at_work(), retell=retell, summarise=summarise)

    def _at_work(self) -> History:
        """Return the same for a model at work, which has to be told the newest task."""
        return attrs.evolve(self, keep_turns=max(self.keep_turns, 1))
