"""Requests to a webhook: what is refused, and what becomes an event. An answer of 2xx says that it is journalled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import anyio
import attrs
from agentd_daemon.triggers import TriggerEvent, TriggerHost, TriggerQueueFullError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from agentd_trigger_webhook.signatures import BadSignatureError, SignatureCheck, SignedDelivery

__all__ = ["WebhookDoor"]

log = logging.getLogger("agentd.daemon.webhook")

MOST_AT_ONCE: Final = 64
FULL_RETRY_S: Final = 30
BUSY_RETRY_S: Final = 1


@attrs.frozen(eq=False)
class _Refusal(Exception):
    """An answer that is no event's."""

    status: int
    error: str
    headers: Mapping[str, str] = attrs.field(factory=dict)


class WebhookDoor:
    """The ASGI application of one webhook.

    :param max_body_bytes: of a body, at most; `body_s`: seconds that it may take.
    """

    def __init__(
        self, host: TriggerHost, check: SignatureCheck, *, path: str, max_body_bytes: int, body_s: float
    ) -> None:
        self._host = host
        self._check = check
        self._path = path
        self._max_body_bytes = max_body_bytes
        self._body_s = body_s
        self._under_way = 0
        self._refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        self._under_way += 1
        try:
            answer = await self._answer(Request(scope, receive))
        except _Refusal as refusal:
            # What is left of the body is not read: the connection cannot be used again.
            headers = {**refusal.headers, "Connection": "close"}
            answer = JSONResponse({"error": refusal.error}, refusal.status, headers)
        except ClientDisconnect:
            return
        finally:
            self._under_way -= 1
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> JSONResponse:
        if request.url.path != self._path:
            raise _Refusal(404, "there is nothing at this path")
        if request.method != "POST":
            raise _Refusal(405, "a webhook is sent with POST", {"Allow": "POST"})
        if self._under_way > MOST_AT_ONCE:
            raise _Refusal(503, "too many requests at once", {"Retry-After": str(BUSY_RETRY_S)})
        body = await self._body(request)
        delivery = self._delivery(request.headers, body)
        if delivery.challenge is not None:
            return JSONResponse({"challenge": delivery.challenge})
        event = _event(delivery, body)
        try:
            receipt = await self._host.accept(event, wait=False)
        except TriggerQueueFullError:
            raise _Refusal(
                503, "too many events wait for the agent", {"Retry-After": str(FULL_RETRY_S)}
            ) from None
        except OSError as error:  # the journal's
            self._host.report(str(error))
            raise _Refusal(503, "the event cannot be kept now", {"Retry-After": str(FULL_RETRY_S)}) from None
        self._host.report("")
        return JSONResponse(
            {"task": receipt.task, "duplicate": not receipt.is_new}, 202 if receipt.is_new else 200
        )

    async def _body(self, request: Request) -> bytes:
        most = self._max_body_bytes
        too_large = _Refusal(413, f"a body has at most {most} bytes")
        length = request.headers.get("content-length", "0")
        if len(length) > 15 or int(length) > most:  # h11 has seen to its being a number
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            with anyio.fail_after(self._body_s):
                async for part in request.stream():
                    size += len(part)
                    if size > most:
                        raise too_large
                    parts.append(part)
        except TimeoutError:
            raise _Refusal(408, f"the body did not come within {self._body_s:g} s") from None
        return b"".join(parts)

    def _delivery(self, headers: Mapping[str, str], body: bytes) -> SignedDelivery:
        try:
            return self._check.delivery(headers, body)
        except BadSignatureError as error:
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                log.warning(
                    "%s: %r: %d requests without a right signature: %s",
                    *(self._host.agent, self._host.name, self._refused, error),
                )
            raise _Refusal(401, str(error)) from None


def _event(delivery: SignedDelivery, body: bytes) -> TriggerEvent:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _Refusal(400, "the body must be text in UTF-8") from None
    return TriggerEvent(id=delivery.id, text=f"{delivery.said}{text}", may_be_own=True)
