"""The timeline of a session: checkpoints that keep its workspace, its conversation and its shell together, over any
snapshot store."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError, CorruptSnapshotError, UnknownSnapshotError
from agentd.events import SourceLog
from agentd.protocols import (
    AsyncSnapshotStore,
    Checkpoint,
    KeptSnapshot,
    PausableExecutor,
    ShellExecutor,
    SnapshotExcluding,
    SnapshotStore,
)
from agentd.selectors import Selector, pick
from agentd.turn.transcript import Transcript

if TYPE_CHECKING:
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources

__all__ = ["SessionTimeline"]

VERSION: Final = 1


@attrs.frozen
class _Moment:
    """What a checkpoint keeps beside the workspace."""

    transcript: Transcript
    shell: Mapping[str, Any] | None

    def encode(self) -> bytes:
        data = {"version": VERSION, "transcript": self.transcript.as_dict(), "shell": self.shell}
        return zlib.compress(json.dumps(data).encode(), 1)

    @classmethod
    def decode(cls, data: bytes, name: str) -> _Moment:
        try:
            plain = json.loads(zlib.decompress(data))
            version, transcript, shell = plain["version"], plain["transcript"], plain["shell"]
        except (zlib.error, ValueError, KeyError, TypeError) as exc:
            raise CorruptSnapshotError(f"the checkpoint {name!r} cannot be read: {exc}") from exc
        if version != VERSION:
            raise ConfigError(f"checkpoint {name!r}: has version {version}, this agentd reads {VERSION}")
        return cls(Transcript.from_dict(transcript), shell)


@attrs.define(eq=False)
class SessionTimeline:
    """The checkpoints of the sessions that work in one workspace; any process finds them again. Implements
    `agentd.protocols.Timeline`.

    :param resources: workspace, executor and skills of the session.
    :param transcript: the session's; going back changes it in place.
    :param store: the snapshot store plugin's name, with options perhaps.
    :param base_dir: where they lie; None leaves it to the plugin.
    :param has_code: False for a session that runs no code, and so has no shell.
    """

    _resources: SessionResources
    _transcript: Transcript
    _store: PluginSpec
    _base_dir: str | Path | None
    _has_code: bool = attrs.field(kw_only=True)
    _snapshots: SnapshotStore | None = attrs.field(init=False, default=None)
    _shell: Mapping[str, Any] | None = attrs.field(init=False, default=None)
    """The state that the shell is to have before the next block: the executor runs not yet."""

    def __attrs_post_init__(self) -> None:
        if self._pictures is not None:
            self._pictures.timelines.append(self)

    @property
    def _pictures(self) -> Any:
        """What shows the session's model pictures (agentd-images'), or None."""
        return getattr(self._resources, "pictures", None)

    @property
    def snapshots(self) -> SnapshotStore:
        """The snapshots of the workspace, those of the checkpoints among them.

        Left out are the skills, which are written anew, and what the executor's place puts into the workspace.
        """
        if self._snapshots is None:
            base_dir = None if self._base_dir is None else Path(self._base_dir)
            self._snapshots = self._resources.registry().create_snapshot_store(
                self._store, self._resources.workspace, base_dir, self._excluded
            )
        return self._snapshots

    def _excluded(self) -> list[str]:
        resources = self._resources
        executor = resources.executor if self._has_code else None
        paths = list(executor.snapshot_exclude) if isinstance(executor, SnapshotExcluding) else []
        if resources.skills_dir.is_relative_to(resources.workspace):
            paths.append(str(resources.skills_dir.relative_to(resources.workspace)))
        return paths

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, the oldest first."""
        return [_checkpoint(snapshot) for snapshot in self._kept()]

    def find(self, wanted: Selector | Checkpoint | None) -> Checkpoint:
        """Return the checkpoint with this id, label or turn; None: the newest.

        :raises UnknownSnapshotError: if there is none.
        """
        known = self._kept()
        if wanted is None:
            found = known[-1] if known else None
        else:
            found = pick(wanted.id if isinstance(wanted, Checkpoint) else wanted, known)
        if found is None:
            raise UnknownSnapshotError(wanted, [n for one in known for n in (one.id, one.label) if n])
        return _checkpoint(found)

    async def take(self, label: str | None = None) -> Checkpoint:
        """Keep this moment. No block may be running.

        :raises SnapshotError: if the disk is full, say; nothing is left then.
        """
        with self._telling("checkpoint") as names:
            moment = _Moment(self._transcript, await self._shell_state())
            taken = _checkpoint(await self._do("snapshot", label, attachment=moment.encode()))
            names.append(taken.id)
        return taken

    async def go_back(self, wanted: Selector | Checkpoint | None, *, is_new: bool = False) -> Checkpoint:
        """Make workspace, transcript and shell what they were. No block may be running.

        The workspace comes first: if that fails, nothing has changed.

        :param is_new: no block has run yet: the executor is not started for the shell before one is to run.
        """
        with self._telling("rewind") as names:
            checkpoint, moment = await call_in_thread(partial(self._load, wanted))
            names.append(checkpoint.id)
            executor = self._resources.executor if self._has_code and not is_new else None
            if isinstance(executor, PausableExecutor):
                await call_in_thread(executor.pause)
            await self._do("restore", checkpoint.id)
            self._transcript.become(moment.transcript)
            self._shell = moment.shell
            if isinstance(executor, ShellExecutor):
                await executor.set_shell_state(moment.shell)
                self._shell = None
        return checkpoint

    async def branch(
        self, wanted: Selector | Checkpoint | None, folder: Path
    ) -> tuple[Transcript, Mapping[str, Any] | None]:
        """Copy a checkpoint's workspace into an empty folder and return its transcript and shell."""
        checkpoint, moment = await call_in_thread(partial(self._load, wanted))
        if folder.is_relative_to(self._resources.workspace):
            raise ConfigError(
                f"cwd {str(folder)!r}: must lie outside the workspace {str(self._resources.workspace)!r}"
            )
        with self._telling("fork") as names:
            names.append(checkpoint.id)
            await self._do("copy_to", checkpoint.id, folder)
            if self._pictures is not None:  # they are no part of snapshots
                await self._pictures.copy_to(folder, moment.transcript)
        return moment.transcript, moment.shell

    def transcripts(self) -> Iterator[Transcript]:
        """Yield the conversations of all checkpoints, but for those that are damaged. Blocking.

        :raises ConfigError: for one of a later version.
        """
        for kept in self._kept():
            try:
                yield self._load(kept.id)[1].transcript
            except (CorruptSnapshotError, UnknownSnapshotError):  # removed by another process since
                continue

    def begin_with(self, shell: Mapping[str, Any] | None) -> None:
        """Have the first block start from this state of the shell."""
        self._shell = shell

    async def settle(self) -> None:
        """Bring the shell to where it is to be, before blocks run."""
        shell, self._shell = self._shell, None
        if shell is not None and self._has_code and isinstance(self._resources.executor, ShellExecutor):
            await self._resources.executor.set_shell_state(shell)

    async def delete(self, wanted: Selector | Checkpoint) -> Checkpoint:
        """Remove a checkpoint and the contents of files that no other one needs."""
        checkpoint = await call_in_thread(partial(self.find, wanted))
        await self._do("delete_snapshot", checkpoint.id)
        return checkpoint

    async def resume(self) -> None:
        """Go to the newest checkpoint, if there is one."""
        if await call_in_thread(self.checkpoints):
            await self.go_back(None, is_new=True)

    async def aclose(self) -> None:
        """Let the store go, if it is one that has to be."""
        close = getattr(self._snapshots, "close", None)
        if close is not None:
            await call_in_thread(close)

    @contextmanager
    def _telling(self, what: str) -> Iterator[list[str]]:
        """Tell the session's sinks what was done, to which checkpoint (the names that are added), when and how long.

        They read it as `agentd_sink_otel.moments` does. Between two runs it is kept for the next one.
        """
        names: list[str] = []
        began, since = datetime.now(UTC), time.monotonic()
        end = "took"
        try:
            yield names
        except BaseException as error:
            end = f"failed ({type(error).__name__}) after"
            raise
        finally:
            text = (
                f"{' '.join([what, *names])} {end} {time.monotonic() - since:.6f} s from {began.isoformat()}"
            )
            self._resources.tell(SourceLog(source="checkpoints", level="debug", text=text))

    async def _do(self, method: str, *args: object, **kwargs: object) -> Any:
        """Call a method of the store, by its asynchronous twin if it has one."""
        store = await call_in_thread(lambda: self.snapshots)
        if isinstance(store, AsyncSnapshotStore):
            return await getattr(store, f"a{method}")(*args, **kwargs)
        return await call_in_thread(partial(getattr(store, method), *args, **kwargs))

    def _kept(self) -> list[KeptSnapshot]:
        store = self.snapshots
        return [one for one in store.list_snapshots() if store.has_attachment(one.id)]

    def _load(self, wanted: Selector | Checkpoint | None) -> tuple[Checkpoint, _Moment]:
        checkpoint = self.find(wanted)
        data = self.snapshots.attachment(checkpoint.id)
        if data is None:  # removed by another process since
            raise UnknownSnapshotError(checkpoint.id, [one.id for one in self._kept()])
        return checkpoint, _Moment.decode(data, checkpoint.id)

    async def _shell_state(self) -> Mapping[str, Any] | None:
        if self._shell is not None or not self._has_code:
            return self._shell
        executor = self._resources.executor
        return await executor.shell_state() if isinstance(executor, ShellExecutor) else None


def _checkpoint(snapshot: KeptSnapshot) -> Checkpoint:
    return Checkpoint(id=snapshot.id, label=snapshot.label, turn=snapshot.turn, timestamp=snapshot.timestamp)
