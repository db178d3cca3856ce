"""`GatedExecutor`: asks about files that are to be created, and has what was asked about created, and nothing else."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.protocols import Executor, OnOutput
from agentd.types import Action, ActionResult, CreateAction
from agentd_tools.policy import Decision, PolicyRequest

__all__ = ["GatedExecutor"]


class GatedExecutor:
    """Runs actions as the executor does, after it has asked about files to be created.

    A file is created where the shell was when somebody was asked: a block that changes the directory meanwhile leads it
    nowhere else.
    """

    def __init__(
        self,
        executor: Executor,
        decide: Callable[[PolicyRequest], Awaitable[Decision]],
        workspace: str,
    ) -> None:
        self._executor = executor
        self._decide = decide
        self._workspace = workspace
        for name in dir(
            type(executor)
        ):  # from Python 3.12 on, isinstance() of a protocol asks no __getattr__
            if (
                not name.startswith("_")
                and inspect.isfunction(getattr(type(executor), name))
                and name != "run"
            ):
                setattr(self, name, getattr(executor, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        if isinstance(action, CreateAction):
            action, path = await self._placed(action)
            name = await self._name(path)
            content = action.content
            if isinstance(content, str):
                content = content.encode("utf-8", "surrogatepass")
            request = PolicyRequest(kind="create", name=name, content=content, action_id=action_id)
            decision = await self._decide(request)
            reason = "" if decision.allowed else decision.reason
            # A link in its way was made while somebody was asked.
            if not reason and await self._name(path) != name:
                reason = "its path leads elsewhere than when it was asked about"
            if reason or not decision.allowed:
                return ActionResult(
                    status="rejected", exit_code=126, message=f"the file was not written: {reason}"
                )
        return await self._executor.run(action, action_id=action_id, on_output=on_output)

    async def _placed(self, action: CreateAction) -> tuple[CreateAction, str]:
        """Return the action with the directory that it is relative to, and its path from the workspace on."""
        below = action.cwd or ""
        state = await self._shell()
        if state is not None:
            folder = os.path.join(str(state["cwd"]), below)
            action = attrs.evolve(action, cwd=folder)
            below = os.path.relpath(folder, str(state["workspace"]))
        return action, os.path.join(below, action.path)

    async def _name(self, path: str) -> str:
        return await call_in_thread(partial(_plain_path, path, self._workspace))

    async def _shell(self) -> dict[str, Any] | None:
        """Return where the shell is; None if the executor cannot tell."""
        ask = getattr(self._executor, "shell_state", None)
        if ask is None:
            return None
        state = await ask()
        if state is None:  # nothing has run yet, but something may while somebody is asked
            await self._executor.start()
            state = await ask()
        return state  # type: ignore[no-any-return]  # as agentd.protocols.ShellExecutor has it


def _plain_path(path: str, workspace: str) -> str:
    """Return a path from the workspace on, without `.`, `//` and links in it, so that each file has one name for rules.
    One that leads out of the workspace stays as it is: no file is created there."""
    root = os.path.realpath(workspace)
    folder, name = os.path.split(os.path.normpath(os.path.join(root, path)))
    real = os.path.relpath(os.path.join(os.path.realpath(folder), name), root)
    return os.path.normpath(path) if real.split(os.sep)[0] == os.pardir else real
