"""Trying a plugin's options: its hook is called as a session would call it, in a folder that is removed again."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec

__all__ = ["try_plugin"]


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
