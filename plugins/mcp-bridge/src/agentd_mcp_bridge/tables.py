"""Tables of servers by name: the JSON files of Claude Desktop, Cursor and VS Code, or the same as a dict.

Claude Desktop and Cursor call the table `mcpServers`, VS Code `servers`. In texts, `${env:NAME}` and `${NAME}`
stand for variables of the environment (`${NAME:-text}` has a default), `${userHome}` and `${workspaceFolder}` for
folders. Servers with `"disabled": true` are left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agentd.errors import ConfigError, suggest

from agentd_mcp_bridge.config import ServerConfig
from agentd_mcp_bridge.entries import read_entry

__all__ = ["TABLE_KEYS", "read_file", "read_table"]

TABLE_KEYS: Final = ("mcpServers", "servers")
_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_TRAILING_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


def read_file(path: Path, defaults: Mapping[str, Any]) -> list[ServerConfig]:
    """Read a JSON file; comments and trailing commas, which VS Code allows, are passed over.

    :raises ConfigError: naming file, server and key.
    """
    path = path.expanduser()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"the MCP servers' file {path} cannot be read: {error}") from None
    try:
        data = json.loads(text)
    except ValueError:
        try:
            plain = _COMMENT.sub(lambda m: m[1] or " ", text)
            data = json.loads(_TRAILING_COMMA.sub(lambda m: m[1] or "", plain))
        except ValueError as error:
            raise ConfigError(f"{path}: is no JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise ConfigError(
            f"{path}: must be an object with 'mcpServers' or 'servers', got {type(data).__name__}"
        )
    return read_table(data, defaults, where=str(path), folder=path.absolute().parent)


def read_table(
    data: Mapping[str, Any], defaults: Mapping[str, Any], *, where: str = "", folder: Path | None = None
) -> list[ServerConfig]:
    """Read a table. `where` is put before the keys in errors, `folder` is the file's."""
    prefix = f"{where}: " if where else ""
    key = next((k for k in TABLE_KEYS if k in data), None)
    if key is None:
        hint = next((s for k in data if (s := suggest(str(k), TABLE_KEYS))), "")
        found = ", ".join(map(repr, data)) or "nothing"
        raise ConfigError(f"{prefix}must have 'mcpServers' or 'servers', got {found}{hint}")
    table = data[key]
    if not isinstance(table, Mapping):
        raise ConfigError(f"{prefix}{key}: must be an object of servers by name, got {type(table).__name__}")
    defaults = {k: v for k, v in defaults.items() if k != "name"}  # each has its own
    configs = []
    for name, entry in table.items():
        place = f"{prefix}{key}.{name}"
        if not isinstance(entry, Mapping):
            raise ConfigError(f"{place}: must be an object, got {type(entry).__name__}")
        if entry.get("disabled") not in (None, False):
            if entry["disabled"] is not True:
                raise ConfigError(f"{place}.disabled: must be true or false, got {entry['disabled']!r}")
            continue
        expanded = {k: _expanded(v, f"{place}.{k}", folder) for k, v in entry.items()}
        configs.append(read_entry(expanded, defaults, where=place, name=str(name), base=folder, foreign=True))
    return configs


def _expanded(value: Any, where: str, folder: Path | None) -> Any:
    """Replace the variables in a text, or in the texts of a list or object."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _value_of(match[1], where, folder), value)
    if isinstance(value, list):
        return [_expanded(v, f"{where}[{i}]", folder) for i, v in enumerate(value)]
    if isinstance(value, Mapping):
        return {k: _expanded(v, f"{where}.{k}", folder) for k, v in value.items()}
    return value


def _value_of(expression: str, where: str, folder: Path | None) -> str:
    if expression == "userHome":
        return str(Path.home())
    if expression in ("workspaceFolder", "workspaceRoot"):
        base = folder or Path.cwd()
        return str(base.parent if base.name in (".vscode", ".cursor") else base)
    if expression == "pathSeparator" or expression == "/":
        return os.sep
    name, has_default, default = expression.removeprefix("env:").partition(":-")
    if ":" in name:
        raise ConfigError(
            f"{where}: ${{{expression}}} is not supported; ${{env:NAME}} takes a variable of the environment"
        )
    value = os.environ.get(name)
    if value is None and not has_default:
        raise ConfigError(f"{where}: the environment variable {name!r} is not set")
    return default if value is None else value
