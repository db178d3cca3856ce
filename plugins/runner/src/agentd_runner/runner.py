"""The process inside the sandbox: it runs actions for the host at the other end of a pipe.

This one file uses the standard library alone, because executors ship it into places where nothing else is
installed. The host starts `python -I runner.py` wherever it likes and speaks *frames* with it over the
runner's standard input and output. Nothing else connects the two: no port, no file, no signal. Only a runner
that is a plain child process may inherit a *direct line* as well, over which it passes the sockets that code
calls tools with on to the host (`agentd_runner.host.line`).

Frames
    !IBI  length of the payload, kind, id; then the payload. A payload is at most `MAX_FRAME` bytes. A frame
    of an unknown kind, or of the wrong direction, ends the connection. The first frame each way is HELLO.

    host -> runner
      HELLO   JSON: version, workspace, env, inherit, limits (setrlimit's by name; those that are watched:
              processes, workspace_bytes, workspace_inodes), watched (folders beside the workspace),
              pythonpath, preload, http, token, line (an inherited descriptor: the host's direct line)
      RUN     id = action; u32 length of a JSON header, the header, then the code or the file's content
      CANCEL  id = action
      REPLY   id = call; u8 (0 ok, 1 error), then JSON
      SETUP   JSON: pythonpath, preload, catalog, bindings_env (new bindings)
      SHELL   id = request; JSON: null asks for the shell's state, {"set": STATE} replaces it ({"set": null}: a fresh
              one); both are answered by SHELL
      END     end everything; a closed pipe means the same
    runner -> host
      READY   JSON: version, pid, python, bash
      STDOUT, STDERR  id = action; the bytes as they came
      DROPPED id = action; u8 stream (1, 2), u64 bytes left out in the middle; the tail follows
      EXIT    id = action; JSON: status, exit_code, wall_s, cpu_s, peak_memory_bytes, message
      CALL    id = call; u32 action, u16 length of the tool's name, the name, the arguments as JSON
      SHELL   id = request; JSON: STATE = {workspace, cwd, source, options, shopts, unset}, or {error}
      FATAL   JSON: message; the runner ends

Processes
    Each action has a *crew*: a supervisor, which adopts whatever the action leaves behind and kills it, and
    its worker, the action's bash or Python. A spare crew of each kind in use is made ahead: the Python has
    rehearsed its part, the bash has started and waits, so that an action costs a message and neither a
    fork nor the page faults and the start of a shell behind it. A supervisor that has seen an action to its
    end, and has nothing left below it, starts the worker of a later one.
    Supervisors are forked by a *nursery*, a copy of the runner with everything imported: a process that forks
    pays for each page that it touches afterwards, and the runner's loop must not. Every process has a
    single thread (a fork copies only one).

      host == pipe == runner --- nursery -+- supervisor --- worker (own session) --- what the code starts
                                          +- supervisor --- worker ...

Fork server
    With the argument `--serve`, this file is no runner yet: it forks runners for a host that has several
    (`agentd_runner.host.forkserver`). Its standard input is a socket of messages. `F` with the descriptors of
    standard input, output and errors and of the direct line forks a runner, which has the line as descriptor 3;
    the answer is its pid, with a pidfd, or 0. `W` and the pid of a runner that has ended ask for its wait status.
    The end of the socket ends this process, and no runner.
"""

from __future__ import annotations

import array
import atexit
import errno
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import time
import types
from collections import deque

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from typing import Any


VERSION = 1
MAX_FRAME = 64 * 1024 * 1024
MAX_CALL = MAX_FRAME - 1024
SERVE = "--serve"
HEADER = struct.Struct("!IBI")
U32 = struct.Struct("!I")

HELLO, RUN, CANCEL, REPLY, SETUP, END = 1, 2, 3, 4, 5, 6
SHELL = 7  # the only kind that goes both ways
READY, STDOUT, STDERR, DROPPED, EXIT, CALL, FATAL = 65, 66, 67, 68, 69, 70, 71
TO_RUNNER = frozenset((HELLO, RUN, CANCEL, REPLY, SETUP, END, SHELL))
TO_HOST = frozenset((READY, STDOUT, STDERR, DROPPED, EXIT, CALL, FATAL, SHELL))

COMMAND = struct.Struct("!cd")  # of the runner to a supervisor: a letter, the grace in seconds

# Descriptors of a worker, above those that scripts use by number (`exec 3>log`).
BROKER_FD, CODE_FD, JOB_FD, SAVE_FD, META_FD, GATE_FD, BASE_FD = 90, 91, 92, 93, 94, 95, 96
MAX_DESCRIPTOR = 1 << 16

LINUX = sys.platform == "linux"
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36
READ_SIZE = 256 * 1024
MESSAGE_SIZE = 64 * 1024  # below malloc's mmap threshold: a larger buffer costs a call more than its work
PAUSE_S = 0.002  # a shorter time between two actions is none
REFILL_S = 0.05  # how long after an action's start its spare is replaced, unless it ends before
SPARE_IDLE_S = 10.0  # how long after the last action a crew is kept ready
LEFT_OVER_S = 0.05  # helpers that end by themselves (multiprocessing's tracker) may do so
SPIN_S = 80e-6
LOOK_S = 0.005  # how often the clocks are looked at while there is much to do
WATCH_S = 0.25  # how often limits that only a look can tell are looked at, and how old an action is by then
COUNT_S = 0.02  # how long counting an action's tasks may take while they run
IDLE_WATCH_S = 5.0  # the same while only a kept interpreter lives
WALK_PAUSE_S = 1.0  # between two walks through the workspace, if nothing hurries
SLICE_S = 0.002  # how long a walk may hold up the loop at a time
CALM_SHARE, HURRIED_SHARE = 0.02, 0.5  # of the time that may go into walks
SLICE_PAUSE_S = 0.5  # at most, between two slices: one in which others had the processor says little
HELD_LEVELS = 256  # of a walk: folders kept open on the way down
TIDY_UP = "Delete files first: blocks still run, but one that adds more is ended again"
SPARE_BYTES, SPARE_INODES = 16 << 20, 2000  # how much more may come to be where a limit is exceeded already
MAX_CHANNELS = 512
MAX_DIRECT = 64 * 1024  # bytes of a request that code sends to the host past us
MAX_DIRECT_CHANNELS = 32  # of one action: the host's descriptors are not the code's to use up
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
KILL_MARGIN_S = 3.0  # beyond the grace, how long a supervisor may take before the runner acts itself


class FrameError(Exception):
    """The other side sent something that is no frame of this protocol."""


def pack(kind: int, ident: int, payload: bytes) -> bytes:
    """Return one frame."""
    return HEADER.pack(len(payload), kind, ident) + payload


class FrameReader:
    """Cuts a byte stream into frames; the kinds that may arrive are given."""

    def __init__(self, kinds: frozenset[int]) -> None:
        self.kinds = kinds
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Return the frames that are complete with `data`. Raises `FrameError`."""
        buffer = self.buffer
        buffer += data
        frames = []
        start, end = 0, len(buffer)
        while end - start >= HEADER.size:
            length, kind, ident = HEADER.unpack_from(buffer, start)
            if kind not in self.kinds:
                raise FrameError(f"unknown frame kind {kind}")
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes; at most {MAX_FRAME} are allowed")
            body = start + HEADER.size
            if end - body < length:
                break
            frames.append((kind, ident, bytes(buffer[body : body + length])))
            start = body + length
        if start:
            del buffer[:start]
        return frames


# --- small things of the operating system -------------------------------------------------------


def _load_prctl() -> Callable[..., int] | None:
    """Return Linux's prctl(2), or None. The standard library has no other way to it."""
    if not LINUX:
        return None
    try:
        import ctypes

        function: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
        return function
    except (ImportError, OSError, AttributeError):
        return None


def _anonymous_file() -> int:
    """Return a descriptor of a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("agentd")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _message_pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:  # macOS has no SOCK_SEQPACKET for local sockets
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def _children_of(pid: int) -> list[int]:
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


def _descendants(roots: list[int]) -> list[int]:
    """Return `roots` and everything below them."""
    seen: dict[int, None] = {}
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in seen:
            seen[pid] = None
            todo += _children_of(pid)
    return list(seen)


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except OSError:
            pass


def _stop_below(roots: list[int]) -> list[int]:
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
                _signal_all([-group], signal.SIGSTOP)
        _signal_all(todo, signal.SIGSTOP)
        stopped.update(dict.fromkeys(todo))
        todo = [pid for pid in _descendants(roots) if pid not in stopped]
    return list(stopped)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _kill_below(roots: list[int]) -> None:
    """Stop, then kill, everything below `roots`."""
    _signal_all(_stop_below(roots), signal.SIGKILL)


def _count_tasks(roots: list[int], until: float) -> int:
    """Return how many processes and threads there are below `roots`, or were found until then."""
    count, seen, todo = 0, set[int](), list(roots)
    while todo and time.monotonic() < until:
        pid = todo.pop()
        if pid not in seen:
            seen.add(pid)
            count += _tasks_of(pid)
            todo += _children_of(pid)
    return count


def _tasks_of(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def _tasks_here() -> int:
    """Return how many processes and threads this machine has (0 where it does not say)."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[3].partition(b"/")[2])
    except (OSError, ValueError, IndexError):
        return 0


# --- the supervisor -----------------------------------------------------------------------------


class Supervisor:
    """The root of one action's processes: waits for the worker, then ends whatever is left and reports that in
    one JSON line on its control socket.

    A `COMMAND` on that socket: `T` ends the action (TERM, grace, KILL); `C` has it count the action's tasks
    (processes and threads), if they may be more than `most`, and end the action that has more. A closed socket
    (the runner is gone) ends the action at once.
    """

    def __init__(self, control: socket.socket, worker: int, most: int) -> None:
        self.control = control
        self.worker = worker
        self.most = most
        self.counted, self.tasks_then = most, 0  # not yet: as many as there may be
        self.crowd = 0
        self.status = 0
        self.ended = False  # the worker
        self.cpu_s, self.memory = 0.0, 0
        self.deadline: float | None = None
        self.left_over = False
        self.killed = 0
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        try:
            self.pidfd = os.pidfd_open(worker)
            self.poll.register(self.pidfd, select.POLLIN)
        except (AttributeError, OSError):  # not Linux, or an old one: look every few milliseconds
            self.pidfd = -1
        self.line()  # a rehearsal: the pages that it touches are copied now and not when it counts

    def run(self) -> None:
        while not self.reap():
            for descriptor, _ in self.poll.poll(self.timeout_ms()):
                if descriptor != self.pidfd:
                    self.command()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                self.kill()
        try:
            self.control.sendall(self.line())
        except OSError:
            pass
        if self.pidfd >= 0:
            os.close(self.pidfd)

    def timeout_ms(self) -> int | None:
        if self.pidfd < 0 or self.ended:
            return 2
        if self.deadline is None:
            return None
        return max(1, int((self.deadline - time.monotonic()) * 1000) + 1)

    def command(self) -> None:
        data = self.control.recv(COMMAND.size)
        if not data:
            self.poll.unregister(self.control)
            self.kill()
            return
        letter, grace_s = COMMAND.unpack(data)
        if letter == b"C":
            self.count()
            return
        self.deadline = time.monotonic() + grace_s
        pids = _descendants(_children_of(os.getpid())) or [self.worker]
        _signal_all(pids, signal.SIGTERM)
        _signal_all(pids, signal.SIGCONT)  # a stopped process acts on TERM only when it goes on

    def count(self) -> None:
        """End the action if it has too many tasks.

        A fork bomb grows faster than it can be counted, unless it is stopped first. An honest action is not
        stopped: it is counted in a moment, and not again before the machine's tasks have grown by what is left.
        """
        now = _tasks_here()
        if self.counted + now - self.tasks_then < self.most:
            return
        children, until = _children_of(os.getpid()), time.monotonic() + COUNT_S
        self.counted, self.tasks_then = _count_tasks(children, until), now
        if self.counted > self.most or time.monotonic() >= until:
            stopped = _stop_below(children)
            self.counted = sum(map(_tasks_of, stopped))
            if self.counted > self.most:
                self.crowd = self.counted
                self.kill()
            else:
                _signal_all(stopped, signal.SIGCONT)

    def kill(self) -> None:
        """Kill all that is below; called again and again until nothing is."""
        below = _children_of(os.getpid())
        if below:
            if self.left_over and not self.killed:
                self.killed = len(_descendants(below))
            _kill_below(below)
        elif not self.ended:  # no /proc (macOS): what has left the worker's group survives
            self.kill_group()
        self.deadline = time.monotonic() + LEFT_OVER_S

    def kill_group(self) -> None:
        try:
            os.killpg(self.worker, signal.SIGKILL)
        except OSError:
            pass

    def reap(self) -> bool:
        """Collect what has ended; True when nothing is left."""
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                if self.ended and self.deadline is None:
                    self.left_over = True
                    self.deadline = time.monotonic() + LEFT_OVER_S
                return False
            self.cpu_s += used.ru_utime + used.ru_stime
            self.memory = max(self.memory, used.ru_maxrss)
            if pid == self.worker:
                self.status, self.ended = status, True
                if self.pidfd >= 0:
                    self.poll.unregister(self.pidfd)
                if not LINUX:  # nobody is adopted there: the worker's own group is what can be ended
                    self.kill_group()

    def line(self) -> bytes:
        """The report: wait status, CPU seconds, peak memory in bytes, number of processes killed, tasks if
        they were too many."""
        unit = 1024 if LINUX else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS
        return json.dumps([self.status, self.cpu_s, self.memory * unit, self.killed, self.crowd]).encode()


# --- the worker: bash ---------------------------------------------------------------------------

# What bash runs. Builtins only: every external command would cost 0.7 ms. It starts ahead of time, exports the
# base environment and waits at the gate for a byte; then JOB restores the state and reads the code. Nothing that
# code has left runs before the gate. `builtin`: the functions that it has left may have any name but this one,
# which would spoil META, so that the state before stays. The code is `eval`ed on the first line, so that error
# messages name the block's own lines. The state is written by an EXIT trap, and after the code, which may have
# set an EXIT trap of its own; META is written last and so says that the state is whole.
_BASH_SCRIPT = (
    f"source /dev/fd/{BASE_FD} 2>/dev/null; exec {BASE_FD}<&-; "
    f"TMOUT= IFS= read -r -n 1 -u {GATE_FD} || exit; "
    "__agentd_save() {"
    # The local name hides what is another for every block: the state would never be the one of before.
    " builtin local o=$SHELLOPTS b=$BASHOPTS AGENTD_TOOLS_URL; builtin set +euCxv; __agentd_saved=1;"
    ' builtin eval "$__agentd_undo"; builtin unset -f __agentd_save;'
    f" {{ builtin export -p; builtin declare -f; builtin declare -xF; }} >&{SAVE_FD};"
    f' builtin printf \'%s\\0\' "$o" "$b" "$PWD" >&{META_FD};'
    " }; trap '{ [[ $__agentd_saved ]] || __agentd_save; } 2>/dev/null' EXIT; "
    f"source /dev/fd/{JOB_FD} 2>/dev/null; "
    'builtin eval "$__agentd_code"; '
    "{ __agentd_rc=$?; [[ $__agentd_saved ]] || __agentd_save; builtin exit $__agentd_rc; } 2>/dev/null"
)
# Options that would stop every later block from running are not carried over, nor are those that only
# describe how the shell was started.
_NOT_CARRIED = frozenset(("noexec", "onecmd", "interactive-comments", "privileged", "history", "histexpand"))
_DEFAULT_ON = ("braceexpand", "hashall")
_READ_ONLY_SHOPTS = frozenset(("login_shell", "restricted_shell"))


# One line of `export -p` or `declare -xF`, which may go over several: flags, name and quoted value.
_DECLARED = r"""declare -(\w+) (\w+)(?:=("(?:[^"\\]|\\.)*"|\$'(?:[^'\\]|\\.)*'|\(.*?\)))?\n"""


class ShellState:
    """What one bash block leaves to the next, apart from the base environment.

    So it fits another session, which has a base of its own, and holds none of the values that the user passed.
    `source` are exports and functions as bash source, `unset` the names of the base that are exported no more.
    """

    def __init__(self, source: str, options: str, shopts: str, unset: list[str]) -> None:
        self.source = source
        self.options = options.split(":")
        self.shopts = [name for name in shopts.split(":") if name and name not in _READ_ONLY_SHOPTS]
        self.unset = unset

    @classmethod
    def saved(cls, source: str, options: str, shopts: str, base: dict[str, str]) -> ShellState:
        """Return the state of what bash has saved."""
        import re

        line = re.compile(_DECLARED, re.DOTALL)
        kept, position, seen = [], 0, set()
        while found := line.match(source, position):
            position = found.end()
            flags, name, value = found.groups()
            seen.add(name)
            ours = flags == "x" and name in base and value == _as_bash_prints(base[name])
            if "f" in flags or not (ours or name.startswith("AGENTD_TOOLS_")):
                kept.append(found[0])
        unset = sorted(filter(_is_bash_name, base.keys() - seen))
        return cls("".join(kept) + source[position:], options, shopts, unset)

    def plain(self) -> dict[str, Any]:
        """Return the state as plain data: what the initializer takes."""
        return {
            "source": self.source,
            "options": ":".join(self.options),
            "shopts": ":".join(self.shopts),
            "unset": self.unset,
        }

    def switches(self) -> str:
        """The `set` options. They stand in front of the code itself: they would change our own commands."""
        on = [f"builtin set -o {name}; " for name in self.options if name and name not in _NOT_CARRIED]
        off = [f"builtin set +o {name}; " for name in _DEFAULT_ON if name not in self.options]
        return "".join(on + off)

    def restore(self) -> str:
        # First the `shopt` options: with extglob, functions parse differently.
        first = f"shopt -s {' '.join(self.shopts)}\n" if self.shopts else ""
        gone = f"unset -v {' '.join(self.unset)}\n" if self.unset else ""
        return first + gone + self.source


def _bash_job(cwd: str, state: ShellState | None, ours: dict[str, str], env: dict[str, str]) -> bytes:
    """Return what bash sources before the code.

    `ours` is exported for every action; `env` for this one only, so what was there before is noted.
    """
    switches = state.switches() if state is not None else ""
    return os.fsencode(
        "".join(
            (
                # First of all the directory: what the state says of OLDPWD comes after it.
                f"cd -- {_shell_quote(cwd)}\n",
                state.restore() if state is not None else "",
                "\n",
                *map(_undo, env),
                _exports({**ours, **env}),
                f"PWD={_shell_quote(cwd)}\n",
                f"IFS= builtin read -r -d '' -u {CODE_FD} __agentd_code\n",
                f'__agentd_code="builtin unset __agentd_code; {switches}$__agentd_code"\n',
                f"builtin exec {CODE_FD}<&- {JOB_FD}<&- {GATE_FD}<&-\nbuiltin unset REPLY\n",
            )
        )
    )


def _undo(name: str) -> str:
    """Return a line that adds to `__agentd_undo` how a variable gets its old value back; bash 3.2 can read it."""
    return (
        f"if [[ ${{{name}+x}} ]]; then builtin printf -v __agentd_old 'builtin export {name}=%q;' \"${name}\"; "
        f"else __agentd_old='builtin unset {name};'; fi; __agentd_undo+=$__agentd_old; "
        "builtin unset __agentd_old\n"
    )


def _exports(env: dict[str, str]) -> str:
    return "".join(f"builtin export {k}={_shell_quote(v)}\n" for k, v in env.items() if _is_bash_name(k))


def _is_bash_name(name: str) -> bool:
    """Other names are no variables in bash, and would be read as code."""
    return name.isascii() and name.isidentifier()


def _as_bash_prints(value: str) -> str:
    """Return how `export -p` shows a value, unless it holds control characters."""
    for special in '\\"$`':
        value = value.replace(special, f"\\{special}")
    return f'"{value}"'


def _shell_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _spawn_bash(runner: Runner, received: list[int]) -> int:
    """Start a bash that waits at its gate: not a fork's child, which would cost as much as all of its start.

    Raises `OSError`.
    """
    broker, code, job, save, meta, base, gate, out, err = received
    moves = {1: out, 2: err, BROKER_FD: broker, CODE_FD: code, JOB_FD: job}
    moves.update({SAVE_FD: save, META_FD: meta, GATE_FD: gate, BASE_FD: base})
    bounds = "".join(
        f"ulimit -{_ULIMIT[name][0]} {n // _ULIMIT[name][1]}; " for name, n in _bounds(runner.limits)
    )
    script = f"{{ {bounds}}} 2>/dev/null; {_BASH_SCRIPT}" if bounds else _BASH_SCRIPT
    os.chdir(runner.workspace)
    return os.posix_spawn(
        runner.bash,
        ["bash", "--norc", "--noprofile", "-c", script, "bash"],
        # Nothing but PATH: all other variables come out of BASE, which argv would show to everybody.
        {"PATH": runner.env.get("PATH", "")},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            *((os.POSIX_SPAWN_DUP2, source, target) for target, source in moves.items()),
        ],
        setsid=True,
        setsigdef=[getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGXFSZ")],
    )


# --- what all workers do ------------------------------------------------------------------------


def _settle(moves: dict[int, int]) -> None:
    """Lead a session of one's own, with the descriptors `moves` (number: from where) and no others."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(moves.get(descriptor, null), descriptor)
    start = 3
    kept = sorted(target for target in moves if target > 2)
    for target in kept:
        os.dup2(moves[target], target, inheritable=True)
    for target in kept:
        os.closerange(start, target)
        start = target + 1
    os.closerange(start, MAX_DESCRIPTOR)


# What limits have on any system, and bash's `ulimit` for each: its letter, and its unit in bytes.
_ULIMIT = {
    "RLIMIT_CPU": ("t", 1),
    "RLIMIT_DATA": ("d", 1024),
    "RLIMIT_FSIZE": ("f", 1024),
    "RLIMIT_NOFILE": ("n", 1),
    "RLIMIT_NPROC": ("u", 1),
    "RLIMIT_CORE": ("c", 1024),
}


def _bounds(limits: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield setrlimit's limits, at most what we have ourselves."""
    for name, value in limits.items():
        if name in _ULIMIT:
            _, hard = resource.getrlimit(getattr(resource, name))
            yield name, value if hard == resource.RLIM_INFINITY else min(value, hard)


def _limit(limits: dict[str, int]) -> None:
    for name, bound in _bounds(limits):
        try:
            resource.setrlimit(getattr(resource, name), (bound, bound))
        except (OSError, ValueError):
            pass


# --- the worker: Python -------------------------------------------------------------------------


def _show_exception(
    kind: type[BaseException], value: BaseException, trace: types.TracebackType | None
) -> None:
    """Print a traceback as CPython does, with the block's source lines and without our own frames."""
    import traceback

    ours = _show_exception.__code__.co_filename
    while trace is not None and trace.tb_frame.f_code.co_filename == ours:
        trace = trace.tb_next
    traceback.print_exception(kind, value, trace)


def _show_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else "?"
    print(f"Exception in thread {name}:", file=sys.stderr)
    _show_exception(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def _exit_code_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _execute(source: str, name: str, namespace: dict[str, Any]) -> int:
    """Run `source` as `__main__`; return its exit code."""
    import linecache

    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        exec(compile(source, name, "exec", dont_inherit=True), namespace)
        return 0
    except SystemExit as error:
        return _exit_code_of(error)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 130 if isinstance(error, KeyboardInterrupt) else 1


def _flush() -> int:
    """Flush the standard streams; 120, as CPython has it, if that fails (a full disk behind it, say)."""
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            code = 120
    return code


def _finish_python(code: int) -> int:
    """What the interpreter does at its end: join threads, run exit functions, flush."""
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    return _flush() or code


class Python:
    """The process that becomes a Python action. Forked ahead of time, it waits for a job on its broker."""

    def __init__(self, runner: Runner, broker: int) -> None:
        _settle({BROKER_FD: broker})
        self.prctl = runner.prctl
        # As CPython starts: SIGINT raises, a broken pipe and a full file are errors of the call.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.broker = socket.socket(fileno=BROKER_FD)
        _limit(runner.limits)
        os.environ.clear()
        os.environ.update(runner.env)
        sys.path[:0] = ["", *runner.pythonpath]
        self.kept = False
        rehearse()
        self.namespace = _main_module()
        gc.freeze()  # or the code's first collection would look at, and so copy, all that was inherited

    def run(self) -> None:
        while True:
            data, ancillary, *_ = self.broker.recvmsg(64, socket.CMSG_SPACE(3 * 4))
            if not data:
                os._exit(0)
            descriptors = array.array("i")
            for _level, _kind, packed in ancillary:
                descriptors.frombytes(packed)
            self.job(*descriptors)

    def job(self, code_fd: int, out: int, err: int) -> None:
        if self.prctl is not None:
            self.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        (length,) = U32.unpack(os.read(code_fd, 4))
        header = json.loads(os.read(code_fd, length))
        size = os.fstat(code_fd).st_size
        source = b"".join(iter(lambda: os.read(code_fd, size), b"")).decode("utf-8", "surrogatepass")
        os.dup2(out, 1)
        os.dup2(err, 2)
        for descriptor in (code_fd, out, err):
            os.close(descriptor)
        os.chdir(header["cwd"])
        before = {name: os.environ.get(name) for name in header["own_env"]}
        os.environ.update(header["env"])
        if header["pythonpath"]:
            sys.path[1:1] = header["pythonpath"]
        if not self.kept:
            gc.enable()
        if header["state"] == "kept":
            self.kept = True
            self.run_kept(source, header)
            for name, value in before.items():  # they were for that block only
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        else:
            code = _execute(source, header["name"], self.namespace)
            os._exit(_finish_python(code))

    def run_kept(self, source: str, header: dict[str, Any]) -> None:
        """Run one block in the lasting namespace; the worker then waits for the next."""
        started = resource.getrusage(resource.RUSAGE_SELF)
        code = _execute(source, header["name"], self.namespace)
        code = _flush() or code
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime - started.ru_utime - started.ru_stime
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):  # the end of the block's output, unless a child of it still writes
            os.dup2(null, descriptor)
        os.close(null)
        unit = 1024 if LINUX else 1
        self.broker.send(b"D" + json.dumps([code << 8, cpu_s, used.ru_maxrss * unit, 0, 0]).encode())


def _main_module() -> dict[str, Any]:
    """Make a clean `__main__` and the interpreter's state that a script expects."""
    import threading

    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.excepthook = _show_exception
    threading.excepthook = _show_thread_exception
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return module.__dict__


def import_for_python() -> None:
    """Import what only Python workers need: the interpreter's site packages, the traceback's parts.

    In the nursery, before its first Python worker: the runner is started without them (`-S`), for it wants to
    start fast and stay small, and a session that runs bash alone does.
    """
    import linecache  # noqa: F401
    import site
    import threading  # noqa: F401
    import traceback  # noqa: F401

    site.main()
    rehearse()


def rehearse() -> None:
    """Do once what every block does: the parser's tables are built, the pages are touched."""
    import linecache

    name = "<rehearsal>"
    _execute("import os\nprint('', end='')\n", name, {})
    json.loads(json.dumps({"env": {"A": "1"}, "cwd": "."}))
    del linecache.cache[name]


# --- the runner's parts -------------------------------------------------------------------------


class Nursery:
    """The process that forks crews, and the runner's socket to it.

    Messages: `F`, the crew's number and its kind, with the supervisor's end of the control socket, forks a
    supervisor; `K` and a number kills that crew and every process that fell to the nursery, and is answered
    with `K`; `R` retires the nursery: it ends when its last crew does. A closed socket does the same.
    """

    def __init__(self, runner: Runner) -> None:
        self.socket, theirs = _message_pair()
        self.count = 0
        runner.flush()  # or the child would hold a copy of what is still to be sent
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _nursery_main(runner, theirs)
            except BaseException as error:
                sys.__excepthook__(type(error), error, error.__traceback__)
            finally:
                os._exit(70)
        theirs.close()

    def crew(self, kind: str, base: bytes) -> Crew:
        """Fork a supervisor and let it start a worker: `bash`, which exports `base`, or `python`.

        Raises `OSError` if the nursery is gone.
        """
        control, theirs = socket.socketpair()
        self.count += 1
        try:
            # The order is there already when the supervisor comes to be: if it does not, its end is what we see.
            crew = Crew(self, self.count, kind, control, base)
            try:
                _send_with(self.socket, b"F%d %s" % (self.count, kind.encode()), [theirs.fileno()])
            except OSError:
                crew.close()
                raise
        finally:
            theirs.close()
        return crew

    def retire(self) -> None:
        try:
            self.socket.send(b"R")
        except OSError:
            pass


class Desk:
    """What the runner shares with a bash that waits: files without a name, its output, and its gate."""

    def __init__(self, base: bytes) -> None:
        self.code, self.job, self.save, self.meta, self.base = (_anonymous_file() for _ in range(5))
        self.out, out = os.pipe()
        self.err, err = os.pipe()
        gate, self.gate = os.pipe()
        self.ends = (gate, out, err)
        self.write(self.base, base)

    def theirs(self) -> list[int]:
        """The descriptors in the order that `_spawn_bash` takes."""
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
        its end."""
        fields = os.pread(self.meta, 1 << 20, 0).split(b"\0")
        if len(fields) != 4:
            return None
        source = os.pread(self.save, os.fstat(self.save).st_size, 0)
        options, shopts, cwd = (os.fsdecode(field) for field in fields[:3])
        return os.fsdecode(source), options, shopts, cwd

    def close(self, outputs: bool = True) -> None:
        """Close our ends; not the outputs, if they were handed on."""
        for descriptor in (self.code, self.job, self.save, self.meta, self.gate):
            os.close(descriptor)
        if outputs:
            os.close(self.out)
            os.close(self.err)


class Crew:
    """A supervisor and its worker, as the runner sees them."""

    def __init__(self, nursery: Nursery, number: int, kind: str, control: socket.socket, base: bytes) -> None:
        self.nursery = nursery
        self.kind = kind
        self.number = number
        self.control = control
        self.action = 0  # the action that it works on; a kept interpreter works on one after the other
        self.man(base)

    def man(self, base: bytes) -> None:
        """Have the supervisor start a worker; a bash exports `base`. Raises `OSError`."""
        self.action = 0
        self.broker, theirs = _message_pair()
        self.desk = desk = Desk(base) if self.kind == "bash" else None
        rights = [theirs.fileno(), *(desk.theirs() if desk is not None else ())]
        try:
            _send_with(self.control, COMMAND.pack(b"W", 0), rights)
        except OSError:
            self.close()
            raise
        finally:
            theirs.close()
            if desk is not None:
                desk.close_ends()

    def rest(self) -> None:
        """Let go of a worker that has ended; the supervisor waits for the next one."""
        self.broker.close()
        if self.desk is not None:
            self.desk.close(outputs=not self.action)
            self.desk = None

    def command(self, letter: bytes, grace_s: float = 0.0) -> None:
        try:
            self.control.send(COMMAND.pack(letter, grace_s))
        except OSError:  # it has ended
            pass

    def alive(self) -> bool:
        """False if its worker or its supervisor has ended (something killed it while it waited)."""
        try:
            self.control.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK)
            return False  # its report, or the end of the socket
        except BlockingIOError:
            return True
        except OSError:
            return False

    def kill(self) -> bool:
        """End what the supervisor can no longer end: it was stopped or killed. False without a nursery."""
        try:
            self.nursery.socket.settimeout(KILL_MARGIN_S)
            self.nursery.socket.send(b"K%d" % self.number)
            return bool(self.nursery.socket.recv(16))
        except OSError:
            return False

    def close(self) -> None:
        """Let go: the supervisor sees its socket close and ends everything below it."""
        self.control.close()
        self.rest()


def _may_enter(folder: str) -> bool:
    return os.access(folder, os.X_OK) and os.path.isdir(folder)


def _send_with(sock: socket.socket, message: bytes, descriptors: list[int]) -> None:
    sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))])


def _nursery_main(runner: Runner, sock: socket.socket) -> None:
    """Fork crews on request until retired."""
    os.dup2(sock.fileno(), 3)
    os.closerange(4, MAX_DESCRIPTOR)  # a copy of the runner's pipe would hide its death from the host
    sock.detach()
    sock = socket.socket(fileno=3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a group-wide TERM must not end the one who cleans up
    if runner.prctl is not None:
        runner.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    crews: dict[int, int] = {}
    retired = has_python = False
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while True:
        _reap_crews(crews)
        if retired and not crews:
            # What has lost its supervisor fell to us, and there may be no runner left to ask for its end.
            _kill_below(_children_of(os.getpid()))
            os._exit(0)
        if not poll.poll(20 if retired else None):
            continue
        data, ancillary, *_ = sock.recvmsg(64, socket.CMSG_SPACE(4))
        if data[:1] == b"F":
            number, kind = data[1:].split()
            (control,) = array.array("i", ancillary[0][2])
            if kind == b"python" and not has_python:
                import_for_python()
                has_python = True
            pid = _try_fork()
            if pid == 0:
                _crew_main(runner, control)
            elif pid > 0:  # else the runner sees the crew's socket close
                crews[int(number)] = pid
            os.close(control)
        elif data[:1] == b"K":
            _kill_crew(crews, int(data[1:]))
            sock.send(b"K")
        else:
            retired = True
            if not data:
                poll.unregister(sock)


def _try_fork() -> int:
    try:
        return os.fork()
    except BlockingIOError:  # a limit on processes, ours or the place's
        return -1


def _reap_crews(crews: dict[int, int]) -> None:
    try:
        while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
            for number in [number for number, crew in crews.items() if crew == pid]:
                del crews[number]
    except ChildProcessError:
        crews.clear()


def _kill_crew(crews: dict[int, int], number: int) -> None:
    """Kill one crew, and whatever lost its own supervisor and fell to us."""
    for _ in range(100):
        _reap_crews(crews)
        known = [pid for other, pid in crews.items() if other != number]
        doomed = [pid for pid in _children_of(os.getpid()) if pid not in known]
        if not doomed:
            return
        _kill_below(doomed)
        time.sleep(0.002)


def _crew_main(runner: Runner, control: int) -> None:
    """The supervisor's process from its fork on. On `W` it starts a worker: bash if a desk comes along, else
    Python."""
    os.dup2(control, 3, inheritable=False)  # keep only the control socket
    os.closerange(4, MAX_DESCRIPTOR)
    if runner.prctl is not None:
        runner.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
        worker = _start_worker(runner, received)
        for descriptor in received:
            os.close(descriptor)
        Supervisor(sock, worker, runner.limits.get("processes", sys.maxsize)).run()


def _start_worker(runner: Runner, received: list[int]) -> int:
    """Start the bash or fork the Python that waits for an action; return its pid."""
    error: OSError | None = None
    if len(received) > 1:
        try:
            return _spawn_bash(runner, received)
        except BlockingIOError:  # a limit on processes, ours or the place's: the runner sees our socket close
            os._exit(70)
        except OSError as failure:
            error = failure
    supervisor = os.getpid()
    worker = _try_fork()
    if worker < 0:
        os._exit(70)
    if worker:
        return worker
    try:
        if error is not None:
            what = "enter" if error.filename == runner.workspace else "start"
            os.write(received[-1], os.fsencode(f"cannot {what} {error.filename}: {error.strerror}\n"))
            os._exit(126 if error.errno == errno.EACCES else 127)
        if runner.prctl is not None:
            runner.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:  # it died before the line above
            os._exit(70)
        Python(runner, received[0]).run()
    except BaseException as broken:
        sys.__excepthook__(type(broken), broken, broken.__traceback__)
    finally:
        os._exit(70)


class Output:
    """One stream of an action: forwarded as it comes up to half the limit, then only its tail is kept."""

    def __init__(self, runner: Runner, ident: int, kind: int, descriptor: int, limit: int) -> None:
        self.runner = runner
        self.ident = ident
        self.kind = kind
        self.descriptor = descriptor
        self.head_left = limit - limit // 2
        self.tail_limit = limit // 2
        self.tail: deque[bytes] = deque()
        self.tail_size = 0
        self.dropped = 0
        os.set_blocking(descriptor, False)
        runner.watch(descriptor, self.ready)

    def ready(self, _event: int) -> None:
        self.read()

    def read(self) -> bool:
        """Take what is there; False at the end of the stream or when nothing is there."""
        if self.descriptor < 0:
            return False
        try:
            data = os.read(self.descriptor, READ_SIZE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.close()
            return False
        self.take(data)
        return True

    def take(self, data: bytes) -> None:
        if self.head_left:
            head = data[: self.head_left]
            self.head_left -= len(head)
            self.runner.send(self.kind, self.ident, head)
            data = data[len(head) :]
        if not data:
            return
        self.tail.append(data)
        self.tail_size += len(data)
        while self.tail and self.tail_size - len(self.tail[0]) >= self.tail_limit:
            gone = self.tail.popleft()
            self.tail_size -= len(gone)
            self.dropped += len(gone)

    def finish(self) -> None:
        """Read what is still in the pipe, then send the kept tail."""
        while self.read():
            pass
        self.close()
        tail = b"".join(self.tail)
        extra = max(0, len(tail) - self.tail_limit)
        self.dropped += extra
        if self.dropped:
            stream = 1 if self.kind == STDOUT else 2
            self.runner.send(DROPPED, self.ident, struct.pack("!BQ", stream, self.dropped))
        for start in range(extra, len(tail), READ_SIZE):
            self.runner.send(self.kind, self.ident, tail[start : start + READ_SIZE])

    def close(self) -> None:
        if self.descriptor >= 0:
            self.runner.unwatch(self.descriptor)
            os.close(self.descriptor)
            self.descriptor = -1


class ToolSocket:
    """A connection over which code calls tools. What it sends is the code's: nothing of it may raise."""

    def __init__(self, runner: Runner, connection: socket.socket) -> None:
        self.runner = runner
        self.connection = connection
        self.crew: Crew | None = None
        self.received = bytearray()
        self.unsent: bytes | memoryview = b""
        self.wanted = select.POLLIN
        connection.setblocking(False)
        runner.watch(connection.fileno(), self.ready)
        runner.channels.add(self)

    def ready(self, event: int) -> None:
        try:
            if event & select.POLLOUT:
                self.write()
            if event & ~select.POLLOUT and self.connection.fileno() >= 0:
                self.read()
        except (ValueError, LookupError, struct.error):  # no request of this protocol
            self.close()

    def read(self) -> None:
        try:
            data = self.connection.recv(MESSAGE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.take(data)
        else:
            self.close()

    def take(self, data: bytes) -> None:
        """Act on what has arrived."""

    def reply(self, payload: bytes) -> None:
        """Send the answer to a call: u8 status and JSON."""

    def sent(self) -> None:
        """Called when all that was to be sent has been."""

    def send(self, data: bytes) -> None:
        if self.unsent:
            self.unsent = bytes(self.unsent) + data
        else:
            self.unsent = data
            self.write()

    def write(self) -> None:
        try:
            count = self.connection.send(self.unsent)
        except BlockingIOError:
            count = 0
        except OSError:
            self.close()
            return
        if count == len(self.unsent):  # nearly always
            self.unsent = b""
            self.want(select.POLLIN)
            self.sent()
        else:
            self.unsent = memoryview(self.unsent)[count:]
            self.want(select.POLLIN | select.POLLOUT)

    def want(self, events: int) -> None:
        if events != self.wanted:  # only then: poll() builds its table anew after every change
            self.wanted = events
            self.runner.poll.register(self.connection, events)

    def close(self) -> None:
        if self.connection.fileno() >= 0:
            self.runner.unwatch(self.connection.fileno())
            self.connection.close()
        self.runner.channels.discard(self)


class Channel(ToolSocket):
    """A private connection of one thread of the code: one tool call after the other."""

    def __init__(self, runner: Runner, crew: Crew, connection: socket.socket) -> None:
        super().__init__(runner, connection)
        self.crew: Crew = crew

    def take(self, data: bytes) -> None:
        if not self.received and len(data) >= 4 and len(data) == 4 + U32.unpack_from(data)[0]:
            self.request(data[4:])  # nearly always: one request, whole
            return
        self.received += data
        if len(self.received) < 4:
            return
        (length,) = U32.unpack_from(self.received)
        if length > MAX_CALL:
            self.close()
        elif len(self.received) >= 4 + length:
            body = bytes(self.received[4 : 4 + length])
            del self.received[: 4 + length]
            self.request(body)

    def request(self, body: bytes) -> None:
        if len(body) < 2:
            self.close()
        else:
            self.runner.call(self, self.crew.action, body)

    def reply(self, payload: bytes) -> None:
        self.send(U32.pack(len(payload)) + payload)


class HttpCall(ToolSocket):
    """One HTTP/1.1 request to the tools endpoint; the connection is closed after its answer (RFC 9112)."""

    MAX_HEAD = 16 * 1024

    def __init__(self, runner: Runner, connection: socket.socket) -> None:
        super().__init__(runner, connection)
        self.waiting = False
        self.refused = False
        self.passed_over = 0
        self.action = 0

    def take(self, data: bytes) -> None:
        if self.waiting:  # it sends more than it was asked for, or the body of what was refused by its head
            self.passed_over += len(data)
            if not self.refused or self.passed_over > 2 * MAX_CALL:
                self.close()
            return
        self.received += data
        head, separator, _ = bytes(self.received[: self.MAX_HEAD]).partition(b"\r\n\r\n")
        if separator:
            self.request(head, len(head) + 4)
        elif len(self.received) > self.MAX_HEAD:
            self.fail(431, "ToolError", "the request's head is too long")

    def request(self, head: bytes, body_at: int) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3:
            self.fail(400, "ToolError", "no HTTP request")
            return
        method, target, _ = words
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if not _same(headers.get("authorization", ""), f"Bearer {self.runner.token}"):
            self.fail(401, "ToolError", "send the header 'Authorization: Bearer $AGENTD_TOOLS_TOKEN'")
            return
        if "transfer-encoding" in headers or not headers.get("content-length", "0").isdecimal():
            self.fail(411, "ToolError", "send the body with a Content-Length")
            return
        length = int(headers.get("content-length", "0"))
        if length > MAX_CALL:
            self.fail(413, "ToolError", f"{length} bytes of arguments; at most {MAX_CALL} are allowed")
            return
        if len(self.received) - body_at < length:
            if headers.get("expect", "").lower() == "100-continue" and len(self.received) == body_at:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self.waiting = True
        self.route(method, target.partition("?")[0], bytes(self.received[body_at : body_at + length]))

    def route(self, method: str, path: str, body: bytes) -> None:
        parts = path.strip("/").split("/")
        if parts[0] == "a" and len(parts) > 2 and parts[1].isdecimal():
            self.action = int(parts[1]) & 0xFFFFFFFF
            parts = parts[2:]
        if method == "GET" and parts == ["health"]:
            self.answer(200, b'{"status":"ok"}')
        elif method == "GET" and parts == ["tools"]:
            self.answer(200, self.runner.catalog.encode())
        elif method == "POST" and parts[0] == "call" and len(parts) == 2:
            name = _unquote(parts[1]).encode()
            self.runner.call(self, self.action, struct.pack("!H", len(name)) + name + (body or b"{}"))
        else:
            self.fail(404, "UnknownToolError", "there are POST call/NAME, GET tools, GET health")

    def reply(self, payload: bytes) -> None:
        if payload[:1] == b"\0":
            self.answer(200, payload[1:])
        else:
            self.answer(422, b'{"error":' + payload[1:] + b"}")

    def fail(self, status: int, kind: str, message: str) -> None:
        self.waiting = self.refused = True
        self.answer(status, json.dumps({"error": {"type": kind, "message": message}}).encode())

    def answer(self, status: int, body: bytes) -> None:
        head = (
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.send(head.encode() + body)

    def sent(self) -> None:
        if (
            self.refused
        ):  # closing now would reset the connection of a client that still sends, unread the answer
            try:
                self.connection.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()
        elif self.waiting:  # not after `100 Continue`
            self.close()


def _same(left: str, right: str) -> bool:
    """Compare in constant time (`hmac` would load OpenSSL)."""
    if len(left) != len(right):
        return False
    difference = 0
    for a, b in zip(left, right, strict=True):
        difference |= ord(a) ^ ord(b)
    return difference == 0


def _unquote(text: str) -> str:
    from urllib.parse import unquote

    return unquote(text)


# --- creating files -----------------------------------------------------------------------------


class PathRefused(Exception):
    """A path that must not be written; the message says why."""


def _open_beneath(root: int, parts: list[str], make: bool) -> int:
    """Return a descriptor of the directory `parts` below `root`, following symlinks that stay inside.

    Every step opens one name relative to a descriptor without following links, and links are resolved by
    hand against the chain of opened directories, so that no rename or symlink made meanwhile leads out.
    """
    chain = [os.dup(root)]
    todo = list(reversed(parts))
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(chain) == 1:
                    raise PathRefused("the path leaves the workspace")
                os.close(chain.pop())
                continue
            try:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                chain.append(os.open(name, flags, dir_fd=chain[-1]))
            except FileNotFoundError:
                if not make:
                    raise
                try:
                    os.mkdir(name, dir_fd=chain[-1])
                except FileExistsError:
                    pass
                todo.append(name)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                try:
                    target = os.readlink(name, dir_fd=chain[-1])
                except OSError:
                    raise PathRefused(f"{name!r} is no directory") from None
                links += 1
                if links > 40:
                    raise PathRefused("too many symbolic links") from None
                if target.startswith("/"):
                    raise PathRefused(f"the symbolic link {name!r} leaves the workspace") from None
                todo += reversed(target.split("/"))
        return os.dup(chain[-1])
    finally:
        for descriptor in chain:
            os.close(descriptor)


def _check_target(name: str, directory: int) -> int | None:
    """Return the mode of the regular file `name`, or None if there is none; refuse all else."""
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(there.st_mode):
        return stat.S_IMODE(there.st_mode)
    if stat.S_ISLNK(there.st_mode):
        raise PathRefused("it is a symbolic link; remove it first, or write to its target")
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    raise PathRefused(f"it is {kinds.get(stat.S_IFMT(there.st_mode), 'a device')}, not a file")


def create_file(workspace: str, cwd: str, path: str, content: bytes) -> str:
    """Write `content` to `path` (relative to `cwd`) atomically, inside `workspace` only.

    Returns the path relative to the workspace. Raises `PathRefused` or `OSError`; what was there before
    is then unchanged.
    """
    if not path or path.endswith("/") or "\0" in path:
        raise PathRefused("it names no file")
    if path.startswith("/"):
        raise PathRefused("it is absolute; give a path relative to the workspace")
    parts = path.split("/")
    if ".." in parts:
        raise PathRefused("it contains '..'")
    base = os.path.relpath(os.path.realpath(cwd), os.path.realpath(workspace))
    if base == ".." or base.startswith("../"):
        raise PathRefused(f"the current directory {cwd} is outside the workspace; cd back into {workspace}")
    below = [part for part in base.split("/") if part != "."]
    root = os.open(workspace, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = _open_beneath(root, below + parts[:-1], make=True)
    finally:
        os.close(root)
    try:
        _replace(directory, parts[-1], content)
    finally:
        os.close(directory)
    return "/".join([*below, *parts])


def _replace(directory: int, name: str, content: bytes) -> None:
    if name in (".", ""):
        raise PathRefused("it names no file")
    mode = _check_target(name, directory)
    temporary = f".{name[:200]}.{os.getpid():x}{time.monotonic_ns():x}"[:255]
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666, dir_fd=directory)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        if mode is None:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if content.startswith(b"#!"):
            mode |= (mode & 0o444) >> 2  # executable by whoever may read it
        os.fchmod(descriptor, mode)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        os.unlink(temporary, dir_fd=directory)
        raise
    finally:
        os.close(descriptor)


# --- what the workspace holds -------------------------------------------------------------------


class Use:
    """Bytes on the disk and inodes."""

    def __init__(self, size: int, inodes: int) -> None:
        self.bytes = size
        self.inodes = inodes

    def minus(self, other: Use) -> Use:
        return Use(self.bytes - other.bytes, self.inodes - other.inodes)


class Walk:
    """Adds up what lies below some folders, a slice at a time: what is on the disk (holes are not), hard links
    once, symlinks not followed, other file systems left out. What changes meanwhile is counted or not.

    `roots` has for each folder a time of its file system, in ns: `young` is what has changed since.
    """

    def __init__(self, roots: dict[str, int]) -> None:
        self.use = Use(0, 0)
        self.young = Use(0, 0)
        self.linked: set[tuple[int, int]] = set()
        self.steps = self.walk(roots)

    def advance(self, seconds: float) -> bool:
        """Go on for a while; True when everything has been counted."""
        until = time.perf_counter() + seconds
        return all(time.perf_counter() < until for _ in self.steps)

    def walk(self, roots: dict[str, int]) -> Iterator[None]:
        for root, since_ns in roots.items():
            top = _open_folder(root, None)
            if top >= 0:
                yield from self.tree(top, since_ns)

    def tree(self, here: int, since_ns: int) -> Iterator[None]:
        """Count depth first, by descriptors: no rename leads elsewhere, and no path is too long."""
        device = os.fstat(here).st_dev
        above: list[tuple[int, int, list[str]]] = []  # descriptor or -1, inode, folders to visit
        try:
            names: list[str] = []
            yield from self.folder(here, device, since_ns, names)
            while True:
                if names:
                    below = _open_folder(names.pop(), here)
                    if below >= 0:
                        above.append((here, os.fstat(here).st_ino, names))
                        if len(above) > HELD_LEVELS:
                            os.close(here)
                            above[-1] = (-1, *above[-1][1:])
                        here, names = below, []
                        yield from self.folder(here, device, since_ns, names)
                elif above:
                    parent, inode, names = above.pop()
                    if parent < 0:
                        parent = _open_folder("..", here)
                        if parent < 0 or os.fstat(parent).st_ino != inode:
                            names = []  # it was moved: what is left there is not counted
                    if parent >= 0:
                        os.close(here)
                        here = parent
                else:
                    return
        finally:
            for descriptor in (here, *(held for held, _, _ in above if held >= 0)):
                os.close(descriptor)

    def folder(self, here: int, device: int, since_ns: int, folders: list[str]) -> Iterator[None]:
        """Count the entries of one folder; note its folders."""
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    try:
                        there = entry.stat(follow_symlinks=False)
                    except OSError:  # it has gone
                        continue
                    if stat.S_ISDIR(there.st_mode):
                        if there.st_dev == device:
                            folders.append(entry.name)
                            self.add(there, since_ns)
                    elif there.st_nlink < 2:
                        self.add(there, since_ns)
                    elif (there.st_dev, there.st_ino) not in self.linked:
                        self.linked.add((there.st_dev, there.st_ino))
                        self.add(there, since_ns)
                    yield
        except OSError:  # it was closed to us, or its disk fails
            pass

    def add(self, there: os.stat_result, since_ns: int) -> None:
        for use in (self.use, self.young) if there.st_ctime_ns >= since_ns else (self.use,):
            use.bytes += there.st_blocks * 512
            use.inodes += 1


def _open_folder(name: str, above: int | None) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return -1


def _time_of(folder: str) -> int:
    """Return the time by the clock of a folder's file system, in ns; 0 if it does not tell.

    It may be another computer's; and the kernel's own for files is some ms behind `time.time`.
    """
    try:
        probe = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except (OSError, AttributeError):  # not on macOS, nor on every file system
        return 0
    try:
        return os.fstat(probe).st_ctime_ns
    finally:
        os.close(probe)


class Meter:
    """Watches what code adds to the workspace and to its folder for temporary files.

    Walking through them is the only way to know, and it may be long: so it is done in slices and within a
    share of the time. How much the file systems have grown as a whole, which they tell at once, says when to
    hurry. A limit is exceeded when two walks say so: a file that is moved meanwhile may be counted twice.
    """

    def __init__(self, roots: list[str], limits: dict[str, int]) -> None:
        most = [limits.get(name, sys.maxsize) for name in ("workspace_bytes", "workspace_inodes")]
        self.most = Use(*most)
        # With the time of the first action by the clock of each.
        self.roots = dict.fromkeys(roots if min(most) < sys.maxsize else (), 0)
        self.walk: Walk | None = None
        self.next_walk = 0.0
        self.changed = False  # an action has run since the last walk began
        self.before: Use | None = None  # the use of the disks before the first action
        self.at_start = Use(0, 0)  # the same when this walk began
        self.then = Use(0, 0)  # and when the last complete one did
        self.base: Use | None = None  # the use of the folders before the first action
        self.grown = Use(0, 0)  # since then
        self.free = self.reserve = sys.maxsize  # of the workspace's disk, bytes
        self.suspected = False
        self.settling = self.settles = False  # something was ended; this walk shows what that has left
        self.tolerated = Use(0, 0)
        self.excess = ""  # which limit is exceeded, in words

    def begin(self) -> None:
        """An action begins."""
        self.changed = True
        if self.before is None:
            self.before = self.then = self.disks()
            self.roots = {root: _time_of(root) for root in self.roots}

    def disks(self) -> Use:
        """Return how much of the disks that the folders are on is used, by whomever."""
        use, seen = Use(0, 0), set[int]()
        for root in self.roots:
            try:
                device, disk = os.stat(root).st_dev, os.statvfs(root)
            except OSError:
                continue
            if not seen and disk.f_blocks:
                self.free = disk.f_bavail * disk.f_frsize
                self.reserve = min(1 << 30, disk.f_blocks * disk.f_frsize // 20)
            if device not in seen:
                seen.add(device)
                use.bytes += (disk.f_blocks - disk.f_bfree) * disk.f_frsize
                use.inodes += disk.f_files - disk.f_ffree
        return use

    def look(self, running: bool, fair: bool) -> tuple[float, bool]:
        """Go one step on. Return in how many seconds to look again, and whether to end what runs.

        `fair` says that nothing is being ended: what grows now is not what an ended action still writes.
        """
        started = time.monotonic()
        if self.walk is None and not (running or self.changed or self.suspected):
            return float("inf"), False
        now = self.disks()
        hurried = self.hurried(now)
        if self.walk is None:
            if started < self.next_walk and not hurried:
                return min(WATCH_S, self.next_walk - started), False
            self.walk, self.at_start = Walk(self.roots), now
            self.changed, self.settles = running, self.settling and fair
        done = self.walk.advance(SLICE_S)
        took_s = time.monotonic() - started
        pause_s = min(took_s / (HURRIED_SHARE if hurried else CALM_SHARE), SLICE_PAUSE_S)
        if not done:
            return pause_s, False
        use, young, self.walk, self.then = self.walk.use, self.walk.young, None, self.at_start
        self.next_walk = started + max(WALK_PAUSE_S, pause_s)
        end = self.judge(use, young)
        return (pause_s if self.suspected else max(WATCH_S, pause_s)), end

    def hurried(self, now: Use) -> bool:
        """True if, by the growth of the disks since the last walk, a limit may be near."""
        room = min(self.most.bytes - self.grown.bytes, max(self.free - self.reserve, 0))
        left = self.most.inodes - self.grown.inodes
        since = now.minus(self.then)
        return (
            self.suspected
            or since.bytes > max(room // 4, SPARE_BYTES)
            or since.inodes > max(left // 4, SPARE_INODES)
        )

    def judge(self, use: Use, young: Use) -> bool:
        """Compare what a walk has found with the limits; True if what runs must be ended."""
        if self.base is None:
            # What has changed is taken for the code's, up to what the disks have grown by.
            since = self.at_start.minus(self.before or self.at_start)
            mine = Use(min(young.bytes, max(since.bytes, 0)), min(young.inodes, max(since.inodes, 0)))
            self.base = use.minus(mine)
        grown = self.grown = use.minus(self.base)
        self.excess = self.explain(grown)
        spare = Use(grown.bytes + SPARE_BYTES, grown.inodes + SPARE_INODES)
        suspected, self.suspected = self.suspected, False
        if not self.excess:
            self.tolerated = Use(0, 0)
            self.settling = False
        elif self.settling:
            if self.settles:
                self.tolerated, self.settling = spare, False
        elif grown.bytes > self.tolerated.bytes or grown.inodes > self.tolerated.inodes:
            self.settling, self.suspected = suspected, not suspected
            return suspected
        else:  # code is tidying up: what it has given back stays given back
            self.tolerated = Use(
                min(spare.bytes, self.tolerated.bytes), min(spare.inodes, self.tolerated.inodes)
            )
        return False

    def explain(self, grown: Use) -> str:
        size = f"the session has added {grown.bytes >> 20} MiB to the workspace and its temporary files"
        if grown.bytes > self.most.bytes:
            return f"{size}; the limit workspace_mib is {self.most.bytes >> 20}"
        if grown.inodes > self.most.inodes:
            return (
                f"the session has added {grown.inodes} files and folders to the workspace; "
                f"the limit workspace_inodes is {self.most.inodes}"
            )
        if self.roots and self.free < self.reserve < grown.bytes:
            return f"{size}, and the disk has only {self.free >> 20} MiB left"
        return ""


# --- the runner ---------------------------------------------------------------------------------


class Running:
    """An action that runs: its crew, its streams and its clock."""

    def __init__(self, ident: int, order: int, kind: str, crew: Crew) -> None:
        self.ident = ident
        self.order = order
        self.kind = kind
        self.crew = crew
        self.outputs: list[Output] = []
        self.started = time.monotonic()
        self.deadline: float | None = None
        self.timeout_s: float | None = None
        self.ending = ""
        self.excess = ""  # the limit for which it is being ended
        self.passed_on = 0  # channels that the host has
        self.lost = False  # a kept interpreter that does not go on after this action
        self.job = -1  # the file that a kept interpreter begins with to read
        self.again: tuple[int, int, dict[str, Any], bytes] | None = None  # for another one, if it was dead
        self.note = ""
        self.report: list[Any] | None = None

    def begun(self) -> bool:
        """True if a kept interpreter has begun to read its job; it shares the place in the file with us."""
        return os.lseek(self.job, 0, os.SEEK_CUR) > 0


class Runner:
    """The loop that joins host, crews and tool calls."""

    def __init__(self, descriptor_in: int, descriptor_out: int) -> None:
        self.descriptor_in = descriptor_in
        self.descriptor_out = descriptor_out
        self.reader = FrameReader(TO_RUNNER)
        self.poll = select.poll()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.outbox: list[bytes] = []
        self.prctl = _load_prctl()
        self.ready = False
        self.done = False
        self.actions: dict[int, Running] = {}
        self.channels: set[ToolSocket] = set()
        self.calls: dict[int, ToolSocket] = {}
        self.last_call = 0
        self.spin_until = 0.0
        self.next_look = 0.0
        self.order = 0
        self.last_start: dict[str, float] = {}  # by kind
        self.wanted: set[str] = set()  # kinds whose spare was taken
        self.refill_due = 0.0
        self.last_end = 0.0
        self.nursery: Nursery | None = None
        self.old_nurseries: list[Nursery] = []
        self.spares: dict[str, Crew] = {}  # by kind
        self.idle: dict[str, Crew] = {}  # by kind: a supervisor without a worker
        self.kept: Crew | None = None
        self.kept_queue: deque[tuple[int, int, dict[str, Any], bytes]] = deque()
        self.kept_busy: Running | None = None
        self.state: ShellState | None = None
        self.saved = ("", "", "")  # what the state was made of
        self.state_order = 0
        self.catalog = "[]"
        self.pythonpath: list[str] = []
        self.listener: socket.socket | None = None
        self.line: socket.socket | None = None
        self.url = ""
        # From the host's HELLO:
        self.workspace = self.cwd = self.socket_path = self.token = self.bash = ""
        self.env: dict[str, str] = {}
        self.limits: dict[str, int] = {}
        self.folders: list[str] = []
        self.output_bytes = 0
        self.grace_s = 0.0
        self.meter = Meter([], {})
        self.meter_due = float("inf")
        self.tasks_due = 0.0
        self.notice = ""  # for the next result
        self.watch(descriptor_in, self.on_host)

    # ..... the loop

    def watch(self, descriptor: int, handler: Callable[[int], None]) -> None:
        self.handlers[descriptor] = handler
        self.poll.register(descriptor, select.POLLIN)

    def unwatch(self, descriptor: int) -> None:
        if self.handlers.pop(descriptor, None) is not None:
            self.poll.unregister(descriptor)

    def send(self, kind: int, ident: int, payload: bytes) -> None:
        self.outbox.append(HEADER.pack(len(payload), kind, ident))
        self.outbox.append(payload)

    def send_json(self, kind: int, ident: int, value: object) -> None:
        self.send(kind, ident, json.dumps(value).encode())

    def flush(self) -> None:
        if not self.outbox:
            return
        data = memoryview(b"".join(self.outbox))
        self.outbox.clear()
        while data:
            try:
                data = data[os.write(self.descriptor_out, data) :]
            except BlockingIOError:  # who else holds the pipe (a sandbox's launcher) has changed its mode
                room = select.poll()
                room.register(self.descriptor_out, select.POLLOUT)
                room.poll()

    def run(self) -> None:
        try:
            while not self.done:
                for descriptor, event in self.wait():
                    handler = self.handlers.get(descriptor)
                    if handler is not None:
                        handler(event)
                now = time.monotonic()
                if now >= self.next_look:
                    self.next_look = now + LOOK_S
                    self.check_clocks(now)
                self.flush()
                if self.wanted and now >= self.refill_due:
                    self.refill()
        except FrameError as error:
            self.send_json(FATAL, 0, {"message": str(error)})
            self.flush()
        except BrokenPipeError:  # the host has gone
            pass
        finally:
            self.close()

    def wait(self) -> list[tuple[int, int]]:
        """Wait for events. Just after an answer, the next call is likely to come within microseconds: look
        for it a moment before going to sleep, for being woken takes longer than all else on an idle machine."""
        while self.spin_until:
            events = self.poll.poll(0)
            if events:
                return events
            if time.perf_counter() > self.spin_until:
                self.spin_until = 0.0
            else:
                os.sched_yield()
        return self.poll.poll(self.timeout_ms())

    def timeout_ms(self) -> int | None:
        deadlines = [a.deadline for a in self.actions.values() if a.deadline is not None]
        if self.meter_due < float("inf"):
            deadlines.append(self.meter_due)
        if self.wanted:
            deadlines.append(self.refill_due)
        if self.spares or self.idle:
            deadlines.append(max(self.last_start.values()) + SPARE_IDLE_S)
        if self.old_nurseries:  # look whether they have ended
            deadlines.append(time.monotonic() + 0.1)
        if not deadlines:
            return None
        return max(0, int((min(deadlines) - time.monotonic()) * 1000) + 1)

    def refill(self) -> None:
        """Make the spares that were taken, now that what took them has been sent on its way."""
        for kind in self.wanted:
            if kind not in self.spares:
                try:
                    self.spares[kind] = self.new_crew(kind)
                except OSError:  # no more processes, until what uses them up has ended
                    self.refill_due = time.monotonic() + REFILL_S
                    return
        self.wanted.clear()

    def new_crew(self, kind: str) -> Crew:
        base = os.fsencode(_exports(self.env))
        idle = self.idle.pop(kind, None)
        if idle is not None:
            try:
                idle.man(base)
                return idle
            except OSError:  # something has killed it
                pass
        for _ in range(2):
            if self.nursery is None:
                self.nursery = Nursery(self)
            try:
                return self.nursery.crew(kind, base)
            except OSError:  # the nursery was killed
                self.retire_nursery()
        raise BlockingIOError(errno.EAGAIN, "no new process can be made")

    def take_crew(self, kind: str) -> Crew:
        self.last_start[kind] = time.monotonic()
        self.wanted.add(kind)
        # At once where one action follows the other without a pause; else not beside the action, which is
        # better off with the processors to itself, but when it ends or turns out to take long.
        now = self.last_start[kind]
        self.refill_due = now if now - self.last_end < PAUSE_S else now + REFILL_S
        crew = self.spares.pop(kind, None)
        if crew is not None and not crew.alive():
            crew.close()
            crew = None
        return crew or self.new_crew(kind)

    def take_crew_or_refuse(self, kind: str, ident: int) -> Crew | None:
        try:
            return self.take_crew(kind)
        except OSError as error:
            message = f"not run: {error.strerror}; try again when other programs and blocks have ended"
            self.send_json(EXIT, ident, {"status": "failed", "exit_code": 1, "message": message})
            return None

    def kill_crew(self, crew: Crew) -> None:
        """End a crew whose supervisor does not. If the nursery was killed too, all that it watched fell to us."""
        if crew.kill():
            return
        self.retire_nursery()
        nurseries = {nursery.pid for nursery in self.old_nurseries}
        _kill_below([pid for pid in _children_of(os.getpid()) if pid not in nurseries])

    def retire_nursery(self) -> None:
        """Let the nursery end when its last crew does; the next crew comes from a new one."""
        for crew in self.spares.values():
            crew.close()
        for crew in self.idle.values():
            crew.control.close()
        self.spares.clear()
        self.idle.clear()
        if self.nursery is not None:
            self.nursery.retire()
            self.old_nurseries.append(self.nursery)
            self.nursery = None
        self.sweep_nurseries()

    def sweep_nurseries(self) -> None:
        for nursery in self.old_nurseries[:]:
            if self.gone(nursery):
                nursery.socket.close()
                self.old_nurseries.remove(nursery)

    def gone(self, nursery: Nursery) -> bool:
        try:
            return os.waitpid(nursery.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:
            return True

    def close(self) -> None:
        """End every crew and wait for them, so that nothing outlives the runner."""
        for crew in {a.crew for a in self.actions.values()} | {self.kept}:
            if crew is not None:
                crew.close()
        deadline = time.monotonic() + KILL_MARGIN_S
        self.retire_nursery()
        while self.old_nurseries and time.monotonic() < deadline:
            time.sleep(0.002)
            self.sweep_nurseries()
        _kill_below(_children_of(os.getpid()))
        self.tidy()

    def tidy(self) -> None:
        """Remove the socket, and what is empty of our own folders and those that they are in."""
        if self.socket_path:
            try:
                os.unlink(self.socket_path)
            except OSError:
                pass
        for folder in [*self.folders, *{os.path.dirname(folder) for folder in self.folders}]:
            try:
                os.rmdir(folder)
            except OSError:
                pass

    # ..... frames from the host

    def on_host(self, _event: int) -> None:
        try:
            data = os.read(self.descriptor_in, MESSAGE_SIZE)
        except BlockingIOError:
            return
        if not data:
            self.done = True
            return
        for kind, ident, payload in self.reader.feed(data):
            if kind == REPLY:
                connection = self.calls.pop(ident, None)
                if connection is not None:
                    connection.reply(payload)
                    self.spin_until = time.perf_counter() + SPIN_S
            elif kind == HELLO:
                self.hello(json.loads(payload))
            elif not self.ready:
                raise FrameError("the first frame must be HELLO")
            elif kind == RUN:
                (length,) = U32.unpack_from(payload)
                self.start(ident, json.loads(payload[4 : 4 + length]), payload[4 + length :])
            elif kind == CANCEL:
                self.end(ident, "cancelled")
            elif kind == SETUP:
                self.setup(json.loads(payload))
            elif kind == SHELL:
                self.on_shell(ident, json.loads(payload))
            elif kind == END:
                self.done = True

    def hello(self, given: dict[str, Any]) -> None:
        if given["version"] != VERSION:
            raise FrameError(f"the host speaks version {given['version']}, this runner {VERSION}")
        self.workspace = given["workspace"]
        self.cwd = self.workspace
        # What the place itself sets (a sandbox's proxies, its placeholders for secrets) is known in here only.
        inherited = {name: os.environ[name] for name in given.get("inherit", ()) if name in os.environ}
        self.env = {**given["env"], **inherited}
        self.limits = given["limits"]
        for name in self.limits:
            if name.startswith("RLIMIT_") and name not in _ULIMIT:
                raise FrameError(f"unknown limit {name}")
        if "RLIMIT_NPROC" in self.limits:  # it counts all of the user's tasks, those of before too
            self.limits["RLIMIT_NPROC"] += _tasks_here()
        self.output_bytes = given["output_bytes"]
        self.grace_s = given["grace_s"]
        self.token = given["token"]
        self.bash = self.find_bash()
        self.socket_path = given.get("socket") or ""
        self.folders = given.get("folders", ())
        for folder in self.folders:  # made in here, so that a planted symlink cannot lead the host astray
            try:
                os.makedirs(folder, mode=0o700, exist_ok=True)
            except OSError:
                pass  # a full disk: the actions will say so
        self.meter = Meter([self.workspace, *given.get("watched", ())], self.limits)
        if self.prctl is not None:
            self.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            # Code has the same user: without this it could open our pipe to the host, or our memory, through /proc.
            # The nursery and the supervisors inherit it; a worker gives it up (`Python.job`, exec)
            # to be debugged and measured as anywhere.
            self.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        self.env.setdefault("AGENTD_PYTHON", sys.executable)
        if "line" in given:
            self.line = socket.socket(fileno=given["line"])
            self.line.set_inheritable(False)
            self.line.setblocking(False)
        self.serve_http()
        self.ready = True
        self.setup(given)
        self.send_json(
            READY,
            0,
            {
                "version": VERSION,
                "pid": os.getpid(),
                "python": sys.version.split()[0],
                "bash": self.bash,
                "subreaper": self.prctl is not None,
            },
        )

    def find_bash(self) -> str:
        for directory in [*self.env.get("PATH", "").split(":"), "/bin", "/usr/bin"]:
            path = os.path.join(directory or ".", "bash")
            if os.access(path, os.X_OK):
                return path
        return "/bin/bash"

    def setup(self, given: dict[str, Any]) -> None:
        """Take new bindings: import them here, so that every later worker has them from its fork."""
        for key, value in given.get("bindings_env", {}).items():
            self.env[key] = value
        self.catalog = given.get("catalog", self.catalog)
        self.pythonpath = given.get("pythonpath", self.pythonpath)
        old = [name for name in sys.modules if name == "lib" or name.startswith("lib.")]
        for module in old:
            del sys.modules[module]
        before = sys.path[:]
        sys.path[:0] = self.pythonpath  # for the imports below only: the runner trusts no folder of code
        sys.path_importer_cache.clear()
        for module in given.get("preload", ()):
            try:
                __import__(module)
            except Exception:
                pass  # the block that imports it will show why
        sys.path[:] = before
        self.retire_nursery()
        if old:
            gc.collect()
        gc.freeze()

    # ..... actions

    def start(self, ident: int, header: dict[str, Any], body: bytes) -> None:
        self.order += 1
        if ident in self.actions:
            raise FrameError(f"action {ident} runs already")
        self.meter.begin()
        self.meter_due = min(self.meter_due, time.monotonic() + WATCH_S)
        if header["type"] == "create":
            self.create(ident, header, body)
        elif not _may_enter(self.workspace):
            message = (
                f"not run: cannot enter the workspace {self.workspace}: it is gone or closed to the code's user; "
                "put it back, or begin a session in another folder"
            )
            self.send_json(EXIT, ident, {"status": "failed", "exit_code": 1, "message": message})
        elif header["type"] == "bash" and b"\0" in body:  # bash would stop reading there
            message = "not run: the bash block holds a NUL byte; write such data with printf '\\0' or Python"
            self.send_json(EXIT, ident, {"status": "failed", "exit_code": 1, "message": message})
        elif header["type"] == "python" and header["state"] == "kept":
            self.kept_queue.append((ident, self.order, header, body))
            self.start_kept()
        elif (crew := self.take_crew_or_refuse(header["type"], ident)) is not None:
            self.dispatch(crew, ident, self.order, header, body)

    def create(self, ident: int, header: dict[str, Any], body: bytes) -> None:
        started = time.monotonic()
        path = header["path"]
        try:
            cwd = os.path.join(self.cwd, header["cwd"]) if header.get("cwd") else self.cwd
            where = create_file(self.workspace, cwd, path, body)
            code, message = 0, f"created {where} ({len(body)} bytes)"
        except PathRefused as error:
            code, message = 1, f"not created: {path!r}: {error}"
        except OSError as error:
            code, message = 1, f"not created: {path!r}: {error.strerror}; nothing was changed"
        self.send_json(
            EXIT,
            ident,
            {
                "status": "failed" if code else "completed",
                "exit_code": code,
                "message": message,
                "wall_s": time.monotonic() - started,
                "cpu_s": 0.0,
                "peak_memory_bytes": 0,
            },
        )

    def start_kept(self, lost: bool = False) -> None:
        """Give the lasting interpreter its next block, if it is free. `lost`: the one before it has ended."""
        if self.kept_busy is not None or not self.kept_queue:
            return
        ident, order, header, body = self.kept_queue.popleft()
        if self.kept is not None and not self.kept.alive():
            self.kept.close()
            self.kept = None
            lost = True
        worked = self.kept is not None
        if self.kept is None:
            self.kept = self.take_crew_or_refuse("python", ident)
            if self.kept is None:
                self.start_kept()
                return
        action = self.kept_busy = self.dispatch(self.kept, ident, order, header, body)
        if lost:
            action.note = "the kept Python namespace was lost before this block: its interpreter had ended"
        if worked:
            action.again = (ident, order, header, body)

    def dispatch(self, crew: Crew, ident: int, order: int, header: dict[str, Any], body: bytes) -> Running:
        kind = header["type"]
        action = Running(ident, order, kind, crew)
        crew.action = ident
        self.actions[ident] = action
        action.timeout_s = header.get("timeout_s")
        if action.timeout_s is not None:
            action.deadline = action.started + action.timeout_s
        cwd = self.start_directory(ident, header.get("cwd"))
        ours, own = self.tools_env(ident), header.get("env") or {}
        if crew.desk is not None:
            out, err = crew.desk.out, crew.desk.err
            crew.desk.open_gate(_bash_job(cwd, self.state, ours, own), body)
        else:
            out, err = self.hand_over(action, header, cwd, ours, own, body)
        action.outputs = [
            Output(self, ident, STDOUT, out, self.output_bytes),
            Output(self, ident, STDERR, err, self.output_bytes),
        ]
        self.watch(crew.control.fileno(), lambda _event: self.on_control(action))
        self.watch(crew.broker.fileno(), lambda _event: self.on_broker(action))
        return action

    def start_directory(self, ident: int, wanted: str | None) -> str:
        """Return where an action starts. A directory that has gone is said, and the workspace used."""
        where = str(os.path.join(self.workspace, wanted) if wanted else self.cwd)
        if _may_enter(where):
            return where
        reason = f"cannot enter {where}: it is gone or closed to us; starting in {self.workspace}\n"
        self.send(STDERR, ident, os.fsencode(reason))
        return self.workspace

    def hand_over(
        self,
        action: Running,
        header: dict[str, Any],
        cwd: str,
        ours: dict[str, str],
        own: dict[str, str],
        body: bytes,
    ) -> tuple[int, int]:
        """Give a waiting Python its job; return the reading ends of its output.

        Header and code go into a file without a name: neither the environment nor argv has the room.
        """
        job = json.dumps(
            {
                "state": header["state"],
                "name": f"<block {action.ident}>",
                "cwd": cwd,
                "env": {**ours, **own},
                "own_env": list(own),
                "pythonpath": header.get("pythonpath") or [],
            }
        ).encode()
        code = _anonymous_file()
        view = memoryview(U32.pack(len(job)) + job + body)
        while view:
            view = view[os.write(code, view) :]
        os.lseek(code, 0, os.SEEK_SET)
        out, out_write = os.pipe()
        err, err_write = os.pipe()
        rights = array.array("i", [code, out_write, err_write])
        try:
            action.crew.broker.sendmsg([b"J"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except OSError:
            pass  # the crew is dead; its control socket says so
        action.job = code
        os.close(out_write)
        os.close(err_write)
        return out, err

    def tools_env(self, ident: int) -> dict[str, str]:
        env = {
            "AGENTD_TOOLS_FD": str(BROKER_FD),
            "AGENTD_TOOLS_URL": f"{self.url}/a/{ident}",
            "AGENTD_TOOLS_TOKEN": self.token,
        }
        if self.socket_path:
            env["AGENTD_TOOLS_SOCKET"] = self.socket_path
        return env

    def end(self, ident: int, why: str) -> None:
        """Ask an action's supervisor to end it: TERM, grace, KILL."""
        waiting = [entry for entry in self.kept_queue if entry[0] == ident]
        for entry in waiting:
            self.kept_queue.remove(entry)
            self.send_json(
                EXIT, ident, {"status": why, "exit_code": 143, "message": f"{why} before it began"}
            )
        action = self.actions.get(ident)
        if action is None or action.ending:
            return
        action.ending = why
        action.deadline = time.monotonic() + self.grace_s + KILL_MARGIN_S
        action.crew.command(b"T", self.grace_s)

    def check_clocks(self, now: float) -> None:
        if self.old_nurseries:
            self.sweep_nurseries()
        if now >= self.meter_due:
            self.check_use(now)
        if not self.actions and not self.spares and not self.idle:
            return
        if (self.spares or self.idle) and now >= max(self.last_start.values()) + SPARE_IDLE_S:
            self.retire_nursery()  # an idle session gives its memory back
        for action in list(self.actions.values()):
            if action.deadline is None or now < action.deadline:
                continue
            if not action.ending:
                self.end(action.ident, "timeout")
            else:  # its supervisor does not answer: stopped or killed by the code itself
                self.kill_crew(action.crew)
                action.deadline = now + 1.0

    def check_use(self, now: float) -> None:
        """Look at the limits that the kernel does not hold: what the workspace holds, and the tasks of an action."""
        running = [action for action in self.actions.values() if not action.ending]
        busy = bool(running or self.kept)
        pause_s, end = self.meter.look(busy, fair=len(running) == len(self.actions))
        if end:
            self.end_for(self.meter.excess, running)
        if not self.actions and pause_s == WATCH_S:  # at most threads of a kept interpreter
            pause_s = IDLE_WATCH_S
        self.meter_due = now + pause_s
        most = self.limits.get("processes", sys.maxsize)
        if running and now >= self.tasks_due and _tasks_here() >= most:
            self.tasks_due = now + WATCH_S
            for action in running:
                action.crew.command(b"C")

    def end_for(self, excess: str, running: list[Running]) -> None:
        """End all blocks that may be writing; which of them is, nobody knows. Without one, it may be what a kept
        interpreter has left running: if it goes on, that ends."""
        for action in running:
            action.excess = excess
            self.end(action.ident, "limit")
        if not running:
            self.notice = excess
            if self.kept is not None and not self.actions and self.meter.tolerated.bytes:
                self.kept.close()
                self.kept = None
                self.notice += "; the kept Python namespace is lost"

    def on_broker(self, action: Running) -> None:
        data = self.take_message(action)
        if data == b"":
            self.unwatch(action.crew.broker.fileno())
        elif data is not None and data[:1] == b"D" and action is self.kept_busy and not action.ending:
            action.report = json.loads(data[1:])
            self.finish(action)

    def take_message(self, action: Running) -> bytes | None:
        """Take a message of the code, and the channel that came with it; None if there is no message now."""
        try:
            data, ancillary, *_ = action.crew.broker.recvmsg(512, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            data, ancillary = b"", []
        for _level, _kind, packed in ancillary:
            for descriptor in array.array("i", packed[: len(packed) - len(packed) % 4]):
                if data[:1] == b"C" and action.crew is not self.kept and self.pass_on(action, descriptor):
                    _close(descriptor)
                elif data[:1] in (b"C", b"L") and len(self.channels) < MAX_CHANNELS:
                    Channel(self, action.crew, socket.socket(fileno=descriptor))
                else:
                    _close(descriptor)
        return bytes(data)

    def pass_on(self, action: Running, descriptor: int) -> bool:
        """Give a channel to the host, if there is a line to it: then it takes the calls itself."""
        if self.line is None or action.passed_on >= MAX_DIRECT_CHANNELS:
            return False
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        try:
            self.line.sendmsg([U32.pack(action.ident)], rights)
        except OSError:  # full, or the host is going
            return False
        action.passed_on += 1
        return True

    def on_control(self, action: Running) -> None:
        try:
            data = action.crew.control.recv(512)
        except OSError:
            data = b""
        if data:
            action.report = json.loads(data)
        else:
            self.kill_crew(action.crew)
        if action.again is not None and not action.begun() and not action.ending:
            self.put_back(action)
            return
        action.lost = action.crew is self.kept
        self.finish(action)
        if action.lost:
            self.kept = None
        self.dismiss(action.crew, reported=bool(data))
        if self.kept is None:
            self.start_kept()

    def put_back(self, action: Running) -> None:
        """The kept interpreter had ended before this action, only not been reaped: another one gets it."""
        assert action.again is not None
        self.forget(action)
        for output in action.outputs:
            output.close()
        action.crew.close()
        self.kept = self.kept_busy = None
        self.kept_queue.appendleft(action.again)
        self.start_kept(lost=True)

    def forget(self, action: Running) -> None:
        self.unwatch(action.crew.control.fileno())
        self.unwatch(action.crew.broker.fileno())
        del self.actions[action.ident]
        if action.job >= 0:
            os.close(action.job)

    def dismiss(self, crew: Crew, reported: bool) -> None:
        """Keep a crew's supervisor for the next worker if it has done its part and there is none yet."""
        if reported and crew.nursery is self.nursery and crew.kind not in self.idle:
            crew.rest()
            self.idle[crew.kind] = crew
        else:
            crew.close()

    def finish(self, action: Running) -> None:
        """An action is over: send the rest of its output, keep its state, say how it ended."""
        self.forget(action)
        wall_s = time.monotonic() - action.started
        for output in action.outputs:
            output.finish()
        if action.crew is not self.kept or action.ending:
            for _ in range(MAX_CHANNELS):  # what was sent before the end is still carried out
                if not self.take_message(action):
                    break
            for channel in [c for c in self.channels if c.crew is action.crew]:
                channel.ready(select.POLLIN)
                channel.close()
        self.keep_state(action)
        self.send_json(EXIT, action.ident, self.result(action, wall_s))
        self.last_end = self.refill_due = time.monotonic()
        if action is self.kept_busy:
            self.kept_busy = None
            self.start_kept()

    def result(self, action: Running, wall_s: float) -> dict[str, Any]:
        status, cpu_s, memory, killed, crowd = action.report or [signal.SIGKILL, 0.0, 0, 0, 0]
        code = os.waitstatus_to_exitcode(status)
        by_signal = code < 0
        code = 128 - code if by_signal else code
        messages = []
        if action.ending == "timeout":
            messages.append(f"timed out after {action.timeout_s:g} s and was ended with all its processes")
            code = 124  # as timeout(1) has it
        elif action.ending == "cancelled":
            messages.append("cancelled and ended with all its processes")
        elif action.ending:
            messages.append(f"ended with all its processes: {action.excess}. {TIDY_UP}")
            code = 137  # as what is ended for want of memory
        elif crowd:
            most = self.limits["processes"]
            messages.append(
                f"ended with all its processes: it had {crowd} processes and threads; the limit processes is {most}"
            )
            code = 137
        elif action.report is None:
            messages.append(
                "its supervisor was killed from outside, or no process could be made for it; "
                "all its processes were ended"
            )
        elif by_signal:
            messages.append(f"ended by signal {_signal_name(code - 128)}")
        elif killed:
            messages.append(f"{killed} background process(es) ended with the block")
        if action.lost:
            messages.append("the kept Python namespace is lost")
        if action.note:
            messages.append(action.note)
        if self.notice:
            messages.append(f"{self.notice}. {TIDY_UP}")
            self.notice = ""
        ended = action.ending if action.ending in ("timeout", "cancelled") else ""
        return {
            "status": ended or ("failed" if code else "completed"),
            "exit_code": code,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "peak_memory_bytes": memory,
            "message": "; ".join(messages),
        }

    def keep_state(self, action: Running) -> None:
        """The state of the latest block, in the order written, is the one that the next bash starts from."""
        saved = action.crew.desk.saved() if action.crew.desk is not None else None
        # None: it was killed, or replaced itself with exec; the state before it stays.
        if saved is not None and action.order > self.state_order:
            self.cwd = saved[3]
            self.state_order = action.order
            if saved[:3] != self.saved:
                self.saved = saved[:3]
                self.state = ShellState.saved(*self.saved, self.env)

    def on_shell(self, ident: int, given: dict[str, Any] | None) -> None:
        """Tell the shell's state, or replace it first: a session goes back to a checkpoint."""
        if given is None:
            self.send_json(SHELL, ident, self.shell())
        elif self.actions or self.kept_queue:
            self.send_json(SHELL, ident, {"error": "blocks are still running; wait for them or cancel them"})
        else:
            self.set_shell(given["set"])
            self.send_json(SHELL, ident, self.shell())

    def shell(self) -> dict[str, Any]:
        state = self.state.plain() if self.state is not None else {"source": None}
        return {"workspace": self.workspace, "cwd": self.cwd, **state}

    def set_shell(self, given: dict[str, Any] | None) -> None:
        self.order += 1
        self.state_order = self.order
        self.saved = ("", "", "")
        if self.kept is not None:  # its namespace is of a time that is no more
            self.kept.close()
        if given is None:
            self.state, self.cwd = None, self.workspace
            return
        import re

        here = re.compile(re.escape(given["workspace"]) + r"(?![\w.-])")

        def moved(text: str) -> str:
            return str(here.sub(lambda _: self.workspace, text))

        self.cwd = moved(given["cwd"])
        if given["source"] is None:
            self.state = None
        else:
            self.state = ShellState(moved(given["source"]), given["options"], given["shopts"], given["unset"])

    # ..... tool calls

    def call(self, connection: ToolSocket, action: int, body: bytes) -> None:
        self.last_call = self.last_call % 0xFFFFFFFF + 1
        self.calls[self.last_call] = connection
        self.send(CALL, self.last_call, U32.pack(action) + body)

    def serve_http(self) -> None:
        """Serve the tools over HTTP: on a socket in the host's private folder, or on our own loopback."""
        if self.socket_path:
            self.url = "http://localhost"
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.socket_path)
        else:
            self.listener = socket.socket(socket.AF_INET)
            self.listener.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.listener.listen(64)
        self.listener.setblocking(False)
        self.watch(self.listener.fileno(), self.on_http)

    def on_http(self, _event: int) -> None:
        assert self.listener is not None
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        if len(self.channels) < MAX_CHANNELS:
            HttpCall(self, connection)
        else:
            connection.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _serve() -> None:
    """Fork runners for the host; return in each of them."""
    os.dup2(0, 3, inheritable=False)
    sock = socket.socket(fileno=3)
    prctl = _load_prctl()
    if prctl is not None:
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    gc.freeze()
    while True:
        data, ancillary, *_ = sock.recvmsg(16, socket.CMSG_SPACE(4 * 4))
        if not data:
            os._exit(0)
        if data[:1] == b"W":
            sock.send(b"%d" % _wait_status(int(data[1:])))
            continue
        received = list(array.array("i", ancillary[0][2]))
        pid = _try_fork()
        if pid == 0:
            sock.detach()
            for source, target in zip(received, (0, 1, 2, 3), strict=True):  # they have larger numbers
                os.dup2(source, target)
            os.closerange(4, MAX_DESCRIPTOR)
            os.setsid()
            return
        for descriptor in received:
            os.close(descriptor)
        if pid < 0:
            sock.send(b"0")
        else:
            pidfd = os.pidfd_open(pid)
            _send_with(sock, b"%d" % pid, [pidfd])
            os.close(pidfd)


def _wait_status(pid: int) -> int:
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:
        return 0


def main() -> None:
    """Run on standard input and output until the host closes them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the host ends us by closing the pipe
    if sys.argv[1:] == [SERVE]:
        _serve()
    descriptor_in, descriptor_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # nothing but frames may reach the pipe
    os.dup2(null, 1)
    os.close(null)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for descriptor in (descriptor_in, descriptor_out):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~os.O_NONBLOCK)
    if sys.version_info >= (3, 14):
        # Since 3.14 the default re-imports `__main__` by its file, which a block does not have.
        import multiprocessing

        multiprocessing.set_start_method("fork")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (hard, hard)
    )  # channels and pipes; actions have their own limit
    gc.disable()
    Runner(descriptor_in, descriptor_out).run()


if __name__ == "__main__":
    main()
