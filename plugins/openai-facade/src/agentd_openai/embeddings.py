"""Embeddings of a patched client: those of other providers come through LiteLLM."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from agentd._concurrency.pool import call_in_thread
from agentd_model_openai.failure import is_programming_error, refused
from agentd_model_openai.retry import Repeatable, Retries, client_count, repeated, repeated_sync, retries_for
from agentd_model_openai.routing import needs_litellm, require_litellm

from agentd_openai.raw import is_raw
from agentd_openai.record import both
from agentd_openai.state import Holder

__all__ = ["async_embed", "sync_embed"]


def sync_embed(original: Callable[..., Any], base_url: str, holder: Holder) -> Callable[..., Any]:
    """Return a method like `client.embeddings.create`; `original` serves what LiteLLM need not."""

    @wraps(original)
    def create(*args: Any, **kwargs: Any) -> Any:
        serve = _foreign(args, kwargs, base_url, holder)
        if serve is None:
            return original(*args, **kwargs)
        ask, retries = _prepared(serve, original, kwargs)
        try:
            return repeated_sync(ask, retries, kwargs["model"])
        except Exception as exc:
            raise _told(kwargs["model"], exc) from exc

    return create


def async_embed(original: Callable[..., Any], base_url: str, holder: Holder) -> Callable[..., Any]:
    """The same for `AsyncOpenAI`; LiteLLM works in a thread."""

    @wraps(original)
    async def create(*args: Any, **kwargs: Any) -> Any:
        serve = _foreign(args, kwargs, base_url, holder)
        if serve is None:
            return await original(*args, **kwargs)
        ask, retries = _prepared(serve, original, kwargs)
        in_thread = partial(call_in_thread, ask, abandon=True, unbounded=True)
        try:
            return await repeated(in_thread, retries, kwargs["model"])
        except Exception as exc:
            raise _told(kwargs["model"], exc) from exc

    return create


def _foreign(
    args: tuple[Any, ...], kwargs: dict[str, Any], base_url: str, holder: Holder
) -> Callable[..., Any] | None:
    """Return what serves this call in the client's place; None for the client's own.

    Raises `MissingPluginError` if a provider is needed that is not installed.
    """
    name = kwargs.get("model")
    if args or is_raw(kwargs) or not isinstance(name, str) or not needs_litellm(name, base_url):
        return None
    service = holder.state.resources.registry().serve_client(name, base_url, "embeddings")
    return service.create if service is not None else require_litellm(name)


def _prepared(
    serve: Callable[..., Any], original: Callable[..., Any], kwargs: dict[str, Any]
) -> tuple[Callable[[], Any], Retries]:
    ask = Repeatable(serve, Retries(count=client_count(original)))
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
