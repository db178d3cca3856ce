"""Executors with the synchronous methods `execute_bash`, `execute_python` and `create_file`, behind
`Executor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentd._concurrency.pool import call_in_thread
from agentd.protocols import Layout, OnOutput, ToolDispatcher
from agentd.types import Action, ActionResult, BashAction, CreateAction, OutputChunk
from agentd.workspace import open_workspace

__all__ = ["LegacyExecutor", "as_executor"]


def as_executor(executor: object, cwd: str | Path) -> object:
    """Return what a session takes for an executor: an object of 0.8's kind behind an adapter, all else as it is."""
    if callable(getattr(executor, "run", None)) or not callable(getattr(executor, "execute_bash", None)):
        return executor
    return LegacyExecutor(executor, open_workspace(cwd))


class LegacyExecutor:
    """Runs actions through an object of the caller's that knows nothing of streams and tools.

    Output arrives when the action is over. A cancelled action is not waited for, and only its own time-out
    ends it. Python gets the skills directory as `pythonpath`; tool calls work only if the object sees to
    them.
    """

    def __init__(self, inner: Any, workspace_dir: Path) -> None:
        self.inner = inner
        self.workspace_dir = workspace_dir
        self._importable: Path | None = None

    async def start(self) -> None:
        """There is nothing to start."""

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        """Run the action in a thread."""
        output, code = await call_in_thread(self._call_for(action), abandon=True, unbounded=True)
        chunk = OutputChunk("stdout", output.encode("utf-8", "surrogateescape"))
        if on_output is not None and output:
            on_output(chunk)
        return ActionResult(
            status="failed" if code else "completed", exit_code=code, chunks=(chunk,) if output else ()
        )

    def _call_for(self, action: Action) -> Callable[[], tuple[str, int]]:
        inner, cwd = self.inner, self.workspace_dir
        if isinstance(action, CreateAction):
            return lambda: self._create(action)
        if isinstance(action, BashAction):
            return lambda: inner.execute_bash(action.command, cwd)
        return lambda: inner.execute_python(action.code, cwd, self._importable)

    def _create(self, action: CreateAction) -> tuple[str, int]:
        content = action.content
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
        try:
            return str(self.inner.create_file(action.path, text, self.workspace_dir)), 0
        except (OSError, ValueError) as exc:  # a refused path: the model can choose another
            return f"{type(exc).__name__}: {exc}", 1

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """Remember where the bindings are."""
        self._importable = layout.importable[0] if layout is not None and layout.importable else None

    async def aclose(self) -> None:
        """The caller's object stays open: it is the caller's."""

    def close(self) -> None:
        """The same."""
