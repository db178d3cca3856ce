"""A client's requests as the SDK's client makes them of a server behind. Each is called in the loop of the connections.

What a server of the revision 2026-07-28 asks meanwhile is put to the client that has made the request, all at once, as
the server has put it; servers of older revisions ask by themselves (`back_channel`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio
import attrs
import mcp_types as types
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

__all__ = [
    "Answers",
    "Meta",
    "Progress",
    "call_tool",
    "complete",
    "get_prompt",
    "passed_meta",
    "read_resource",
]

Answers = Callable[[Mapping[str, types.InputRequest]], Awaitable[dict[str, Any]]]
"""Puts a server's questions to the client."""
Progress = Callable[[float, float | None, str | None], Awaitable[None]]
Meta = Mapping[str, Any]

_ROUNDS: Final = 10  # as the SDK's own client
_STATE_ONLY_S: Final = 0.1  # it wants to be asked once more, and nothing of the client
_RESERVED: Final = "io.modelcontextprotocol/"
_LOG_LEVEL: Final = "io.modelcontextprotocol/logLevel"


def passed_meta(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what of a request's `_meta` is the client's own word to the server: not what belongs to the connection."""
    given = dict(meta or {})
    given.pop("progressToken", None)
    return {key: value for key, value in given.items() if key == _LOG_LEVEL or not key.startswith(_RESERVED)}


def result_meta(result: Any) -> Any:
    """Return a result without what the server says of itself under MCP's own names: the client talks to agentd."""
    meta = {key: value for key, value in (result.meta or {}).items() if not key.startswith(_RESERVED)}
    return result.model_copy(update={"meta": meta or None})


@attrs.frozen
class RequestExtras:
    """What a client says in a request besides what it wants.

    :param meta: its `_meta`, as `passed_meta` returns it.
    :param responses: answers with which it begins: to questions that the server puts to everybody.
    """

    meta: Meta
    responses: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, params: Any, meta: Mapping[str, Any] | None) -> RequestExtras:
        """Return that of a request that may have answers. Those that come with a state are no beginning."""
        responses = params.input_responses if params.request_state is None else None
        return cls(passed_meta(meta), responses)


async def call_tool(
    client: Any,
    name: str,
    arguments: dict[str, Any],
    asked: RequestExtras,
    answers: Answers,
    progress: Progress,
) -> types.CallToolResult:
    """Call a tool."""

    async def send(responses: Any, state: str | None) -> Any:
        given = {"input_responses": responses, "request_state": state, "meta": _meta_for(client, asked.meta)}
        return await client.session.call_tool(
            name, arguments, progress_callback=progress, allow_input_required=True, **given
        )

    async def listed_anew(responses: Any, state: str | None) -> Any:
        try:
            return await send(responses, state)
        except MCPError as error:
            if error.code != types.HEADER_MISMATCH:
                raise
            await client.list_tools()  # its schema says what goes into headers, and has changed
            return await send(responses, state)

    return result_meta(await _driven(listed_anew, answers, asked.responses))  # type: ignore[no-any-return]


async def get_prompt(
    client: Any, name: str, arguments: dict[str, str] | None, asked: RequestExtras, answers: Answers
) -> types.GetPromptResult:
    """Get a prompt."""

    async def send(responses: Any, state: str | None) -> Any:
        given = {"input_responses": responses, "request_state": state, "meta": _meta_for(client, asked.meta)}
        return await client.session.get_prompt(name, arguments, allow_input_required=True, **given)

    return result_meta(await _driven(send, answers, asked.responses))  # type: ignore[no-any-return]


async def read_resource(
    client: Any, uri: str, asked: RequestExtras, answers: Answers
) -> types.ReadResourceResult:
    """Read a resource."""

    async def send(responses: Any, state: str | None) -> Any:
        given = {"input_responses": responses, "request_state": state, "meta": _meta_for(client, asked.meta)}
        return await client.session.read_resource(uri, allow_input_required=True, **given)

    return result_meta(await _driven(send, answers, asked.responses))  # type: ignore[no-any-return]


async def complete(client: Any, ref: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
    """Complete an argument; a server that completes nothing has nothing to say."""
    if client.server_capabilities.completions is None:
        return types.CompleteResult(completion=types.Completion(values=[]))
    request = types.CompleteRequest(params=params.model_copy(update={"ref": ref, "meta": None}))
    return await client.session.send_request(request, types.CompleteResult)  # type: ignore[no-any-return]


async def tell_roots(client: Any) -> None:
    """Say that the client's directories have changed."""
    if not _is_newest(client):
        await client.session.send_notification(types.RootsListChangedNotification())


async def _driven(
    send: Callable[[Any, str | None], Awaitable[Any]], answers: Answers, responses: Mapping[str, Any] | None
) -> Any:
    """Make a request, over all rounds that the server's questions take (SEP-2322)."""
    state: str | None = None
    for _ in range(_ROUNDS):
        result = await send(responses, state)
        if not isinstance(result, types.InputRequiredResult):
            return result
        responses, state = None, result.request_state
        if not result.input_requests:
            await anyio.sleep(_STATE_ONLY_S)
        else:
            responses = given = await answers(result.input_requests)
            for answer in given.values():
                if isinstance(answer, types.ErrorData):
                    raise MCPError.from_error_data(answer)
    raise MCPError(types.INTERNAL_ERROR, f"the server still asks after {_ROUNDS} rounds")


def _is_newest(client: Any) -> bool:
    return client.protocol_version in MODERN_PROTOCOL_VERSIONS


def _meta_for(client: Any, meta: Meta) -> Any:
    """Return what a request says besides: how much is to be logged is said so in the newest revision alone."""
    given = dict(meta)
    if not _is_newest(client):
        given.pop(_LOG_LEVEL, None)
    return given or None
