"""Conversations that are kept: one file each, in the user's state folder, by the folder that was worked in."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import AgentdError, ConfigError
from agentd.statedir import make_private, user_state_dir
from agentd.turn.transcript import Transcript
from agentd.types import Usage

__all__ = ["ConversationBusyError", "ConversationFolder", "KeptConversation", "KeptTurn", "chats_dir"]

VERSION: Final = 1
_MAX_TITLE: Final = 70
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")


class ConversationBusyError(AgentdError):
    """A conversation, by its `id`, is open in another process."""

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(
            f"the conversation {id} is open in another process: end it there, or begin another one without "
            "--continue and --resume"
        )


@attrs.define(kw_only=True)
class KeptTurn:
    """One turn: what the person said, and the checkpoints (ids; empty if none was kept) around it.

    :ivar stop_reason: how it ended; `lost` if the process ended before it did.
    """

    task: str
    before: str = ""
    after: str = ""
    stop_reason: str = ""
    usage: Usage = attrs.field(factory=Usage)


@attrs.define(kw_only=True)
class KeptConversation:
    """A conversation as it is on disk.

    :ivar spent: the usage of all turns, those that were taken back too.
    :ivar unpriced: how many of these turns have asked a model without a known price.
    :ivar shell: the state of the shell after the last turn, as `ShellExecutor` has it.
    :ivar pending: the turn that runs.
    :ivar images: the model is shown pictures.
    :ivar undone: the newest checkpoints of what turns that were taken back had done.
    """

    id: str
    workspace: str
    model: str = ""
    created_at: float = attrs.field(factory=time.time)
    updated_at: float = attrs.field(factory=time.time)
    turns: list[KeptTurn] = attrs.field(factory=list)
    spent: Usage = attrs.field(factory=Usage)
    unpriced: int = 0
    transcript: Transcript = attrs.field(factory=Transcript)
    shell: Mapping[str, Any] | None = None
    pending: KeptTurn | None = None
    images: bool = False
    undone: list[str] = attrs.field(factory=list)

    def checkpoints(self) -> list[str]:
        """Return the ids of all its checkpoints."""
        turns = [*self.turns, *([self.pending] if self.pending is not None else [])]
        found = [id for turn in turns for id in (turn.before, turn.after)]
        return [id for id in dict.fromkeys([*found, *self.undone]) if id]

    @property
    def title(self) -> str:
        """The first words that were said."""
        first = next(iter(self.turns), self.pending)
        words = " ".join(first.task.split()) if first is not None else ""
        return words if len(words) <= _MAX_TITLE else f"{words[: _MAX_TITLE - 1]}…"

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-ready data."""
        plain = attrs.asdict(self, filter=lambda attribute, _: attribute.name != "transcript")
        return {"version": VERSION, **plain, "transcript": self.transcript.as_dict()}

    @classmethod
    def from_dict(cls, data: Any, file: Path) -> KeptConversation:
        """Make one from what `as_dict` returned. A turn that was running is a lost one. Raises `ConfigError`."""
        try:
            if data["version"] != VERSION:
                raise ConfigError(f"{file}: has version {data['version']!r}, this agentd reads {VERSION}")
            if data["id"] != file.stem:  # it would be kept in another file from now on
                raise ConfigError(f"{file}: is the conversation {data['id']!r:.80}, by its content")
            time.localtime(data["updated_at"])  # it is shown
            pending = None if data["pending"] is None else _turn(data["pending"])
            made = cls(
                id=file.stem,
                workspace=str(data["workspace"]),
                model=str(data["model"]),
                created_at=float(data["created_at"]),
                updated_at=float(data["updated_at"]),
                turns=[_turn(turn) for turn in data["turns"]],
                spent=Usage() + Usage(**data["spent"]),
                unpriced=int(data.get("unpriced", 0)),  # not in files of 1.0.0rc1
                transcript=Transcript.from_dict(data["transcript"]),
                shell=data["shell"],
                images=data.get("images") is True,
                undone=[str(id) for id in data.get("undone", ())],
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
            raise ConfigError(f"{file}: is no conversation of agentd chat: {error!r}") from error
        if pending is not None:
            made.turns.append(attrs.evolve(pending, stop_reason="lost"))
        return made


def _turn(data: dict[str, Any]) -> KeptTurn:
    for name in ("task", "before", "after", "stop_reason"):
        if not isinstance(data[name], str):
            raise TypeError(f"{name} is no text")
    return KeptTurn(**{**data, "usage": Usage() + Usage(**data["usage"])})


def chats_dir() -> Path:
    """Return where conversations lie; it need not exist."""
    return user_state_dir() / "chats"


class ConversationFolder:
    """The conversations of one folder that is worked in.

    :param workspace: that folder.
    :param base: where the conversations of all folders lie.
    """

    def __init__(self, workspace: Path, base: Path | None = None) -> None:
        self.workspace = workspace.resolve()
        name = re.sub(r"[^0-9A-Za-z._-]+", "-", self.workspace.name)[:40] or "root"
        digest = hashlib.sha256(os.fsencode(self.workspace)).hexdigest()[:16]
        self.path = (chats_dir() if base is None else base) / f"{name}-{digest}"

    @classmethod
    def at(cls, path: Path) -> ConversationFolder:
        """Return the one whose files lie in `path`, whatever folder they are about."""
        made = cls(path)
        made.path = path
        return made

    def new(self) -> KeptConversation:
        """Return a conversation that is on no disk yet."""
        id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        return KeptConversation(id=id, workspace=str(self.workspace))

    def fork(self, kept: KeptConversation) -> KeptConversation:
        """Return a conversation that goes on from another one, and is on no disk yet.

        It has what was said and, if the other is of this folder, the shell. Checkpoints of the turns until then, and
        what they have cost, are the other's.
        """
        return attrs.evolve(
            self.new(),
            model=kept.model,
            images=kept.images,
            turns=[attrs.evolve(turn, before="", after="") for turn in kept.turns],
            transcript=Transcript.from_dict(json.loads(json.dumps(kept.transcript.as_dict()))),
            shell=kept.shell if kept.workspace == str(self.workspace) else None,
        )

    def save(self, kept: KeptConversation) -> None:
        """Write it: all of it or, if that fails, nothing. Raises `OSError`."""
        kept.updated_at = time.time()
        data = json.dumps(kept.as_dict(), ensure_ascii=False).encode("utf-8", "surrogatepass")
        make_private(self.path)
        temporary = self.path / f"{kept.id}.{os.getpid()}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with open(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._file(kept.id))
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def load(self, id: str) -> KeptConversation:
        """Read the conversation with this id, or the only one whose id begins so. Raises `ConfigError`."""
        return self._read(self.id_of(id))

    def id_of(self, id: str, option: str = "--resume") -> str:
        """Return the id that is this, or the only one that begins so. Raises `ConfigError`, which names the option."""
        ids = self.ids()
        found = [id] if id in ids else [one for one in ids if id and one.startswith(id)]
        if len(found) != 1:
            there = "several ids begin so" if found else "no conversation of this folder has that id"
            listed = ", ".join((found or ids)[:5]) or "none"
            raise ConfigError(f"{option} {id}: {there}; there are: {listed}")
        return found[0]

    def get(self, id: str) -> KeptConversation | None:
        """Return the conversation with this very id; None if there is none. Raises `ConfigError` for one that cannot be
        read."""
        return self._read(id) if _ID.fullmatch(id) and self._file(id).exists() else None

    def newest(self) -> KeptConversation | None:
        """Return the conversation that was worked on last."""
        return next(self.all(), None)

    def all(self) -> Iterator[KeptConversation]:
        """Yield those that can be read, the newest first."""
        for id in self.ids():
            try:
                yield self._read(id)
            except ConfigError:
                continue  # `--resume ID` says what is wrong with it

    @staticmethod
    def everywhere(base: Path | None = None) -> Iterator[KeptConversation]:
        """Yield the conversations of all folders that can be read, the newest first."""
        base = chats_dir() if base is None else base
        found = []
        try:
            folders = [entry for entry in os.scandir(base) if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return
        for entry in folders:
            found += [(at, id, Path(entry.path)) for at, id in _dated_ids(Path(entry.path))]
        for _, id, path in sorted(found, reverse=True):
            try:
                yield _read(path / f"{id}.json")
            except ConfigError:
                continue

    def ids(self) -> list[str]:
        """Return the ids of all, the newest first."""
        return [id for _, id in sorted(_dated_ids(self.path), reverse=True)]

    @contextmanager
    def held(self, id: str) -> Iterator[None]:
        """Hold a conversation, so that no other process goes on with it. Raises `ConversationBusyError`."""
        lock = self._locked(id)
        try:
            yield
            if not self._file(id).exists():  # nothing was said
                self._lock_file(id).unlink(missing_ok=True)
        finally:
            os.close(lock)

    def _locked(self, id: str) -> int:
        """Return the descriptor of its lock."""
        make_private(self.path)
        path = self._lock_file(id)
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), path.lstat()):
                    return lock
            except BlockingIOError:
                os.close(lock)
                raise ConversationBusyError(id) from None
            except FileNotFoundError:
                pass
            os.close(lock)  # another process has removed it meanwhile

    def current(self, kept: KeptConversation) -> KeptConversation:
        """Return a conversation as it is now that it is held. Raises `ConfigError` if it is gone."""
        return self._read(kept.id) if kept.turns or self._file(kept.id).exists() else kept

    def pictures(self, id: str) -> str:
        """Return the name of the folder of its pictures, in `path`."""
        return f"{id}.pictures"

    def remove(self, id: str) -> None:
        """Remove a conversation that is held, with its pictures. Raises `OSError`."""
        shutil.rmtree(self.path / self.pictures(id), ignore_errors=True)
        self._file(id).unlink()

    def _lock_file(self, id: str) -> Path:
        return self.path / f"{id}.lock"

    def _file(self, id: str) -> Path:
        return self.path / f"{id}.json"

    def _read(self, id: str) -> KeptConversation:
        return _read(self._file(id))


def _dated_ids(folder: Path) -> list[tuple[int, str]]:
    """Return when the conversations of a folder were written, and their ids."""
    found = []
    try:
        for entry in os.scandir(folder):
            id = entry.name.removesuffix(".json")
            if id != entry.name and _ID.fullmatch(id):
                found.append((entry.stat(follow_symlinks=False).st_mtime_ns, id))
    except FileNotFoundError:
        return []
    return found


def _read(file: Path) -> KeptConversation:
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe in its place keeps nobody waiting
        with open(os.open(file, flags), "rb") as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise OSError(errno.EINVAL, "is no regular file")
            data = json.loads(opened.read().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    return KeptConversation.from_dict(data, file)
