"""Tables of servers by name: the JSON files of Claude Desktop, Cursor and VS Code, or the same as a dict.

Claude Desktop and Cursor call the table `mcpServers`, VS Code `servers`. In texts, `${env:NAME}` and `${NAME}`
stand for variables of the environment (`${NAME:-text}` has a default), `${input:NAME}` for what the table's `inputs`
describe, `${userHome}` and `${workspaceFolder}` for folders. A server that is switched off is left out without a word,
and one whose variable or input has no value with one.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, suggest

from agentd_mcp_bridge.config import ServerConfig
from agentd_mcp_bridge.entries import KEYS, read_entry
from agentd_mcp_bridge.foreign import is_switched_off, project_folder, translate

__all__ = ["TABLE_KEYS", "AskInput", "read_file", "read_table"]

TABLE_KEYS: Final = ("mcpServers", "servers")
AskInput = Callable[[str, bool], str | None]
"""Asks a person for an input: what it is for, and whether it is secret. None: there is no answer."""

_log: Final = logging.getLogger("agentd.mcp")
_VARIABLE: Final = re.compile(r"\$\{([^{}]*)\}")
_COMMENT: Final = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?', re.DOTALL)
_TRAILING_COMMA: Final = re.compile(r'("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])')


def read_file(
    path: Path, defaults: Mapping[str, Any], ask_input: AskInput | None = None
) -> list[ServerConfig]:
    """Read a JSON file; comments and trailing commas, which VS Code allows, are passed over.

    :param ask_input: asks for inputs that have no default.
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
    return read_table(data, defaults, ask_input, where=str(path), folder=path.absolute().parent)


def read_table(
    data: Mapping[str, Any],
    defaults: Mapping[str, Any],
    ask_input: AskInput | None = None,
    *,
    where: str = "",
    folder: Path | None = None,
) -> list[ServerConfig]:
    """Read a table. `where` is put before the keys in errors, `folder` is the file's.

    :raises ConfigError: for what cannot be read, and if no server is left because values are missing.
    """
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
    values = _Values(folder, _inputs(data.get("inputs")), ask_input)
    configs, missing = [], []
    for name, entry in table.items():
        place = f"{prefix}{key}.{name}"
        try:
            config = _read_one(str(name), entry, defaults, values, place)
        except _MissingValueError as problem:
            missing.append(str(problem))
            continue
        if config is not None:
            configs.append(config)
    if missing and not configs:
        raise ConfigError("; ".join(missing))
    for reason in missing:
        _log.warning("%s; the server is left out", reason)
    return configs


def _read_one(
    name: str, entry: Any, defaults: Mapping[str, Any], values: _Values, place: str
) -> ServerConfig | None:
    """Return a server, or None if it is switched off or a comment."""
    if name.startswith("_") and not isinstance(entry, Mapping):
        return None
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{place}: must be an object, got {type(entry).__name__}")
    if is_switched_off(entry, place):
        return None
    ours, unknown = translate(entry, KEYS, place, values.folder)
    if unknown:
        hints = [suggest(str(key), KEYS) for key in unknown]
        passed_over = ", ".join(f"{key!r}{hint}" for key, hint in zip(unknown, hints, strict=True))
        level = logging.WARNING if any(hints) else logging.INFO
        _log.log(level, "%s: keys that agentd does not know are passed over: %s", place, passed_over)
    try:
        expanded = {key: values.expanded(value, f"{place}.{key}") for key, value in ours.items()}
        return read_entry(expanded, defaults, where=place, name=name, base=values.folder)
    except _MissingValueError:
        raise
    except ConfigError as error:
        near = [str(key) for key in unknown if suggest(str(key), KEYS)]
        if near:  # the key that is missing may be there, misspelt
            raise ConfigError(f"{error}; is {', '.join(map(repr, near))} misspelt?") from None
        raise


class _MissingValueError(Exception):
    """A variable or an input of one server has no value; the text says which."""


def _inputs(listed: Any) -> dict[str, Mapping[str, Any]]:
    """Return VS Code's descriptions of inputs by their ids."""
    entries: Iterable[Any] = listed if isinstance(listed, list) else ()
    return {str(entry["id"]): entry for entry in entries if isinstance(entry, Mapping) and "id" in entry}


@attrs.frozen
class _Values:
    """What the variables in a table's texts stand for."""

    folder: Path | None
    inputs: Mapping[str, Mapping[str, Any]]
    ask_input: AskInput | None
    _given: dict[str, str] = attrs.field(factory=dict, init=False)  # each input is asked for once

    def expanded(self, value: Any, where: str) -> Any:
        """Replace the variables in a text, or in the texts of a list or object."""
        if isinstance(value, str):
            return _VARIABLE.sub(lambda match: self._value_of(match[1], where), value)
        if isinstance(value, list):
            return [self.expanded(v, f"{where}[{i}]") for i, v in enumerate(value)]
        if isinstance(value, Mapping):
            return {k: self.expanded(v, f"{where}.{k}") for k, v in value.items()}
        return value

    def _value_of(self, expression: str, where: str) -> str:
        if expression == "userHome":
            return str(Path.home())
        if expression in ("workspaceFolder", "workspaceRoot"):
            return str(project_folder(self.folder or Path.cwd()))
        if expression == "pathSeparator" or expression == "/":
            return os.sep
        if expression.startswith("input:"):
            return self._input(expression.removeprefix("input:"), where)
        name, has_default, default = expression.removeprefix("env:").partition(":-")
        if ":" in name:
            raise _MissingValueError(
                f"{where}: ${{{expression}}} is not supported; ${{env:NAME}} takes a variable of the environment"
            )
        value = os.environ.get(name)
        if value is None and not has_default:
            raise _MissingValueError(f"{where}: the environment variable {name!r} is not set")
        return default if value is None else value

    def _input(self, name: str, where: str) -> str:
        if name in self._given:
            return self._given[name]
        described = self.inputs.get(name, {})
        answer = None
        if self.ask_input is not None:
            purpose = str(described.get("description") or name)
            answer = self.ask_input(purpose, bool(described.get("password")))
        if not answer:
            answer = described.get("default")
        if not isinstance(answer, str):
            raise _MissingValueError(f"{where}: the input {name!r} has no value and no default")
        self._given[name] = answer
        return answer
