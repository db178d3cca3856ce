"""A snapshot store plugin: each snapshot is a folder with a tar file, which any program can read.

[project.entry-points."agentd.snapshots"]
tar = "snapshots_tar"
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from agentd.errors import ConfigError, CorruptSnapshotError, SnapshotError, UnknownSnapshotError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options
from agentd.selectors import Selector, pick
from agentd.statedir import user_state_dir

AGENTD_API = 1

STAGING = ".agentd-tar-"
"""How the folder begins in which a restore works. It is in the workspace: what is moved there stays on its disk."""


@attrs.frozen
class TarSnapshot:
    """One kept state of the workspace."""

    id: str
    label: str | None
    turn: int
    timestamp: float
    digest: str


class TarSnapshots:
    """The snapshots of one workspace, below `folder`: for each one `ID/about.json`, `ID/files.tar` and, if it has
    one, `ID/attachment`. A snapshot appears whole, by the renaming of its folder.

    Files, folders, symlinks, modes and times are kept; sockets and devices are not. A process that is killed
    amid a restore leaves the old files in a folder `.agentd-tar-...` of the workspace.
    """

    def __init__(
        self, workspace: Path, folder: Path, exclude: Callable[[], Sequence[str]], *, compress: bool
    ) -> None:
        self._workspace = workspace
        self._folder = folder
        self._exclude = exclude
        self._compress = compress

    # --- taking and looking ------------------------------------------------------------------------

    def snapshot(
        self, label: str | None = None, *, turn: int | None = None, attachment: bytes | None = None
    ) -> TarSnapshot:
        with self._errors("take a snapshot"):
            self._folder.mkdir(parents=True, exist_ok=True)
            new = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
            try:
                self._pack(new / "files.tar")
                if attachment is not None:
                    (new / "attachment").write_bytes(attachment)
                turn = (
                    1 + max((one.turn for one in self.list_snapshots()), default=0) if turn is None else turn
                )
                with (new / "files.tar").open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                kept = TarSnapshot("", label, turn, time.time(), digest)
                (new / "about.json").write_text(json.dumps(attrs.asdict(kept)))
                return attrs.evolve(kept, id=self._named(new, turn))
            finally:
                shutil.rmtree(new, ignore_errors=True)  # not there any more if all went well

    def _pack(self, path: Path) -> None:
        excluded = set(self._exclude())

        def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            inside = member.name not in excluded and not member.name.startswith(STAGING)
            return (
                member
                if inside and (member.isfile() or member.isdir() or member.issym() or member.islnk())
                else None
            )

        with tarfile.open(path, "w:gz" if self._compress else "w", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(os.listdir(self._workspace)):
                archive.add(self._workspace / name, arcname=name, filter=wanted)

    def _named(self, new: Path, turn: int) -> str:
        """Give the new folder the next free id of its turn, also if another process is at it."""
        number = 1
        while True:
            id = f"turn_{turn:04d}" if number == 1 else f"turn_{turn:04d}_{number}"
            try:
                new.rename(self._folder / id)
            except OSError:
                if not (self._folder / id).exists():
                    raise
                number += 1
            else:
                return id

    def list_snapshots(self) -> list[TarSnapshot]:
        found = []
        for path in self._folder.glob("turn_*/about.json"):
            try:
                about = json.loads(path.read_text())
                found.append(TarSnapshot(**{**about, "id": path.parent.name}))
            except FileNotFoundError:
                pass  # deleted by another process since
            except (ValueError, TypeError, OSError) as error:
                raise CorruptSnapshotError(
                    f"the snapshot {path.parent.name!r} cannot be read: {error}"
                ) from error
        return sorted(found, key=lambda one: (one.turn, len(one.id), one.id))

    def has_attachment(self, id: str) -> bool:
        return (self._folder / id / "attachment").is_file()

    def attachment(self, id: str) -> bytes | None:
        return (self._folder / id / "attachment").read_bytes() if self.has_attachment(id) else None

    def delete_snapshot(self, wanted: Selector) -> TarSnapshot:
        kept = self._find(wanted)
        with self._errors(f"delete the snapshot {kept.id!r}"):
            gone = Path(tempfile.mkdtemp(prefix=".gone-", dir=self._folder))
            (self._folder / kept.id).rename(gone / kept.id)  # at once, and then at leisure
            shutil.rmtree(gone)
        return kept

    def _find(self, wanted: Selector) -> TarSnapshot:
        known = self.list_snapshots()
        found = pick(wanted, known)
        if found is None:
            raise UnknownSnapshotError(
                wanted, [name for one in known for name in (one.id, one.label) if name]
            )
        return found

    # --- going back --------------------------------------------------------------------------------

    def copy_to(self, wanted: Selector, folder: Path) -> Path:
        kept = self._find(wanted)
        folder = folder.resolve()
        with self._errors(f"copy the snapshot {kept.id!r}"):
            was_there = folder.is_dir()
            if was_there and any(folder.iterdir()):
                raise SnapshotError(f"the folder {str(folder)!r} is not empty")
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._unpack(kept, folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                if was_there:
                    folder.mkdir(exist_ok=True)
                raise
        return folder

    def restore(self, wanted: Selector) -> TarSnapshot:
        """Unpack beside what is there, and then change places; if anything fails, change back."""
        kept = self._find(wanted)
        with (
            self._errors(f"restore the snapshot {kept.id!r}"),
            tempfile.TemporaryDirectory(
                prefix=STAGING, dir=self._workspace, ignore_cleanup_errors=True
            ) as staging,
        ):
            new, old = Path(staging, "new"), Path(staging, "old")
            new.mkdir()
            old.mkdir()
            self._unpack(kept, new)
            moved: list[tuple[Path, Path]] = []
            try:
                for source, target in self._moves(new, old, Path(staging).name):
                    _move(source, target)
                    moved.append((source, target))
            except BaseException:
                for source, target in reversed(moved):
                    _move(target, source)
                raise
        return kept

    def _moves(self, new: Path, old: Path, staging: str) -> Iterator[tuple[Path, Path]]:
        """Yield what goes where: the old out, the new in. What snapshots leave out stays, wherever it lies."""
        excluded = [Path(path) for path in self._exclude()]
        stays = {path.parts[0] for path in excluded if len(path.parts) == 1} | {staging}
        for name in sorted(set(os.listdir(self._workspace)) - stays):
            yield self._workspace / name, old / name
        for path in excluded:
            if path.parts[0] not in stays and os.path.lexists(old / path):
                (new / path).parent.mkdir(parents=True, exist_ok=True)
                yield old / path, new / path
        for name in sorted(set(os.listdir(new)) - stays):
            yield new / name, self._workspace / name

    def _unpack(self, kept: TarSnapshot, folder: Path) -> None:
        path = self._folder / kept.id / "files.tar"
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != kept.digest:
                raise CorruptSnapshotError(
                    f"the snapshot {kept.id!r} is damaged: {path} is not what was written"
                )
        with tarfile.open(path) as archive:
            archive.extraction_filter = lambda member, _: member  # it is ours, and modes and links are wanted
            archive.extractall(folder)

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except SnapshotError:
            raise
        except (OSError, tarfile.TarError) as error:
            raise SnapshotError(f"could not {what}: {error}", errno=getattr(error, "errno", None)) from error


def _move(source: Path, target: Path) -> None:
    """Rename; a folder without the right to write in it would not let itself be moved to another one."""
    mode = source.lstat().st_mode
    if not stat.S_ISDIR(mode) or mode & stat.S_IWUSR:
        source.rename(target)
        return
    source.chmod(stat.S_IMODE(mode) | stat.S_IRWXU)
    at = source
    try:
        at = source.rename(target)
    finally:
        at.chmod(stat.S_IMODE(mode))


@hookimpl
def agentd_create_snapshot_store(
    workspace_dir: Path,
    base_dir: Path | None,
    exclude: Callable[[], Sequence[str]],
    options: Mapping[str, Any],
) -> TarSnapshots:
    check_options("the snapshot store 'tar'", options, {"compress": bool})
    workspace = workspace_dir.resolve()
    base = user_state_dir() / "tar-snapshots" if base_dir is None else base_dir.expanduser().resolve()
    if base.is_relative_to(workspace):
        raise ConfigError(f"base_dir {str(base)!r}: must lie outside the workspace {str(workspace)!r}")
    name = hashlib.sha256(os.fsencode(workspace)).hexdigest()[:16]
    return TarSnapshots(workspace, base / name, exclude, compress=options.get("compress", False))
