"""The lines of a client on standard input: messages of the protocol, bounded. The client is told of what is not one:
with the id of the request, if that can be read, as the client waits for an answer to it (JSON-RPC 2.0, section 5)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final

from agentd_cli.standard_streams import CutLine, StandardInput, StandardOutput
from mcp_types import INVALID_REQUEST, PARSE_ERROR, JSONRPCNotification, jsonrpc_message_adapter
from pydantic import ValidationError

__all__ = ["MOST_BYTES", "WRONG_ID", "ClientLines", "has_wrong_id", "readable_id"]

MOST_BYTES: Final = 16 << 20
"""How long a message of a client may be."""
WRONG_ID: Final = "the id of a request must be text or a whole number"
_SCALAR: Final = rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null'
_FIRST: Final = re.compile(rb'[{,]\s*"(\w+)"\s*:\s*(' + _SCALAR + rb")?\s*")
_LAST: Final = re.compile(rb'((?:,\s*"(?:id|jsonrpc|method)"\s*:\s*(?:' + _SCALAR + rb")\s*)+)\}\s*$")


class ClientLines:
    """The messages of a client, one a line, as an asynchronous iterator. The last one need not be ended.

    :param output: where a client is told of a line that is no message: the SDK passes over it in silence.
    """

    def __init__(self, source: StandardInput, output: StandardOutput) -> None:
        self._source = source
        self._output = output

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._source.lines(MOST_BYTES):
            message, problems = _looked_at(line)
            for problem in problems:
                await self._output.write(problem + "\n")
            if message:
                yield message


def has_wrong_id(message: Mapping[str, Any]) -> bool:
    """Tell whether this has a method and an id, but none that a request may have: the SDK takes it for a notification,
    and does not answer it."""
    is_right = isinstance(message.get("id"), int | str) and not isinstance(message.get("id"), bool)
    return "method" in message and "id" in message and not is_right


def _looked_at(line: bytes | CutLine) -> tuple[str, Sequence[str]]:
    """Return what the SDK gets of a line, which may be nothing, and what the client is told of it."""
    if isinstance(line, CutLine):
        text = f"a message may have {MOST_BYTES:,} bytes at most; this one was not read"
        return _refused(_outer_members(line), INVALID_REQUEST, text)
    if not line.strip():
        return "", ()
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        problem = error.errors(include_input=False)[0]
        if problem["type"] == "json_invalid":  # so is half a character, as `"\ud800"`, to pydantic
            return _refused(_parsed(line), PARSE_ERROR, f"this line is no JSON: {problem['msg']:.200}")
        return _refused(
            _parsed(line), INVALID_REQUEST, "this is no JSON-RPC request, notification or response"
        )
    if isinstance(message, JSONRPCNotification) and b'"id"' in line:
        parsed = _parsed(line)
        if isinstance(parsed, dict) and has_wrong_id(parsed):
            return _refused(parsed, INVALID_REQUEST, WRONG_ID)
    return line.decode("utf-8", "replace"), ()


def _refused(message: Any, code: int, text: str) -> tuple[str, Sequence[str]]:
    """Refuse a message, of which nothing may be known. A question of ours to which it is the answer ends."""
    if isinstance(message, list):
        batch = [one for one in message if isinstance(one, dict) and "method" in one and "id" in one]
        text = "MCP has no batches: send each message in a line of its own"
        return "", [_error(readable_id(one), INVALID_REQUEST, text) for one in batch] or [
            _error(None, code, text)
        ]
    if not isinstance(message, dict):
        return "", [_error(None, code, text)]
    number = readable_id(message)
    if "method" in message or not message.keys() & {"result", "error"}:
        return "", [_error(number, code, text)]
    # The id is one of ours: an error with it would be the answer to a request of the client's own.
    return "" if number is None else _error(number, code, text), [_error(None, code, text)]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def readable_id(message: Mapping[str, Any]) -> float | str | None:
    """Return what an answer to this has as its id, if that is any."""
    found = message.get("id")
    if isinstance(found, float):
        return found if isfinite(found) else None
    return found if isinstance(found, int | str) and not isinstance(found, bool) else None


def _outer_members(line: CutLine) -> Mapping[str, Any]:
    """Return what can be said of a long object's members from its beginning and its end: a value that is not text or a
    number is None. Behind the first one of those, only the last members are known."""
    found: dict[str, Any] = {}
    place = len(line.head) - len(line.head.lstrip())
    while member := _FIRST.match(line.head, place):
        place = member.end()
        is_known = member[2] is not None and place < len(line.head)
        found[member[1].decode()] = _parsed(member[2]) if is_known else None
        if not is_known:
            break
    # In front of the last brace, no quotation mark can be a part of a text, unless it ends that.
    if last := _LAST.search(line.tail):
        found |= _parsed(b"{" + last[1].lstrip(b",") + b"}") or {}
    return found


def _error(number: float | str | None, code: int, text: str) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": text}})
