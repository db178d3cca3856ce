"""What servers may ask of the client: questions to the person (elicitation), a model (sampling), directories.

Elicitation: `answer(request)` gets `{"server", "mode": "form", "message", "schema"}` or
`{"server", "mode": "url", "message", "url", "id"}`. It returns the content as a dict (accepted), True
(accepted, without content: for a URL), or None or False (declined). If it raises, the server is told that it
was cancelled.

Sampling: `complete(request)` gets the request's fields as MCP names them (`messages`, `systemPrompt`,
`maxTokens`, ...) and `server`. It returns the model's text as `str`, or a dict with the fields of MCP's
CreateMessageResult (`role`, `content`, `model`, ...) and `usage`, what it has cost: see `agentd_mcp_bridge.sampling`.

Both may be plain functions (run in a thread) or async ones (run in the loop of the MCP connections).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import mcp_types as types
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ToolDeniedError

from agentd_mcp_bridge.config import Callback, ServerConfig

__all__ = [
    "call_function",
    "client_callbacks",
    "elicitation_callback",
    "is_async",
    "roots_callback",
    "sampling_callback",
]

Log = Callable[[str, str], None]


def client_callbacks(config: ServerConfig, log: Log) -> dict[str, Any]:
    """Return what the SDK's client takes, for what a server's configuration answers."""
    callbacks: dict[str, Any] = {}
    if config.elicitation is not None:
        callbacks["elicitation_callback"] = elicitation_callback(config.name, config.elicitation, log)
    if config.sampling is not None:
        callbacks["sampling_callback"] = sampling_callback(config.name, config.sampling, log)
    if config.roots is not None:
        callbacks["list_roots_callback"] = roots_callback(config.roots)
    return callbacks


def elicitation_callback(server: str, answer: Callback, log: Log) -> Any:
    """Return what the SDK's client takes as `elicitation_callback`."""

    async def elicit(_: Any, params: Any) -> types.ElicitResult:
        request = {"server": server, "message": params.message}
        if isinstance(params, types.ElicitRequestURLParams):
            request |= {"mode": "url", "url": params.url, "id": params.elicitation_id}
        else:
            request |= {"mode": "form", "schema": params.requested_schema}
        try:
            content = await call_function(answer, request)
        except Exception as error:  # the user's function: the server hears of a cancellation, the log why
            log("error", f"the elicitation callback raised {type(error).__name__}: {error}")
            return types.ElicitResult(action="cancel")
        if content is None or content is False:
            return types.ElicitResult(action="decline")
        if content is True:
            return types.ElicitResult(action="accept", content={} if request["mode"] == "form" else None)
        if not isinstance(content, dict):
            log("error", f"the elicitation callback must return a dict, True or None, got {content!r}")
            return types.ElicitResult(action="cancel")
        return types.ElicitResult(action="accept", content=content)

    return elicit


def sampling_callback(server: str, complete: Callback, log: Log) -> Any:
    """Return what the SDK's client takes as `sampling_callback`."""

    async def sample(_: Any, params: Any) -> types.CreateMessageResult | types.ErrorData:
        request = params.model_dump(by_alias=True, mode="json", exclude_none=True)
        request.pop("_meta", None)
        try:
            answer = await call_function(complete, {"server": server, **request})
            if isinstance(answer, str):
                answer = {"role": "assistant", "model": "", "content": {"type": "text", "text": answer}}
            return types.CreateMessageResult.model_validate(answer)
        except ToolDeniedError as error:  # as MCP has it for a person who does not want it
            return types.ErrorData(code=-1, message=str(error))
        except Exception as error:  # the user's function, or what it returned
            log("error", f"the sampling callback failed: {type(error).__name__}: {error}")
            return types.ErrorData(code=types.INTERNAL_ERROR, message="sampling failed on the client's side")

    return sample


def roots_callback(roots: Sequence[str]) -> Any:
    """Return what the SDK's client takes as `list_roots_callback`."""

    async def list_roots(_: Any) -> types.ListRootsResult:
        paths = [Path(root).absolute() for root in roots]
        return types.ListRootsResult(
            roots=[types.Root.model_validate({"uri": p.as_uri(), "name": p.name}) for p in paths]
        )

    return list_roots


def is_async(function: Callback) -> bool:
    """Tell whether a function, or an object that is called like one, is async."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async
    )


async def call_function(function: Callback, request: dict[str, Any]) -> Any:
    """Call a function of the user's, which may be async, and return what it returns."""
    if is_async(function):
        return await function(request)
    answer = await call_in_thread(partial(function, request), abandon=True, unbounded=True)
    return await answer if inspect.isawaitable(answer) else answer
