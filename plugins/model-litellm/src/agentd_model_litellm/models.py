"""Conversations with models of other providers, over LiteLLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agentd.protocols import Model
from agentd_model_openai.chat import ChatModel
from agentd_model_openai.owned import STATELESS
from agentd_model_openai.prices import Prices
from agentd_model_openai.responses import ResponsesModel
from agentd_model_openai.retry import Repeatable, Retries

from agentd_model_litellm.litellm import create_chat, create_response

__all__ = ["open_model"]


def open_model(
    name: str,
    *,
    api_key: str | None = None,
    api: Literal["chat", "responses"] = "chat",
    options: Mapping[str, Any] | None = None,
    prices: Prices | None = None,
) -> Model:
    """Return a conversation with the model `name`.

    :param api_key: the key of the model's provider; default that provider's own variable.
    :param options: further arguments of every request, and `max_retries`.
    """
    Retries(count=(options or {}).get("max_retries", 0))  # told here, not with the first request
    given = {**({"api_key": api_key} if api_key else {}), **(options or {})}
    if api == "responses":
        ask = Repeatable(create_response, Retries())
        return ResponsesModel(name, create=ask, options={**STATELESS, **given}, prices=prices)
    return ChatModel(name, create=Repeatable(create_chat, Retries()), options=given, prices=prices)
