"""The kept Python interpreter: one namespace for all blocks of a session, and the queue of those that wait for it."""

from __future__ import annotations

from .action import RunningAction, RunningBlock
from .primitives import deque
from .worker_pool import SpareWorkers
from .workers import SupervisedWorker

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable


class KeptPython:
    """Runs one block at a time. `begin_action` starts a block in a worker."""

    def __init__(
        self, pool: SpareWorkers, begin_action: Callable[[SupervisedWorker, RunningBlock], RunningAction]
    ) -> None:
        self.pool = pool
        self.begin_action = begin_action
        self.worker: SupervisedWorker | None = None
        self.queue: deque[RunningBlock] = deque()
        self.busy: RunningAction | None = None
        self.bindings = 0  # those that the interpreter knows of

    def add(self, block: RunningBlock) -> None:
        self.queue.append(block)
        self.start_next()

    def start_next(self, lost: bool = False) -> None:
        """Give the interpreter its next block, if it is free. `lost`: the one before it has ended."""
        if self.busy is not None or not self.queue:
            return
        block = self.queue.popleft()
        if self.worker is not None and not self.worker.is_alive():
            self.worker.close()
            self.worker = None
            lost = True
        worked = self.worker is not None
        if self.worker is None:
            self.worker = self.pool.take_worker_or_refuse("python", block.ident)
            if self.worker is None:
                self.start_next()
                return
        now = self.pool.setup.bindings
        block.has_news, self.bindings = worked and self.bindings != now, now
        action = self.busy = self.begin_action(self.worker, block)
        if lost:
            action.note = "the kept Python namespace was lost before this block: its interpreter had ended"
        if worked:
            action.again = block

    def withdraw(self, ident: int) -> int:
        """Take an action's blocks out of the queue; return how many there were."""
        waiting = [block for block in self.queue if block.ident == ident]
        for block in waiting:
            self.queue.remove(block)
        return len(waiting)

    def action_ended(self, action: RunningAction) -> None:
        if action is self.busy:
            self.busy = None
            self.start_next()

    def put_back(self, block: RunningBlock) -> None:
        """The interpreter had ended before this block, only not been reaped: another one gets it."""
        self.worker = self.busy = None
        self.queue.appendleft(block)
        self.start_next(lost=True)

    def end(self) -> bool:
        """End the interpreter; False if there is none."""
        if self.worker is None:
            return False
        self.worker.close()
        self.worker = None
        return True
