"""`OldProtocol`: an executor's methods for programs without an event loop, as agentd 0.8 had them."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

from agentd.protocols import OnOutput
from agentd.types import Action, ActionResult, BashAction, CreateAction, PythonAction

__all__ = ["OldProtocol"]


class OldProtocol:
    """What executors on a runner have besides `agentd.protocols.Executor`: bash, Python and files, synchronously."""

    workspace_dir: Path
    python: str
    _last_cwd: str | None = None

    @abstractmethod
    def run_sync(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        """Run one action; see `RunnerExecutor.run_sync`."""

    def execute_bash(self, command: str, cwd: str | Path | None = None) -> tuple[str, int]:
        """Run bash source; return what it printed and its exit code.

        `cwd` says where the shell starts. The shell keeps its own directory after that; a `cwd` other than
        the one of the call before moves it.
        """
        result = self.run_sync(BashAction(command=command, cwd=self._moved(cwd)))
        return result.output, result.exit_code

    def execute_python(
        self, code: str, cwd: str | Path | None = None, pythonpath: str | Path | None = None
    ) -> tuple[str, int]:
        """Run Python source in a fresh `__main__`; return what it printed and its exit code."""
        extra = (str(pythonpath),) if pythonpath is not None else ()
        result = self.run_sync(PythonAction(code=code, cwd=self._moved(cwd), pythonpath=extra))
        return result.output, result.exit_code

    def create_file(self, filename: str, content: str | bytes, cwd: str | Path | None = None) -> str:
        """Write a file inside the workspace; return a sentence that says what was done, or why not."""
        where = None if cwd is None else str(cwd)
        return self.run_sync(CreateAction(path=filename, content=content, cwd=where)).output

    def _moved(self, cwd: str | Path | None) -> str | None:
        where = None if cwd is None else str(Path(cwd).resolve())
        if where == self._last_cwd or (self._last_cwd is None and where == str(self.workspace_dir)):
            return None
        self._last_cwd = where
        return where

    def verify(self) -> tuple[bool, str]:
        """Run a trivial block; return whether that works and a sentence about it."""
        try:
            output, code = self.execute_bash("echo ok")
        except Exception as error:
            return False, str(error)
        return (output.strip(), code) == ("ok", 0), f"{type(self).__name__} works with {self.python}"
