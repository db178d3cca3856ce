"""Incoming lines: the message of each, checked, as the SDK trusts what it is given."""

from __future__ import annotations

import json
from typing import Any, Final

import attrs

from agentd_acp.servers import malformed_items

__all__ = ["INVALID_REQUEST", "PARSE_ERROR", "LineProblem", "read_message"]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600

_META: Final = ("_meta", "field_meta")
"""The SDK hands a method what is below these as arguments, in place of those that it has checked."""

_WITH_SERVERS: Final = ("session/new", "session/load", "session/resume", "session/fork")


@attrs.frozen
class LineProblem:
    """What is wrong with a line, as a JSON-RPC error."""

    id: str | int | None
    code: int
    why: str


def read_message(line: bytes) -> dict[str, Any] | LineProblem | None:
    """Return the message of a line, what is wrong with it, or None for a notification that says nothing to an agent:
    JSON-RPC has no answer to one, and the SDK would log each with a traceback."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        return LineProblem(None, PARSE_ERROR, f"the line is no JSON: {error}"[:300])
    if not isinstance(message, dict):
        return LineProblem(None, INVALID_REQUEST, f"a message is a JSON object, got a {_kind(message)}")
    id = message.get("id")
    if id is not None and (isinstance(id, bool) or not isinstance(id, str | int)):
        why = f"id: must be a text or a whole number, got a {_kind(id)}"
        return LineProblem(None, INVALID_REQUEST, why)
    if "method" in message:
        return _call(message, id)
    if "result" not in message and "error" not in message:
        return LineProblem(id, INVALID_REQUEST, "a message has a method, a result or an error")
    if "error" in message and not _is_error(message["error"]):
        message["error"] = {
            "code": -32603,
            "message": f"the client's error is none: {message['error']!r}"[:300],
        }
    return message


def _call(message: dict[str, Any], id: str | int | None) -> dict[str, Any] | LineProblem | None:
    if not isinstance(message["method"], str):
        why = f"method: must be a text, got a {_kind(message['method'])}"
        return LineProblem(id, INVALID_REQUEST, why)
    params = message.get("params")
    if isinstance(params, dict):
        for name in _META:
            params.pop(name, None)
        if message["method"] in _WITH_SERVERS and (malformed := malformed_items(params)):
            params["_meta"] = {"malformed": malformed}  # an argument of the agent's method
    if "id" not in message and not _is_cancel(message["method"], params):
        return None
    return message


def _is_cancel(method: str, params: object) -> bool:
    """Tell whether a notification is the one that an agent takes."""
    return (
        method == "session/cancel" and isinstance(params, dict) and isinstance(params.get("sessionId"), str)
    )


def _is_error(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("code"), int)
        and isinstance(value.get("message"), str)
    )


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")
