"""The pictures of a kept conversation: copies beside it, for those in its workspace may be cleared away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentd.errors import MissingPluginError
from agentd_history.pictures import files_of

if TYPE_CHECKING:
    from agentd_images.folder import PictureFolder

    from agentd_chat.kept import ConversationFolder, KeptConversation

__all__ = ["keep_pictures", "put_back"]

_MOST: Final = 100
"""So many of the newest are kept: of older ones no model is shown any (`Images.max_remembered`)."""
_MOST_BYTES: Final = 256 * 1024 * 1024


def keep_pictures(folder: ConversationFolder, kept: KeptConversation) -> None:
    """Copy the pictures that a conversation refers to, where they are not yet. Blocking. Raises `OSError`."""
    needed = files_of(kept.transcript)[-_MOST:]
    theirs, ours = _folders(folder, kept)
    there = ours.files()
    for file in needed:
        if file not in there and (data := theirs.read(file)) is not None:
            ours.write(file, data)
    ours.clear(max_files=_MOST, max_bytes=_MOST_BYTES, needed=list)


def put_back(folder: ConversationFolder, kept: KeptConversation) -> None:
    """Copy those into the workspace that it does not have any more. Blocking."""
    theirs, ours = _folders(folder, kept)
    there = theirs.files()
    try:
        for file in files_of(kept.transcript)[-_MOST:]:
            if file not in there and (data := ours.read(file)) is not None:
                theirs.write(file, data)
    except OSError:  # a workspace that cannot be written to: the model is told which pictures are gone
        pass


def _folders(folder: ConversationFolder, kept: KeptConversation) -> tuple[PictureFolder, PictureFolder]:
    """Return the workspace's, and the conversation's. Raises `MissingPluginError` without agentd-images."""
    try:
        from agentd_images.folder import PictureFolder
    except ImportError as exc:
        raise MissingPluginError("--images", "agentd-images") from exc
    return PictureFolder(Path(kept.workspace)), PictureFolder(folder.path, folder.pictures(kept.id))
