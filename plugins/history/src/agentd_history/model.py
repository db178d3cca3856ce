"""A model that is told only what a policy lets it remember. The session's transcript keeps the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from agentd.errors import ConfigError, ModelError
from agentd.protocols import (
    EstimatingModel,
    Model,
    ModelEvent,
    ModelFinish,
    ModelText,
    OwnedModel,
    PricedModel,
    ResettableModel,
)
from agentd.turn.spending import Spending, around
from agentd.turn.transcript import Message, Transcript
from agentd.types import Usage

from agentd_history.memory import ConversationMemory, Shortening
from agentd_history.recording import RecordingModel

__all__ = ["RememberingModel", "ask_apart"]


async def ask_apart(model: Model, text: str) -> str:
    """Ask a new model something in a conversation of its own, close it, and return the answer. What it costs counts
    for the run around.

    :raises ModelError: if it does not answer, or if that would cost more than is left of the run's money.
    """
    said: list[str] = []
    spending, asked, usage = around.get(), False, Usage()
    try:
        model.add_task(text)
        _check_cost(model, spending)
        async with model.stream() as events:
            asked = True
            async for event in events:
                if isinstance(event, ModelText):
                    said.append(event.text)
                elif isinstance(event, ModelFinish):
                    usage = event.usage
        return "".join(said)
    finally:
        if spending is not None and asked:  # what has broken off is on the bill, too
            spending.add(usage if usage.total_tokens else _guessed(model, "".join(said)))
        if isinstance(model, OwnedModel):
            await model.aclose()


def _check_cost(model: Model, spending: Spending | None) -> None:
    left = None if spending is None else spending.left_usd()
    if left is None:
        return
    cost = model.next_cost_usd() if isinstance(model, PricedModel) else None
    if cost is None or cost > left:
        price = "has no known price" if cost is None else "would cost more than that"
        raise ModelError(f"${left:.4f} are left of max_cost_usd, and a request to {model.name!r} {price}")


def _guessed(model: Model, text: str) -> Usage:
    """Return the usage of a request that the provider says nothing of."""
    if isinstance(model, EstimatingModel):
        return model.estimate(text)
    return Usage(output_tokens=len(text) // 4, requests=1)


class RememberingModel(RecordingModel):
    """Passes everything on to a model. Before a request that would be too long, that model forgets, and is told the
    shorter conversation; what was sent before is never changed between two such cuts.

    :param open_model: makes the model; called again for one that writes summaries.
    """

    def __init__(self, history: Shortening, open_model: Callable[[], Model]) -> None:
        inner = open_model()
        if not isinstance(inner, ResettableModel):
            raise ConfigError(f"history: the model {inner.name!r} cannot forget: it has no reset()")
        super().__init__(inner)
        self._history, self._open = history, open_model
        self._memory = ConversationMemory(history, retell=self._retell, summarise=self._summarise)

    def _note(self, message: Message) -> None:
        super()._note(message)
        self._memory.note(message)

    def reset(self) -> None:
        """Forget what was said, the system prompt too."""
        super().reset()
        self._memory.forget()

    # --- the requests ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; see `agentd.protocols.Model`. A provider that finds the conversation too long is
        asked once more, with a shorter one."""
        async with self._memory.stream(self._inner) as events:
            yield events

    def _retell(self, shorter: Transcript) -> None:
        self.tell_again(Transcript(messages=list(shorter.messages)))

    async def _summarise(self, text: str) -> str:
        model = (self._history.open_summariser or self._open)()
        if model is self._inner:
            raise ConfigError(
                "history: a model that was given as an object writes no summaries: open_summariser"
            )
        return await ask_apart(model, text)
