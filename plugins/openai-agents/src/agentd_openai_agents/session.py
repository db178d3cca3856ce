"""`AgentdSandboxSession`: one sandbox session of the OpenAI Agents SDK, on an executor of agentd."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from agentd.errors import AgentdError, ExecutorError
from agentd_runner.host.command_sandbox import CommandSandbox
from agents.sandbox.errors import (
    ExecTimeoutError,
    ExecTransportError,
    ExposedPortUnavailableError,
    WorkspaceArchiveReadError,
    WorkspaceArchiveWriteError,
    WorkspaceReadNotFoundError,
    WorkspaceStartError,
)
from agents.sandbox.manifest import Manifest
from agents.sandbox.materialization import MaterializationResult
from agents.sandbox.session import SandboxSessionState
from agents.sandbox.session.base_sandbox_session import BaseSandboxSession
from agents.sandbox.session.pty_types import PtyExecUpdate
from agents.sandbox.session.workspace_payloads import coerce_write_payload
from agents.sandbox.types import ExecResult, ExposedPortEndpoint, User
from agents.sandbox.util.tar_utils import UnsafeTarMemberError, validate_tarfile

from agentd_openai_agents.terminals import LiveCommands

__all__ = ["AgentdSandboxSession", "AgentdSandboxSessionState", "refuse_accounts"]

LIMITS: Final[Mapping[str, Any]] = {"timeout_s": None, "output_bytes": 16 * 1024 * 1024, "jobs": 64}

# A directory of its own below TMPDIR would count for the workspace; so would a second copy of it, for a moment.
_PERSIST: Final = """\
import tarfile
skipped = {skipped!r}
def kept(member):
    name = os.path.normpath(member.name)
    if any(name == one or name.startswith(one + "/") for one in skipped):
        return None
    return member if member.isfile() or member.isdir() or member.issym() or member.islnk() else None
with tarfile.open({archive!r}, "w") as tar:
    tar.add(path, arcname=".", filter=kept)
"""
_HYDRATE: Final = """\
import tarfile
with tarfile.open({archive!r}, "r:*") as tar:
    tar.extractall(path, **({{"filter": "tar"}} if hasattr(tarfile, "tar_filter") else {{}}))
"""
_UNLINK: Final = "os.unlink(path)"
ARCHIVE: Final = ".agentd/workspace.tar"


class AgentdSandboxSessionState(SandboxSessionState):
    """What a session needs to be resumed, by another process too: its folder, its manifest, its snapshot."""

    type: Literal["agentd"] = "agentd"
    workspace_root_owned: bool = False


class AgentdSandboxSession(BaseSandboxSession):
    """Made by `AgentdSandboxClient`. Its commands and files are in the sandbox, with the rights of its code.

    What a command leaves running lives on until the session is shut down, with `lasting`.
    """

    state: AgentdSandboxSessionState

    def __init__(
        self, *, state: AgentdSandboxSessionState, executor: object, options: Mapping[str, Any], **how: bool
    ) -> None:
        self._how = how
        self._live = LiveCommands()
        self.state = state
        self._executor = executor
        self._options = options
        self._sandbox: CommandSandbox | None = None

    # --- its life

    async def _ensure_backend_started(self) -> None:
        root = Path(self.state.manifest.root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._sandbox = CommandSandbox(
                self._executor, workspace=root, options=self._options, limits=LIMITS, **self._how
            )
            await self._sandbox.executor.start()
        except (AgentdError, OSError) as error:
            raise WorkspaceStartError(path=root, cause=error, message=f"no sandbox: {error}") from error

    async def _after_start_failed(self) -> None:
        await self._shutdown_backend()

    async def _shutdown_backend(self) -> None:
        await self._live.end_all()
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            await sandbox.aclose()

    async def running(self) -> bool:
        """Whether the sandbox is there."""
        return self._sandbox is not None

    async def provision_manifest_accounts(self) -> None:
        """Refuse accounts: a sandbox has one user.

        :raises ValueError: if the manifest wants users or groups.
        """
        refuse_accounts(self.state.manifest)

    async def _apply_manifest(
        self, *, only_ephemeral: bool = False, provision_accounts: bool = True
    ) -> MaterializationResult:
        refuse_accounts(self.state.manifest)
        return await super()._apply_manifest(
            only_ephemeral=only_ephemeral, provision_accounts=provision_accounts
        )

    async def _validate_manifest_application(
        self,
        *,
        only_ephemeral: bool = False,
        manifest: Manifest | None = None,
        session_running: bool | None = None,
    ) -> None:
        refuse_accounts(manifest or self.state.manifest)  # of an agent that is given a session of before, too
        await super()._validate_manifest_application(
            only_ephemeral=only_ephemeral, manifest=manifest, session_running=session_running
        )

    async def _resolve_exposed_port(self, port: int) -> ExposedPortEndpoint:
        executor = self._opened().executor
        if getattr(executor, "own_loopback", True):
            raise _unreachable(port, self.state.exposed_ports, executor)
        return ExposedPortEndpoint(host="127.0.0.1", port=port, tls=False)

    # --- commands

    def _prepare_exec_command(
        self, *command: str | Path, shell: bool | list[str], user: str | User | None
    ) -> list[str]:
        _refuse(user)
        prefix = ["bash", "-c"] if shell is True else shell
        return super()._prepare_exec_command(*command, shell=prefix, user=None)

    async def _exec_internal(self, *command: str | Path, timeout: float | None = None) -> ExecResult:
        env = await self.state.manifest.environment.resolve()
        try:
            result = await self._opened().run(list(map(str, command)), env=env, timeout_s=timeout)
        except ExecutorError as error:
            raise ExecTransportError(command=command, cause=error, message=str(error)) from error
        if result.status == "timeout":
            raise ExecTimeoutError(command=command, timeout_s=timeout)
        stderr = result.stderr
        if result.exit_code and result.message:
            stderr += f"\n{result.message}".encode()
        return ExecResult(stdout=result.stdout, stderr=stderr, exit_code=result.exit_code)

    def supports_pty(self) -> bool:
        """Commands may go on while the agent does something else, and may have a terminal."""
        return True

    async def pty_exec_start(
        self,
        *command: str | Path,
        timeout: float | None = None,
        shell: bool | list[str] = True,
        user: str | User | None = None,
        tty: bool = False,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Start a command, and return what it prints within `yield_time_s` seconds (10), or until it ends.

        :param timeout: is not looked at, as in the SDK's local sandbox: such a command has no time-out of its own.
        """
        argv = self._prepare_exec_command(*command, shell=shell, user=user)
        env = await self.state.manifest.environment.resolve()
        how: dict[str, Any] = {"yield_time_s": yield_time_s, "max_output_tokens": max_output_tokens}
        return await self._live.start(self._opened(), argv, env, tty=tty, **how)

    async def pty_write_stdin(
        self,
        *,
        session_id: int,
        chars: str,
        yield_time_s: float | None = None,
        max_output_tokens: int | None = None,
    ) -> PtyExecUpdate:
        """Type into the terminal of a command that runs, or, without `chars`, see how it gets on."""
        how: dict[str, Any] = {"yield_time_s": yield_time_s, "max_output_tokens": max_output_tokens}
        return await self._live.type(self._opened(), session_id, chars, **how)

    async def pty_terminate_all(self) -> None:
        """End all commands that were started so."""
        await self._live.end_all()

    # --- files

    async def read(self, path: Path, *, user: str | User | None = None) -> io.IOBase:
        """Read a file of the workspace."""
        _refuse(user)
        try:
            return io.BytesIO(await self._opened().read_file(str(self.normalize_path(path))))
        except FileNotFoundError as error:
            raise WorkspaceReadNotFoundError(path=path, cause=error) from error
        except (OSError, ExecutorError) as error:
            raise WorkspaceArchiveReadError(path=path, cause=error) from error

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        """Write a file of the workspace, with the folders that it is in."""
        _refuse(user)
        target = self.normalize_path(path, for_write=True)
        content = coerce_write_payload(path=path, data=data).stream.read()
        try:
            await self._opened().write_file(str(target), content)
        except (OSError, ExecutorError) as error:
            raise WorkspaceArchiveWriteError(path=target, cause=error) from error

    async def persist_workspace(self) -> io.IOBase:
        """Return the workspace as a tar archive, without what agentd itself keeps there."""
        root = Path(self.state.manifest.root)
        sandbox = self._opened()
        skipped = [*self._own(), *(path.as_posix() for path in self._persist_workspace_skip_relpaths())]
        try:
            await sandbox.write_file(ARCHIVE, b"")
            await sandbox.ask(_PERSIST.format(skipped=skipped, archive=ARCHIVE), ".")
            archive = io.BytesIO(await sandbox.read_file(ARCHIVE))
            await sandbox.ask(_UNLINK, ARCHIVE)
        except (OSError, ExecutorError) as error:
            raise WorkspaceArchiveReadError(path=root, cause=error) from error
        return archive

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        """Unpack a tar archive into the workspace, in the sandbox."""
        root = Path(self.state.manifest.root)
        content = coerce_write_payload(path=root, data=data).stream.read()
        sandbox = self._opened()
        try:
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as tar:
                validate_tarfile(tar, allow_external_symlink_targets=False)
            await sandbox.write_file(ARCHIVE, content)
            await sandbox.ask(_HYDRATE.format(archive=ARCHIVE), ".")
            await sandbox.ask(_UNLINK, ARCHIVE)
        except UnsafeTarMemberError as error:
            context = {"reason": error.reason, "member": error.member}
            raise WorkspaceArchiveWriteError(path=root, context=context, cause=error) from error
        except (tarfile.TarError, OSError, ExecutorError) as error:
            raise WorkspaceArchiveWriteError(path=root, cause=error) from error

    async def _remove_workspace_entry_on_resume(self, path: Path) -> None:
        if Path(path).relative_to(self.state.manifest.root).as_posix() not in self._own():
            await super()._remove_workspace_entry_on_resume(path)

    def _own(self) -> list[str]:
        """What the sandbox itself has in the workspace, relative to it."""
        return [".agentd", *getattr(self._opened().executor, "snapshot_exclude", ())]

    def _opened(self) -> CommandSandbox:
        if self._sandbox is None:
            raise ExecTransportError(
                command=(),
                message="the session is not started, or was shut down; enter it: `async with session:`",
            )
        return self._sandbox


def refuse_accounts(manifest: Manifest) -> None:
    """Refuse users and groups. The SDK would make them by `useradd`, which without a sandbox is the host's.

    :raises ValueError: if the manifest wants users or groups; `run_as` of an agent is a user of its manifest.
    """
    if manifest.users or manifest.groups:
        users = [*manifest.users, *(user for group in manifest.groups for user in group.users)]
        names = sorted({user.name for user in users} | {group.name for group in manifest.groups})
        raise ValueError(
            "a sandbox of agentd has one user, so it cannot have others, or groups: "
            f"{', '.join(map(repr, names))}; leave out run_as=, and users and groups of the manifest"
        )


def _unreachable(port: int, exposed_ports: Sequence[int], executor: object) -> ExposedPortUnavailableError:
    name = getattr(executor, "plugin_name", type(executor).__name__)
    error = ExposedPortUnavailableError(
        port=port, exposed_ports=exposed_ports, reason="backend_unavailable", context={"backend": "agentd"}
    )
    error.message += (
        f": the sandbox {name!r} has a network of its own, which the host does not reach; "
        "talk to the port by commands in the sandbox"
    )
    error.args = (error.message,)
    return error


def _refuse(user: str | User | None) -> None:
    if user is not None:
        name = user.name if isinstance(user, User) else user
        raise ValueError(f"user: a sandbox of agentd has one user, so nothing can be done as {name!r}")
