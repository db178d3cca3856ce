"""Entries of tables that were written for other programs, in the keys that `entries` knows.

Read as their owners meant them: Claude Desktop and Claude Code, Cursor, VS Code, Cline, Roo Code, Windsurf, Gemini CLI,
Kiro, opencode and Codex have keys of their own for an address, a transport, a time-out and the tools on offer.
Where two of them speak of the tools, both hold: always on the side of less.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agentd.errors import ConfigError

__all__ = ["is_switched_off", "project_folder", "translate"]

_ADDRESSES: Final = {"serverUrl": "auto", "httpUrl": "http", "uri": "auto"}
"""Other names of `url`, with the transport that they mean."""
_RENAMED: Final = {"environment": "env", "transportType": "type", "http_headers": "headers"}
_TYPES: Final = {"local": "stdio", "remote": None, "streamable_http": "http"}
_SECONDS: Final = {"tool_timeout_sec": "timeout_s", "startup_timeout_sec": "start_timeout_s"}
_MILLISECONDS: Final = {"initTimeout": "start_timeout_s"}
_MILLISECOND_FOLDERS: Final = (".gemini", ".kiro", ".amazonq")
"""Folders of programs whose `timeout` is in milliseconds whatever its size."""
_IN_MILLISECONDS: Final = 1_000  # as seconds, over a quarter of an hour for one call
_ALLOWING: Final = ("tools", "includeTools", "enabledTools", "enabled_tools", "allowedTools")
_DENYING: Final = ("disabledTools", "excludeTools", "disabled_tools", "excludedTools")
_CONFIG_FOLDERS: Final = (
    ".vscode",
    ".cursor",
    ".roo",
    ".kiro",
    ".gemini",
    ".amazonq",
    ".claude",
    ".windsurf",
)
_GLOB: Final = re.compile(r"([*?\[])")


def is_switched_off(entry: Mapping[str, Any], where: str) -> bool:
    """Tell whether an entry's owner has switched it off.

    :raises ConfigError: for a switch that is neither true nor false.
    """
    for key, off in (("disabled", True), ("enabled", False)):
        value = entry.get(key)
        if value is not None and not isinstance(value, bool):
            raise ConfigError(f"{where}.{key}: must be true or false, got {value!r}")
        if value is off:
            return True
    return False


def project_folder(folder: Path) -> Path:
    """Return the project that a file in this folder belongs to: `.roo/mcp.json`, `.kiro/settings/mcp.json`."""
    for inner in (folder, folder.parent):
        if inner.name in _CONFIG_FOLDERS:
            return inner.parent
    return folder


def translate(
    entry: Mapping[str, Any], known: tuple[str, ...], where: str, folder: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Return an entry in our keys, and the keys of it that nobody here understands.

    :param known: our keys.
    :param folder: that of the file, which may tell whose it is.
    :raises ConfigError: for a list of tools or a time-out that cannot be read.
    """
    ours = {key: entry[key] for key in known if key in entry}
    for key, other in _RENAMED.items():
        if key in entry:
            ours.setdefault(other, entry[key])
    _address(entry, ours)
    _transport(entry, ours)
    if isinstance(ours.get("command"), list):
        ours["command"], *first = ours["command"] or [""]
        ours["args"] = [*first, *(ours.get("args") or [])]
    for key in ("env", "headers"):
        if isinstance(ours.get(key), Mapping):
            ours[key] = {name: _text(value) for name, value in ours[key].items() if value is not None}
    _timeouts(entry, ours, where, folder)
    _filter(entry, ours, where)
    oauth = entry.get("oauth")
    if "url" in ours and oauth and not (isinstance(oauth, Mapping) and oauth.get("enabled") is False):
        ours.setdefault("auth", "oauth")
    return ours, [
        key for key in entry if key not in known and key not in _UNDERSTOOD and not _is_comment(key)
    ]


def _address(entry: Mapping[str, Any], ours: dict[str, Any]) -> None:
    for key, kind in _ADDRESSES.items():
        if key in entry and "url" not in ours and "command" not in ours:
            ours["url"] = entry[key]
            if kind != "auto":
                ours.setdefault("type", kind)


def _transport(entry: Mapping[str, Any], ours: dict[str, Any]) -> None:
    if isinstance(ours.get("transport"), str):  # elsewhere a word; here an object of the SDK
        ours.setdefault("type", ours.pop("transport"))
    kind = ours.get("type")
    if kind in _TYPES:
        ours["type"] = _TYPES[kind]
    if ours.get("type") is None:
        ours.pop("type", None)


def _text(value: object) -> object:
    """Return a number or a switch as the text that a program would read; what is neither is checked later."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _timeouts(entry: Mapping[str, Any], ours: dict[str, Any], where: str, folder: Path | None) -> None:
    given = [(key, other, 1.0) for key, other in _SECONDS.items()]
    given += [(key, other, 1e-3) for key, other in _MILLISECONDS.items()]
    if (value := entry.get("timeout")) is not None:
        milliseconds = isinstance(value, int | float) and (
            value >= _IN_MILLISECONDS or _is_below(folder, _MILLISECOND_FOLDERS)
        )
        given.append(("timeout", "timeout_s", 1e-3 if milliseconds else 1.0))
    for key, other, unit in given:
        value = entry.get(key)
        if value is None or other in ours:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{where}.{key}: must be a number, got {value!r}")
        if value > 0:  # 0 is how some say that there is no limit
            ours[other] = value * unit


def _is_below(folder: Path | None, names: tuple[str, ...]) -> bool:
    return folder is not None and any(part in names for part in folder.parts[-2:])


def _filter(entry: Mapping[str, Any], ours: dict[str, Any], where: str) -> None:
    """Add lists of tools to the filter: a tool is offered if every list that allows has it, and none that denies."""
    denied = [name for key in _DENYING for name in _names(entry, key, where)]
    allowed = [_names(entry, key, where) for key in _ALLOWING if entry.get(key) is not None]
    if not denied and not allowed:
        return
    if "tool_filter" in ours:
        raise ConfigError(f"{where}.tool_filter: stands beside other lists of tools; give one of them")
    ours["tool_filter"] = {"deny": denied}
    if allowed:
        first, *others = allowed
        ours["tool_filter"]["allow"] = [
            name if name == "*" else _GLOB.sub(r"[\1]", name) for name in _common(first, others)
        ]


def _common(first: list[str], others: list[list[str]]) -> list[str]:
    for other in others:
        if "*" in first:
            first = other
        elif "*" not in other:
            first = [name for name in first if name in other]
    return first


def _names(entry: Mapping[str, Any], key: str, where: str) -> list[str]:
    value = entry.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{where}.{key}: must be a list of tools' names, got {value!r}")
    return value


def _is_comment(key: str) -> bool:
    return key.startswith(("_", "$", "//", "#"))


_UNDERSTOOD: Final = frozenset(
    (*_ADDRESSES, *_RENAMED, *_SECONDS, *_MILLISECONDS, *_ALLOWING, *_DENYING, "timeout", "enabled", "oauth")
)
