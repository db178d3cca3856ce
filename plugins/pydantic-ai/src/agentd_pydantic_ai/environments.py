"""`AgentdWorkspaces`: the sandboxes behind workspace backends, each with a reference, until they are destroyed."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

import anyio.to_thread
from agentd.errors import AgentdError
from agentd_runner.host.command_sandbox import CommandSandbox
from agentd_runner.inside.files import remove_tree
from pydantic_ai.workspaces import WorkspaceRef, WorkspaceUnavailableError

from agentd_pydantic_ai.backend import AgentdWorkspaceBackend

__all__ = ["AgentdWorkspaces"]

LIMITS: Final[Mapping[str, Any]] = {"timeout_s": None, "output_bytes": 16 * 1024 * 1024, "jobs": 64}


class AgentdWorkspaces:
    """Makes workspace backends, holds their sandboxes, and ends them all when it is closed: `async with`.

    A run ends no sandbox; `destroy` does, and the end of this object. A reference is the name of a folder below
    `root`: with the same `root`, another process attaches to the files, but not to what runs.

    :param executor: a name, or a pair of name and options; None for what the user has chosen for the process, else
        `native`.
    :param root: the folder of the workspaces' folders; None for a temporary one that goes with this object.
    :param options: of the executor, by name. Without a word about them, commands have no time-out of their own.
    :param lasting: whether what a command detaches lives on, as Pydantic AI wants it of a backend. It is a job:
        `options` may bound their number, else 64.
    :param python_blocks: whether a command that does nothing but start `python3` on a text (`python3 -c '...'`) is run
        as a Python block, forked from a warm interpreter.
    """

    def __init__(
        self,
        executor: object = None,
        *,
        root: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        lasting: bool = True,
        python_blocks: bool = True,
    ) -> None:
        self._how = {"lasting": lasting, "python_blocks": python_blocks}
        self._executor = executor
        self._options = dict(options or {})
        self._temporary = tempfile.mkdtemp(prefix="agentd-workspaces-") if root is None else None
        self.root = Path(self._temporary or str(root)).expanduser().absolute()
        self._open: dict[str, CommandSandbox] = {}
        self._lock = threading.Lock()
        self._closed = False

    def backend(self, ref: WorkspaceRef | None = None) -> AgentdWorkspaceBackend:
        """Return a backend: of the sandbox that `ref` names, or of a new one, made by its first operation.

        :raises ValueError: if the reference is another provider's.
        """
        return AgentdWorkspaceBackend(self, ref)

    async def destroy(self, ref: WorkspaceRef) -> None:
        """End what runs there, and remove the files."""
        sandbox = self._open.pop(ref.id, None)
        if sandbox is not None:
            await sandbox.aclose()
        await anyio.to_thread.run_sync(remove_tree, self._folder(ref.id))

    async def aclose(self) -> None:
        """End all sandboxes. Files stay if `root` was given."""
        self._closed = True
        while self._open:
            _, sandbox = self._open.popitem()
            await sandbox.aclose()
        if self._temporary is not None:
            remove_tree(self._temporary)

    async def __aenter__(self) -> AgentdWorkspaces:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- for backends

    def make(self) -> str:
        """Make a new environment and return its name. Blocks.

        :raises WorkspaceUnavailableError: if this was closed.
        """
        self._check_open()
        name = uuid4().hex[:12]
        (self.root / name).mkdir(parents=True)
        return name

    def sandbox(self, name: str) -> CommandSandbox:
        """Return the sandbox of an environment, opened if it is not. Blocks.

        :raises WorkspaceUnavailableError: if it was destroyed, or cannot be opened.
        """
        with self._lock:
            self._check_open()
            if not self._folder(name).is_dir():
                raise WorkspaceUnavailableError(
                    f"the workspace {name!r} of agentd is not there (any more), below {self.root}"
                )
            if name not in self._open:
                try:
                    self._open[name] = CommandSandbox(
                        self._executor,
                        workspace=self._folder(name),
                        options=self._options,
                        limits=LIMITS,
                        **self._how,
                    )
                except AgentdError as error:
                    raise WorkspaceUnavailableError(str(error)) from error
            return self._open[name]

    def opened(self, name: str) -> CommandSandbox | None:
        """Return the sandbox of an environment if it is open and its folder is there. Does not block."""
        sandbox = self._open.get(name)
        return sandbox if sandbox is not None and self._folder(name).is_dir() else None

    def _check_open(self) -> None:
        if self._closed:
            raise WorkspaceUnavailableError(
                "the workspaces of agentd were closed; make them around all runs: `async with AgentdWorkspaces()`"
            )

    def _folder(self, name: str) -> Path:
        if not name.isalnum():
            raise WorkspaceUnavailableError(f"{name!r} is not the name of a workspace of agentd")
        return self.root / name
