"""One server as a dict: read strictly, and what is wrong is named with its key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from agentd.errors import ConfigError, suggest

from agentd_mcp_bridge.config import (
    DEFAULT_START_TIMEOUT_S,
    HttpKind,
    HttpTarget,
    Protocol,
    ServerConfig,
    StdioTarget,
    Target,
    ToolFilter,
)
from agentd_mcp_bridge.names import command_name, url_name

__all__ = ["KEYS", "configure", "looks_like_entry", "read_entry", "read_options"]

_KINDS: Final[dict[str, HttpKind]] = {
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamableHttp": "http",
    "sse": "sse",
}
_STDIO_KEYS: Final = ("command", "args", "env", "envFile", "cwd")
_HTTP_KEYS: Final = ("url", "headers", "bearer_token", "auth")
_HTTP_OPTIONS: Final = ("headers", "bearer_token", "auth")
_OPTIONS: Final = (
    "name",
    "tool_filter",
    "timeout_s",
    "start_timeout_s",
    "max_message_mib",
    "elicitation",
    "sampling",
    "roots",
    "protocol",
    "shared",
)
_REVISIONS: Final[dict[str, Protocol]] = {
    "auto": "auto",
    "legacy": "legacy",
    "2024-11-05": "legacy",
    "2025-03-26": "legacy",
    "2025-06-18": "legacy",
    "2025-11-25": "legacy",  # the handshake finds the one of these that the server knows
}
_MARKS: Final = ("command", "url", "server", "transport")
KEYS: Final = ("type", *_STDIO_KEYS, *_HTTP_KEYS, *_OPTIONS, "disabled", "server", "transport")


def looks_like_entry(entry: Mapping[Any, Any]) -> bool:
    """Tell whether a dict is meant as a server: it has a key of one, or one that is nearly so.

    :raises ConfigError: if it is nearly so.
    """
    if any(mark in entry for mark in _MARKS):
        return True
    known = (*KEYS, "mcpServers", "servers")
    near = [key for key in entry if isinstance(key, str) and (key in known or _close_to(key, known))]
    if not near:
        return False
    hints = "".join(f"; {key!r} is unknown{suggest(key, known)}" for key in near if key not in known)
    raise ConfigError(
        f"an MCP server as a dict has 'command' or 'url' (or is a table {{'mcpServers': {{...}}}}); "
        f"got the keys {', '.join(map(repr, entry))}{hints}"
    )


def read_options(options: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Check the options that may stand beside any server; raises `ConfigError`."""
    known = (*_OPTIONS, *_HTTP_OPTIONS)
    for key in options:
        if key not in known:
            raise ConfigError(
                f"{_path(where, key)}unknown option; allowed: {', '.join(known)}{suggest(str(key), known)}"
            )
    return dict(options)


def read_entry(
    entry: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    where: str = "",
    name: str = "",
    base: Path | None = None,
) -> ServerConfig:
    """Read one server.

    :param defaults: options for what the entry does not say.
    :param where: put before the keys in errors: a file and the server's name.
    :param name: the server's name in a table.
    :param base: the folder that a relative `envFile` belongs to.
    """
    _check_keys(entry, where)
    kind = _kind(entry, where)
    target: Target
    if kind == "stdio":
        target = _stdio(entry, where, base)
        found = command_name(target.command, target.args)
        misplaced: tuple[str, ...] = _HTTP_KEYS
    else:
        target = HttpTarget(url=_url(entry, where), kind=kind)
        found = url_name(target.url)
        misplaced = _STDIO_KEYS
    for key in misplaced:
        if entry.get(key):
            raise ConfigError(f"{_path(where, key)}does not belong to a server with {_mark(kind)!r}")
    own = {key: entry[key] for key in (*_OPTIONS, *_HTTP_OPTIONS) if key in entry}
    if kind == "stdio":  # defaults for HTTP servers may stand beside a table of both kinds
        defaults = {k: v for k, v in defaults.items() if k not in _HTTP_OPTIONS}
    return configure(target, name or found, {**defaults, **own}, where=where)


def configure(target: Target, name: str, options: Mapping[str, Any], *, where: str = "") -> ServerConfig:
    """Return the configuration of a server from its target and checked values of its options."""
    given = dict(options)
    http: dict[str, Any] = {key: given.pop(key) for key in _HTTP_OPTIONS if key in given}
    if isinstance(target, HttpTarget):
        auth, patience_s = _auth(http.get("auth"), target.url)
        target = HttpTarget(url=target.url, kind=target.kind, headers=_headers(http, where), auth=auth)
        if patience_s:
            given.setdefault("start_timeout_s", DEFAULT_START_TIMEOUT_S + patience_s)
    elif http:
        key = next(iter(http))
        raise ConfigError(f"{_path(where, key)}belongs to a server with a URL only")
    values: dict[str, Any] = {"name": _text(given.pop("name", name), where, "name")}
    for key in ("timeout_s", "start_timeout_s", "max_message_mib"):
        if given.get(key) is not None:
            values[key] = _positive(given[key], where, key)
    for key in ("elicitation", "sampling"):
        if given.get(key) is not None and not callable(given[key]):
            raise ConfigError(f"{_path(where, key)}must be a function, got {given[key]!r}")
        values[key] = given.get(key)
    if given.get("roots") is not None:
        values["roots"] = tuple(str(root) for root in _list(given["roots"], where, "roots", (str, Path)))
    if given.get("protocol") is not None:
        values["protocol"] = _protocol(given["protocol"], where)
    if given.get("shared") is not None:
        values["shared"] = _flag(given["shared"], where, "shared")
    if given.get("tool_filter") is not None:
        values["tool_filter"] = _filter(given["tool_filter"], where)
    return ServerConfig(target=target, **values)


# --- the parts ---------------------------------------------------------------------------------


def _check_keys(entry: Mapping[str, Any], where: str) -> None:
    for key in entry:
        if key not in KEYS:
            raise ConfigError(
                f"{_path(where, key)}unknown key; allowed: {', '.join(KEYS)}{suggest(str(key), KEYS)}"
            )


def _close_to(key: str, known: tuple[str, ...]) -> bool:
    return bool(get_close_matches(key, known, n=1, cutoff=0.8))


def _kind(entry: Mapping[str, Any], where: str) -> Any:
    if "command" in entry and "url" in entry:
        raise ConfigError(f"{_path(where, 'command')}a server has a command or a url, not both")
    if "command" not in entry and "url" not in entry:
        raise ConfigError(f"{where}: has neither 'command' nor 'url'".removeprefix(": "))
    kind = entry.get("type")
    if kind is None:
        return "stdio" if "command" in entry else "auto"
    if kind != "stdio" and kind not in _KINDS:
        allowed = ("stdio", "http", "streamable-http", "sse")
        raise ConfigError(
            f"{_path(where, 'type')}must be one of {', '.join(allowed)}, got {kind!r}{suggest(str(kind), allowed)}"
        )
    return "stdio" if kind == "stdio" else _KINDS[kind]


def _mark(kind: str) -> str:
    return "command" if kind == "stdio" else "url"


def _stdio(entry: Mapping[str, Any], where: str, base: Path | None) -> StdioTarget:
    command = _text(entry.get("command"), where, "command")
    args = entry.get("args")
    env = _strings(entry.get("env"), where, "env")
    if entry.get("envFile"):
        env = {**_read_env_file(_text(entry["envFile"], where, "envFile"), where, base), **env}
    cwd = entry.get("cwd")
    if cwd is not None:
        cwd = str(Path(_text(str(cwd) if isinstance(cwd, Path) else cwd, where, "cwd")).expanduser())
    return StdioTarget(
        command=command,
        args=() if args is None else tuple(_list(args, where, "args", (str,))),
        env=env,
        cwd=cwd,
    )


def _url(entry: Mapping[str, Any], where: str) -> str:
    url = _text(entry.get("url"), where, "url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:  # half an IPv6 address, a port that is no number
        raise ConfigError(f"{_path(where, 'url')}is no URL: {error}, got {url!r:.200}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(
            f"{_path(where, 'url')}must start with http:// or https:// and have a host, got {url!r}"
        )
    return url


def _headers(http: Mapping[str, Any], where: str) -> dict[str, str]:
    headers = _strings(http.get("headers"), where, "headers")
    token = http.get("bearer_token")
    if token is not None:
        if not isinstance(token, str) or not token:
            raise ConfigError(f"{_path(where, 'bearer_token')}must be a text that is not empty")
        if any(name.lower() == "authorization" for name in headers):
            raise ConfigError(
                f"{_path(where, 'bearer_token')}headers has an Authorization already; give one of them"
            )
        headers["Authorization"] = f"Bearer {token}"
    return headers


def _auth(auth: object, url: str) -> tuple[object, float]:
    """Return what authorises the requests, and the seconds that a person may need for it."""
    from agentd_mcp_bridge.oauth import OAuthSettings, oauth_settings
    from agentd_mcp_bridge.providers import make_auth

    if auth is None or auth is False:
        return None, 0.0
    if auth is True or isinstance(auth, str | Mapping | OAuthSettings):
        settings = oauth_settings(auth)
        return make_auth(url, settings), settings.timeout_s if settings.grant == "authorization_code" else 0.0
    return auth, 0.0  # an `httpx2.Auth`, or whatever else httpx2 takes


def _protocol(value: object, where: str) -> Protocol:
    if not isinstance(value, str) or value not in _REVISIONS:
        raise ConfigError(
            f"{_path(where, 'protocol')}must be one of {', '.join(_REVISIONS)}, got {value!r}"
            f"{suggest(str(value), tuple(_REVISIONS))}"
        )
    return _REVISIONS[value]


def _filter(value: object, where: str) -> ToolFilter:
    if isinstance(value, ToolFilter):
        return value
    if isinstance(value, Mapping):
        for key in value:
            if key not in ("allow", "deny"):
                raise ConfigError(
                    f"{_path(where, f'tool_filter.{key}')}unknown key; allowed: allow, deny"
                    f"{suggest(str(key), ('allow', 'deny'))}"
                )
        allow, deny = value.get("allow"), value.get("deny")
        return ToolFilter(
            None if allow is None else tuple(_list(allow, where, "tool_filter.allow", (str,))),
            () if deny is None else tuple(_list(deny, where, "tool_filter.deny", (str,))),
        )
    return ToolFilter(tuple(_list(value, where, "tool_filter", (str,))))


def _read_env_file(name: str, where: str, base: Path | None) -> dict[str, str]:
    path = (base or Path()) / Path(name).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{_path(where, 'envFile')}cannot be read: {error}") from None
    values = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{_path(where, 'envFile')}{path}:{number}: must look like NAME=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[key.strip()] = value
    return values


# --- values of one type ------------------------------------------------------------------------


def _path(where: str, key: object) -> str:
    return f"{where}.{key}: " if where else f"{key}: "


def _text(value: object, where: str, key: str) -> str:
    if value is None:
        raise ConfigError(f"{_path(where, key)}is missing")
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{_path(where, key)}must be a text that is not empty, got {value!r}")
    return value


def _positive(value: object, where: str, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"{_path(where, key)}must be a number above 0, got {value!r}")
    return float(value)


def _flag(value: object, where: str, key: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{_path(where, key)}must be true or false, got {value!r}")
    return value


def _list(value: object, where: str, key: str, of: tuple[type, ...]) -> list[Any]:
    if not isinstance(value, list | tuple):  # a text is a sequence, too: "-y" is not ["-", "y"]
        raise ConfigError(f"{_path(where, key)}must be a list, got {value!r}")
    for index, item in enumerate(value):
        if not isinstance(item, of):
            raise ConfigError(f"{_path(where, f'{key}[{index}]')}must be a text, got {item!r}")
    return list(value)


def _strings(value: object, where: str, key: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{_path(where, key)}must be an object of texts, got {type(value).__name__}")
    for name, text in value.items():
        if not isinstance(name, str) or not isinstance(text, str):  # the value may be a secret: not shown
            raise ConfigError(f"{_path(where, f'{key}.{name}')}must be a text, got {type(text).__name__}")
    return dict(value)
