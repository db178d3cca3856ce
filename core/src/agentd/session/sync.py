"""`SyncSession`: a session for programs without an event loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from agentd._concurrency.portal import PortalLease
from agentd.errors import ConfigError
from agentd.events import Event, RunEnd
from agentd.session.run import Run
from agentd.session.session import Session
from agentd.turn.transcript import Transcript
from agentd.types import Usage

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from agentd.protocols import Checkpoint, Model
    from agentd.selectors import Selector

__all__ = ["SyncSession"]

T = TypeVar("T")


class SyncSession:
    """`Session` without `await`: a context manager whose `run` is iterated with a plain `for`.

    Works in any thread, also inside of a running event loop (which it blocks, as every synchronous call does). All
    sync sessions of a process share one event loop thread. Takes the same arguments as `Session`.
    """

    def __init__(self, model: str | Model, **settings: Any) -> None:
        self._set_up(Session(model, **settings))

    def _set_up(self, session: Session) -> None:
        self.session = session
        self._lease: PortalLease | None = None

    @property
    def workspace(self) -> Path:
        """The directory that the code works in."""
        return self.session.workspace

    @property
    def transcript(self) -> Transcript:
        """Everything that was said and done."""
        return self.session.transcript

    @property
    def usage(self) -> Usage:
        """The tokens of all runs so far."""
        return self.session.usage

    @property
    def cost_usd(self) -> float | None:
        """What all runs have cost, or None without a price for the model."""
        return self.session.cost_usd

    def open(self) -> SyncSession:
        """Open it, for whoever cannot write `with`; returns the session. `close` is to be called then."""
        lease = PortalLease(self.close)
        try:
            lease.portal.call(self.session.open)
        except BaseException:
            lease.close()
            raise
        self._lease = lease
        return self

    def __enter__(self) -> SyncSession:
        return self.open()

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything. May be called again."""
        lease, self._lease = self._lease, None
        try:
            # If the lease is not open, the session is the parent process's.
            if lease is not None and lease.is_open:
                lease.portal.call(self.session.aclose)
        finally:
            if lease is not None:
                lease.close()

    def checkpoint(self, label: str | None = None) -> Checkpoint:
        """Keep this moment; see `Session.checkpoint`."""
        return self._portal().call(self.session.checkpoint, label)

    def rewind(self, wanted: Selector | Checkpoint | None = None) -> Checkpoint:
        """Go back to a checkpoint; see `Session.rewind`."""
        return self._portal().call(self.session.rewind, wanted)

    def forget_last(self) -> str:
        """Take the last task back; see `Session.forget_last`."""
        return self._portal().call(self.session.forget_last)

    def fork(
        self, wanted: Selector | Checkpoint | None = None, *, cwd: str | Path, **changes: Any
    ) -> SyncSession:
        """Return a second session that goes on from a checkpoint; see `Session.fork`."""
        made = self._portal().call(partial(self.session.fork, wanted, cwd=cwd, **changes))
        fork = SyncSession.__new__(SyncSession)
        fork._set_up(made)
        return fork

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints of sessions in this workspace, the oldest first."""
        return self.session.checkpoints()

    def delete_checkpoint(self, wanted: Selector | Checkpoint) -> Checkpoint:
        """Remove a checkpoint and return what it was."""
        return self._portal().call(self.session.delete_checkpoint, wanted)

    def _portal(self) -> BlockingPortal:
        self.session._check_open()
        if self._lease is None or not self._lease.is_open:
            raise ConfigError("this session was opened in the parent of this process: open another one here")
        return self._lease.portal

    @overload
    def ask(self, task: str | list[Any], *, output: None = None) -> RunEnd: ...
    @overload
    def ask(self, task: str | list[Any], *, output: type[T]) -> T: ...
    @overload
    def ask(self, task: str | list[Any], *, output: Any) -> Any: ...
    def ask(self, task: str | list[Any], *, output: Any = None) -> Any:
        """Give the model a task, wait for the end and return it, or its answer as `output`; see `Session.ask`."""
        end = deque(self.run(task, output=output), maxlen=1).pop()
        assert isinstance(end, RunEnd)
        return end if output is None else self.session.resources.answer_form(output).read(end.text)

    def run(self, task: str | list[Any], *, output: Any = None) -> Iterator[Event]:
        """Give the model a task and iterate over the events. Leaving the iteration early ends the run."""
        portal = self._portal()
        run = portal.call(partial(self.session.run, task, output=output))  # which keeps this call's context
        return self._events(portal, run)

    def _events(self, portal: BlockingPortal, run: Run) -> Iterator[Event]:
        try:
            # The portal is looked up anew: in a child that was forked meanwhile, its thread is not there.
            while batch := (portal if self._lease is None else self._portal()).call(run.batch):
                yield from batch
        finally:
            if self._lease is not None and self._lease.is_open:
                portal.call(run.aclose)
