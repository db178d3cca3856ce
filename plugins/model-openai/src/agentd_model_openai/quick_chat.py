"""Streamed chat completions past most of the SDK's work for a request, with its own words on the network.

To make one request, the `openai` SDK takes longer than to send it. The first request of each shape (a client as it is
now, and the names of the arguments) goes through the SDK, and what the SDK hands to its HTTP client is kept. A later
one of that shape is handed over in the same way, with the new body, and its stream is read by the SDK's own class. A
refusal, and an error of the HTTP client, are given to the SDK as if it had asked: it says what they mean, or waits and
asks again.

A client that is not the SDK's own as it came (Azure's, a subclass, patched methods, an HTTP client or credentials of
another kind) is asked through the SDK, each time.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import logging
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import cache, cached_property, lru_cache
from operator import attrgetter
from typing import Any, Final

import attrs

from agentd_model_openai.plain import is_plain, is_sdk_function, past_transformation
from agentd_model_openai.quick_chunks import QuickChunks, chunk_type

__all__ = ["is_chat_method", "is_quick_method", "quick_stream"]

_MOST_FORMS: Final = 64
"""Shapes of requests that are kept of a client."""
_HOOKS: Final = (
    *(
        "post",
        "request",
        "_request",
        "_prepare_options",
        "_prepare_request",
        "_prepare_url",
        "_build_request",
    ),
    *(
        "_build_headers",
        "_send_request",
        "_send_with_auth_retry",
        "_process_response",
        "_process_response_data",
    ),
    *("_make_sse_decoder", "_make_status_error", "_make_status_error_from_response", "_should_retry"),
    *("_sleep_for_retry", "_calculate_retry_timeout", "_parse_retry_after_header", "_maybe_override_cast_to"),
    *(
        "_should_stream_response_body",
        "_idempotency_key",
        "_refresh_api_key",
        "auth_headers",
        "_auth_headers",
    ),
    *("_auth_query", "_bearer_auth", "_custom_auth", "custom_auth", "default_headers", "default_query"),
    *("platform_headers", "user_agent", "_validate_headers", "qs", "base_url"),
)
"""What the SDK asks of itself between `create` and the HTTP client. If somebody has put something in its place, that is
asked."""
_STREAM_HOOKS: Final = ("__init__", "__stream__", "_iter_events", "__aiter__", "__anext__", "close")
_PLAIN: Final = frozenset({str, bool, int, float, type(None), frozenset, type})
_TIMEOUTS: Final = frozenset({int, float, type(None), type(...)})
_NOT_IN_THE_BODY: Final = frozenset({"self", "extra_headers", "extra_query", "extra_body", "timeout"})


@attrs.frozen
class _Form:
    """How the SDK has sent a request of one shape.

    :ivar state: what the client was then; `parts`: arguments of the HTTP client's `build_request`, without the body.
    :ivar is_json: whether it hands the body over as an object, as older ones do, or as bytes; `order`: its fields.
    :ivar made: the HTTP client's own request; None if it has a cookie. To make it from the parts takes longer than
        all else here.
    :ivar on_wire: `made` for the client's wire (a `wire.WireRequest`), if it has one.
    """

    state: Mapping[str, Any]
    parts: Mapping[str, Any]
    is_json: bool
    order: tuple[str, ...]
    made: Any = None
    on_wire: Any = None

    def request(self, http: Any, arguments: Mapping[str, Any]) -> Any:
        """Return a request that `http` sends."""
        body = _encoded(self.is_json, self.body(arguments))
        made = self.made
        if made is None or self.is_json or any(True for _ in http.cookies.jar):
            return http.build_request(**self.parts, **body)
        headers = made.headers.copy()
        headers["Content-Length"] = str(len(body["content"]))
        stream = _byte_stream()(body["content"])
        request = type(made)(
            made.method, made.url, headers=headers, stream=stream, extensions={**made.extensions}
        )
        request.read()  # it has its content, as one that is made with it
        return request

    def body(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a request."""
        fields = _fields(arguments)
        return {name: fields[name] for name in self.order}


_forms: weakref.WeakKeyDictionary[Any, dict[Any, _Form]] = weakref.WeakKeyDictionary()


def is_chat_method(create: Callable[..., Any]) -> bool:
    """Tell whether this is a method of the SDK's own async chat completions, which `plain.is_sdk_method` has seen."""
    completions = getattr(sys.modules.get("openai.resources.chat.completions"), "AsyncCompletions", None)
    return (
        completions is not None
        and type(getattr(create, "__self__", None)) is completions
        and getattr(create, "__name__", "") == "create"
    )


def is_quick_method(create: Callable[..., Any]) -> bool:
    """Tell whether this is such a method of a client with a wire, which makes a request in no time."""
    return is_chat_method(create) and _is_wired(type(create.__self__._client._client))  # type: ignore[attr-defined]


async def quick_stream(create: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Return what `create(**arguments)` returns, an async stream of the SDK's, and raise what it raises.

    :param create: see `is_chat_method`. :param arguments: with `stream=True`.
    """
    completions = create.__self__  # type: ignore[attr-defined]
    client = completions._client
    shape = _shape(arguments)
    state = None if shape is None or not _on_asyncio() else _state(client, completions)
    if state is None:
        return await create(**past_transformation(arguments))
    forms = _forms.setdefault(client, {})
    form = forms.get(shape)
    if form is None or form.state != state:
        return await _watched(create, arguments, forms, shape)
    http = client._client
    if form.on_wire is not None and http.wire.is_open(form.made.url):
        has_cookies = any(True for _ in http.cookies.jar)
        request = form.request(http, arguments) if has_cookies else form.made
        body: bytes = _encoded(False, form.body(arguments))["content"]
        answer = await http.wire.ask(client, request, None if has_cookies else form.on_wire, body)
    else:
        answer = await _sent(http, form.request(http, arguments))
    if answer is not None and not isinstance(answer, Exception):
        if not hasattr(answer, "is_success"):
            return answer  # a stream
        if answer.is_success:
            return _stream_type()(cast_to=chunk_type(), response=answer, client=QuickChunks(client))
    asking = _with_http(create, http if answer is None else _AnsweredHttp(http, answer))
    del answer  # an error knows this frame
    return await asking(**past_transformation(arguments))


async def _sent(http: Any, request: Any) -> Any:
    try:
        return await http.send(request, stream=True)
    except Exception as error:
        return error


# --- is everything as it came? -------------------------------------------------------------------------------


def _shape(arguments: Mapping[str, Any]) -> Any:
    """Return what stands for all requests that the SDK makes in the same way; None if it must make this one."""
    extra = arguments.get("extra_body") or {}
    timeout = arguments.get("timeout", ...)
    if type(extra) is not dict or type(timeout) not in _TIMEOUTS:
        return None
    names = tuple(name for name in arguments if name not in ("extra_body", "timeout"))
    if not _in_the_body().issuperset(names) or not is_plain({**arguments, "timeout": None}):
        return None
    return names, tuple(extra), timeout


def _state(client: Any, completions: Any) -> dict[str, Any] | None:
    """Return the values that a client has; None if it is not the SDK's own, as it came, in all that makes a request."""
    kind = type(client)
    openai = sys.modules["openai"]
    if kind is not openai.AsyncOpenAI or completions._post != client.post:
        return None
    values = vars(client)
    hooks = _hooks(kind, _HOOKS)(kind), _hooks(openai.AsyncStream, _STREAM_HOOKS)(openai.AsyncStream)
    if not _are_the_sdks(hooks) or not values.keys().isdisjoint(_HOOKS):
        return None
    http_type = type(values["_client"])
    if http_type not in _http_types() and not _is_wired(http_type):
        return None
    if (
        _sdk_log().isEnabledFor(logging.DEBUG)
        or values["_strict_response_validation"]
        or values["_idempotency_header"]
    ):
        return None
    known = {}
    own = _own_names(kind)
    for name, value in values.items():
        if name in own:  # its resources, and copying, which others may have patched
            continue
        if type(value) is dict:
            if any(type(item) not in _PLAIN for item in value.values()):
                return None
            value = dict(value)
        elif name == "timeout" and hasattr(value, "as_dict"):
            value = value.as_dict()  # it can be changed
        elif type(value) not in _PLAIN and name != "_base_url":
            return None
        known[name] = value
    http = values["_client"]
    known["_client"] = (http, http.headers.raw, http.params, http.base_url)
    return known


def _on_asyncio() -> bool:
    """Tell whether this is asyncio's loop: the SDK tells its server which one it is."""
    return asyncio._get_running_loop() is not None


@lru_cache(maxsize=8)
def _are_the_sdks(hooks: tuple[tuple[Any, ...], ...]) -> bool:
    functions = (hook.fget if isinstance(hook, property) else hook for some in hooks for hook in some)
    return all(function is None or is_sdk_function(function) for function in functions)


@cache
def _hooks(kind: Any, names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what looks those up that this SDK has."""
    return attrgetter(*(name for name in names if hasattr(kind, name)))


@cache
def _own_names(kind: Any) -> frozenset[str]:
    """Return the names of methods and resources, which are no values; and of the HTTP client."""
    members = inspect.getmembers_static(kind)
    found = {name for name, value in members if callable(value) or isinstance(value, cached_property)}
    return frozenset({*found, "_client"}) - {"_default_stream_cls"}


@cache
def _http_types() -> frozenset[Any]:
    """Return the SDK's HTTP clients, and the one of its HTTP library."""
    from openai._base_client import AsyncHttpxClientWrapper

    line = AsyncHttpxClientWrapper.__mro__
    return frozenset(line[: next(n for n, kind in enumerate(line) if kind.__name__ == "AsyncClient") + 1])


def _is_wired(kind: Any) -> bool:
    """Tell whether this is one of those with a wire of ours."""
    return (
        kind.__base__ in _http_types()
        and kind.__module__ == "agentd_model_openai.wired"
        and kind.__name__ == "WiredHttpClient"
    )


@cache
def _sdk_log() -> logging.Logger:
    """Return the log in which the SDK tells what it sends."""
    return logging.getLogger("openai._base_client")


@cache
def _in_the_body() -> frozenset[str]:
    from openai.resources.chat.completions import AsyncCompletions

    return frozenset(inspect.signature(AsyncCompletions.create).parameters) - _NOT_IN_THE_BODY


@cache
def _byte_stream() -> Any:
    """Return the class of a body of the SDK's HTTP library."""
    from openai._base_client import AsyncHttpxClientWrapper

    kind = next(kind for kind in AsyncHttpxClientWrapper.__mro__ if kind.__name__ == "AsyncClient")
    return sys.modules[kind.__module__.partition(".")[0]].ByteStream


@cache
def _stream_type() -> Any:
    from openai import AsyncStream

    return AsyncStream


# --- what the SDK sends ---------------------------------------------------------------------------------------


async def _watched(
    create: Callable[..., Any], arguments: Mapping[str, Any], forms: dict[Any, _Form], shape: Any
) -> Any:
    """Ask through the SDK, and keep how it does it."""
    client = create.__self__._client  # type: ignore[attr-defined]
    http = _WatchedHttp(client._client)
    asking = _with_http(create, http)
    try:
        return await asking(**past_transformation(arguments))
    finally:
        # It looks that up in a thread, once.
        client._platform = client._platform or asking.__self__._client._platform  # type: ignore[attr-defined]
        form = http.form(arguments, _state(client, create.__self__))  # type: ignore[attr-defined]
        if form is not None:
            if len(forms) >= _MOST_FORMS:
                forms.clear()
            forms[shape] = form


def _with_http(create: Callable[..., Any], http: _HttpClient) -> Callable[..., Any]:
    """Return the same method of a copy of the client that sends by `http`."""
    completions = create.__self__  # type: ignore[attr-defined]
    client = copy.copy(completions._client)
    client._client = http
    found: Callable[..., Any] = type(completions)(client).create
    return found


def _fields(arguments: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in arguments.items() if name not in ("extra_body", "timeout")}
    return found | (arguments.get("extra_body") or {})


def _encoded(is_json: bool, body: dict[str, Any]) -> dict[str, Any]:
    if is_json:
        return {"json": body}
    from openai._utils._json import openapi_dumps

    return {"content": openapi_dumps(body)}


class _HttpClient:
    """Stands before an HTTP client."""

    def __init__(self, http: Any) -> None:
        self._http = http

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._http)  # the SDK looks of which kind it is

    def __getattr__(self, name: str) -> Any:
        return getattr(self._http, name)


class _WatchedHttp(_HttpClient):
    """Keeps what the SDK asks of it first."""

    _parts: dict[str, Any] | None = None
    _made: Any = None
    _more: dict[str, Any] | None = None

    def build_request(self, **parts: Any) -> Any:
        made = self._http.build_request(**parts)
        if self._parts is None:
            self._parts = parts
            headers = [(name, value) for name, value in made.headers.raw if name.lower() != b"cookie"]
            if len(headers) == len(made.headers.raw):
                # As the HTTP client changes the one that it sends.
                self._made = type(made)(
                    made.method, made.url, headers=headers, extensions={**made.extensions}
                )
        return made

    async def send(self, request: Any, **more: Any) -> Any:
        self._more = self._more or more
        return await self._http.send(request, **more)

    def form(self, arguments: Mapping[str, Any], state: Mapping[str, Any] | None) -> _Form | None:
        """Return how such requests are sent; None if this one was not sent as `quick_stream` would have done it."""
        if state is None or self._parts is None or self._more != {"stream": True}:
            return None
        parts = dict(self._parts)
        is_json = "json" in parts
        sent = parts.pop("json" if is_json else "content", None)
        try:
            order = tuple(sent if is_json else json.loads(sent))
            on_wire = None
            if self._made is not None and not is_json and _is_wired(type(self._http)):
                on_wire = self._http.wire.request(self._made)
            form = _Form(state, parts, is_json, order, self._made, on_wire)
            ours = _encoded(is_json, form.body(arguments))
        except (KeyError, TypeError, ValueError, ImportError):
            return None
        same = json.dumps(ours["json"]) == json.dumps(sent) if is_json else ours["content"] == sent
        return form if same and len(order) == len(_fields(arguments)) else None


class _AnsweredHttp(_HttpClient):
    """Has the answer to the first request already."""

    def __init__(self, http: Any, answer: Any) -> None:
        super().__init__(http)
        self._answer = answer

    async def send(self, request: Any, **more: Any) -> Any:
        """Return the answer or raise the error that there is, the first time."""
        answer, self._answer = self._answer, None
        if answer is None:
            return await self._http.send(request, **more)
        if isinstance(answer, Exception):
            raise answer
        return answer
