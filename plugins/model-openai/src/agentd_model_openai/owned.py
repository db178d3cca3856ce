"""A model with an SDK client of its own, made with the first request and closed with the session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError, MissingPluginError

from agentd_model_openai.chat import ChatModel
from agentd_model_openai.client_model import ClientModel
from agentd_model_openai.prices import Prices
from agentd_model_openai.responses import ResponsesModel
from agentd_model_openai.retry import Repeatable, Retries
from agentd_model_openai.source import Source
from agentd_model_openai.tls import http_settings

__all__ = ["LazyClient", "owned_model"]

OPENAI = "https://api.openai.com/v1"
STATELESS = {"store": False, "include": ["reasoning.encrypted_content"]}
"""The whole conversation is sent each time, so the provider need not keep it; reasoning comes back
encrypted."""


class LazyClient:
    """Makes a client when it is first asked something: importing the SDK takes half a second.

    An `AsyncOpenAI` on asyncio. On trio an `OpenAI`, read in a thread: the SDK's async streams leave
    generators open when they are closed, which only asyncio forgives. What is no stream is asked over an `AsyncOpenAI`
    there, too: cancelling ends it, and it costs no thread. It repeats nothing itself: agentd does
    (`agentd_model_openai.retry`), so that waiting can be cancelled and covers streams too.
    """

    def __init__(self, api: str, *, base_url: str | None, api_key: str | None) -> None:
        self._api = api
        self._settings: dict[str, Any] = {"base_url": base_url, "api_key": api_key, "max_retries": 0}
        self._client: Any = None
        self._whole: Any = None
        self._making = anyio.Lock()

    async def open(self) -> tuple[Callable[..., Any], bool]:
        """Make the client and return its method, and whether that is async."""
        is_async = _on_asyncio()
        # in a thread: it takes long, and other sessions share this event loop
        self._client = client = await call_in_thread(partial(self._make, is_async))
        return self._method(client), is_async

    async def open_whole(self) -> tuple[Callable[..., Any], bool]:
        """Return the method for what is no stream, where that of `open` is not async, and whether it is.

        On another event loop than the session's (MCP servers have one, and it is asyncio's) it is that of `open`.
        """
        if _on_asyncio():
            return self._method(self._client), False
        async with self._making:
            if self._whole is None:
                self._whole = await call_in_thread(partial(self._make, True))
        return self._method(self._whole), True

    def _method(self, client: Any) -> Repeatable:
        target = client.responses if self._api == "responses" else client.chat.completions
        return Repeatable(target.create, Retries())

    def _make(self, is_async: bool) -> Any:
        try:
            import openai
        except ImportError as exc:
            raise MissingPluginError("openai", "agentd-model-openai") from exc
        cls: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
        try:
            client = cls(**self._settings, **http_settings(openai, is_async=is_async))
        except openai.OpenAIError as exc:
            raise ConfigError(f"the openai client could not be made: {exc}") from exc
        _ = client.responses, client.chat.completions  # imports what these need, here and not in the loop
        return client

    async def aclose(self) -> None:
        """Close the client's connections."""
        clients, self._client, self._whole = (self._client, self._whole), None, None
        for client in clients:
            if client is not None and (closing := client.close()) is not None:
                await closing


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _OwnedClient(ClientModel):
    """What such a model has over one with the caller's client."""

    lazy: LazyClient | None = None

    async def prepare(self) -> None:
        """Make the client now, not with the first request. Raises `ConfigError`, `MissingPluginError`."""
        await self._source.open()

    async def aclose(self) -> None:
        if self.lazy is not None:
            await self.lazy.aclose()


class _OwnedChat(_OwnedClient, ChatModel):
    pass


class _OwnedResponses(_OwnedClient, ResponsesModel):
    pass


def owned_model(
    name: str,
    *,
    base_url: str | None,
    api_key: str | None,
    client: Any,
    api: str,
    options: Mapping[str, Any] | None,
    prices: Prices | None,
) -> _OwnedChat | _OwnedResponses:
    """Return the adapter for `api`, with `client` or a lazy one of its own."""
    lazy = None if client is not None else LazyClient(api, base_url=base_url, api_key=api_key)
    source = (
        None
        if lazy is None
        else Source(opener=lazy.open, whole_opener=lazy.open_whole, base_url=base_url or OPENAI)
    )
    model: _OwnedChat | _OwnedResponses
    if api == "responses":
        model = _OwnedResponses(
            name,
            client=client,
            source=source,
            options={**STATELESS, **(options or {})},
            prices=prices,
        )
    else:
        model = _OwnedChat(name, client=client, source=source, options=options, prices=prices)
    model.lazy = lazy
    return model
