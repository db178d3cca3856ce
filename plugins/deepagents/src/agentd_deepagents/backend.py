"""`AgentdSandbox`: a backend of deep agents (`deepagents.backends.sandbox.BaseSandbox`) on an executor of agentd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from uuid import uuid4

import attrs
from agentd.types import ActionResult
from agentd_runner.host.command_sandbox import CommandSandbox
from deepagents.backends.protocol import (
    ExecuteResponse,
    FileDownloadResponse,
    FileOperationError,
    FileUploadResponse,
)
from deepagents.backends.sandbox import BaseSandbox

__all__ = ["AgentdSandbox"]

TIMEOUT_S: Final = 120.0  # as deepagents' LocalShellBackend
CODES: Final[tuple[tuple[type[OSError], FileOperationError], ...]] = (  # as deepagents' FilesystemBackend
    (FileNotFoundError, "file_not_found"),
    (IsADirectoryError, "is_directory"),
    (PermissionError, "permission_denied"),
    (NotADirectoryError, "invalid_path"),
)


class AgentdSandbox(BaseSandbox):
    """Commands and files of a deep agent in one sandbox. Usable as a context manager.

    Each command starts in the workspace, in a shell of its own.

    :param executor: a name, a pair of name and options, or an `agentd.protocols.Executor`; None for what the user has
        chosen for the process, else `native`.
    :param workspace: the folder of the files; None for a temporary one that goes when this object is closed.
    :param timeout: seconds of a command for which deepagents names none.
    :param options: of the executor, by name.
    :param lasting: whether what a command leaves running lives on until the sandbox is closed. It is a job: at most
        `Limits(jobs=...)` of them run at once.
    :param python_blocks: whether a command that does nothing but start `python3` on a text (`python3 -c '...'`; deep
        agents read and edit files so) is run as a Python block, forked from a warm interpreter.
    """

    def __init__(
        self,
        executor: object = None,
        *,
        workspace: str | Path | None = None,
        timeout: float = TIMEOUT_S,
        options: Mapping[str, Any] | None = None,
        lasting: bool = True,
        python_blocks: bool = True,
    ) -> None:
        self.sandbox = CommandSandbox(
            executor, workspace=workspace, options=options, lasting=lasting, python_blocks=python_blocks
        )
        self._timeout = timeout
        self._id = f"agentd-{uuid4().hex[:12]}"

    @property
    def id(self) -> str:
        """A name of this sandbox, new for each object."""
        return self._id

    @property
    def workspace(self) -> Path:
        """The folder in which commands start."""
        return self.sandbox.workspace

    # --- commands

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a bash command. `timeout`: seconds."""
        return _response(self.sandbox.run_sync(["bash", "-c", command], timeout_s=self._seconds(timeout)))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """The same in an event loop, without a thread."""
        return _response(await self.sandbox.run(["bash", "-c", command], timeout_s=self._seconds(timeout)))

    def _seconds(self, timeout: int | None) -> float:
        return self._timeout if timeout is None else timeout

    # --- files

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """Write files; each has its own answer."""
        answers = []
        for path, content in files:
            error = _unfit(path)
            if error is None:
                try:
                    self.sandbox.write_file_sync(path, content)
                except OSError as refused:
                    error = _code(refused)
            answers.append(FileUploadResponse(path=path, error=error))
        return answers

    async def aupload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        """The same in an event loop."""
        answers = []
        for path, content in files:
            error = _unfit(path)
            if error is None:
                try:
                    await self.sandbox.write_file(path, content)
                except OSError as refused:
                    error = _code(refused)
            answers.append(FileUploadResponse(path=path, error=error))
        return answers

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """Read files; each has its own answer."""
        answers = []
        for path in paths:
            error, content = _unfit(path), None
            if error is None:
                try:
                    content = self.sandbox.read_file_sync(path)
                except OSError as refused:
                    error = _code(refused)
            answers.append(FileDownloadResponse(path=path, content=content, error=error))
        return answers

    async def adownload_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        """The same in an event loop."""
        answers = []
        for path in paths:
            error, content = _unfit(path), None
            if error is None:
                try:
                    content = await self.sandbox.read_file(path)
                except OSError as refused:
                    error = _code(refused)
            answers.append(FileDownloadResponse(path=path, content=content, error=error))
        return answers

    # --- the end

    def close(self) -> None:
        """End what runs, and remove a temporary workspace."""
        self.sandbox.close()

    async def aclose(self) -> None:
        """The same in an event loop."""
        await self.sandbox.aclose()

    def __enter__(self) -> AgentdSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _response(result: ActionResult) -> ExecuteResponse:
    # `BaseSandbox` reads the output of its own commands: nothing is added to it.
    if result.status == "completed":
        result = attrs.evolve(result, message="")
    return ExecuteResponse(
        output=result.output, exit_code=result.exit_code, truncated=result.dropped_bytes > 0
    )


def _unfit(path: str) -> FileOperationError | str | None:
    return None if path.startswith("/") and "\0" not in path else "invalid_path"


def _code(error: OSError) -> FileOperationError | str:
    return next((code for kind, code in CODES if isinstance(error, kind)), error.strerror or str(error))
