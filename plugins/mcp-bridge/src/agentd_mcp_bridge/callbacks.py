"""What servers may ask of the client: questions to the person (elicitation), a model (sampling), directories.

Elicitation: `answer(request)` gets `{"server", "mode": "form", "message", "schema"}` or
`{"server", "mode": "url", "message", "url", "id"}`. It returns the content as a dict (accepted), True
(accepted, without content: for a URL), or None or False (declined). If it raises, the server is told that it
was cancelled.

Sampling: `complete(request)` gets the request's fields as MCP names them (`messages`, `systemPrompt`,
`maxTokens`, ...) and `server`. It returns the model's text as `str`, or a dict with the fields of MCP's
CreateMessageResult (`role`, `content`, `model`, ...).

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

from agentd_mcp_bridge.config import Callback

__all__ = ["elicitation_callback", "roots_callback", "sampling_callback"]

Log = Callable[[str, str], None]


def elicitation_callback(server: str, answer: Callback, log: Log) -> Any:
    """Return what the SDK's client takes as `elicitation_callback`."""

    async def elicit(_: Any, params: Any) -> types.ElicitResult:
        request = {"server": server, "message": params.message}
        if isinstance(params, types.ElicitRequestURLParams):
            request |= {"mode": "url", "url": params.url, "id": params.elicitation_id}
        else:
            request |= {"mode": "form", "schema": params.requested_schema}
        try:
            content = await _call(answer, request)
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
            answer = await _call(complete, {"server": server, **request})
            if isinstance(answer, str):
                answer = {"role": "assistant", "model": "", "content": {"type": "text", "text": answer}}
            return types.CreateMessageResult.model_validate(answer)
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


async def _call(function: Callback, request: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object whose __call__ is async
    ):
        return await function(request)
    answer = await call_in_thread(partial(function, request), abandon=True, unbounded=True)
    return await answer if inspect.isawaitable(answer) else answer
