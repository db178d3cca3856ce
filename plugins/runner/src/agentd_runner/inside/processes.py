"""Processes of the operating system: find, count, stop, kill and reap process trees; fork; prctl(2)."""

from __future__ import annotations

import os
import resource  # what os.wait4 imports: now, and not when a child has ended and the interpreter was replaced
import sys
import time

from .primitives import signal

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 3, 4, 36


def load_prctl() -> Callable[..., int] | None:
    """Return Linux's prctl(2), or None. The standard library has no other way to it."""
    prctl = c_function("prctl") if LINUX else None
    if prctl is None or prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) >= 0:
        return prctl
    return _of_ctypes("prctl")


def c_function(name: str) -> Callable[..., int] | None:
    """Return a function of the C library, whose arguments are whole numbers or None, or None.

    By what `ctypes` is built on: all of `ctypes` would cost a session's start 1 ms.
    """
    try:
        import _ctypes

        address = _ctypes.dlsym(_ctypes.dlopen(None, 0), name)  # type: ignore[arg-type]
        call = _ctypes.call_function
    except (
        ImportError,
        AttributeError,
        OSError,
        TypeError,
        ValueError,
    ):  # an interpreter that has something else there
        return _of_ctypes(name)
    return lambda *arguments: int(call(address, arguments))


def _of_ctypes(name: str) -> Callable[..., int] | None:
    try:
        import ctypes

        function: Callable[..., int] = getattr(ctypes.CDLL(None, use_errno=True), name)
        return function
    except (ImportError, OSError, AttributeError):
        return None


def adopt_orphans(prctl: Callable[..., int] | None) -> None:
    """Make this process a sub-reaper (Linux): what loses its parent anywhere below becomes its child."""
    if prctl is not None:
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def lower_priority(niceness: int) -> None:
    """Have this process, and what it starts from now on, run with this niceness at least."""
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, os.getpriority(os.PRIO_PROCESS, 0)))


def end_with(parent: int, prctl: Callable[..., int] | None, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends (Linux); to be called after a change of user,
    which would void it."""
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(70)


def children_of(pid: int) -> list[int]:
    """Return the pids of the direct children of all threads of `pid` (Linux; elsewhere empty)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except FileNotFoundError:  # the process has gone, or a kernel without CONFIG_PROC_CHILDREN
        if os.path.isdir(f"/proc/{pid}") and not os.path.exists(f"/proc/{pid}/task/{pid}/children"):
            return _children_by_scan(pid)
    except (OSError, ValueError):
        pass
    return found


def _children_by_scan(parent: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                    found.append(int(name))
        except (OSError, ValueError):
            pass
    return found


def descendants(roots: list[int]) -> list[int]:
    """Return `roots` and everything below them."""
    seen: dict[int, None] = {}
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in seen:
            seen[pid] = None
            todo += children_of(pid)
    return list(seen)


def signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def stop_below(roots: list[int]) -> list[int]:
    """Stop everything below `roots` and return it: a stopped process cannot fork away from us.

    First whole groups, in one call each: that also reaches the processes that are being forked meanwhile, and
    a fork bomb makes them faster than they can be listed.
    """
    stopped: dict[int, None] = {}
    groups = {os.getpgrp(), 0}  # ours: a worker that has just been forked is still in it
    todo = roots
    while todo:
        for pid in todo:
            if (group := _group_of(pid)) not in groups:
                groups.add(group)
                signal_all([-group], signal.SIGSTOP)
        signal_all(todo, signal.SIGSTOP)
        stopped.update(dict.fromkeys(todo))
        todo = [pid for pid in descendants(roots) if pid not in stopped]
    return list(stopped)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def kill_below(roots: list[int]) -> None:
    """Stop, then kill, everything below `roots`."""
    signal_all(stop_below(roots), signal.SIGKILL)


def reap_children(took: Callable[[int, int, resource.struct_rusage], object]) -> bool:
    """Take the children that have ended, and tell of each (pid, wait status, what it used); True if there are others.

    Where orphans are adopted, False says that nothing is left below this process.
    """
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        took(pid, status, used)


def count_tasks(roots: list[int], until: float) -> int:
    """Return how many processes and threads there are below `roots`, or were found until then."""
    count, seen, todo = 0, set[int](), list(roots)
    while todo and time.monotonic() < until:
        pid = todo.pop()
        if pid not in seen:
            seen.add(pid)
            count += tasks_of(pid)
            todo += children_of(pid)
    return count


def tasks_of(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def tasks_here() -> int:
    """Return how many processes and threads this machine has (0 where it does not say)."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[3].partition(b"/")[2])
    except (OSError, ValueError, IndexError):
        return 0


def try_fork() -> int:
    try:
        return os.fork()
    except BlockingIOError:  # a limit on processes, ours or the place's
        return -1


def signal_name(number: int) -> str:
    try:
        import signal

        return signal.Signals(number).name
    except ValueError:
        return str(number)


def wait_status(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0
