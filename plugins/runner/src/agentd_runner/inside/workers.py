"""The runner's handles: on the spawner, on a supervisor with its worker, on what it shares with a worker."""

from __future__ import annotations

import os
import sys

from .descriptors import anonymous_file, message_pair, send_with_descriptors
from .frames import U32
from .primitives import socket, to_json
from .setup import RunnerSetup
from .shell_state import MAX_STATE
from .spawner import run_spawner
from .supervisor import COMMAND
from .timings import KILL_MARGIN_S

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any


class Spawner:
    """The process that forks supervisors, and the runner's socket to it.

    Messages: `F`, the worker's number, its kind, and 1 if an action waits for it, with the supervisor's end of the
    control socket, forks a supervisor; `K` and a number kills that supervisor, what is below it, and every process that
    fell to the spawner, and is answered with `K`; `I` and names as JSON imports these modules for all Pythons that it
    forks from then on (`warm_imports.import_ahead` has the answers); `R` retires the spawner: it ends when its last
    supervisor does. A closed socket does the same.
    """

    def __init__(self, setup: RunnerSetup) -> None:
        """Fork it. The outbox must be empty: the child would hold a copy of what is still to be sent."""
        self.socket, theirs = message_pair()
        self.count = 0
        self.has_python = False
        self.pid = os.fork()
        if self.pid == 0:
            try:
                run_spawner(setup, theirs)
            except BaseException as error:
                sys.__excepthook__(type(error), error, error.__traceback__)
            finally:
                os._exit(70)
        theirs.close()

    def start_worker(self, kind: str, base: bytes, *, waits: bool) -> SupervisedWorker:
        """Fork a supervisor and let it start a worker: `bash`, which exports `base`, or a Python.

        Raises `OSError` if the spawner is gone.
        """
        control, theirs = socket.socketpair()
        self.count += 1
        try:
            # The order is there already when the supervisor comes to be: if it does not, its end is what we see.
            worker = SupervisedWorker(self, self.count, kind, control, base)
            worker.is_bare = waits and kind == "python" and not self.has_python
            self.has_python = self.has_python or kind == "python"
            try:
                send_with_descriptors(
                    self.socket, b"F%d %s %d" % (self.count, kind.encode(), waits), [theirs.fileno()]
                )
            except OSError:
                worker.close()
                raise
        finally:
            theirs.close()
        return worker

    def retire(self) -> None:
        try:
            self.socket.send(b"R")
        except OSError:
            pass

    def has_ended(self) -> bool:
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True


class BashFiles:
    """What the runner shares with a bash that waits: files without a name, its output, and its gate."""

    def __init__(self, base: bytes) -> None:
        self.code, self.job, self.save, self.meta, self.base = (anonymous_file() for _ in range(5))
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        gate, self.gate = os.pipe()
        self.ends = (gate, out, err)
        self.write(self.base, base)

    def theirs(self) -> list[int]:
        """The descriptors in the order that `spawn_bash` takes."""
        return [self.code, self.job, self.save, self.meta, self.base, *self.ends]

    def close_ends(self) -> None:
        """Close the ends that are bash's, once it has them."""
        for descriptor in (self.base, *self.ends):
            os.close(descriptor)

    @staticmethod
    def write(descriptor: int, data: bytes) -> None:
        view, offset = memoryview(data), 0
        while view:  # pwrite: bash reads from the same place in the file that we write at
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written

    def open_gate(self, job: bytes, code: bytes) -> None:
        """Hand over the job and let bash begin."""
        self.write(self.job, job)
        self.write(self.code, code)
        try:
            os.write(self.gate, b"\n")
        except BrokenPipeError:  # it has ended; its supervisor says how
            pass

    def saved(self) -> tuple[str, str, str, str] | None:
        """What bash has saved: source, `set` options, `shopt` options, directory; None if it did not come to
        its end. Raises `ValueError` if that is too much: code can write there, too."""
        sizes = os.fstat(self.save).st_size, os.fstat(self.meta).st_size
        if max(sizes) > MAX_STATE:
            raise ValueError(f"its state is {max(sizes)} bytes, and at most {MAX_STATE} are kept")
        fields = os.pread(self.meta, sizes[1], 0).split(b"\0")
        if len(fields) != 4:
            return None
        source = os.pread(self.save, sizes[0], 0)
        options, shopts, cwd = (os.fsdecode(field) for field in fields[:3])
        return os.fsdecode(source), options, shopts, cwd

    def close(self, outputs: bool = True) -> None:
        """Close our ends; not the outputs, if they were handed on."""
        for descriptor in (self.code, self.job, self.save, self.meta, self.gate):
            os.close(descriptor)
        if outputs:
            os.close(self.out)
            os.close(self.err)


class SupervisedWorker:
    """A supervisor and its worker, as the runner sees them."""

    def __init__(self, spawner: Spawner, number: int, kind: str, control: socket.socket, base: bytes) -> None:
        self.spawner = spawner
        self.kind = kind
        self.number = number
        self.control = control
        self.action = 0  # the action that it works on; a kept interpreter works on one after the other
        self.is_bare = False  # a Python without what others have imported already: there was no time
        self.start_worker(base)

    def start_worker(self, base: bytes) -> None:
        """Have the supervisor start a worker; a bash exports `base`. Raises `OSError`."""
        self.action = 0
        self.broker, theirs = message_pair()
        self.files = files = BashFiles(base) if self.kind == "bash" else None
        rights = [theirs.fileno(), *(files.theirs() if files is not None else ())]
        try:
            send_with_descriptors(self.control, COMMAND.pack(b"W", 0), rights)
        except OSError:
            self.close()
            raise
        finally:
            theirs.close()
            if files is not None:
                files.close_ends()

    def hand_over(self, header: dict[str, Any], code: bytes) -> tuple[int, int, int]:
        """Give a waiting Python its job; return the job's file, and the reading ends of its output.

        Header and code go into a file without a name: neither the environment nor argv has the room.
        """
        encoded = to_json(header)
        job = anonymous_file()
        view = memoryview(U32.pack(len(encoded)) + encoded + code)
        while view:
            view = view[os.write(job, view) :]
        os.lseek(job, 0, os.SEEK_SET)
        out, out_write = os.pipe()
        err, err_write = os.pipe()
        try:
            send_with_descriptors(self.broker, b"J", [job, out_write, err_write])
        except OSError:
            pass  # the worker is dead; its control socket says so
        os.close(out_write)
        os.close(err_write)
        return job, out, err

    def release_worker(self) -> None:
        """Let go of a worker that has ended; the supervisor waits for the next one."""
        self.broker.close()
        if self.files is not None:
            self.files.close(outputs=not self.action)
            self.files = None

    def command(self, letter: bytes, grace_s: float = 0.0) -> None:
        try:
            self.control.send(COMMAND.pack(letter, grace_s))
        except OSError:  # it has ended
            pass

    def is_alive(self) -> bool:
        """False if its worker or its supervisor has ended (something killed it while it waited)."""
        try:
            self.control.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
            return False  # its report, or the end of the socket
        except BlockingIOError:
            return True
        except OSError:
            return False

    def kill(self) -> bool:
        """End what the supervisor can no longer end: it was stopped or killed. False without a spawner."""
        try:
            self.spawner.socket.settimeout(KILL_MARGIN_S)
            self.spawner.socket.send(b"K%d" % self.number)
            return bool(self.spawner.socket.recv(16))
        except OSError:
            return False

    def close(self) -> None:
        """Let go: the supervisor sees its socket close and ends everything below it."""
        self.control.close()
        self.release_worker()
