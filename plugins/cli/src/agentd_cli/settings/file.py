"""One `agentd.toml`: found, read, and everything that is wrong with it said at once."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import suggest

from agentd_cli.settings.keys import NO_KEYS, SettingsKey, settings_keys

__all__ = [
    "FILE_NAME",
    "FileValue",
    "SettingsFile",
    "project_file",
    "project_root",
    "read_settings_file",
    "user_file",
]

FILE_NAME: Final = "agentd.toml"
MAX_BYTES: Final = 64 * 1024
_TRIPLE: Final = re.compile(r'"""|\'\'\'')


@attrs.frozen
class FileValue:
    """A value, and the line that its key stands in."""

    key: SettingsKey
    value: Any
    line: int


@attrs.define(kw_only=True)
class SettingsFile:
    """What one file says. `problems` are sentences with file and line; `content` its bytes."""

    path: Path
    content: bytes = b""
    values: dict[str, FileValue] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)


def user_file() -> Path:
    """Return where the user's file lies; it need not exist."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative one is to be ignored, says the XDG base directory specification.
    base = Path(given) if os.path.isabs(given) else Path.home() / ".config"
    return base / "agentd" / FILE_NAME


def project_root(folder: Path) -> Path:
    """Return the root of the repository that a folder is in; the folder itself if it is in none.

    A repository that belongs to somebody else than the folder, this user or root does not count: in a folder such as
    /tmp, anybody can make one.
    """
    folder = folder.resolve()
    owners = {0, os.geteuid(), *_owner(folder)}
    return next((above for above in (folder, *folder.parents) if owners & _owner(above / ".git")), folder)


def _owner(path: Path) -> set[int]:
    try:
        return {path.lstat().st_uid}
    except OSError:
        return set()


def project_file(folder: Path) -> Path | None:
    """Return the nearest `agentd.toml`, from a folder up to its repository's root."""
    folder, root = folder.resolve(), project_root(folder)
    for above in (folder, *folder.parents):
        if (above / FILE_NAME).exists():
            return above / FILE_NAME
        if above == root:
            break
    return None


def read_settings_file(path: Path) -> SettingsFile:
    """Read a file; raises nothing, what is wrong is in `problems`."""
    found = SettingsFile(path=path)
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "is no regular file")
            found.content = file.read(MAX_BYTES + 1)
    except OSError as error:
        found.problems.append(f"{path}: cannot be read: {error.strerror}")
        return found
    if len(found.content) > MAX_BYTES:
        found.problems.append(f"{path}: is larger than {MAX_BYTES // 1024} KiB")
        return found
    try:
        text = found.content.decode("utf-8")
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        found.problems.append(f"{path}:{_where(str(error))}")
        return found
    for name, value in data.items():
        _take(found, name, value, _line_of(text, name))
    return found


def _take(found: SettingsFile, name: str, value: object, line: int) -> None:
    keys = settings_keys()
    if name not in keys:
        hint = suggest(name.replace("_", "-"), keys) or f"; the keys are: {', '.join(keys)}"
        if name in NO_KEYS:
            hint = f": --{name} is for the command line alone"
        found.problems.append(f"{found.path}:{line}: unknown key {name!r}{hint}")
        return
    try:
        found.values[name] = FileValue(keys[name], keys[name].read(value, found.path.parent), line)
    except ValueError as error:
        found.problems.append(f"{found.path}:{line}: {name}: {error}")


def _where(message: str) -> str:
    """Return tomllib's message with its place in front, as other files' messages have it."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    return f"{place[1]}:{place[2]}: {message[: place.start()]}" if place else f" {message}"


def _line_of(text: str, name: str) -> int:
    """Return the line of a key at the file's top level, or of the table of this name; tomllib does not say it."""
    key = rf'(?:{re.escape(name)}|"{re.escape(name)}"|\'{re.escape(name)}\')'
    begins = re.compile(rf"\s*(?:{key}\s*[=.]|\[+\s*{key}\s*[\].])")
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if not inside and begins.match(line):
            return number
        for quotes in _TRIPLE.findall(line):
            inside = "" if inside == quotes else inside or quotes
    return 1
