"""The lines of a client on standard input: messages of the protocol, bounded; it is told of what is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from agentd_cli.standard_streams import StandardInput, StandardOutput
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter
from pydantic import ValidationError

__all__ = ["MOST_BYTES", "ClientLines"]

MOST_BYTES: Final = 16 << 20
"""How long a message of a client may be."""


class ClientLines:
    """The messages of a client, one a line, as an asynchronous iterator. The last one need not be ended.

    :param output: where a client is told of a line that is no message: the SDK passes over it in silence.
    """

    def __init__(self, source: StandardInput, output: StandardOutput) -> None:
        self._source = source
        self._output = output

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._source.lines(MOST_BYTES):
            if problem := _problem(line):
                await self._output.write(problem)
            elif line is not None:
                yield line.decode("utf-8", "replace")


def _problem(line: bytes | None) -> str:
    """Return what a client is told of a line that is no message of the protocol, or an empty text."""
    if line is None:
        return _error(
            INVALID_REQUEST, f"a message may have {MOST_BYTES:,} bytes at most; this one was not read"
        )
    if not line.strip():
        return ""
    try:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValidationError as error:
        is_json = all(problem["type"] != "json_invalid" for problem in error.errors(include_input=False))
        if is_json:
            return _error(INVALID_REQUEST, "this is no JSON-RPC request, notification or response")
        return _error(
            PARSE_ERROR, f"this line is no JSON: {error.errors(include_input=False)[0]['msg']:.200}"
        )
    return ""


def _error(code: int, text: str) -> str:
    told = JSONRPCError(jsonrpc="2.0", id=None, error=ErrorData(code=code, message=text))
    return told.model_dump_json(by_alias=True, exclude_unset=True) + "\n"
