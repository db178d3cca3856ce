"""Embeddings of a patched client: those of other providers come through LiteLLM."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from agentd.models.failure import is_programming_error, refused
from agentd.models.retry import Repeatable, Retries, client_count, repeated, repeated_sync, retries_for
from agentd.models.routing import needs_litellm, require_litellm
from agentd.patch.raw import is_raw
from agentd.patch.record import both

__all__ = ["async_embed", "sync_embed"]


def sync_embed(original: Callable[..., Any], base_url: str) -> Callable[..., Any]:
    """Return a method like `client.embeddings.create`; `original` serves what LiteLLM need not."""

    @wraps(original)
    def create(*args: Any, **kwargs: Any) -> Any:
        if not _is_foreign(args, kwargs, base_url):
            return original(*args, **kwargs)
        ask, retries = _prepared(original, kwargs)
        try:
            return repeated_sync(ask, retries, kwargs["model"])
        except Exception as exc:
            raise _told(kwargs["model"], exc) from exc

    return create


def async_embed(original: Callable[..., Any], base_url: str) -> Callable[..., Any]:
    """The same for `AsyncOpenAI`; LiteLLM works in a thread."""

    @wraps(original)
    async def create(*args: Any, **kwargs: Any) -> Any:
        if not _is_foreign(args, kwargs, base_url):
            return await original(*args, **kwargs)
        from agentd.threads import Worker

        ask, retries = _prepared(original, kwargs)
        worker = Worker()
        try:
            return await repeated(lambda: worker.run(ask), retries, kwargs["model"])
        except Exception as exc:
            raise _told(kwargs["model"], exc) from exc

    return create


def _is_foreign(args: tuple[Any, ...], kwargs: dict[str, Any], base_url: str) -> bool:
    """Tell whether LiteLLM serves this call. Raises `MissingPluginError` if it does and is not there."""
    name = kwargs.get("model")
    if args or is_raw(kwargs) or not isinstance(name, str) or not needs_litellm(name, base_url):
        return False
    require_litellm(name)
    return True


def _prepared(original: Callable[..., Any], kwargs: dict[str, Any]) -> tuple[Callable[[], Any], Retries]:
    from agentd.models.litellm import create_embedding

    ask = Repeatable(create_embedding, Retries(count=client_count(original)))
    arguments = _given(kwargs)
    return partial(ask, **arguments), retries_for(ask, arguments)


def _told(model: str, exc: Exception) -> Exception:
    """Return the error as agentd's and the SDK's at once."""
    if is_programming_error(exc):
        return exc
    error = refused(model, exc)
    error.__cause__ = exc
    return both(error)


def _given(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in kwargs.items() if type(v).__name__ not in ("NotGiven", "Omit")}
