"""From a model's name to a `Model`: which library and which API serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from agentd.errors import ConfigError, MissingPluginError

from agentd_model_openai.addresses import is_openais
from agentd_model_openai.prices import Prices
from agentd_model_openai.retry import Retries

if TYPE_CHECKING:
    from agentd.protocols import Model

__all__ = ["PROVIDERS", "client_settings", "is_openais", "needs_litellm", "open_model", "require_litellm"]

PROVIDERS = frozenset(
    """
    ai21 ai21_chat aiml amazon_nova anthropic anthropic_text azure azure_ai azure_text baseten bedrock
    cerebras clarifai cloudflare codestral cohere cohere_chat dashscope databricks deepinfra deepseek
    docker_model_runner featherless_ai fireworks_ai friendliai gemini gigachat github github_copilot
    gradient_ai groq heroku hosted_vllm huggingface hyperbolic jina_ai lambda_ai litellm_proxy llamafile
    lm_studio meta_llama minimax mistral moonshot morph nebius novita nscale nvidia_nim oci ollama
    ollama_chat openai_like openrouter ovhcloud perplexity predibase replicate sagemaker sagemaker_chat
    sambanova snowflake together_ai triton v0 vercel_ai_gateway vertex_ai vertex_ai_beta volcengine voyage
    wandb watsonx watsonx_text xai xinference zai
    """.split()  # noqa: SIM905 - or it is a line for each
)
"""Provider prefixes (`anthropic/claude-...`) that LiteLLM serves. `openai/` is dropped, the client serves
the rest."""


def needs_litellm(name: str, base_url: str | None) -> bool:
    """Tell whether LiteLLM serves this name: it carries a provider's prefix, or is a bare claude or gemini
    name for OpenAI's own address (None). On any other address the server there knows its names."""
    prefix, slash, _ = name.partition("/")
    own_address = base_url is None or is_openais(base_url)
    if slash:
        return prefix in PROVIDERS and own_address
    return own_address and name.startswith(("claude-", "gemini-"))


def require_litellm(name: str) -> NoReturn:
    """Raise `MissingPluginError`, which names the distribution that serves the model `name`."""
    raise MissingPluginError(name, "agentd-model-litellm")


def client_settings(name: str, *, base_url: str | None, api_key: str | None, api: str) -> dict[str, Any]:
    """Return what `Session` is told about a model that a command or a configuration names.

    What is not given comes from `OPENAI_BASE_URL` and `OPENAI_API_KEY`.

    :raises ConfigError: if OpenAI itself is to be asked and there is no key.
    """
    import os

    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    if needs_litellm(name, base_url):  # LiteLLM finds the key of that provider itself
        return {"model": name, "base_url": base_url, "api_key": api_key, "api": api}
    api_key = api_key or os.environ.get("OPENAI_API_KEY")
    if not api_key and not base_url:
        raise ConfigError(
            "no API key: set OPENAI_API_KEY, or name a server of your own (--base-url URL, `base_url`); "
            "`agentd demo` works without one"
        )
    # A server of one's own mostly wants no key, but the client insists on one.
    return {"model": name, "base_url": base_url, "api_key": api_key or "none", "api": api}


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
    """Return a conversation with the model `name` over the `openai` SDK.

    :param base_url: the address of an OpenAI-compatible server; default `OPENAI_BASE_URL`, then OpenAI.
    :param api_key: default `OPENAI_API_KEY`. A server of your own may not need one: then give any text.
    :param client: an `OpenAI` or `AsyncOpenAI` to use; without it an `AsyncOpenAI` is made for this
        conversation with the first request, and closed with the session.
    :param api: which of the two APIs to speak.
    :param options: further arguments of every request. `max_retries` says how often a failed request is
        repeated (default 2; a `client` of yours has its own); see `agentd_model_openai.retry`.

    Raises `ConfigError`, and `MissingPluginError` if `openai` is missing.
    """
    if api not in ("chat", "responses"):
        raise ConfigError(f"api: must be 'chat' or 'responses', got {api!r}")
    Retries(count=(options or {}).get("max_retries", 0))  # told here, not with the first request
    from agentd_model_openai.owned import owned_model

    name = name.removeprefix("openai/")
    return owned_model(
        name, base_url=base_url, api_key=api_key, client=client, api=api, options=options, prices=prices
    )
