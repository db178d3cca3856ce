"""URIs of subscriptions: resources, and tools as `tool://NAME/?argument=value`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from agentd.errors import ConfigError

__all__ = ["TOOL_SCHEME", "parse_tool_uri", "safe_uri", "uri_scheme"]

TOOL_SCHEME: Final = "tool"

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):[^\s]*[^\s:/][^\s]*")


def uri_scheme(uri: str) -> str:
    """Return the scheme of a URI in lower case (RFC 3986), or an empty string for what is no URI."""
    match = _SCHEME.fullmatch(uri)
    return match[1].lower() if match else ""


def safe_uri(uri: str) -> str:
    """Return a URI for messages: without its query and fragment, where secrets may be."""
    shown = re.split(r"[?#]", uri, maxsplit=1)[0]
    return re.sub(r"//[^/@]*@", "//", shown) + ("?..." if len(shown) < len(uri) else "")


def parse_tool_uri(uri: str) -> tuple[str, dict[str, str | list[str]]]:
    """Take `tool://NAME/?argument=value` apart.

    Names and values are percent-decoded, `+` in the query is a space. Values stay texts, whoever calls the
    tool converts them by its input schema; an argument that is given several times is a list of texts.

    :returns: the tool's name and its arguments.
    :raises ConfigError: for what is no such URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise ConfigError(f"{safe_uri(uri)!r} is no URI: {error}") from None
    if parts.scheme != TOOL_SCHEME:
        raise ConfigError(f"must look like tool://NAME/?argument=value, got {safe_uri(uri)!r}")
    name = unquote(parts.netloc)
    if not name:
        raise ConfigError(f"names no tool; must look like tool://NAME/?argument=value, got {safe_uri(uri)!r}")
    if parts.path not in ("", "/"):
        raise ConfigError(
            f"has a path, {parts.path!r}; arguments stand behind '?': tool://{name}/?argument=value"
        )
    if parts.fragment:
        raise ConfigError("has a '#'; in the value of an argument, write %23")
    return name, _arguments(name, parts.query)


def _arguments(tool: str, query: str) -> dict[str, str | list[str]]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except UnicodeDecodeError:
        raise ConfigError(f"the arguments of tool://{tool} are no text in UTF-8") from None
    except ValueError:  # its text would show the field
        raise ConfigError(
            f"an argument of tool://{tool} has no '='; write %26 for '&' in the value of an argument"
        ) from None
    arguments: dict[str, str | list[str]] = {}
    for name, value in pairs:
        if not name:
            raise ConfigError(f"an argument of tool://{tool} has no name before '='")
        known = arguments.get(name)
        if known is None:
            arguments[name] = value
        else:
            arguments[name] = [*known, value] if isinstance(known, list) else [known, value]
    return arguments
