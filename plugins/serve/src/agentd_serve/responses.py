"""Responses by their ids: those under way, which can be cancelled, and those that are kept, read and deleted.

Formats: OpenAI API reference, "Responses": retrieve, delete and cancel a model response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import anyio
from agentd_openai.sse import as_json
from starlette.requests import Request
from starlette.responses import Response

from agentd_serve.conversations import ConversationPool
from agentd_serve.keys import ServedKey
from agentd_serve.refusals import RefusedRequestError

__all__ = ["ResponseUnderWay", "ResponsesUnderWay", "serve_response"]


class ResponseUnderWay:
    """The id of a response, and of the one before it: ours, as nobody else can tell which conversation is meant.

    :ivar last: the response as its client was told of it last, or None.
    """

    def __init__(self, key: ServedKey, previous: str) -> None:
        self.key = key
        self.id = f"resp_{uuid4().hex}"
        self.last: Any = None
        self.scope = anyio.CancelScope()
        self.ended = anyio.Event()
        self._previous = previous or None

    def put(self, response: Any) -> None:
        """Put the ids into a response."""
        response.id = self.id
        response.previous_response_id = self._previous
        self.last = response

    async def cancel(self) -> bytes:
        """End it with its code, and return its JSON."""
        self.scope.cancel()
        await self.ended.wait()
        if not self.scope.cancelled_caught:  # it came to its end first
            return as_json(self.last)
        told: dict[str, Any] = json.loads(as_json(self.last))
        return json.dumps({**told, "status": "cancelled"}).encode()


class ResponsesUnderWay:
    """All responses of a server that its clients still get."""

    def __init__(self) -> None:
        self._by_id: dict[str, ResponseUnderWay] = {}

    @contextmanager
    def entered(self, response: ResponseUnderWay) -> Iterator[None]:
        """While a response is made. :raises RefusedRequestError: if it was cancelled."""
        self._by_id[response.id] = response
        try:
            with response.scope:
                yield
        finally:
            del self._by_id[response.id]
            response.ended.set()
        if response.scope.cancelled_caught:
            raise RefusedRequestError(409, "the response was cancelled", code="response_cancelled")

    def find(self, key: ServedKey, id: str) -> ResponseUnderWay | None:
        """Return one of a key whose client has its id, or None."""
        found = self._by_id.get(id)
        return None if found is None or found.key is not key or found.last is None else found


async def serve_response(
    pool: ConversationPool, all_under_way: ResponsesUnderWay, key: ServedKey, request: Request
) -> Response:
    """Read, delete or cancel a response. One of another key is as one that there is not."""
    id = request.path_params["id"]
    under_way = all_under_way.find(key, id)
    kept = pool.find_response(key, id)
    if under_way is None and kept is None:
        raise RefusedRequestError(
            404,
            f"there is no response {id[:80]!r}: it was not stored, was deleted or cancelled, or its conversation has "
            "ended",
            code="response_not_found",
        )
    if request.method in ("GET", "HEAD"):
        if request.query_params.get("stream", "false") != "false":
            raise RefusedRequestError(
                400, "stream: a response is given whole; leave it out", param="stream", code="invalid_value"
            )
        body = as_json(under_way.last) if under_way is not None else kept.body  # type: ignore[union-attr]
    elif request.method == "DELETE":
        if under_way is not None:
            raise RefusedRequestError(
                409, f"the response {id!r} is under way; cancel it first", code="response_in_progress"
            )
        pool.delete_response(key, id)
        body = json.dumps({"id": id, "object": "response", "deleted": True}).encode()
    elif under_way is None:
        raise RefusedRequestError(
            400, f"the response {id!r} has ended: only one under way can be cancelled", code="response_ended"
        )
    else:
        body = await under_way.cancel()
    return Response(body, media_type="application/json")
