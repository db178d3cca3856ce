"""What servers send, as Python values: results of tools, resources, prompts."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import mcp_types as types
from agentd.errors import ToolError
from agentd.types import Blob

__all__ = ["content_value", "plain", "prompt_messages", "resource_value", "summary", "tool_value"]

_ERROR_CHARS: Final = 20_000


def tool_value(
    result: types.CallToolResult, name: str, *, wrapped: bool = False, warning: str = ""
) -> object:
    """Return the result of a call: structured content as its type, else the content.

    One text is a `str` (never guessed to be anything else), an image, audio or embedded binary a `Blob`, a
    link a dict, several parts a list, nothing None. What stands beside structured content and does not repeat it is
    the list under its key `_content`; where it repeats binary data as text, the parts are the better form and alone
    are the result.

    :param wrapped: structured content is `{"result": x}` only because MCP wants an object: return x.
    :param warning: stands under the key `_warning` of structured content.
    :raises ToolError: with the server's text, and its structured content as `data`, if the call failed.
    """
    structured: Any = result.structured_content
    if result.is_error:
        raise ToolError(_error_text(result, name), data=structured)
    if structured is None or _repeats_binary(result.content, structured):
        return _one_or_list(content_value(part) for part in result.content)
    content = [content_value(part) for part in result.content if not _repeats(part, structured)]
    if isinstance(structured, dict) and (content or warning) and not (wrapped and not content):
        more = {"_content": content} if content else {}
        return {**structured, **more, **({"_warning": warning} if warning else {})}
    if wrapped and isinstance(structured, dict) and structured.keys() == {"result"}:
        return structured["result"]
    return structured


def summary(result: types.CallToolResult) -> object:
    """Return what events tell of a result that goes to somebody else as it is: its texts, and what else there is.

    :raises ToolError: with the server's text, if the call failed.
    """
    if result.is_error:
        raise ToolError(_error_text(result, "the tool"))
    return [part.text if isinstance(part, types.TextContent) else f"[{part.type}]" for part in result.content]


def _repeats_binary(content: list[Any], structured: object) -> bool:
    """Tell whether binary parts stand in the structured content once more, as base64 text."""
    data = {part.data for part in content if isinstance(part, types.ImageContent | types.AudioContent)}
    return bool(data) and data <= set(_texts(structured))


def _repeats(part: Any, structured: Any) -> bool:
    """Tell whether a part is a text that says what the structured content says."""
    if not isinstance(part, types.TextContent):
        return False
    text = part.text
    if not text.strip() or any(text == one for one in _texts(structured)):
        return True
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return False
    is_wrapper = isinstance(structured, dict) and len(structured) == 1  # an object only because MCP wants one
    inner = next(iter(structured.values())) if is_wrapper else structured
    return said in (structured, inner) or (isinstance(inner, list) and said in inner)


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            todo += one.values()
        elif isinstance(one, list):
            todo += one


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
    parts = [part.text for part in result.content if isinstance(part, types.TextContent) and part.text]
    structured = result.structured_content
    if isinstance(structured, Mapping) and not any(_repeats(part, structured) for part in result.content):
        parts.append(json.dumps(structured))
    text = "\n".join(parts)
    if len(text) > _ERROR_CHARS:
        text = f"{text[:_ERROR_CHARS]}... ({len(text)} characters)"
    return text or f"{name} failed, and the server does not say why"
