"""Trying a plugin: its hook is called as a session would call it, in a folder that is removed again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from agentd.protocols import Executor
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec

__all__ = ["check_executor", "try_executor", "try_plugin"]

T = TypeVar("T")


def try_plugin(
    registry: Registry, kind: str, spec: PluginSpec, *, settings: Mapping[str, Any] | None = None
) -> None:
    """Have a plugin make its object and let go of it. Hooks start nothing, so nothing is started.

    :param kind: as the registry names it; not `tool_source` or `command`.
    :param settings: of a model, what a session would give beside the options (`base_url`, `api`, ...).
    :raises AgentdError: what a session would raise. A wrong option is a `ConfigError`.
    """
    from agentd.registry.options import split_spec

    with tempfile.TemporaryDirectory(prefix="agentd-") as folder:
        workspace, store = Path(folder, "workspace"), Path(folder, "store")
        workspace.mkdir()
        match kind:
            case "executor":
                registry.create_executor(spec, workspace).close()
            case "parser":
                registry.create_notations([spec])
            case "skill_renderer":
                registry.create_skill_renderer(spec)
            case "event_sink":
                registry.create_event_sink(spec).close()
            case "snapshot_store":
                registry.create_snapshot_store(spec, workspace, store, lambda: ())
            case "model":
                registry.open_model(spec, settings)
            case "trigger":
                registry.create_trigger(*split_spec(spec, where="triggers"))
            case _:
                raise ValueError(f"a {kind} cannot be tried")


def try_executor(registry: Registry, spec: PluginSpec, ask: Callable[[Executor], T]) -> T:
    """Make an executor in a folder that is removed again, and ask it something."""
    with tempfile.TemporaryDirectory(prefix="agentd-trial-") as folder:
        os.chmod(folder, 0o755)  # an executor that drops its rights must get to the workspace
        executor = registry.create_executor(spec, folder)
        try:
            return ask(executor)
        finally:
            executor.close()


def check_executor(registry: Registry, spec: PluginSpec) -> None:
    """Raise if an executor cannot run on this machine. Blocking.

    It is asked what it needs, which starts nothing. Only if something is missing, a sandbox is tried: options may name
    a program that is not on PATH, and what the kernel's settings refuse may be allowed to one program.

    :raises ConfigError: with what is missing and how to get it; and what a session would raise for its name or options.
    """
    from agentd.errors import ConfigError
    from agentd.protocols import VerifyingExecutor
    from agentd.registry.options import split_spec

    name, _ = split_spec(spec, where="executor")
    missing = [one for one in registry.requirements("executor", name) if not (one.ok or one.optional)]
    if not missing:
        return

    def ask(executor: Executor) -> tuple[bool, str]:
        needed = "; ".join(f"{one.name}: {one.remedy or 'missing'}" for one in missing)
        return executor.verify() if isinstance(executor, VerifyingExecutor) else (False, needed)

    works, said = try_executor(registry, spec, ask)
    if not works:
        reason = said.strip().removesuffix(".")
        raise ConfigError(
            f"the executor {name!r} does not work: {reason}; `agentd doctor` lists those that do"
        )
