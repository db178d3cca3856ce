"""Sessions as a host makes them of what a driver has sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ConfigError
from agentd.protocols import VerifyingExecutor
from agentd.registry.config import PluginConfig
from agentd.selectors import Selector
from agentd.types import ToolSpec
from agentd_runner.host import RunnerExecutor
from agentd_runner.inside.files import remove_tree
from agentd_store.holder import HolderGone, StoreHolder
from agentd_store.opened import OpenedStore, open_store

from agentd_ray.carrying import unpack
from agentd_ray.driver_tools import DriverSource
from agentd_ray.gate import RepeatGate
from agentd_ray.hosted import HostedSession
from agentd_ray.intents import CallIntents
from agentd_ray.map_tasks import put_files
from agentd_ray.outbox import HostOutbox
from agentd_ray.priority import code_niceness
from agentd_ray.run_ends import RunEnds
from agentd_ray.wire import ApproverAsked, HostSettings, OpenedReport, SessionOrder, ToolAsked

__all__ = ["HostedSessionMaker", "executor_fault"]

NOT_TAKEN: Final = (
    "cwd",
    "store",
    "conversation_id",
    "snapshots",
    "snapshots_dir",
    "registry",
    "transcript",
    "skills_dir",
)


@attrs.define(eq=False)
class HostedSessionMaker:
    """Makes the sessions of a host, each with a workspace of its own below `folder`."""

    _settings: HostSettings
    _outbox: HostOutbox
    folder: Path
    _holder: StoreHolder | None = attrs.field(default=None, init=False)
    _held: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)

    async def open(self, order: SessionOrder) -> HostedSession:
        """Open a conversation where it was left."""
        arguments = await call_in_thread(partial(self._arguments, order, order.conversation))
        session = HostedSession(cwd=self._workspace(order.conversation), **arguments)
        session.conversation = order.conversation
        session.ends = RunEnds(self._store, order.conversation)
        if session.mode == "ptc" and isinstance(session.executor, RunnerExecutor):
            session.executor.niceness = code_niceness()
        await session.open()
        if order.files and not session.transcript.messages:
            await call_in_thread(partial(put_files, session.workspace, order.files))
        return session

    async def fork(
        self, session: HostedSession, order: SessionOrder, wanted: Selector | None, conversation: str
    ) -> OpenedReport:
        """Make another conversation of a checkpoint, and leave it in the store."""
        changes = await call_in_thread(partial(self._arguments, order, conversation))
        fork = await session.fork(wanted, cwd=self._workspace(conversation), **changes)
        await fork.open()
        try:
            await fork.checkpoint()
            return OpenedReport(messages=len(fork.transcript.messages), usage=fork.usage)
        finally:
            await fork.aclose()

    async def forget(self, conversation: str) -> None:
        """Remove a conversation's workspace here."""
        await call_in_thread(partial(remove_tree, self._workspace(conversation)))

    @property
    def holder_id(self) -> str:
        """Under which id this process shows the store that it lives; empty before the first session."""
        return "" if self._holder is None else self._holder.id

    async def hold(self) -> None:
        """Show the store from now on that this process lives."""
        async with self._held:
            if self._holder is None:
                self._holder = await call_in_thread(self._enter)

    def end(self) -> None:
        """No session is open any more. Blocking."""
        if self._holder is not None:
            self._holder.leave()

    def _enter(self) -> StoreHolder:
        return StoreHolder.enter(self._store().place, self._settings.lease_s)

    def watch(self, holder: str) -> HolderGone | None:
        """Look whether another holder of the store shows within its lease that it lives. Blocking."""
        mine = self._enter()
        try:
            return mine.watch(holder)
        finally:
            mine.leave()

    def _store(self) -> OpenedStore:
        settings = self._settings
        return open_store(settings.url, key=settings.key, storage_options=settings.storage_options)

    def _workspace(self, conversation: str) -> Path:
        return self.folder / "work" / conversation

    def _arguments(self, order: SessionOrder, conversation: str) -> dict[str, Any]:
        try:
            arguments: dict[str, Any] = unpack(order.settings)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"the settings of the session {conversation!r} cannot be read on the node {self._settings.node[:12]}: "
                f"{error}; install it there, or give Fleet(modules=[...]): what is sent of these travels as code"
            ) from error
        arguments["model"] = _made(arguments["model"])
        if order.driver_tools:
            source = DriverSource(order.driver_tools, partial(self._ask_driver, conversation))
            arguments["mcp_servers"] = [*arguments.get("mcp_servers", ()), source]
        if order.asks_driver:
            arguments["approver"] = _approver(self._outbox, conversation)
        if needs_gate(arguments, order.driver_tools):
            place = self._store()
            policy, approver = arguments.pop("policy", None), arguments.pop("approver", None)
            arguments["policy"] = RepeatGate(policy, approver, CallIntents(place, conversation))
        options: dict[str, Any] = {
            "url": self._settings.url,
            "conversation": conversation,
            "storage_options": self._settings.storage_options or {},
            "lease_s": self._settings.lease_s,
            "durable_cache": False,  # a host that begins removes what is there
        }
        if self._settings.key is not None:
            options["key"] = self._settings.key
        return {
            **arguments,
            "snapshots": ("store", options),
            "snapshots_dir": self.folder / "cache",
            "checkpoint_every_turn": True,
        }

    async def _ask_driver(self, conversation: str, name: str, arguments: dict[str, object]) -> object:
        return await self._outbox.ask(lambda number: ToolAsked(number, conversation, name, arguments))


def needs_gate(arguments: Mapping[str, Any], driver_tools: Sequence[ToolSpec]) -> bool:
    """Tell whether calls may come that must not be made twice, or there is a policy anyway."""
    from agentd_tools.decorator import options_of

    return (
        any(arguments.get(name) is not None for name in ("policy", "approver"))
        or bool(arguments.get("mcp_servers"))
        or any(spec.annotations.get("idempotentHint") is False for spec in driver_tools)
        or any(
            callable(tool) and options_of(tool).annotations.get("idempotentHint") is False
            for tool in arguments.get("tools") or ()
        )
    )


def executor_fault(executor: Any, folder: Path, *, plugins: PluginConfig | None = None) -> str | None:
    """Try an executor that is named, and return why it cannot be used on this machine, or None. Blocking.

    :param plugins: which may be loaded; None for what the environment says.
    """
    if not isinstance(executor, str | tuple | list):
        return None
    from agentd.registry import Registry
    from agentd.registry.options import split_spec

    folder.mkdir(parents=True, exist_ok=True)
    try:
        made = Registry(config=plugins).create_executor(split_spec(executor, where="executor"), folder)
        try:
            works, text = made.verify() if isinstance(made, VerifyingExecutor) else (True, "")
        finally:
            made.close()
    except AgentdError as error:
        works, text = False, str(error)
    return (
        None if works else f"its executor {split_spec(executor, where='executor')[0]!r} does not work: {text}"
    )


def _made(model: Any) -> Any:
    """Return a model, from the function that makes it if it is one."""
    if isinstance(model, str | tuple | list) or (hasattr(model, "start") and not isinstance(model, type)):
        return model
    if not callable(model):
        raise ConfigError(f"model: must be a name, a Model, or a function that makes one, got {model!r:.80}")
    return model()


def _approver(outbox: HostOutbox, conversation: str) -> Callable[[Any], Any]:
    async def the_driver(question: Any) -> Any:
        request = question.request
        told: Mapping[str, Any] = {
            "id": question.id,
            "request": request,
            "why": question.why,
            "timeout_s": question.timeout_s,
            "rule": question.rule,
        }
        return await outbox.ask(lambda number: ApproverAsked(number, conversation, dict(told)))

    return the_driver
