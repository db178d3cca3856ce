"""Embeddings of a patched client: those of other providers come through LiteLLM."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from agentd.models.routing import needs_litellm, require_litellm
from agentd.patch.client import is_raw

__all__ = ["async_embed", "sync_embed"]


def sync_embed(original: Callable[..., Any], base_url: str) -> Callable[..., Any]:
    """Return a method like `client.embeddings.create`; `original` serves what LiteLLM need not."""

    @wraps(original)
    def create(*args: Any, **kwargs: Any) -> Any:
        if not _is_foreign(args, kwargs, base_url):
            return original(*args, **kwargs)
        from agentd.models.litellm import create_embedding

        return create_embedding(**_given(kwargs))

    return create


def async_embed(original: Callable[..., Any], base_url: str) -> Callable[..., Any]:
    """The same for `AsyncOpenAI`; LiteLLM works in a thread."""

    @wraps(original)
    async def create(*args: Any, **kwargs: Any) -> Any:
        if not _is_foreign(args, kwargs, base_url):
            return await original(*args, **kwargs)
        from agentd.models.litellm import create_embedding
        from agentd.threads import Worker

        arguments = _given(kwargs)
        return await Worker().run(lambda: create_embedding(**arguments))

    return create


def _is_foreign(args: tuple[Any, ...], kwargs: dict[str, Any], base_url: str) -> bool:
    """Tell whether LiteLLM serves this call. Raises `MissingPluginError` if it does and is not there."""
    name = kwargs.get("model")
    if args or is_raw(kwargs) or not isinstance(name, str) or not needs_litellm(name, base_url):
        return False
    require_litellm(name)
    return True


def _given(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if type(v).__name__ not in ("NotGiven", "Omit")}
