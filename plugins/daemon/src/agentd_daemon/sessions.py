"""The session that an agent's configuration describes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, UnknownSnapshotError
from agentd.events import Event
from agentd.registry import Registry
from agentd.registry.defaults import default_executor
from agentd.session.session import Session
from agentd.turn.transcript import Transcript

from agentd_daemon.approver import sent_policy
from agentd_daemon.config.values import AgentConfig, plugin_options
from agentd_daemon.sources import ServerShare
from agentd_daemon.state import StateFolder

if TYPE_CHECKING:
    from agentd.protocols import Model
    from agentd_policy.approvers import Approver

    from agentd_daemon.places import AgentPlace, AgentSession

__all__ = [
    "make_session",
    "model_settings",
    "open_apart",
    "placed_executor",
    "prepare_session",
    "sent_settings",
    "try_to_checkpoint",
    "try_to_prepare",
]

log = logging.getLogger("agentd.daemon")

KEPT_CHECKPOINTS: Final = 1000
"""Of an agent; those with a label stay beside them. The journal keeps as many tasks."""
FORGET_EVERY: Final = 50


def make_session(
    config: AgentConfig,
    *,
    folder: StateFolder,
    shares: Sequence[ServerShare],
    registry: Registry,
    transcript: Transcript,
    hear: Callable[[Event], None],
    approver: Approver,
    place: AgentPlace | None = None,
) -> AbstractAsyncContextManager[AgentSession]:
    """Return the session of an agent, to be opened.

    :param transcript: the conversation that it goes on with.
    :param hear: hears its events, after the sinks of the configuration.
    :param approver: is asked where the agent's policy says so.
    :param place: where it is, if not here: its conversation is the place's then.
    :raises ConfigError: if there is no key for the model, or the default executor is not there.
    :raises WorkspaceError: if the workspace cannot be made.
    """
    if place is not None:
        from agentd_daemon.remote import RemoteSession

        return RemoteSession(
            place,
            config,
            sent_settings(config),
            workspace=folder.workspace(config.name),
            registry=registry,
            transcript=transcript,
            hear=hear,
            approver=approver,
        )
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
        tools=config.tools,
        mcp_servers=shares,
        instructions=config.system_prompt,
        budgets=config.budgets.limits(),
        policy=config.policy,
        approver=approver if config.policy is not None else None,
        images=config.images,
        sinks=[*config.event_sinks, _Listener(hear)],
        registry=registry,
        transcript=transcript,
        snapshots=config.snapshots,
        snapshots_dir=folder.snapshots,
    )


def sent_settings(config: AgentConfig) -> dict[str, Any]:
    """Return what a session at a place is made with: plain data, and no file of this machine but folders of skills.

    :raises ConfigError: if a policy's file cannot be read.
    """
    code: dict[str, Any] = {}
    if config.mode == "ptc":
        code = {
            "executor": placed_executor(config),
            "executor_options": config.executor_options,
            "parsers": config.parsers,
            "renderer": config.renderer,
            "skills": [str(Path(folder).expanduser().absolute()) for folder in config.skills],
        }
    return {
        **model_settings(config),
        **code,
        "mode": config.mode,
        "tools": list(config.tools),
        "mcp_servers": [server.spec() for server in config.mcp_servers],
        "instructions": config.system_prompt,
        "budgets": config.budgets.limits(),
        "policy": None if config.policy is None else sent_policy(config.policy),
        "images": config.images,
    }


def placed_executor(config: AgentConfig) -> Any:
    """Return what runs an agent's code at a place: a sandbox, unless somebody has named another one."""
    return config.executor or os.environ.get("AGENTD_EXECUTOR") or "native"


async def prepare_session(session: AgentSession) -> None:
    """Do what the first task would wait for: list the tools, make the model's client, start the sandbox.

    An executor that keeps sandboxes ready has an attribute `prewarm`; with 0 it has none ready here either.

    :raises AgentdError: what the first task would raise.
    """
    await session.prepare()
    if (
        isinstance(session, Session)
        and session.mode == "ptc"
        and getattr(session.executor, "prewarm", 0) != 0
    ):
        await session.executor.start()


async def try_to_prepare(session: AgentSession, agent: str) -> None:
    """The same; what goes wrong is told in the log, and the first task meets it again."""
    try:
        await prepare_session(session)
    except Exception as error:  # a plugin's boundary
        text = str(error) or type(error).__name__
        known = isinstance(error, AgentdError)
        log.warning("%s: not ready for work: %s", agent, text, exc_info=None if known else error)


async def try_to_checkpoint(session: AgentSession, what: str) -> None:
    """Keep a checkpoint, and no more of them than an agent has; what goes wrong is told in the log."""
    try:
        taken = await session.checkpoint()
    except AgentdError as error:
        log.warning("%s: no checkpoint could be kept: %s", what, error)
        return
    try:
        # a session elsewhere is kept in a store, which bounds them itself
        if taken.turn % FORGET_EVERY == 0 and isinstance(session, Session):
            await _forget_old(session)
    except AgentdError as error:
        log.warning("%s: checkpoints of old tasks could not be removed: %s", what, error)


async def _forget_old(session: Session) -> None:
    known = await call_in_thread(session.checkpoints)
    for old in [kept for kept in known if kept.label is None][:-KEPT_CHECKPOINTS]:
        try:
            await session.delete_checkpoint(old)
        except UnknownSnapshotError:  # a person was quicker
            continue


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


def open_apart(registry: Registry, config: AgentConfig) -> Model:
    """Return another model like the agent's own, for a conversation apart."""
    given = {name: value for name, value in model_settings(config).items() if value is not None}
    given["request"] = given.pop("model_options", {})
    return registry.open_model(given.pop("model"), given)


class _Listener:
    """The event sink through which the daemon hears of a session."""

    def __init__(self, hear: Callable[[Event], None]) -> None:
        self.emit = hear

    def close(self) -> None:
        """Nothing is held open."""
