"""The session that an agent's configuration describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentd.registry import Registry
from agentd.registry.defaults import default_executor
from agentd.session.session import Session
from agentd.turn.transcript import Transcript

from agentd_daemon.config.values import AgentConfig, plugin_options
from agentd_daemon.sources import ServerShare
from agentd_daemon.state import StateFolder

if TYPE_CHECKING:
    from agentd.protocols import EventSink

__all__ = ["make_session", "model_settings"]


def make_session(
    config: AgentConfig,
    *,
    folder: StateFolder,
    shares: Sequence[ServerShare],
    registry: Registry,
    transcript: Transcript,
    sink: EventSink,
) -> Session:
    """Return the session of an agent, to be opened.

    :param transcript: the conversation that it goes on with.
    :param sink: hears its events, after the sinks of the configuration.
    :raises ConfigError: if there is no key for the model, or the default executor is not there.
    :raises WorkspaceError: if the workspace cannot be made.
    """
    code: dict[str, Any] = {}
    if config.mode == "ptc":
        code = {
            "executor": config.executor or default_executor(registry, sandboxed=True),
            "executor_options": config.executor_options,
            "parsers": config.parsers,
            "renderer": config.renderer,
            "skills": config.skills,
        }
    return Session(
        **model_settings(config),
        **code,
        mode=config.mode,
        cwd=config.cwd or folder.workspace(config.name),
        tools=(),
        mcp_servers=shares,
        instructions=config.system_prompt,
        budgets=config.budgets.limits(),
        sinks=[*config.event_sinks, sink],
        registry=registry,
        transcript=transcript,
        snapshots=config.snapshots,
        snapshots_dir=folder.snapshots,
    )


def model_settings(config: AgentConfig) -> dict[str, Any]:
    """Return what `Session` is told about the agent's model."""
    name = f"{config.provider}/{config.model_name}" if config.provider else config.model_name
    options = plugin_options(config.model)
    key = config.api_key.reveal() if config.api_key is not None else None
    return {
        "model": (name, options) if options else name,
        "base_url": config.base_url,
        "api_key": key,
        "api": config.api,
        "model_options": config.model_options,
    }
