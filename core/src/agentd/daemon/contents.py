"""What a subscription is about, read as text: a resource, or what a tool returns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from agentd.daemon.sources import ServerShare
from agentd.daemon.uris import TOOL_SCHEME, parse_tool_uri, safe_uri, uri_scheme
from agentd.errors import ConfigError, ToolError
from agentd.results import cut_middle
from agentd.types import Blob

__all__ = ["Content", "Place", "find_place"]

MAX_CHARS: Final = 1_000_000
"""Of a content, what the journal keeps and an agent may be told."""


@attrs.frozen
class Content:
    """A resource's content at one moment. `digest` is that of all of it, `text` at most `MAX_CHARS` long."""

    text: str
    digest: str


@attrs.frozen
class Place:
    """Where the content of a subscription comes from.

    :ivar tool: the tool to call, or None for a resource that is read by its URI.
    """

    share: ServerShare
    uri: str
    tool: str | None = None
    arguments: Mapping[str, object] = attrs.field(factory=dict)

    async def read(self) -> Content:
        """Return the content as it is now.

        :raises ToolError: if the server or the tool fails.
        """
        if self.tool is not None:
            value = await self.share.call_any(self.tool, self.arguments)
        else:
            value = await self.share.read_resource(self.uri)
        return _content(value)


async def find_place(uri: str, shares: Sequence[ServerShare], server: str | None) -> Place:
    """Return which of an agent's servers has the content.

    A tool belongs to the first server that lists it; a resource to the only server there is, the first that lists it,
    or else the first that can read it.

    :param server: the name of the server, if the configuration says it.
    :raises ConfigError: if none has it.
    :raises ToolError: if a server that might have it cannot be asked now.
    """
    candidates = [share for share in shares if server in (None, share.name)]
    if not candidates:
        names = ", ".join(repr(share.name) for share in shares) or "none"
        raise ConfigError(f"{safe_uri(uri)}: no server for it; the agent's servers: {names}")
    if uri_scheme(uri) == TOOL_SCHEME:
        return await _tool_place(uri, candidates)
    if len(candidates) == 1:
        return Place(candidates[0], uri)
    for share in candidates:
        if any(str(item.get("uri")) == uri for item in await share.list_resources()):
            return Place(share, uri)
    for share in candidates:
        try:
            await share.read_resource(uri)
        except ToolError:
            continue
        return Place(share, uri)
    raise ConfigError(
        f"{safe_uri(uri)}: none of the servers {', '.join(repr(s.name) for s in candidates)} has this resource; "
        "name the right one with `server`"
    )


async def _tool_place(uri: str, candidates: Sequence[ServerShare]) -> Place:
    name, texts = parse_tool_uri(uri)
    known: list[str] = []
    for share in candidates:
        for spec in await share.all_tools():
            if spec.name == name:
                return Place(share, uri, name, _typed(uri, texts, spec.input_schema))
            known.append(spec.name)
    from agentd.errors import UnknownToolError

    raise UnknownToolError(name, known)


def _typed(uri: str, texts: Mapping[str, str | list[str]], schema: Mapping[str, object]) -> dict[str, object]:
    """Convert arguments, which are texts in a URI, to the types that the tool's schema names."""
    properties = schema.get("properties")
    known: Mapping[str, Any] = properties if isinstance(properties, Mapping) else {}
    return {name: _value(uri, name, text, known.get(name)) for name, text in texts.items()}


def _value(uri: str, name: str, text: str | list[str], schema: object) -> object:
    kinds = _kinds(schema)
    if "array" in kinds:
        items = schema.get("items") if isinstance(schema, Mapping) else None
        return [_value(uri, name, item, items) for item in ([text] if isinstance(text, str) else text)]
    if not isinstance(text, str):
        raise ConfigError(f"{safe_uri(uri)}: the argument {name!r} is given twice, and the tool takes one")
    if not kinds or "string" in kinds:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if not any(_fits(value, kind) for kind in kinds):
        raise ConfigError(
            f"{safe_uri(uri)}: the argument {name!r} must be of the type {' or '.join(sorted(kinds))}"
        )
    return value


def _kinds(schema: object) -> set[str]:
    """The JSON types that a schema admits; empty if it does not say."""
    if not isinstance(schema, Mapping):
        return set()
    kind = schema.get("type")
    kinds = {kind} if isinstance(kind, str) else set(kind) if isinstance(kind, list) else set()
    for key in ("anyOf", "oneOf"):
        choices = schema.get(key)
        for choice in choices if isinstance(choices, list) else ():
            kinds |= _kinds(choice)
    return kinds


def _fits(value: object, kind: str) -> bool:
    types: Any = {
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "object": dict,
    }.get(kind, ())
    return isinstance(value, types) and (kind == "boolean" or not isinstance(value, bool))


def _content(value: object) -> Content:
    parts = value if isinstance(value, list) and any(isinstance(p, Blob) for p in value) else [value]
    digest = hashlib.sha256()
    texts = []
    for part in parts:
        text, data = _part(part)
        digest.update(b"%d:" % len(data) + data)
        texts.append(text)
    return Content(cut_middle("\n".join(texts), MAX_CHARS), digest.hexdigest())


def _part(value: object) -> tuple[str, bytes]:
    if isinstance(value, Blob):
        return f"[{value.mime_type}, {len(value)} bytes]", bytes(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return text, text.encode("utf-8", "surrogatepass")
