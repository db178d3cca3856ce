"""What runs code: executors, and what they may have besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from agentd.protocols.skills import Layout
from agentd.protocols.tools import ToolDispatcher
from agentd.types import Action, ActionResult, OutputChunk

__all__ = [
    "Executor", "JobExecutor", "OnOutput", "PausableExecutor", "ShellExecutor", "SnapshotExcluding",
    "StatefulExecutor", "UploadingExecutor", "VerifyingExecutor",
]  # fmt: skip

OnOutput = Callable[[OutputChunk], None]


@runtime_checkable
class Executor(Protocol):
    """Runs actions in a place of its own. Several actions may run at once.

    `run` raises `ExecutorError` when the action could not be carried out and returns an `ActionResult`
    otherwise, whatever the code did. `on_output` is called with every chunk as it arrives, from any
    thread; it must not block. Cancelling `run` ends the whole process tree of the action before the
    cancellation goes on. `action_id` is the caller's name for the action, given back with its tool calls.

    An executor may have more: a `plugin_name`, which a run's header shows; and see `ShellExecutor`,
    `StatefulExecutor`, `PausableExecutor`, `JobExecutor`, `SnapshotExcluding` and `VerifyingExecutor`.
    """

    workspace_dir: Path

    async def start(self) -> None:
        """Start what actions need, if it does not run. `run` does so by itself."""

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult: ...

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """Say who answers tool calls and where the renderer's files are. Called again whenever they change."""

    async def aclose(self) -> None:
        """End everything that still runs. May be called again."""

    def close(self) -> None:
        """The same without an event loop; also what `with` calls."""


@runtime_checkable
class StatefulExecutor(Protocol):
    """What an executor also has if it says whether Python blocks share a namespace: `fresh` (no) or `kept`."""

    state: str


@runtime_checkable
class PausableExecutor(Protocol):
    """What an executor also has if it must be stopped before files of the workspace are replaced from outside."""

    def pause(self) -> None:
        """End what runs and return once the workspace can be changed. The next action starts again, with a fresh
        shell. Called in a worker thread; may block."""


@runtime_checkable
class JobExecutor(Protocol):
    """What an executor also has if code can start jobs (`BashAction.job`): processes that outlive their block.

    `job_guide` is what the model is told of them (`blocks`: it writes blocks), empty if there are none; `job_news` says
    which have ended since the last call, a sentence each.
    """

    def job_guide(self, *, blocks: bool) -> str: ...

    def job_news(self) -> list[str]: ...


@runtime_checkable
class UploadingExecutor(Protocol):
    """What an executor also has if it writes files where code finds them: results that are too long for the model."""

    async def upload(self, path: str, data: bytes) -> None:
        """Write a file of the workspace. Raises `ExecutorError`."""


@runtime_checkable
class SnapshotExcluding(Protocol):
    """What an executor also has if it puts files into the workspace for its own sake.

    `snapshot_exclude` are their paths relative to the workspace; they are no part of a snapshot. Read again for
    each one.
    """

    @property
    def snapshot_exclude(self) -> Sequence[str]: ...


@runtime_checkable
class VerifyingExecutor(Protocol):
    """What an executor also has if it can test itself."""

    def verify(self) -> tuple[bool, str]:
        """Run something harmless and return whether it worked, and a sentence about it. Blocks."""


@runtime_checkable
class ShellExecutor(Protocol):
    """What an executor also has if a session can go back to a checkpoint with its shell.

    The state is plain JSON-ready data: the current directory, exported variables (without those of the base
    environment that are unchanged), functions and options. It fits any executor of the same kind, also one
    with another workspace, whose path then takes the place of the old one.
    """

    async def shell_state(self) -> Mapping[str, object] | None:
        """Return what the next bash block starts from; None for a fresh shell."""

    async def set_shell_state(self, state: Mapping[str, object] | None) -> None:
        """Have the next bash block start from there. Raises `ExecutorError` while blocks run."""
