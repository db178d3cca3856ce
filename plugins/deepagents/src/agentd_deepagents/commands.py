"""`SandboxCommands`: commands and files of a deep agent, in a `CommandSandbox`."""

from __future__ import annotations

from typing import Final
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

__all__ = ["SandboxCommands", "read_timeout"]

CODES: Final[tuple[tuple[type[OSError], FileOperationError], ...]] = (  # as deepagents' FilesystemBackend
    (FileNotFoundError, "file_not_found"),
    (IsADirectoryError, "is_directory"),
    (PermissionError, "permission_denied"),
    (NotADirectoryError, "invalid_path"),
)


class SandboxCommands(BaseSandbox):
    """What `AgentdSandbox` has others do: a `BaseSandbox`, which starts its programs by `execute`.

    :param timeout: seconds of a command for which deepagents names none; None for the executor's.
    """

    def __init__(self, sandbox: CommandSandbox, *, timeout: float | None) -> None:
        self.sandbox = sandbox
        self._timeout = timeout
        self._id = f"agentd-{uuid4().hex[:12]}"

    @property
    def id(self) -> str:
        """A name of this sandbox, new for each object."""
        return self._id

    # --- commands

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """Run a bash command.

        :param timeout: seconds; 0 for none but the executor's.
        :raises ValueError: if it is negative.
        """
        return _response(self.sandbox.run_sync(["bash", "-c", command], timeout_s=self._seconds(timeout)))

    async def aexecute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        """The same in an event loop, without a thread."""
        return _response(await self.sandbox.run(["bash", "-c", command], timeout_s=self._seconds(timeout)))

    def _seconds(self, timeout: int | None) -> float | None:
        return self._timeout if timeout is None else read_timeout(timeout)

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


def read_timeout(timeout: float) -> float | None:
    """Return the seconds of a time-out as deepagents has it: 0 is for none.

    :raises ValueError: if it is negative.
    """
    if timeout < 0:
        raise ValueError(f"timeout: must be a number of seconds, or 0 for no time-out, got {timeout}")
    return timeout or None


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
