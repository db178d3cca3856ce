"""What a subscription is about, read as text: a resource, or what a tool returns."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

import attrs
from agentd.errors import ConfigError, ToolError, UnknownToolError, suggest
from agentd.turn.transcript import cut_middle
from agentd.types import Blob

from agentd_daemon.arguments import typed_arguments
from agentd_daemon.sources import ServerShare
from agentd_daemon.uris import TOOL_SCHEME, parse_tool_uri, safe_uri, uri_scheme

__all__ = ["ContentPlace", "ResourceContent", "find_place"]

T = TypeVar("T")
MAX_CHARS: Final = 1_000_000
"""Of a content, what the journal keeps and an agent may be told."""


@attrs.frozen
class ResourceContent:
    """A resource's content at one moment. `digest` is that of all of it, `text` at most `MAX_CHARS` long."""

    text: str
    digest: str


@attrs.frozen
class ContentPlace:
    """Where the content of a subscription comes from.

    :ivar tool: the tool to call, or None for a resource that is read by its URI.
    """

    share: ServerShare
    uri: str
    tool: str | None = None
    arguments: Mapping[str, object] = attrs.field(factory=dict)

    async def read(self) -> ResourceContent:
        """Return the content as it is now.

        :raises ToolError: if the server or the tool fails.
        """
        if self.tool is not None:
            value = await self.share.call_any(self.tool, self.arguments)
        else:
            value = await self.share.read_resource(self.uri)
        return _content(value)


async def find_place(uri: str, shares: Sequence[ServerShare], server: str | None) -> ContentPlace:
    """Return which of an agent's servers has the content.

    A tool belongs to the first server that lists it; a resource to the only server there is, the first that lists it,
    or else the first that can read it. A server that cannot be asked now keeps nobody else's from being found.

    :param server: the name of the server, if the configuration says it.
    :raises ConfigError: if none has it.
    :raises ToolError: if a server that might have it cannot be asked now.
    """
    candidates = [share for share in shares if server in (None, share.name)]
    if not candidates:
        raise ConfigError(_no_server(uri, shares, server))
    if uri_scheme(uri) == TOOL_SCHEME:
        return await _tool_place(uri, candidates)
    if len(candidates) == 1:
        return ContentPlace(candidates[0], uri)
    lists, unheard = await _each(candidates, lambda share: share.list_resources())
    for share, resources in lists:
        if any(str(resource.get("uri")) == uri for resource in resources):
            return ContentPlace(share, uri)
    if unheard is not None:
        raise unheard
    readable, _ = await _each(candidates, lambda share: share.read_resource(uri))
    if readable:
        return ContentPlace(readable[0][0], uri)
    raise ConfigError(
        f"{safe_uri(uri)}: none of the servers {_names(candidates)} has this resource; name the right one with "
        "`server`, or correct the URI"
    )


async def _tool_place(uri: str, candidates: Sequence[ServerShare]) -> ContentPlace:
    name, texts = parse_tool_uri(uri)
    known: set[str] = set()
    unheard: ToolError | None = None
    for share in candidates:  # those behind the first that has it need not even start
        try:
            specs = {spec.name: spec for spec in await share.all_tools()}
        except ToolError as error:
            unheard = unheard or error
            continue
        if name in specs:
            return ContentPlace(share, uri, name, typed_arguments(uri, texts, specs[name].input_schema))
        known |= specs.keys()
    raise unheard or UnknownToolError(name, known)


async def _each(
    shares: Sequence[ServerShare], ask: Callable[[ServerShare], Awaitable[T]]
) -> tuple[list[tuple[ServerShare, T]], ToolError | None]:
    """Ask one server after the other; return those that answered, and the first error."""
    answers: list[tuple[ServerShare, T]] = []
    failure: ToolError | None = None
    for share in shares:
        try:
            answers.append((share, await ask(share)))
        except ToolError as error:
            failure = failure or error
    return answers, failure


def _names(shares: Sequence[ServerShare]) -> str:
    return ", ".join(repr(share.name) for share in shares)


def _no_server(uri: str, shares: Sequence[ServerShare], server: str | None) -> str:
    if not shares:
        return f"{safe_uri(uri)}: the agent has no server that could have it; add one to `mcp_servers`"
    hint = suggest(server or "", [share.name for share in shares])
    return f"{safe_uri(uri)}: the agent has no server {server!r}; `server` must be one of: {_names(shares)}{hint}"


def _content(value: object) -> ResourceContent:
    parts = value if isinstance(value, list) and any(isinstance(p, Blob) for p in value) else [value]
    digest = hashlib.sha256()
    texts = []
    for part in parts:
        text, data = _part(part)
        digest.update(b"%d:" % len(data) + data)
        texts.append(text)
    return ResourceContent(cut_middle("\n".join(texts), MAX_CHARS), digest.hexdigest())


def _part(value: object) -> tuple[str, bytes]:
    if isinstance(value, Blob):
        return f"[{value.mime_type}, {len(value)} bytes]", bytes(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1, default=str)
    return text, text.encode("utf-8", "surrogatepass")
