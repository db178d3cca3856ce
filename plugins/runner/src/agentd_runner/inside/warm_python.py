"""The spawner whose Pythons have modules imported already: which, from when on, and for which blocks."""

from __future__ import annotations

import os
import sys
import time

from .frames import MAX_MODULES
from .poller import Poller
from .primitives import from_json, signal, socket, to_json
from .setup import RunnerSetup
from .workers import Spawner, SupervisedWorker

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

IMPORT_S = 20.0  # how long one import may take
MAX_ENTRIES = 4096  # a larger folder is not looked through before a block


class WarmPython:
    """Has one spawner at most. A block gets a Python of it if it imports one of its modules and would find the same
    modules in a bare one: nothing in the block's folders has the name of any of them. Every other block gets a bare
    Python, and so does one that comes before the imports are done.

    `retire(spawner)` lets go of a spawner.
    """

    def __init__(self, setup: RunnerSetup, poller: Poller, retire: Callable[[Spawner], None]) -> None:
        self.setup = setup
        self.poller = poller
        self.retire = retire
        self.spawner: Spawner | None = None
        self.wanted: dict[str, None] = {}  # in the order in which blocks have imported them
        self.left_out: dict[str, str] = {}  # why
        self.untold: dict[str, str] = {}  # of these the host does not know
        self.under_way: list[str] = []
        self.imported: set[str] = set()
        self.standard: set[str] = set()  # top-level names of what is imported, of the standard library
        self.others: set[str] = set()
        self.due = float("inf")
        self.generation = 0
        self.kind = "warm0"  # of its workers; another one each time that there is more in them

    @property
    def ready(self) -> bool:
        return bool(self.imported) and self.due == float("inf")

    def want(self, names: Iterable[str]) -> None:
        """Note what a block imports and a bare Python does not have, which has all that the runner has."""
        for name in names:
            here = name in sys.modules or name.partition(".")[0] in self.setup.shipped
            if not here and name not in self.left_out and len(self.wanted) < MAX_MODULES:
                self.wanted[name] = None

    def begin(self) -> bool:
        """Have what is wanted imported, if it is not; True if that was begun. Raises `OSError` without a process."""
        names = [name for name in self.wanted if name not in self.imported]
        if not names or self.due != float("inf"):
            return False
        if self.spawner is None:
            self.poller.flush()  # or the child would hold a copy of what is still to be sent
            self.spawner = Spawner(self.setup)
            self.poller.watch(self.spawner.socket.fileno(), self.on_message)
        self.under_way = names
        self.due = time.monotonic() + IMPORT_S
        self.generation += 1
        self.kind = f"warm{self.generation}"
        self.spawner.socket.send(b"I" + to_json(names))
        return True

    def start_worker(self, base: bytes) -> SupervisedWorker:
        """Fork one. Raises `OSError` if the spawner is gone."""
        if self.spawner is None:
            raise OSError("there is none")
        return self.spawner.start_worker(self.kind, base, waits=False)

    def on_message(self, _event: int) -> None:
        if self.spawner is None:
            return
        try:
            data = self.spawner.socket.recv(1 << 17, socket.MSG_DONTWAIT)
        except BlockingIOError:  # it was the answer to an order to kill
            return
        except OSError:
            data = b""
        if data == b"K":  # the same, and late
            return
        if not data:
            self.leave_out("its import ends the process")
            return
        first, second = from_json(data)
        if not self.under_way:
            self.standard.update(first)
            self.others.update(second)
            self.due = float("inf")
        elif second:
            self.leave_out(second)
        else:
            name = self.under_way.pop(0)
            self.due = time.monotonic() + IMPORT_S
            if second is None:
                self.forget(name, "there is no such module in the interpreter's own folders")
            else:
                self.imported.add(name)

    def check_clocks(self, now: float) -> None:
        if now >= self.due:
            self.leave_out(f"its import takes more than {IMPORT_S:g} s")

    def leave_out(self, reason: str) -> None:
        """Do without the module whose import is under way; the others begin anew."""
        culprit = self.under_way[:1]
        for name in culprit:
            self.forget(name, reason)
        self.close()
        if culprit:
            try:
                self.begin()
            except OSError:  # no more processes; the next block that imports tries again
                pass

    def forget(self, name: str, reason: str) -> None:
        self.left_out[name] = self.untold[name] = reason
        self.wanted.pop(name, None)

    def tell(self) -> str:
        """Return what the host does not know yet, a line each: modules that are left out, and why."""
        untold, self.untold = self.untold, {}
        return "\n".join(map(": ".join, untold.items()))

    def tell_rest(self) -> str:
        """The same at the end of the session, whether or not the imports are done."""
        for name in self.under_way:
            self.untold[name] = "the session ended before that"
        return self.tell()

    def close(self) -> None:
        """Let go of the spawner; what is wanted stays known."""
        spawner, self.spawner = self.spawner, None
        self.under_way.clear()
        self.imported.clear()
        self.standard.clear()
        self.others.clear()
        busy, self.due = self.due != float("inf"), float("inf")
        if spawner is not None:
            self.poller.unwatch(spawner.socket.fileno())
            if busy:  # it may never come back from an import
                os.kill(spawner.pid, signal.SIGKILL)
            self.retire(spawner)

    def suits(self, imports: Sequence[str], folders: Sequence[str]) -> bool:
        """Whether a block with these imports is better off here; `folders` are its own, before the interpreter's."""
        if not self.ready or self.imported.isdisjoint(imports):
            return False
        first = [*folders, *self.setup.pythonpath]
        names = self.standard | self.others
        return not any(holds(folder, names) for folder in first) and not any(
            holds(folder, self.others) for folder in self.setup.site
        )


def holds(folder: str, names: set[str]) -> bool:
    """Whether a folder has a module of one of these names, or may have: it is too large to be looked through."""
    try:
        with os.scandir(folder or ".") as entries:
            for number, entry in enumerate(entries):
                if number > MAX_ENTRIES or entry.name.partition(".")[0] in names:
                    return True
    except OSError:  # it is not there
        pass
    return False
