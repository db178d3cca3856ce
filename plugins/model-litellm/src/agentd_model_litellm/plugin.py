"""The model provider `litellm`: the hooks. Nothing heavy: importing LiteLLM takes seconds and waits for the first
request."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agentd.hookspecs import hookimpl
from agentd.protocols import Model, Requirement
from agentd.registry.options import check_options
from agentd_model_openai.plugin import OPTIONS
from agentd_model_openai.routing import needs_litellm

__all__ = ["AGENTD_API", "agentd_list_requirements", "agentd_open_model", "agentd_serve_requests"]

AGENTD_API: Final = 1


@hookimpl
def agentd_open_model(name: str, options: Mapping[str, Any]) -> Model | None:
    """Open a conversation with a model whose name carries a provider's prefix, unless the address is a server's own."""
    base_url = options.get("base_url") or os.environ.get("OPENAI_BASE_URL")
    if not needs_litellm(name, base_url):
        return None
    check_options(f"the model {name!r}", options, OPTIONS)
    from agentd_model_litellm.models import open_model

    return open_model(
        name,
        api_key=options.get("api_key"),
        api=options.get("api", "chat"),
        options=options.get("request"),
        prices=options.get("prices"),
    )


@hookimpl
def agentd_serve_requests(name: str, base_url: str, method: str) -> Callable[..., Any] | None:
    """Serve the same names for a patched client."""
    if not needs_litellm(name, base_url):
        return None
    from agentd_model_litellm import litellm

    return {
        "chat": litellm.create_chat,
        "responses": litellm.create_response,
        "embeddings": litellm.create_embedding,
    }[method]


@hookimpl
def agentd_list_requirements() -> Sequence[Requirement]:
    """Look for the package litellm, without importing it: that takes seconds."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return [Requirement(name="litellm", ok=True, detail=version("litellm"))]
    except PackageNotFoundError:
        return [Requirement(name="litellm", ok=False, remedy="pip install agentd-model-litellm")]
