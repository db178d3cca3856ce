"""From a model's name to a `Model`: which library and which API serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from agentd.errors import ConfigError, MissingPluginError
from agentd.models.usage import Prices

if TYPE_CHECKING:
    from agentd.protocols import Model

__all__ = ["PROVIDERS", "needs_litellm", "open_model", "require_litellm"]

PROVIDERS = frozenset(
    [
        "anthropic",
        "azure",
        "azure_ai",
        "bedrock",
        "cerebras",
        "cohere",
        "databricks",
        "deepseek",
        "fireworks_ai",
        "gemini",
        "groq",
        "huggingface",
        "litellm_proxy",
        "mistral",
        "ollama",
        "ollama_chat",
        "openrouter",
        "perplexity",
        "replicate",
        "sagemaker",
        "together_ai",
        "vertex_ai",
        "watsonx",
        "xai",
    ]
)
"""Provider prefixes (`anthropic/claude-...`) that LiteLLM serves. `openai/` is dropped, the client serves
the rest."""


def needs_litellm(name: str, base_url: str | None) -> bool:
    """Tell whether LiteLLM serves this name: it carries a provider's prefix, or is a bare claude or gemini
    name for OpenAI's own address (None). On any other address the server there knows its names."""
    prefix, slash, _ = name.partition("/")
    own_address = base_url is None or "//api.openai.com" in base_url
    if slash:
        return prefix in PROVIDERS and own_address
    return own_address and name.startswith(("claude-", "gemini-"))


def require_litellm(name: str) -> None:
    """Raise `MissingPluginError`, which names the extra, unless LiteLLM is there to serve the model `name`.

    It is only looked for: importing it takes seconds, which the first request spends in a thread.
    """
    from importlib import util

    if util.find_spec("litellm") is None:
        raise MissingPluginError(name, "agentd-core[litellm]")


def open_model(
    name: str,
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    client: Any = None,
    api: Literal["chat", "responses"] = "chat",
    options: Mapping[str, Any] | None = None,
    prices: Prices | None = None,
) -> Model:
    """Return a conversation with the model `name`, over the `openai` SDK or through LiteLLM, as
    `needs_litellm` says.

    :param base_url: the address of an OpenAI-compatible server; default `OPENAI_BASE_URL`, then OpenAI.
    :param api_key: default `OPENAI_API_KEY`. A server of your own may not need one: then give any text.
        For LiteLLM the key of the model's provider; default that provider's own variable.
    :param client: an `OpenAI` or `AsyncOpenAI` to use; without it an `AsyncOpenAI` is made for this
        conversation with the first request, and closed with the session.
    :param api: which of the two APIs to speak.
    :param options: further arguments of every request.

    Raises `ConfigError`, and `MissingPluginError` that names the extra if `openai` or LiteLLM is missing.
    """
    import os

    if api not in ("chat", "responses"):
        raise ConfigError(f"api: must be 'chat' or 'responses', got {api!r}")
    address = str(client.base_url) if client is not None else base_url or os.environ.get("OPENAI_BASE_URL")
    if needs_litellm(name, address):
        return _through_litellm(name, api_key=api_key, api=api, options=options, prices=prices)
    from agentd.models.owned import owned_model

    name = name.removeprefix("openai/")
    return owned_model(
        name, base_url=base_url, api_key=api_key, client=client, api=api, options=options, prices=prices
    )


def _through_litellm(
    name: str, *, api_key: str | None, api: str, options: Mapping[str, Any] | None, prices: Prices | None
) -> Model:
    require_litellm(name)
    from agentd.models.chat import ChatModel
    from agentd.models.litellm import create_chat, create_response
    from agentd.models.owned import STATELESS
    from agentd.models.responses import ResponsesModel

    given = {**({"api_key": api_key} if api_key else {}), **(options or {})}
    if api == "responses":
        return ResponsesModel(name, create=create_response, options={**STATELESS, **given}, prices=prices)
    return ChatModel(name, create=create_chat, options=given, prices=prices)
