"""Conversations with language models, and their events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

import attrs

from agentd.types import Usage

__all__ = [
    "EstimatingModel", "Model", "ModelEvent", "ModelFinish", "ModelText", "ModelToolCall",
    "OwnedModel", "PartsModel", "PreparingModel", "PricedModel", "ResettableModel", "SchemaModel", "ToolOffer",
    "ToolResult",
]  # fmt: skip


@attrs.frozen
class ModelText:
    """A piece of the answer's text. `raw` is the provider library's own event, for a facade; `reasoning` is a piece of
    what the model thinks, where the provider keeps that apart from the text: it is shown, and never part of it."""

    text: str
    raw: object = None
    reasoning: str = ""


@attrs.frozen(kw_only=True)
class ModelFinish:
    """The answer ended with its finish marker. `reason` as the provider names it (`stop`, `length`, ...), `detail` what
    else it says about that (a refusal, say). `other` if the answer has something that is no text (a picture, say)."""

    reason: str
    detail: str = ""
    other: bool = False
    usage: Usage = attrs.field(factory=Usage)
    raw: object = None


@attrs.frozen(kw_only=True)
class ModelToolCall:
    """The model calls a tool natively; given once the call is complete.

    `id` is what the result must name, `arguments` JSON text as the model wrote it, unchecked. `name` is empty
    for a call of a kind that has none (the provider's own computer tool, say). `raw` is the call in the
    provider's form, for `add_answer`.
    """

    id: str
    name: str
    arguments: str = ""
    raw: object = None


@attrs.frozen(kw_only=True)
class ToolOffer:
    """A tool as the model is told of it: `name` in the letters that every provider takes (`[a-zA-Z0-9_-]{1,64}`),
    `parameters` a JSON Schema object, `strict` if it is one that the provider can hold the model to."""

    name: str
    description: str = ""
    parameters: dict[str, object] = attrs.field(factory=dict)
    strict: bool = False


@attrs.frozen(kw_only=True)
class ToolResult:
    """What the model reads about one of its calls."""

    call_id: str
    output: str


ModelEvent = ModelText | ModelToolCall | ModelFinish


class Model(Protocol):
    """One conversation with a language model, in the provider's own message format.

    A session calls `start` once with the system prompt and `add_task` with each task. The loop calls `stream()`
    for the next answer, then `add_answer` with the text of it that counts (what followed the blocks is cut
    off) and the tool calls that count, then `add_results` with what the blocks gave, or `add_tool_results` with
    what the calls gave, and so on. What was sent before is never changed, so that a provider's prompt cache
    hits. A model that is only to write blocks needs neither `offer` nor `add_tool_results`. It may have more: see
    `PartsModel`, `ResettableModel`, `EstimatingModel`, `PricedModel`, `PreparingModel` and `OwnedModel`.
    """

    name: str

    def start(self, instructions: str) -> None: ...

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Say which tools the model may call natively, from the next request on, in every request."""

    def add_task(self, text: str) -> None: ...

    def stream(self) -> AbstractAsyncContextManager[AsyncIterator[ModelEvent]]:
        """Ask for the next answer. Leaving the context early closes the connection.

        Raises `ModelError` when the provider refuses and `ModelStreamError` when the stream ends
        without its finish marker.
        """

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None: ...

    def add_results(self, text: str) -> None: ...

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls of the last answer gave, in their order."""


@runtime_checkable
class PartsModel(Protocol):
    """What a model also has if a task may be more than text."""

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        """Append what the person says: `text`, `image_url` and `file` parts in the form of chat completions."""


@runtime_checkable
class SchemaModel(Protocol):
    """What a model also has if the provider can hold its answers to JSON."""

    def hold_to_schema(self, schema: Mapping[str, Any] | None) -> None:
        """Hold the next answers to a JSON Schema (`{}`: to any JSON object); None ends that."""


@runtime_checkable
class ResettableModel(Protocol):
    """What a model also has if sessions that use it can go back to a checkpoint."""

    def reset(self) -> None:
        """Forget everything that it was told."""


@runtime_checkable
class EstimatingModel(Protocol):
    """What a model also has if it can tell what an answer cost whose stream was closed early."""

    def estimate(self, text: str) -> Usage:
        """Return the usage of the last request, for the text that has arrived."""


@runtime_checkable
class PricedModel(Protocol):
    """What a model also has if it knows its price, which `Budgets.max_cost_usd` needs. Its usages have `cost_usd`."""

    def next_cost_usd(self) -> float | None:
        """Return what the input of the next request will cost, by estimate; None if the price is unknown."""


@runtime_checkable
class PreparingModel(Protocol):
    """What a model also has if something can be done before the first request."""

    async def prepare(self) -> None:
        """Make the client now, say. Raises `ConfigError` and `MissingPluginError`."""


@runtime_checkable
class OwnedModel(Protocol):
    """What a model also has if it holds something of its own, closed with the session that opened the model."""

    async def aclose(self) -> None: ...
