"""The spawner's process and its supervisors' until they have a worker: fork, reap, kill."""

from __future__ import annotations

import errno
import os
import select
import sys
import time

from .descriptors import MAX_DESCRIPTOR, receive
from .primitives import from_json, signal, socket
from .processes import adopt_orphans, children_of, end_with, kill_below, reap_children, try_fork
from .python import PythonWorker, import_common, import_for_python
from .setup import RunnerSetup
from .shell import spawn_bash
from .supervisor import COMMAND, ActionSupervisor
from .warm_imports import import_ahead

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ORDER = 1 << 16


def run_spawner(setup: RunnerSetup, sock: socket.socket) -> None:
    """Fork supervisors on request until retired; never returns."""
    os.dup2(sock.fileno(), 3)
    os.closerange(4, MAX_DESCRIPTOR)  # a copy of the runner's pipe would hide its death from the host
    sock.detach()
    sock = socket.socket(fileno=3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a group-wide TERM must not end the one who cleans up
    adopt_orphans(setup.prctl)
    supervisors: dict[int, int] = {}
    if hasattr(os, "waitid"):
        signal.signal(signal.SIGCHLD, lambda *_: _continue_stopped(supervisors))
    retired = has_python = False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    ends: list[int] = []
    while True:
        _reap_supervisors(supervisors)
        if retired and not supervisors:
            # What has lost its supervisor fell to us, and there may be no runner left to ask for its end.
            kill_below(children_of(os.getpid()))
            os._exit(0)
        events = poll.poll(20 if retired and not ends else None)
        for descriptor in [descriptor for descriptor, _ in events if descriptor in ends]:
            poll.unregister(descriptor)
            os.close(descriptor)
            ends.remove(descriptor)
        if not any(descriptor == sock.fileno() for descriptor, _ in events):
            continue
        data, received = receive(sock, MAX_ORDER, 1)
        if data[:1] == b"F":
            number, kind, waits = data[1:].split()
            (control,) = received
            if kind == b"python" and not has_python:
                import_for_python(setup)
                has_python = True
                if waits == b"0":
                    import_common()
            pid = try_fork()
            if pid == 0:
                _run_supervisor(setup, control)
            elif pid > 0:  # else the runner sees the supervisor's socket close
                supervisors[int(number)] = pid
            os.close(control)
            if kind == b"python":
                import_common()
        elif data[:1] == b"I":
            if not has_python:
                import_for_python(setup)
                import_common()
                has_python = True
            import_ahead(setup, from_json(data[1:]), sock)
        elif data[:1] == b"K":
            _kill_supervisor(supervisors, int(data[1:]))
            sock.send(b"K")
        else:
            if not retired:
                ends = _watch_ends(supervisors.values(), poll)
            retired = True
            if not data:
                poll.unregister(sock)


def _watch_ends(pids: Iterable[int], poll: select.poll) -> list[int]:
    """Watch for the ends of these children, as a job's supervisor may live long; return the descriptors. There are none
    without pidfds: not on Linux, or on an old one."""
    ends: list[int] = []
    try:
        for pid in pids:
            ends.append(os.pidfd_open(pid))
            poll.register(ends[-1], select.POLLIN)
    except (AttributeError, OSError):
        pass
    return ends


def _reap_supervisors(supervisors: dict[int, int]) -> None:
    def took(pid: int, *_: object) -> None:
        for number in [number for number, other in supervisors.items() if other == pid]:
            del supervisors[number]

    if not reap_children(took):
        supervisors.clear()


def _continue_stopped(supervisors: dict[int, int]) -> None:
    """Have supervisors go on that their code has stopped (`kill -STOP $PPID`), or nobody would hear of the action's end
    before its time-out."""
    for pid in list(supervisors.values()):
        try:
            if os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG) is not None:
                os.kill(pid, signal.SIGCONT)
        except OSError:  # it has ended meanwhile
            pass


def _kill_supervisor(supervisors: dict[int, int], number: int) -> None:
    """Kill one supervisor with all below it, and whatever lost its own supervisor and fell to us."""
    supervisors.pop(number, None)  # it is stopped now, to be killed
    for _ in range(100):
        _reap_supervisors(supervisors)
        known = [pid for other, pid in supervisors.items() if other != number]
        doomed = [pid for pid in children_of(os.getpid()) if pid not in known]
        if not doomed:
            return
        kill_below(doomed)
        time.sleep(0.002)


def _run_supervisor(setup: RunnerSetup, control: int) -> None:
    """The supervisor's process from its fork on. On `W` it starts a worker: bash if its files come along, else
    Python."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(control, 3, inheritable=False)  # keep only the control socket
    os.closerange(4, MAX_DESCRIPTOR)
    adopt_orphans(setup.prctl)
    sock = socket.socket(fileno=3)
    while True:
        data, received = receive(sock, COMMAND.size, 9)
        if not data:
            os._exit(0)
        if data[:1] != b"W":  # meant for an action that had ended by itself
            continue
        for descriptor in received:
            os.set_inheritable(descriptor, False)
        worker = _start_worker(setup, received)
        for descriptor in received:
            os.close(descriptor)
        ActionSupervisor(sock, worker, setup.limits.get("processes", sys.maxsize)).supervise()


def _start_worker(setup: RunnerSetup, received: list[int]) -> int:
    """Start the bash or fork the Python that waits for an action; return its pid."""
    error: OSError | None = None
    if len(received) > 1:
        try:
            return spawn_bash(setup, received)
        except BlockingIOError:  # a limit on processes, ours or the place's: the runner sees our socket close
            os._exit(70)
        except OSError as failure:
            error = failure
    supervisor = os.getpid()
    worker = try_fork()
    if worker < 0:
        os._exit(70)
    if worker:
        return worker
    try:
        if error is not None:
            what = "enter" if error.filename == setup.workspace else "start"
            os.write(received[-1], os.fsencode(f"cannot {what} {error.filename}: {error.strerror}\n"))
            os._exit(126 if error.errno == errno.EACCES else 127)
        end_with(supervisor, setup.prctl)
        PythonWorker(setup, received[0]).serve_jobs()
    except BaseException as broken:
        sys.__excepthook__(type(broken), broken, broken.__traceback__)
    finally:
        os._exit(70)
