"""The state folder of a daemon: where its journal, workspaces and checkpoints lie, and who may use it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from agentd.errors import AgentdError, WorkspaceError
from agentd.statedir import make_private, user_state_dir

__all__ = ["StateFolder", "StateFolderBusyError", "default_state_dir"]


class StateFolderBusyError(AgentdError):
    """Another daemon works in the state folder."""

    def __init__(self, path: Path, pid: str) -> None:
        who = f"a daemon with the pid {pid}" if pid else "another daemon"
        super().__init__(
            f"{who} already works in the state folder {str(path)!r}; end it, or give this one a folder of its own "
            "with --state-dir"
        )


def default_state_dir(files: Iterable[str | os.PathLike[str]]) -> Path:
    """Return the folder of the daemon with these configuration files: the same for the same files.

    It lies in the user's state folder.
    """
    paths = sorted(str(Path(file).resolve()) for file in files)
    digest = hashlib.sha256("\0".join(paths).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return user_state_dir() / "daemon" / f"{Path(paths[0]).stem}-{digest}"


class StateFolder:
    """A daemon's folder, mode 0700. Entered, it is this process's alone.

    :raises WorkspaceError: if it cannot be made or used.
    :raises StateFolderBusyError: on entering, if another daemon has it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self._lock = -1

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return self.path / "journal.db"

    @property
    def socket(self) -> Path:
        """The socket that `agentd status` asks."""
        return self.path / "control.sock"

    @property
    def repl_history(self) -> Path:
        """What was typed into the REPL."""
        return self.path / "repl-history"

    @property
    def snapshots(self) -> Path:
        """The agents' checkpoints."""
        return self.path / "snapshots"

    def workspace(self, agent: str) -> Path:
        """The workspace of an agent whose configuration names no other."""
        return self.path / "agents" / agent

    def __enter__(self) -> StateFolder:
        try:
            make_private(self.workspace(""))
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise WorkspaceError(
                f"the state folder {str(self.path)!r} cannot be used: {exc.strerror}; give another one with --state-dir"
            ) from exc
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise StateFolderBusyError(self.path, pid) from None
        except OSError as exc:
            os.close(self._lock)
            raise WorkspaceError(
                f"the state folder {str(self.path)!r} cannot be locked: {exc.strerror}"
            ) from exc
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)
