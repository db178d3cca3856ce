"""What somebody has allowed for more than once: for the session, or always in a workspace."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
from agentd.statedir import make_private, user_state_dir
from agentd_tools.policy import PolicyRequest

from agentd_policy.questions import Scope

__all__ = ["AlwaysAllowed", "RememberedAnswers", "always_allowed"]

_log: Final = logging.getLogger("agentd.policy")
Key = tuple[str, str, str, str]


@attrs.frozen(order=True)
class AlwaysAllowed:
    """Something that was allowed always: a kind, a source and a name, where this rule asks, in a workspace."""

    workspace: str
    kind: str
    source: str
    name: str
    rule: str = "default"


def always_allowed() -> list[AlwaysAllowed]:
    """Return all that this user has allowed always, in all workspaces. A file that cannot be read is warned of."""
    found: list[AlwaysAllowed] = []
    for path in sorted(_folder().glob("*.json")):
        workspace, keys = _read_answers(path)
        found += [AlwaysAllowed(workspace, *key) for key in keys]
    return sorted(found)


class RememberedAnswers:
    """Kinds, sources and names that need not be asked for again, each with the rule that wanted it to be asked: what
    another rule asks about was not answered. What holds always lies in the user's state folder, in `policy/`, in a file
    for each workspace; removing the file forgets it, also for sessions that run."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._session: set[Key] = set()
        self._always: set[Key] = set()
        self._version: tuple[int, ...] | None = None
        """Which state of the file `_always` is from."""

    def scope_of(self, request: PolicyRequest, rule: str = "default") -> Scope | None:
        """Return for how long it was allowed before; None if it was not."""
        key = (request.kind, request.source, request.name, rule)
        with self._lock:
            if key in self._session:
                return "session"
            version = _version(self.path)
            if version != self._version:
                self._always, self._version = _read_answers(self.path)[1], version
            return "always" if key in self._always else None

    def add(self, request: PolicyRequest, scope: Scope, rule: str = "default") -> None:
        """Remember an answer."""
        key = (request.kind, request.source, request.name, rule)
        if scope == "session" or (scope == "always" and not self.add_always(*key)):
            with self._lock:
                self._session.add(key)

    def add_always(self, kind: str, source: str, name: str, rule: str) -> bool:
        """Remember that it is allowed always; False if that could not be written, which is warned of."""
        return self._write(added={(kind, source, name, rule)})

    def forget(self, answer: AlwaysAllowed) -> bool:
        """Have it asked for again; False if that could not be written."""
        return self._write(removed={(answer.kind, answer.source, answer.name, answer.rule)})

    @property
    def path(self) -> Path:
        """The file."""
        digest = hashlib.sha256(os.fsencode(self._workspace)).hexdigest()[:32]
        return _folder() / f"{digest}.json"

    def _write(
        self, *, added: frozenset[Key] | set[Key] = frozenset(), removed: set[Key] | None = None
    ) -> bool:
        path = self.path
        try:
            make_private(path.parent)
            with _held(path.parent):  # another process may be about to add something, too
                keys = (_read_answers(path)[1] | added) - (removed or set())
                text = json.dumps({"workspace": str(self._workspace), "allowed": sorted(keys)}, indent=1)
                with tempfile.NamedTemporaryFile(
                    "w", dir=path.parent, delete=False, encoding="utf-8"
                ) as file:
                    file.write(text + "\n")
                os.replace(file.name, path)
        except OSError as error:
            _log.warning("%s cannot be written, so this holds for the session only: %s", path, error)
            return False
        return True


def _folder() -> Path:
    return user_state_dir() / "policy"


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_answers(path: Path) -> tuple[str, set[Key]]:
    """Return the workspace and what is allowed in it."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return str(data.get("workspace", "")), {
            (str(kind), str(source), str(name), str(rule)) for kind, source, name, rule in data["allowed"]
        }
    except FileNotFoundError:
        return "", set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("%s cannot be read, so all is asked for again: %s", path, error)
        return "", set()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
