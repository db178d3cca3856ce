"""A call's model over another one: passes on what it does not change, and keeps the whole conversation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from agentd.protocols import ModelToolCall, ToolOffer, ToolResult
from agentd.types import Usage

from agentd_openai.provided import ProvidedModel

__all__ = ["WrappingModel"]

Inner = TypeVar("Inner", bound=Any)


class WrappingModel(Generic[Inner]):
    """Base of what stands between a call and the model that asks the provider.

    :param inner: has been told the caller's conversation.
    :param api: `responses` or `chat`: what its items are like.
    """

    def __init__(self, inner: Inner, api: str) -> None:
        self.name = inner.name
        self._inner = inner
        self._member = "input" if api == "responses" else "messages"
        self._all: list[Any] = []

    @property
    def _sent(self) -> list[Any]:
        found: list[Any] = getattr(self._inner, self._member)
        return found

    @property
    def messages(self) -> list[Any]:
        """The whole conversation as chat completions have it, whatever of it the model is told."""
        return self._all

    @property
    def input(self) -> list[Any]:
        """The whole conversation as the responses API has it, whatever of it the model is told."""
        return self._all

    # --- the conversation ------------------------------------------------------------------------------

    def _added(self, told: int, role: str = "") -> None:
        """Note what was told since the model knew so many items. A user's message has this role."""
        self._all += self._sent[told:]

    def start(self, instructions: str) -> None:
        """The instructions stand in the caller's conversation: see `PatchedCall`."""
        raise AssertionError("a patched client tells the instructions with the conversation")

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Offer these tools from now on."""
        self._inner.offer(tools)

    def hold_to(self, arguments: Mapping[str, Any]) -> None:
        """Send these arguments with every request from now on."""
        self._inner.hold_to(arguments)

    def add_task(self, text: str) -> None:
        """Append what the person says."""
        told = len(self._sent)
        self._inner.add_task(text)
        self._added(told, "task")

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        """Append what the model said."""
        told = len(self._sent)
        self._inner.add_answer(text, calls)
        self._added(told)

    def add_results(self, text: str) -> None:
        """Append what the blocks gave."""
        told = len(self._sent)
        self._inner.add_results(text)
        self._added(told, "results")

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave."""
        told = len(self._sent)
        self._inner.add_tool_results(results)
        self._added(told)

    # --- what else the model has -------------------------------------------------------------------------

    @property
    def response(self) -> Any:
        """The HTTP response of the first stream, or None."""
        return self._inner.response

    @property
    def apart(self) -> Any:
        """What opens another conversation over the same client, if the model has that; see agentd-subagents."""
        return getattr(self._inner, "apart", None)

    def estimate(self, text: str) -> Usage:
        """Return the model's guess."""
        usage: Usage = self._inner.estimate(text)
        return usage

    def next_cost_usd(self) -> float | None:
        """Return what the model says, if it knows its price."""
        cost: float | None = self._inner.next_cost_usd()
        return cost

    async def aclose(self) -> None:
        """Close what a provider's model holds. Those over the client belong to the caller and hold nothing."""
        if isinstance(self._inner, ProvidedModel | WrappingModel):
            await self._inner.aclose()
