"""The timeline of a session: checkpoints that keep its workspace, its conversation and its shell together."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError, CorruptSnapshotError, UnknownSnapshotError
from agentd.protocols import (
    AsyncSnapshotStore,
    KeptSnapshot,
    PausableExecutor,
    ShellExecutor,
    SnapshotExcluding,
    SnapshotStore,
    is_tool_source,
)
from agentd.selectors import Selector, pick
from agentd.turn.transcript import Transcript

if TYPE_CHECKING:
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources

__all__ = ["Checkpoint", "Timeline", "forked_settings"]

VERSION: Final = 1


@attrs.frozen(kw_only=True)
class Checkpoint:
    """One kept moment of a session.

    `id`, `label`, `turn` and `timestamp` (seconds since the epoch) are those of the snapshot of the workspace
    that belongs to it.
    """

    id: str
    label: str | None
    turn: int
    timestamp: float


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
            version = plain["version"]
            if version != VERSION:
                raise ConfigError(f"checkpoint {name!r}: has version {version}, this agentd reads {VERSION}")
            return cls(Transcript.from_dict(plain["transcript"]), plain["shell"])
        except (zlib.error, ValueError, KeyError, TypeError) as exc:
            if isinstance(exc, ConfigError):
                raise
            raise CorruptSnapshotError(f"the checkpoint {name!r} cannot be read: {exc}") from exc


@attrs.define(eq=False)
class Timeline:
    """The checkpoints of the sessions that work in one workspace; any process finds them again.

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
        moment = _Moment(self._transcript, await self._shell_state())
        return _checkpoint(await self._do("snapshot", label, attachment=moment.encode()))

    async def go_back(self, wanted: Selector | Checkpoint | None) -> Checkpoint:
        """Make workspace, transcript and shell what they were. No block may be running.

        The workspace comes first: if that fails, nothing has changed.
        """
        checkpoint, moment = await call_in_thread(partial(self._load, wanted))
        executor = self._resources.executor if self._has_code else None
        if isinstance(executor, PausableExecutor):
            await call_in_thread(executor.pause)
        await self._do("restore", checkpoint.id)
        self._transcript.become(moment.transcript)
        self._shell = moment.shell
        if isinstance(executor, ShellExecutor):
            await executor.set_shell_state(moment.shell)
            self._shell = None
        return checkpoint

    async def branch(self, wanted: Selector | Checkpoint | None, folder: Path) -> _Moment:
        """Copy a checkpoint's workspace into an empty folder and return the rest of it."""
        checkpoint, moment = await call_in_thread(partial(self._load, wanted))
        if folder.is_relative_to(self._resources.workspace):
            raise ConfigError(
                f"cwd {str(folder)!r}: must lie outside the workspace {str(self._resources.workspace)!r}"
            )
        await self._do("copy_to", checkpoint.id, folder)
        return moment

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


def forked_settings(
    made_with: Mapping[str, Any], changes: Mapping[str, Any], resources: SessionResources, folder: Path
) -> dict[str, Any]:
    """Return the arguments for a second session, in `folder`, like the one that was made with `made_with`.

    :raises ConfigError: for an object among them that can belong to one session only.
    """
    settings = {**made_with, **changes, "cwd": folder}
    del settings["transcript"]
    own = {name for name in ("model", "executor") if not isinstance(settings[name], str | tuple | None)}
    if any(is_tool_source(server) for server in settings["mcp_servers"]):
        own.add("mcp_servers")
    for name in sorted(own - changes.keys()):
        raise ConfigError(
            f"{name}: belongs to the first session; give the fork its own: fork(..., {name}=...)"
        )
    settings["sinks"] = [s for s in settings["sinks"] if isinstance(s, str | tuple) or "sinks" in changes]
    if settings["skills_dir"] is not None and "skills_dir" not in changes:
        if not resources.skills_dir.is_relative_to(resources.workspace):
            raise ConfigError("skills_dir: belongs to the first session; give the fork its own")
        settings["skills_dir"] = folder / resources.skills_dir.relative_to(resources.workspace)
    return settings


def _checkpoint(snapshot: KeptSnapshot) -> Checkpoint:
    return Checkpoint(id=snapshot.id, label=snapshot.label, turn=snapshot.turn, timestamp=snapshot.timestamp)
