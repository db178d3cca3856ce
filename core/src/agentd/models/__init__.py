"""Conversations with language models over the `openai` SDK; the SDK itself is imported with the first
request."""

from __future__ import annotations

from agentd.models.chat import ChatModel
from agentd.models.responses import ResponsesModel
from agentd.models.routing import open_model
from agentd.models.usage import Prices

__all__ = ["ChatModel", "Prices", "ResponsesModel", "open_model"]
