"""Conversations with language models over the `openai` SDK; the SDK itself is imported with the first
request."""

from __future__ import annotations

from agentd_model_openai.chat import ChatModel
from agentd_model_openai.prices import Prices
from agentd_model_openai.responses import ResponsesModel
from agentd_model_openai.routing import open_model

__all__ = ["ChatModel", "Prices", "ResponsesModel", "open_model"]
