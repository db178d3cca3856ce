"""The spawner's process and its supervisors' until they have a worker: fork, reap, kill."""

from __future__ import annotations

import array
import errno
import json
import os
import select
import signal
import socket
import sys
import time

from .descriptors import MAX_DESCRIPTOR
from .processes import adopt_orphans, children_of, end_with, kill_below, reap_children, try_fork
from .python import PythonWorker, import_for_python
from .setup import RunnerSetup
from .shell import spawn_bash
from .supervisor import COMMAND, ActionSupervisor
from .warm_imports import import_ahead

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
    retired = has_python = False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while True:
        _reap_supervisors(supervisors)
        if retired and not supervisors:
            # What has lost its supervisor fell to us, and there may be no runner left to ask for its end.
            kill_below(children_of(os.getpid()))
            os._exit(0)
        if not poll.poll(20 if retired else None):
            continue
        data, ancillary, *_ = sock.recvmsg(MAX_ORDER, socket.CMSG_SPACE(4))
        if data[:1] == b"F":
            number, kind = data[1:].split()
            (control,) = array.array("i", ancillary[0][2])
            if kind == b"python" and not has_python:
                import_for_python(setup)
                has_python = True
            pid = try_fork()
            if pid == 0:
                _run_supervisor(setup, control)
            elif pid > 0:  # else the runner sees the supervisor's socket close
                supervisors[int(number)] = pid
            os.close(control)
        elif data[:1] == b"I":
            if not has_python:
                import_for_python(setup)
                has_python = True
            import_ahead(setup, json.loads(data[1:]), sock)
        elif data[:1] == b"K":
            _kill_supervisor(supervisors, int(data[1:]))
            sock.send(b"K")
        else:
            retired = True
            if not data:
                poll.unregister(sock)


def _reap_supervisors(supervisors: dict[int, int]) -> None:
    def took(pid: int, *_: object) -> None:
        for number in [number for number, other in supervisors.items() if other == pid]:
            del supervisors[number]

    if not reap_children(took):
        supervisors.clear()


def _kill_supervisor(supervisors: dict[int, int], number: int) -> None:
    """Kill one supervisor with all below it, and whatever lost its own supervisor and fell to us."""
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
    os.dup2(control, 3, inheritable=False)  # keep only the control socket
    os.closerange(4, MAX_DESCRIPTOR)
    adopt_orphans(setup.prctl)
    sock = socket.socket(fileno=3)
    while True:
        data, ancillary, *_ = sock.recvmsg(COMMAND.size, socket.CMSG_SPACE(9 * 4))
        if not data:
            os._exit(0)
        if data[:1] != b"W":  # meant for an action that had ended by itself
            continue
        received = list(array.array("i", ancillary[0][2]))
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
