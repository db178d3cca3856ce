"""`AgentdWorkspaceBackend`: Pydantic AI's `WorkspaceBackend` with commands, files and real paths, in a sandbox."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import anyio
import anyio.to_thread
from agentd.errors import ExecutorError
from agentd.types import ActionResult
from agentd_runner.host.command_sandbox import CommandSandbox
from pydantic_ai.workspaces import (
    CommandResult,
    FileEntry,
    WorkspaceCommand,
    WorkspaceOutputLimitError,
    WorkspaceRef,
    WorkspaceTimeoutError,
    WorkspaceUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["PROVIDER", "AgentdWorkspaceBackend"]

T = TypeVar("T")
PROVIDER: Final = "agentd"
PREVIEW: Final = 64 * 1024  # bytes of an output that is too long

_ENTRY: Final = """\
import json
def entry(path, name):
    try:
        status = os.stat(path)
        folder = stat.S_ISDIR(status.st_mode)
        return [name, path, folder, status.st_size if stat.S_ISREG(status.st_mode) else None]
    except OSError:
        os.lstat(path)
        return [name, path, False, None]
"""
_STAT: Final = f"{_ENTRY}os.stat(path)\nprint(json.dumps(entry(path, os.path.basename(path))))"
_LIST: Final = (
    f"{_ENTRY}print(json.dumps([entry(os.path.join(path, name), name) for name in sorted(os.listdir(path))]))"
)
_MAKE: Final = "os.makedirs(path, exist_ok=True)"
_REMOVE: Final = """\
import shutil
root = os.path.realpath(".")
if not os.path.islink(path) and (root + "/").startswith(os.path.realpath(path).rstrip("/") + "/"):
    print("root")
elif os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path)
else:
    os.unlink(path)
"""
_EXISTS: Final = "print(os.path.exists(path))"
_REALPATH: Final = "import json\nprint(json.dumps(os.path.realpath(path)))"


class SandboxKeeper(Protocol):
    """Who holds the sandboxes: an `AgentdWorkspaces`."""

    def make(self) -> str: ...

    def sandbox(self, name: str) -> CommandSandbox: ...

    def opened(self, name: str) -> CommandSandbox | None: ...


class AgentdWorkspaceBackend:
    """One environment of `AgentdWorkspaces`; give it to a run as `workspace=`. Made by `AgentdWorkspaces.backend`.

    Programs start in the workspace, without a shell between (`shell=True`: in bash). What they detach lives on until
    the environment is destroyed. Paths are those of the sandbox, with the rights of its code.
    """

    def __init__(self, workspaces: SandboxKeeper, ref: WorkspaceRef | None = None) -> None:
        if ref is not None and ref.provider != PROVIDER:
            raise ValueError(f"ref: must be of the provider {PROVIDER!r}, got {ref.provider!r}")
        self._workspaces = workspaces
        self._ref = ref
        self._making = anyio.Lock()
        self._working_dir: str | None = None

    @property
    def ref(self) -> WorkspaceRef | None:
        """The environment's name; None until the first operation of a new one."""
        return self._ref

    async def working_dir(self) -> str:
        """Where commands start, as the sandbox has it."""
        sandbox = await self._sandbox()
        if self._working_dir is None:
            self._working_dir = json.loads(await self._reached(sandbox.ask(_REALPATH, ".")))
        return self._working_dir

    async def run(
        self,
        command: WorkspaceCommand,
        *,
        shell: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> CommandResult:
        """Run a program, or with `shell=True` a line of bash; see `pydantic_ai.workspaces.SupportsCommands`."""
        if isinstance(command, str) != shell:
            raise TypeError("command: must be a string with shell=True, and a sequence of strings without")
        if timeout is not None and not 0 < timeout < float("inf"):
            raise ValueError(f"timeout: must be a positive finite number or None, got {timeout!r}")
        argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
        sandbox = await self._sandbox()
        result = await self._reached(sandbox.run(argv, env=env, timeout_s=timeout))
        await self._sandbox()  # one that was destroyed meanwhile has no ordinary end
        return _command_result(result, timeout, sandbox)

    # --- files

    async def read_bytes(self, path: str) -> bytes:
        """Read a file."""
        return await self._reached((await self._sandbox()).read_file(_absolute(path)))

    async def write_bytes(self, path: str, data: bytes) -> None:
        """Write a file, with the folders that it is in."""
        await self._reached((await self._sandbox()).write_file(_absolute(path), data))

    async def stat(self, path: str) -> FileEntry:
        """Describe a file or folder."""
        return _entry(json.loads(await self._ask(_STAT, path)))

    async def list_dir(self, path: str) -> Sequence[FileEntry]:
        """Describe what a folder holds, in the order of names."""
        return list(map(_entry, json.loads(await self._ask(_LIST, path))))

    async def make_dir(self, path: str) -> None:
        """Make a folder, with those that it is in."""
        await self._ask(_MAKE, path)

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that it holds; not the workspace itself."""
        if await self._ask(_REMOVE, path):
            raise ValueError(f"cannot remove {path!r}: it is the workspace, or holds it")

    async def exists(self, path: str) -> bool:
        """Whether there is a file or folder."""
        return await self._ask(_EXISTS, path) == b"True\n"

    async def realpath(self, path: str) -> str:
        """Resolve symbolic links, where they are."""
        resolved: str = json.loads(await self._ask(_REALPATH, path))
        return resolved

    # --- inside

    async def _ask(self, code: str, path: str) -> bytes:
        return await self._reached((await self._sandbox()).ask(code, _absolute(path)))

    async def _sandbox(self) -> CommandSandbox:
        if self._ref is not None and (sandbox := self._workspaces.opened(self._ref.id)) is not None:
            return sandbox
        async with self._making:
            return await anyio.to_thread.run_sync(self._sandbox_now)

    def _sandbox_now(self) -> CommandSandbox:
        if self._ref is None:
            self._ref = WorkspaceRef(provider=PROVIDER, id=self._workspaces.make())
        return self._workspaces.sandbox(self._ref.id)

    @staticmethod
    async def _reached(asked: Awaitable[T]) -> T:
        try:
            return await asked
        except ExecutorError as error:
            raise WorkspaceUnavailableError(str(error)) from error


def _command_result(result: ActionResult, timeout: float | None, sandbox: CommandSandbox) -> CommandResult:
    stdout, stderr = (stream.decode("utf-8", "replace") for stream in (result.stdout, result.stderr))
    if result.status == "timeout":
        raise WorkspaceTimeoutError(
            f"the command has not ended within {timeout:g} s" if timeout else result.message,
            stdout=stdout,
            stderr=stderr,
        )
    if result.dropped_bytes:
        limit = int(getattr(getattr(sandbox.executor, "limits", None), "output_bytes", 0))
        raise WorkspaceOutputLimitError(
            f"the command's output is longer than {limit} bytes; write it to a file, and read a part of that",
            limit=limit,
            stdout=stdout[:PREVIEW],
            stderr=stderr[:PREVIEW],
        )
    return CommandResult(exit_code=result.exit_code, stdout=stdout, stderr=stderr)


def _entry(told: list[Any]) -> FileEntry:
    name, path, is_dir, size = told
    return FileEntry(name=name, path=path, is_dir=is_dir, size=None if is_dir else size)


def _absolute(path: str) -> str:
    if not posixpath.isabs(path):
        raise ValueError(f"path: must be absolute, got {path!r}")
    return path
