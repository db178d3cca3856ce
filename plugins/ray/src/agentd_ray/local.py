"""A fleet without a cluster: sessions of this process, for batches that one machine can do, and for tests."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from agentd import Session
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError
from agentd_runner.inside.files import remove_tree

from agentd_ray.map_driver import SessionPast
from agentd_ray.map_tasks import put_files
from agentd_ray.mapping import TaskMap

__all__ = ["LocalFleet"]

PER_HOST: Final = 16


class LocalFleet:
    """Opens sessions in this process. An async context manager, with the `session` and `map` of a `Fleet`.

        async with LocalFleet(model="gpt-5", executor="native", store="file:///srv/agents") as fleet:
            async for result in fleet.map(tasks, name="nightly"):
                ...

    :param store: keeps the conversations, as `Session` has it.
    :param per_host: sessions at a time, as far as maps are concerned.
    :param folder: where the sessions' workspaces lie, each in a folder of its own. None for a temporary one, which is
        removed: with a store, a workspace is in it.
    :param lease_s: after how many seconds without a sign of it this process is taken for dead.
    :param options: arguments of all sessions; `model` may be a function that returns one, called for each session.
    """

    def __init__(
        self,
        *,
        store: str | None = None,
        per_host: int = PER_HOST,
        folder: str | Path | None = None,
        lease_s: float = 30.0,
        **options: Any,
    ) -> None:
        for name in ("cwd", "conversation_id", "snapshots", "snapshots_dir", "transcript"):
            if name in options:
                raise ConfigError(f"LocalFleet: {name} is the fleet's to say, as each session has its own")
        self.store_url = store
        self.capacity = per_host
        self._folder = None if folder is None else Path(folder).expanduser().absolute()
        self._lease_s = lease_s
        self._options = options
        self._made: Path | None = None
        self._open: dict[int, LocalSession] = {}
        self._count = 0

    async def __aenter__(self) -> LocalFleet:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all sessions that are open."""
        for session in list(self._open.values()):
            await session.aclose()
        made, self._made = self._made, None
        if made is not None:
            await call_in_thread(partial(remove_tree, made))

    def map(self, tasks: Any, **settings: Any) -> TaskMap:
        """Give tasks to sessions, and return the results; parameters as of `TaskMap`."""
        return TaskMap(self, tasks, **settings)

    async def session(
        self, *, conversation_id: str | None = None, files: Mapping[str, bytes] | None = None, **options: Any
    ) -> LocalSession:
        """Open a session.

        :param conversation_id: its name in the store: one that there is goes on from its last checkpoint.
        :param files: put into the workspace of a new conversation, by path.
        :param options: arguments of `Session`, beside those of the fleet.
        """
        self._count += 1
        base = self._folder or self._temporary()
        folder = base / (conversation_id or f"session-{self._count}")
        given = {**self._options, **options}
        if (model := given.get("model")) is not None and is_factory(model):
            given["model"] = model()
        if self.store_url is not None and conversation_id is not None:
            store = {"url": self.store_url, "conversation": conversation_id, "lease_s": self._lease_s}
            given |= {"snapshots": ("store", store), "checkpoint_every_turn": True}
            given["snapshots_dir"] = base / ".checkpoints"
        session = LocalSession(**given, cwd=folder)
        await session.open()
        try:
            if "snapshots" in given and session.checkpoints():
                await session.rewind()
            elif files:
                await call_in_thread(partial(put_files, session.workspace, files))
        except BaseException:
            await session.aclose()
            raise
        self._open[id(session)] = session
        session.at_end = partial(self._closed, session, folder)
        return session

    async def past_of(self, session: Session) -> SessionPast:
        """Return how far the conversation of a session is that was just opened."""
        return past_of(session)

    def _temporary(self) -> Path:
        if self._made is None:
            self._made = Path(tempfile.mkdtemp(prefix="agentd-fleet-"))
        return self._made

    def _closed(self, session: LocalSession, folder: Path) -> None:
        self._open.pop(id(session), None)
        if self._made is not None and folder.is_relative_to(self._made):
            remove_tree(folder)


class LocalSession(Session):
    """A session of a `LocalFleet`."""

    at_end: Callable[[], None] | None = None

    async def aclose(self) -> None:
        await super().aclose()
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            await call_in_thread(at_end)


def is_factory(model: object) -> bool:
    """Return whether a model is given as a function that makes one."""
    return callable(model) and (isinstance(model, type) or not hasattr(model, "stream"))


def past_of(session: Session) -> SessionPast:
    """Return how far a session's conversation is."""
    said = [message for message in session.transcript.messages if message.role != "withdrawn"]
    if not said:
        return SessionPast()
    last = said[-1]
    is_answered = last.role == "answer" and not last.calls
    return SessionPast(is_begun=last.role != "task", answer=last.content if is_answered else None)
