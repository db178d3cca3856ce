"""A request's body: read within bounds, checked, and what of it goes to which place."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, NoReturn

import attrs
from agentd.text import valid_data

from agentd_serve.refusals import RefusedRequestError

__all__ = ["AskedAnswer", "headers_of", "read_body", "read_request"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
_OF_THE_CALLER: Final = ("extra_headers", "extra_query", "extra_body", "timeout")
_OF_THE_SERVER: Final = frozenset(
    (
        *("api_key", "api_base", "api_version", "api_type", "base_url", "headers", "organization"),
        *("custom_llm_provider", "mcp_servers", "mcp_strict", "ptc_enabled"),
        *_OF_THE_CALLER,
    )
)
"""What the SDK, LiteLLM and agentd take of whoever calls them in a program: whom to ask, with which
key, what to start."""
_OBJECT: Final = (dict, "an object")
_LIST: Final = (list, "a list")
_TEXT: Final = (str, "a text")
_FLAG: Final = (bool, "true or false")
_TYPES: Final = {
    "stream": _FLAG,
    "store": _FLAG,
    "background": _FLAG,
    "stream_options": _OBJECT,
    "response_format": _OBJECT,
    "text": _OBJECT,
    "tools": _LIST,
    "include": _LIST,
    "instructions": _TEXT,
    "previous_response_id": _TEXT,
}
"""Of the arguments that are read here or by the facade. What others must be, the model's server says."""


@attrs.frozen(kw_only=True)
class AskedAnswer:
    """What a client asks for.

    :ivar api: `chat` or `responses`; `arguments`: for the SDK's method, without those that follow.
    :ivar goes_on_from: the id of the response that it continues, or an empty text.
    :ivar is_kept: false if the response is not to be continued; `size_bytes`: of the body.
    """

    api: str
    model: str
    arguments: dict[str, Any]
    is_streamed: bool
    goes_on_from: str = ""
    is_kept: bool = True
    size_bytes: int = 0


def headers_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return a request's headers; of one that is there twice, the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


async def read_body(receive: Receive, headers: Mapping[str, str], *, most: int) -> bytes:
    """Read the body. How long it takes is not bounded here.

    :param most: bytes that it may have.
    :raises RefusedRequestError: 413 or 415. 499 if the client is gone.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # a web page may send others to any address, without asking
        raise RefusedRequestError(
            415, f"Content-Type: must be application/json, got {kind[:80]!r}", code="unsupported_content_type"
        )
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise RefusedRequestError(
            415, "Content-Encoding: send the body as it is", code="unsupported_encoding"
        )
    told = headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_large(most)
    pieces = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedRequestError(499, "the client has gone away")
        pieces += message.get("body", b"")
        if len(pieces) > most:
            raise _too_large(most)
        if not message.get("more_body", False):
            return bytes(pieces)


def _too_large(most: int) -> RefusedRequestError:
    return RefusedRequestError(
        413, f"the body is larger than {most} bytes (--max-body)", code="request_too_large"
    )


def read_request(api: str, body: bytes, defaults: Mapping[str, Any]) -> AskedAnswer:
    """Return what a body asks for.

    :param defaults: arguments of requests that say nothing of them.
    :raises RefusedRequestError: 400, with the argument that is wrong.
    """
    data = _json(body)
    if not isinstance(data, dict):
        raise RefusedRequestError(400, f"the body must be a JSON object, got {_kind(data)}")
    given = {name: value for name, value in {**defaults, **data}.items() if value is not None}
    for name, (wanted, word) in _TYPES.items():
        if name in given and not isinstance(given[name], wanted):
            _wrong(name, f"must be {word}, got {_kind(given[name])}")
    model = given.get("model")
    if not isinstance(model, str) or not model:
        _wrong("model", f"must be a model's name, got {_kind(model)}")
    _check_objects("tools", given.get("tools", []))
    if api == "chat":
        if not isinstance(given.get("messages"), list) or not given["messages"]:
            _wrong("messages", f"must be a list of messages, got {_kind(given.get('messages'))}")
        _check_objects("messages", given["messages"])
        if given.get("n", 1) != 1:
            _wrong("n", f"must be 1, got {given['n']!r:.80}: an answer that acts is one; ask more than once")
    else:
        _check_response(given)
    known = _arguments(api)
    arguments = {name: value for name, value in given.items() if name in known and name != "stream"}
    more = {name: value for name, value in given.items() if name not in known}
    for name in more:
        if name in _OF_THE_SERVER:
            _wrong(name, "is not for a client of this server to say")
    if more:
        arguments["extra_body"] = more
    return AskedAnswer(
        api=api,
        model=model,
        arguments=arguments,
        is_streamed=bool(given.get("stream", False)),
        goes_on_from=arguments.pop("previous_response_id", "") if api == "responses" else "",
        is_kept=api == "responses" and given.get("store", True),
        size_bytes=len(body),
    )


def _check_response(given: Mapping[str, Any]) -> None:
    if not isinstance(given.get("input"), str | list):
        _wrong("input", f"must be a text or a list of items, got {_kind(given.get('input'))}")
    if isinstance(given["input"], list):
        _check_objects("input", given["input"])
    if given.get("background"):
        _wrong("background", "there is no background here; ask with stream, or wait for the answer")
    if "conversation" in given:
        _wrong(
            "conversation",
            "there are no stored conversations here; go on with previous_response_id, and name a sandbox with the "
            "header X-Agentd-Session",
        )


def _json(body: bytes) -> Any:
    def constant(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    try:
        data = json.loads(body.decode(), parse_constant=constant, parse_float=_number)
    except UnicodeDecodeError as error:
        raise RefusedRequestError(
            400, f"the body is no UTF-8: byte {error.start}", code="invalid_json"
        ) from None
    except (ValueError, RecursionError) as error:
        told = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise RefusedRequestError(400, f"the body is no JSON: {told:.200}", code="invalid_json") from None
    # Half a character, which JSON can write and no text can have.
    return valid_data(data) if b"\\ud" in body or b"\\uD" in body else data


def _number(written: str) -> float:
    """Read a number; 1e999 would be one that no JSON can say again."""
    number = float(written)
    if math.isinf(number):
        raise ValueError(f"the number {written:.40} is too large")
    return number


def _check_objects(name: str, items: Sequence[Any]) -> None:
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            _wrong(f"{name}[{number}]", f"must be an object, got {_kind(item)}")


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number"}
    empty = "an empty " if value in ("", [], {}) else ""
    name = names.get(type(value), "a number")
    return empty + name.partition(" ")[2] if empty else name


def _wrong(param: str, message: str) -> NoReturn:
    raise RefusedRequestError(400, f"{param}: {message}", param=param, code="invalid_value")


@cache
def _arguments(api: str) -> frozenset[str]:
    """Return the names of a body's fields that the SDK's method knows."""
    if api == "chat":
        from openai.resources.chat.completions import AsyncCompletions as Resource
    else:
        from openai.resources.responses import AsyncResponses as Resource  # type: ignore[assignment]
    names = frozenset(inspect.signature(Resource.create).parameters)
    return names - {"self", *_OF_THE_CALLER}
