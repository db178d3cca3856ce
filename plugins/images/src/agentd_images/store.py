"""Where the pictures of a session are kept: as files in its workspace, and the newest ones in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentd._concurrency.pool import call_in_thread
from agentd.errors import ExecutorError
from agentd.protocols import UploadingExecutor

from agentd_images.folder import PictureFolder
from agentd_images.picture import MIME_TYPES

if TYPE_CHECKING:
    from agentd.protocols import Executor

    from agentd_images.picture import ShownPicture

__all__ = ["PictureStore"]

_MEMORY_BYTES: Final = 32 * 1024 * 1024


class PictureStore:
    """Keeps pictures by the hash of their content; see `PictureFolder`.

    :ivar folder: that of the workspace.
    """

    def __init__(self, workspace: Path) -> None:
        self.folder = PictureFolder(workspace)
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    async def keep(self, picture: ShownPicture, executor: Executor | None) -> str:
        """Keep a picture, and return what went wrong with its file, if anything.

        :param executor: writes the file, if it can, so that it is where code finds it; without it, the host does.
        """
        self._hold(picture.file, picture.data)
        try:
            if isinstance(executor, UploadingExecutor):
                await executor.upload(picture.path, picture.data)
            else:
                await call_in_thread(partial(self.folder.write, picture.file, picture.data))
            await call_in_thread(self.folder.hold)
        except (ExecutorError, OSError) as error:  # a full disk, say
            return f"{type(error).__name__}: {error}"
        return ""

    def find(self, file: str) -> tuple[bytes, str] | None:
        """Return a picture and its type by the name of its file; None if it is gone."""
        data = self._held.get(file)
        if data is None and (data := self.folder.read(file)) is not None:
            self._hold(file, data)
        return None if data is None else (data, MIME_TYPES[file.rpartition(".")[2]])

    def copy_to(self, folder: PictureFolder, files: Iterable[str]) -> None:
        """Put pictures into another folder, but for those that are gone. From any thread. Raises `OSError`."""
        for file in files:
            data = self._held.get(file) or self.folder.read(file)
            if data is not None:
                folder.write(file, data)

    def _hold(self, file: str, data: bytes) -> None:
        if file in self._held:
            return
        self._held[file] = data
        self._held_bytes += len(data)
        while self._held_bytes > _MEMORY_BYTES and len(self._held) > 1:
            self._held_bytes -= len(self._held.popitem(last=False)[1])
