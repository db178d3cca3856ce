"""What servers send, as Python values: results of tools, resources, prompts."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final

import mcp_types as types
from agentd.errors import ToolError
from agentd.types import Blob

__all__ = ["content_value", "plain", "prompt_messages", "resource_value", "tool_value"]

_ERROR_CHARS: Final = 20_000


def tool_value(result: types.CallToolResult, name: str, *, wrapped: bool = False) -> object:
    """Return the result of a call: structured content as its type, else the content.

    One text is a `str` (never guessed to be anything else), an image, audio or embedded binary a `Blob`, a
    link a dict, several parts a list, nothing None.

    :param wrapped: structured content is `{"result": x}` only because MCP wants an object: return x.
    :raises ToolError: with the server's text, if the call failed.
    """
    if result.is_error:
        raise ToolError(_error_text(result, name))
    structured: Any = result.structured_content
    if structured is not None:
        if wrapped and isinstance(structured, dict) and structured.keys() == {"result"}:
            return structured["result"]
        return structured
    return _one_or_list(content_value(part) for part in result.content)


def resource_value(result: types.ReadResourceResult) -> object:
    """Return the contents of a resource: `str` or `Blob`, or a list where there are several."""
    return _one_or_list(_contents_value(contents) for contents in result.contents)


def prompt_messages(result: types.GetPromptResult) -> list[dict[str, object]]:
    """Return a prompt's messages as `{"role": ..., "content": ...}`, the content as in a tool's result."""
    return [{"role": m.role, "content": content_value(m.content)} for m in result.messages]


def content_value(part: Any) -> object:
    """Return one part of a result."""
    if isinstance(part, types.TextContent):
        return part.text
    if isinstance(part, types.ImageContent | types.AudioContent):
        return _blob(part.data, part.mime_type)
    if isinstance(part, types.EmbeddedResource):
        return _contents_value(part.resource)
    return plain(part)


def plain(model: Any) -> dict[str, object]:
    """Return a model as the JSON object that came over the wire."""
    data: dict[str, object] = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return data


def _contents_value(contents: Any) -> object:
    if isinstance(contents, types.TextResourceContents):
        return contents.text
    return _blob(contents.blob, contents.mime_type, str(contents.uri))


def _blob(data: str, mime_type: str | None, uri: str = "") -> Blob:
    try:
        decoded = b64decode(data)
    except ValueError as error:
        raise ToolError(f"the server sent binary data that is no base64: {error}") from None
    return Blob(decoded, mime_type or "application/octet-stream", uri)


def _one_or_list(values: Iterable[object]) -> object:
    items = list(values)
    if not items:
        return None
    return items[0] if len(items) == 1 else items


def _error_text(result: types.CallToolResult, name: str) -> str:
    texts = [part.text for part in result.content if isinstance(part, types.TextContent) and part.text]
    if not texts and isinstance(result.structured_content, Mapping):
        texts = [json.dumps(result.structured_content)]
    text = "\n".join(texts)
    if len(text) > _ERROR_CHARS:
        text = f"{text[:_ERROR_CHARS]}... ({len(text)} characters)"
    return text or f"{name} failed, and the server does not say why"
