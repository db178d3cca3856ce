"""What the conversations over both APIs have in common: options, offered tools, the bill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from agentd.types import Usage

from agentd_model_openai.chat_calls import later_choice
from agentd_model_openai.prices import Prices, find_price
from agentd_model_openai.source import Source
from agentd_model_openai.usage import Bill, Told

__all__ = ["ClientModel"]


class ClientModel(ABC):
    """Base of `ChatModel` and `ResponsesModel`, which say what the parameters are."""

    def __init__(
        self,
        name: str,
        source: Source,
        *,
        options: Mapping[str, Any] | None,
        streamed: bool,
        prices: Prices | None,
    ) -> None:
        self.name = name
        self._source = source
        self._prices = prices
        self._bill = Bill(find_price(name, prices), source)
        self._options = dict(options or {})
        self._streamed = streamed
        self._offered: list[dict[str, Any]] = []
        self._asked_before = False

    @abstractmethod
    def _told(self) -> Told:
        """Return what is sent with each request, for the bill."""

    def hold_to(self, arguments: Mapping[str, Any]) -> None:
        """Send these arguments with every request from now on: the form of the answer, say."""
        self._options |= arguments

    def estimate(self, text: str) -> Usage:
        """Return a guess for an answer whose stream was closed early: 4 characters a token."""
        return self._bill.guess(text, self._told())

    def next_cost_usd(self) -> float | None:
        """Return what the input of the next request will cost; None if the model's price is unknown."""
        return self._bill.next_usd(self._told())

    @property
    def response(self) -> Any:
        """The HTTP response of the first stream, or None."""
        return self._source.response

    def _with_tools(self, request: dict[str, Any]) -> dict[str, Any]:
        """Put what is offered into a request, behind the tools of the options. A `tool_choice` of the options that
        forces a call holds for the first request only: the conversation would never end."""
        if self._offered:
            request["tools"] = [*(self._options.get("tools") or ()), *self._offered]
            if self._asked_before and "tool_choice" in request:
                request["tool_choice"] = later_choice(request["tool_choice"])
        self._asked_before = True
        if self._streamed:
            request["stream"] = True
        return request
