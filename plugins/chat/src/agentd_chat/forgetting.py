"""What is forgotten: conversations that a person names, or the oldest of too many, with their checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from agentd.errors import AgentdError, UnknownSnapshotError

from agentd_chat.kept import ConversationFolder, KeptConversation, chats_dir

if TYPE_CHECKING:
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec

__all__ = ["forget", "forget_oldest"]


def forget(
    folder: ConversationFolder, id: str, registry: Registry, snapshots: PluginSpec = "packs"
) -> KeptConversation:
    """Remove a conversation, its pictures and its checkpoints, and return what it was. Blocking.

    :param snapshots: the store that its checkpoints lie in.
    :raises ConfigError: if it cannot be read; `ConversationBusyError` if it is open.
    :raises AgentdError: if its checkpoints cannot be removed; the conversation is gone then.
    """
    with folder.held(id):
        kept = folder.load(id)
        try:  # first, as nothing else knows which they are: a process that is killed here can be followed by another
            _forget_checkpoints(kept, registry, snapshots)
        except (AgentdError, OSError):
            folder.remove(id)
            raise
        folder.remove(id)
    return kept


def _forget_checkpoints(kept: KeptConversation, registry: Registry, snapshots: PluginSpec) -> None:
    from agentd_snapshots.snapshots import Snapshots

    ids = kept.checkpoints()
    if not ids:
        return
    store = registry.create_snapshot_store(snapshots, Path(kept.workspace), None, list)
    for id in ids:
        try:
            if isinstance(store, Snapshots):
                store.delete_snapshot(id, collect=False)
            else:
                store.delete_snapshot(id)
        except UnknownSnapshotError:  # it is no longer there
            continue
    if isinstance(store, Snapshots):
        store.collect_garbage()


def forget_oldest(most: int, registry: Registry, *, base: Path | None = None) -> int:
    """Remove the conversations, of all folders together, that nobody has gone on with for the longest time, until
    `most` are left. Return how many went. Blocking.

    One that is open stays, and so does one that cannot be read: a later agentd may have written it.
    """
    files = sorted(_files(chats_dir() if base is None else base), reverse=True)
    old = [file for _, file in reversed(files[most:])]
    for file in old:
        try:
            forget(ConversationFolder.at(file.parent), file.stem, registry)
        # Of its checkpoints, too: the folder is gone, or on a disk that is not there.
        except (AgentdError, OSError):
            continue
    return sum(not file.exists() for file in old)


def _files(base: Path) -> Iterable[tuple[int, Path]]:
    for file in _found(base):
        try:
            yield file.lstat().st_mtime_ns, file
        except OSError:
            continue


def _found(base: Path) -> Iterator[Path]:
    try:
        yield from base.glob("*/*.json")
    except OSError:
        return
