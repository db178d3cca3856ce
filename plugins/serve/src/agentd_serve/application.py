"""The ASGI application: who is let in, and which path is what."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
from agentd_cli.http.bounded_server import taken_in_time
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentd_serve.answering import HEADERS, SESSION, Answering, Scope, Send
from agentd_serve.keys import KeyRing, ServedKey
from agentd_serve.refusals import RefusedRequestError
from agentd_serve.requests import headers_of
from agentd_serve.responses import serve_response

__all__ = ["Door", "loopback_hosts", "make_application"]

_HEALTH: Final = "/health"
_ONCE: Final = (b"host", b"origin", b"authorization", SESSION.encode(), b"content-type", b"content-encoding")
_KEY: Final = "agentd.key"
Application = Callable[[Scope, Any, Send], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Door:
    """Who is let in.

    :ivar hosts: what the Host header may say, in lower case; empty for anything. A web page that was led here by a name
        of its own is refused so.
    """

    ring: KeyRing
    hosts: frozenset[str] = frozenset()

    def admit(self, path: str, headers: Mapping[str, str]) -> ServedKey | None:
        """Return the key of a request, None for a path that needs none. :raises RefusedRequestError: 401 or 403."""
        host = headers.get("host", "").lower()
        if self.hosts and host not in self.hosts:
            raise RefusedRequestError(
                403,
                f"Host: {host[:80]!r} is no name of this server; --allowed-host makes it one",
                code="unknown_host",
            )
        origin = headers.get("origin", "")
        if origin and self.ring.is_open and _host_of(origin) not in self.hosts:
            raise RefusedRequestError(
                403,
                f"Origin: no web page may ask this server, {origin[:80]!r} neither",
                code="foreign_origin",
            )
        if path == _HEALTH:
            return None
        key = self.ring.find(headers.get("authorization", ""))
        if key is None:
            is_given = headers.get("authorization", "").lower().startswith("bearer ")
            given = "is not known" if is_given else "is missing"
            raise RefusedRequestError(
                401,
                f"the API key {given}; send `Authorization: Bearer KEY`",
                code="invalid_api_key",
                type="authentication_error",
            )
        return key


_ANSWERS: Final = {"chat/completions": "chat", "responses": "responses"}
_PATHS: Final = (
    "POST /v1/chat/completions",
    "POST /v1/responses",
    "GET /v1/responses/ID",
    "DELETE /v1/responses/ID",
    "POST /v1/responses/ID/cancel",
    "GET /v1/models",
    "GET /v1/models/NAME",
    f"GET {_HEALTH}",
    "DELETE /agentd/sessions/NAME",
)


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # brackets without an address
        return ""


def make_application(answering: Answering, door: Door) -> Application:
    """Return the application."""
    began = int(time.time())
    pool, admission = answering.pool, answering.admission

    async def health(_: Request) -> Response:
        if admission.is_draining:
            return _data({"status": "draining"}, 503, {"Retry-After": "5"})
        return _data({"status": "ok"})

    async def models(request: Request) -> Response:
        found = [_model(name, began) for name in answering.models_of(request.scope[_KEY])]
        return _data({"object": "list", "data": found})

    async def model(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in answering.models_of(request.scope[_KEY]):
            raise RefusedRequestError(
                404, f"there is no model {name[:80]!r} here", code="model_not_found", param="model"
            )
        return _data(_model(name, began))

    async def response(request: Request) -> Response:
        return await serve_response(pool, answering.under_way, request.scope[_KEY], request)

    async def end_session(request: Request) -> Response:
        name = request.path_params["name"]
        if not await pool.end_named(request.scope[_KEY], name):
            raise RefusedRequestError(404, f"there is no session {name[:80]!r}", code="session_not_found")
        return Response(status_code=204)

    answers = {f"/v1/{path}": _Answers(answering, api) for path, api in _ANSWERS.items()}
    routes = [
        Route(_HEALTH, health),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        *(Route(path, endpoint=endpoint, methods=["POST"]) for path, endpoint in answers.items()),
        Route("/v1/responses/{id}", response, methods=["GET", "DELETE"]),
        Route("/v1/responses/{id}/cancel", response, methods=["POST"]),
        Route("/agentd/sessions/{name}", end_session, methods=["DELETE"]),
    ]
    handlers: Any = {HTTPException: _not_found, RefusedRequestError: _refused}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return _guarded(app, door, answers, stall_s=answering.limits.stall_s)


class _Answers:
    """An object, which Starlette takes for an application; a function it would take for a view.

    What it sends has a bound of its own."""

    def __init__(self, answering: Answering, api: str) -> None:
        self._answering = answering
        self._api = api

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        await self._answering.answer(self._api, scope[_KEY], scope, receive, send)


def _guarded(
    application: Application, door: Door, answers: Mapping[str, _Answers], *, stall_s: float
) -> Application:
    async def guard(scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        sent, send = send, taken_in_time(scope, send, stall_s)
        try:
            _check_once(scope)
            headers = scope[HEADERS] = headers_of(scope)
            scope[_KEY] = door.admit(scope["path"], headers)
        except RefusedRequestError as refusal:
            await _response(refusal, closing=True)(scope, receive, send)
            return
        if scope["method"] == "POST" and (answer := answers.get(scope["path"])) is not None:
            await answer(scope, receive, sent)  # most requests are these: they need no routing
            return
        await application(scope, receive, send)

    return guard


def _check_once(scope: Scope) -> None:
    """:raises RefusedRequestError: if a header that says who asks is there twice: what stands before this server may
    have looked at the other one."""
    names = [name for name, _ in scope["headers"] if name in _ONCE]
    if len(names) > len(set(names)):
        twice = next(name for name in names if names.count(name) > 1).decode()
        raise RefusedRequestError(400, f"{twice}: is there twice; send it once", code="invalid_header")


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequestError)
    return _response(error)


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    asked = f"{request.method} {request.url.path[:200]}"
    if error.status_code == 404:
        told = f"{asked} is not here; there are: {', '.join(_PATHS)} (a client's base URL ends in /v1)"
    elif error.status_code == 405:
        told = f"{asked}: the method must be {(error.headers or {}).get('Allow', 'another')}"
    else:
        told = error.detail
    refusal = RefusedRequestError(error.status_code, told, code="unknown_url")
    response = _response(refusal)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _response(refusal: RefusedRequestError, *, closing: bool = False) -> Response:
    headers = {name.decode(): value.decode() for name, value in refusal.headers}
    if closing:
        headers["connection"] = "close"  # its body was not read
    return Response(refusal.body, refusal.status, headers)


def _data(data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json.dumps(data), status, headers, media_type="application/json")


def _model(name: str, created: int) -> Mapping[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "agentd"}


def loopback_hosts(port: int, more: Sequence[str] = ()) -> frozenset[str]:
    """Return what the Host header of a request may say on loopback."""
    names = ("127.0.0.1", "localhost", "[::1]")
    found = [f"{name}:{port}" for name in names]
    if port == 80:  # clients leave it out
        found += names
    return frozenset(name.lower() for name in (*found, *more))
