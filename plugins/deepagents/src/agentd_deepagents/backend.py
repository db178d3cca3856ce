"""`AgentdSandbox`: a backend of deep agents (`deepagents.backends.sandbox.BaseSandbox`) on an executor of agentd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from agentd_runner.host.command_sandbox import CommandSandbox
from deepagents.backends import CompositeBackend
from deepagents.backends.sandbox import BaseSandbox

from agentd_deepagents.commands import SandboxCommands, read_timeout

__all__ = ["AgentdSandbox"]

TIMEOUT_S: Final = 120.0  # as deepagents' LocalShellBackend


class AgentdSandbox(CompositeBackend, BaseSandbox):
    """Commands and files of a deep agent in one sandbox. Usable as a context manager, sync and async.

    Each command starts in the workspace, in a shell of its own.

    It is a `CompositeBackend`, as deepagents asks nothing else where it may put large results of tools and old
    messages. They go to the workspace: the root of a sandbox is read-only.

    :param executor: a name, a pair of name and options, or an `agentd.protocols.Executor`; None for what the user has
        chosen for the process, else `native`.
    :param workspace: the folder of the files; None for a temporary one that goes when this object is closed.
    :param timeout: seconds of a command for which deepagents names none; 0 for no time-out.
    :param options: of the executor, by name. Without a word about it, the executor has no time-out of its own; an
        executor that is an object has what it was made with.
    :param lasting: whether what a command leaves running lives on until the sandbox is closed. It is a job: at most
        `Limits(jobs=...)` of them run at once.
    :param python_blocks: whether a command that does nothing but start `python3` on a text (`python3 -c '...'`; deep
        agents read and edit files so) is run as a Python block, forked from a warm interpreter.
    :raises ValueError: if `timeout` is negative.
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
        seconds = read_timeout(timeout)
        self.sandbox = CommandSandbox(
            executor,
            workspace=workspace,
            options=options,
            limits={"timeout_s": None},  # a command has one of its own
            lasting=lasting,
            python_blocks=python_blocks,
        )
        commands = SandboxCommands(self.sandbox, timeout=seconds)
        super().__init__(default=commands, routes={}, artifacts_root=str(self.workspace))

    @property
    def id(self) -> str:
        """A name of this sandbox, new for each object."""
        name: str = self.default.id
        return name

    @property
    def workspace(self) -> Path:
        """The folder in which commands start."""
        return self.sandbox.workspace

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

    async def __aenter__(self) -> AgentdSandbox:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
