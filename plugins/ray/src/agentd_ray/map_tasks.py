"""The tasks of a map, and their identity: what makes a task of a second run the same as one of the first."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import attrs
from agentd.errors import ConfigError

__all__ = ["MOST_TASKS", "MapTask", "check_map_name", "map_tasks", "put_files"]

LONGEST_NAME: Final = 64  # of a map: its conversations are named after it, and may have 128
MOST_TASKS: Final = 1_000_000  # about 1 GiB of them in memory; a generator that never ends is noticed
_LONGEST_ID: Final = 512
_NAME: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_KEYS: Final = ("id", "task", "tools", "files", "options")
_SHOWN: Final = 24  # characters of an id that its conversation's name shows
_DIGITS: Final = 16  # of a digest: 64 bits


def check_map_name(name: str) -> str:
    """Return a map's name.

    :raises ConfigError: if it is no name.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"map: name must have 1 to {LONGEST_NAME} letters, digits, '.', '_' or '-', and begin with a letter or a "
            f"digit; got {name!r:.90}"
        )
    return name


@attrs.frozen(kw_only=True, eq=False)
class MapTask:
    """One task of a map.

    :ivar index: its place in the list, from 0.
    :ivar id: what it is known by; unique in its map.
    :ivar digest: of what it says, its files and the names of its tools.
    :ivar given: the object that it was made of.
    :ivar task: text, or parts as `Session.run` takes them.
    :ivar tools: more tools for its session; None for those of the map.
    :ivar files: what is put into its workspace, by path.
    :ivar options: more arguments of its session.
    """

    index: int
    id: str
    digest: str
    given: Any
    task: str | list[Any]
    tools: Sequence[object] | None = None
    files: Mapping[str, bytes] = attrs.field(factory=dict)
    options: Mapping[str, Any] = attrs.field(factory=dict)

    def conversation(self, map_name: str) -> str:
        """Return the name of its conversation. Another task of the same id has another one."""
        shown = re.sub(r"[^A-Za-z0-9]+", "-", self.id).strip("-")[:_SHOWN].strip("-")
        whole = hashlib.sha256(f"{self.id}\0{self.digest}".encode()).hexdigest()[:_DIGITS]
        return ".".join(part for part in (map_name, shown, whole) if part)


def map_tasks(given: Iterable[Any], *, key: str | Callable[[Any], object] | None = None) -> list[MapTask]:
    """Return the tasks of a map.

    One without an id is known by the digest of what it is, and by which one it is among its equals: so it stays the
    same when others come before it.

    :param given: texts; dicts with `task` and perhaps `id`, `tools`, `files`, `options`; objects with such attributes.
    :param key: gives a task's id: the name of a key or an attribute, or a function of the task.
    :raises ConfigError: for what is no task, for an id that two of them have, and for more than `MOST_TASKS`.
    """
    if isinstance(given, str | bytes | Mapping):
        raise ConfigError(
            f"map: tasks must be a list of tasks, got one {type(given).__name__}: {given!r:.60}"
        )
    found: list[MapTask] = []
    taken: dict[str, int] = {}
    equals: dict[str, int] = {}
    try:
        tasks = iter(given)
    except TypeError:
        raise ConfigError(
            f"map: tasks must be a list of tasks or another iterable, got {type(given).__name__}; an asynchronous one "
            "is to be read first: [task async for task in ...]"
        ) from None
    for index, one in enumerate(tasks):
        if index == MOST_TASKS:
            raise ConfigError(
                f"map: tasks has more than {MOST_TASKS:,}; all are read before the first one begins, so an iterator "
                "must end: give it in several maps, each with a name of its own"
            )
        task = _task(index, one, key)
        if not task.id:
            equals[task.digest] = number = equals.get(task.digest, 0) + 1
            task = attrs.evolve(task, id=f"sha256:{task.digest}" + (f":{number}" if number > 1 else ""))
        if (other := taken.setdefault(task.id, index)) != index:
            raise ConfigError(
                f"map: tasks {other} and {index} have the same id {task.id!r:.80}; ids must differ"
            )
        found.append(task)
    return found


def put_files(workspace: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a workspace, by their paths in it."""
    for path, content in files.items():
        target = workspace / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _task(index: int, given: Any, key: str | Callable[[Any], object] | None) -> MapTask:
    where = f"map: task {index}"
    if isinstance(given, str | list):
        parts: Mapping[str, Any] = {"task": given}
    elif isinstance(given, Mapping):
        parts = given
        own = key if isinstance(key, str) else None
        if callable(key):
            pass  # the function knows what else is in it
        elif unknown := [str(name) for name in given if name not in (*_KEYS, own)]:
            raise ConfigError(f"{where}: unknown keys {', '.join(unknown)}; there are {', '.join(_KEYS)}")
    else:
        parts = {name: getattr(given, name) for name in _KEYS if hasattr(given, name)}
    text = parts.get("task")
    if not (isinstance(text, str) and text.strip()) and not (isinstance(text, list) and text):
        raise ConfigError(
            f"{where}: must be text, a list of parts, or have a 'task' that is one; got {type(given).__name__} "
            f"{given!r:.80}"
        )
    tools, options = parts.get("tools"), parts.get("options") or {}
    if tools is not None and (isinstance(tools, str) or not isinstance(tools, Sequence)):
        raise ConfigError(f"{where}: tools must be a list of functions, got {type(tools).__name__}")
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"{where}: options must be arguments of Session by name, got {type(options).__name__}"
        )
    files = _files(where, parts.get("files") or {})
    return MapTask(
        index=index,
        id=_id(where, given, parts, key),
        digest=_digest(text, files, tools, options),
        given=given,
        task=text,
        tools=tools,
        files=files,
        options=dict(options),
    )


def _id(where: str, given: Any, parts: Mapping[str, Any], key: str | Callable[[Any], object] | None) -> str:
    if callable(key):
        id = key(given)
    elif key is None:
        id = parts.get("id")
    elif (id := given.get(key) if isinstance(given, Mapping) else getattr(given, key, None)) is None:
        raise ConfigError(f"{where}: has no {key!r}, which key= names; got {given!r:.80}")
    if id is None and not callable(key):
        return ""
    if isinstance(id, bool) or not isinstance(id, str | int) or not 0 < len(str(id)) <= _LONGEST_ID:
        raise ConfigError(
            f"{where}: its id must be text of 1 to {_LONGEST_ID} characters or a number, got {id!r:.80}"
        )
    return str(id)


def _files(where: str, given: object) -> dict[str, bytes]:
    """Return the content of each file by its path in the workspace. A list of paths is read: each by its name."""
    if isinstance(given, str | bytes) or not isinstance(given, Mapping | Sequence):
        raise ConfigError(
            f"{where}: files must be a list of paths, or contents by path; got {type(given).__name__}"
        )
    if not isinstance(given, Mapping):
        given = {Path(path).name: Path(path) for path in given}
    found = {}
    for path, content in given.items():
        inside = PurePosixPath(str(path))
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise ConfigError(f"{where}: the file {str(path)!r} must be a relative path without '..'")
        try:
            found[str(inside)] = _content(content)
        except OSError as error:
            raise ConfigError(
                f"{where}: the file {str(content)!r} cannot be read: {error.strerror}"
            ) from error
        except TypeError:
            raise ConfigError(
                f"{where}: the file {str(path)!r} must be text, bytes or a Path, got {type(content).__name__}"
            ) from None
    return found


def _content(content: object) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content.encode() if isinstance(content, str) else bytes(memoryview(content))  # type: ignore[arg-type]


def _digest(
    text: object, files: Mapping[str, bytes], tools: Sequence[object] | None, options: Mapping[str, Any]
) -> str:
    names = None if tools is None else [_name(tool) for tool in tools]
    hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    said = json.dumps([text, hashes, names, sorted(options)], sort_keys=True, default=_name)
    return hashlib.sha256(said.encode()).hexdigest()[: 2 * _DIGITS]


def _name(thing: object) -> str:
    """Return a name that is the same in the next process, as far as there is one."""
    module = getattr(thing, "__module__", "")
    name = getattr(thing, "__qualname__", None) or getattr(thing, "name", None) or type(thing).__qualname__
    return f"{module}.{name}"
