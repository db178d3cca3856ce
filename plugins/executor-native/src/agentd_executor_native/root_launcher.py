"""The step between a host that is root and bubblewrap: gives up root, and shows root's folders as the new user's own.

A program of its own (`BOOT`), with the standard library alone. With the argument DESCRIPTOR it ends by becoming
bubblewrap; with `--serve` it forks processes that do, so that the interpreter is started once for all sandboxes of a
program. One of them is ready, with its network and with the process that becomes the runner (`sandbox_fork`). It has
nothing of any session: what a sandbox is comes with the request, and its child reads it.

In a mount namespace of its own, each folder that the sandbox is to see is mounted with its owner's id exchanged for the
one that code gets (an idmapped mount, Linux 5.12): no file's owner changes, what code makes is the owner's, and nothing
has to be put right at the end. Files of others stay theirs.

The descriptor gives a dict (marshal): `uid`, the new user and group; `mounts`, a list of `{descriptor, path,
writable}`; `before` and `after`, bubblewrap's options up to the mounts and behind them; `bubblewrap` and `command`; for
a forked process `numbers`, under which it is to have the descriptors that came with the request. If the runner is to be
forked, `kept` are those numbers that it has, `filter` its filter of system calls, and `port` the descriptor over which
it hands over the port of the proxy, if there is one; `kept` is None if `command` is to be executed.
The exit code is 125, with a line on standard error, if it does not become bubblewrap.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import marshal
import os
import resource
import select
import struct
import sys

from .root_mounts import StageError, few_mounts, stage
from .sandbox_fork import NOT_STARTED, OURS, RunnerFork, arranged, load_runner, moved, received

TYPE_CHECKING = False  # `typing` and `socket` take longer to import than all the rest
if TYPE_CHECKING:
    import socket
    from typing import Any
else:
    try:
        import _socket as socket
    except ImportError:
        import socket

BOOT = """\
import gc; gc.disable()
import sys
for name, folder in {packages!r}.items():
    package = sys.modules[name] = type(sys)(name)
    package.__path__ = [folder]
del name, folder, package
from _agentd_launcher.root_launcher import main
main()
"""
"""What starts it; imported and not run as a script, so that its compiled code is kept.

`packages` are the folders of `_agentd_launcher`, this package; of `_agentd_runner`; and of `_agentd_port`, which has
the module `proxy_port`.
"""

IDLE_S = 60  # how long the server waits for a request once all sandboxes have ended
LOAD_S = 0.2  # after a program's first sandbox
MOST_DESCRIPTORS = 250  # of one message; the kernel takes 253
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def become_user(uid: int) -> None:
    """Give up root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o022)


def _refusal(error: OSError) -> str:
    """Return what is missing for root's sandbox."""
    if error.errno == errno.ENOSYS:
        return f"root's sandbox needs Linux 5.12 ({error.strerror}): do not run as root"
    return (
        "root's sandbox needs a private view of the file system and a user of its own, with the capabilities "
        f"SYS_ADMIN, SETUID and SETGID ({error.strerror}): give them, or do not run as root"
    )


def execute(bubblewrap: str, options: list[str], command: list[str]) -> None:
    """Become bubblewrap. Its options are a file: others would read them in its command line."""
    descriptor = os.memfd_create("agentd", 0)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.execv(bubblewrap, [bubblewrap, "--args", str(descriptor), "--", *command])


class SandboxForks:
    """The processes that become bubblewrap, or start it and the runner beside it. One waits ahead, with a network of
    its own: that takes longest to make.

    :param view: of `few_mounts`.
    """

    def __init__(self, view: int | None) -> None:
        self.view = view
        self.pid = 0
        self.waiting: socket.socket | None = None

    def prepare(self) -> socket.socket | None:
        """Fork the one that waits, if none does; return the socket to it, None if no process can be made."""
        if self.waiting is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                self.pid = os.fork()
            except OSError:
                ours.close()
                theirs.close()
                return None
            if self.pid == 0:
                try:
                    ours.close()
                    _wait_for_job(theirs, self.view)
                # Its traceback would be of no use to anybody: nothing has run yet.
                except BaseException as error:
                    os.write(2, f"{OURS}{type(error).__name__}: {error}\n".encode())
                finally:
                    os._exit(NOT_STARTED)
            theirs.close()
            self.waiting = ours
        return self.waiting

    def end(self) -> None:
        """End the one that waits."""
        if self.waiting is not None:
            self.waiting.close()
            self.waiting = None
            os.waitpid(self.pid, 0)

    def start(self, received: list[int]) -> int:
        """Give it its descriptors; return its pid, 0 if there is none."""
        rights = struct.pack(f"{len(received)}i", *received)
        for _ in range(2):  # something may have killed it
            waiting = self.prepare()
            if waiting is None:
                return 0
            try:
                waiting.sendmsg([b"J"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
            except OSError:
                self.end()
                continue
            waiting.close()
            self.waiting = None
            return self.pid
        return 0


def _wait_for_job(sock: socket.socket, view: int | None) -> None:
    """The process from its fork on."""
    _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # the host's socket is the server's alone
    os.close(null)
    has_network = make_network()
    try:
        runner = RunnerFork()
    except OSError:  # bubblewrap says what this machine lacks
        runner = None
    data, descriptors = received(sock, MOST_DESCRIPTORS)
    if data:
        sock.close()
        os.setsid()
        job, view = _arranged(descriptors, runner, view)
        if has_network:  # bubblewrap need not make one
            job["before"].append("--share-net")
        if runner is not None and job["kept"] is None:
            runner.give_up()
            runner = None
        start(job, runner, view)


def make_network() -> bool:
    """Have an empty network namespace, with a loopback of its own; False if it cannot be had."""
    before = os.stat("/proc/self/ns/net").st_ino
    if _libc.unshare(_CLONE_NEWNET):
        return False
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    up = struct.pack("16sh22x", b"lo", _IFF_UP)
    is_up = _libc.ioctl(sock.fileno(), ctypes.c_ulong(_SIOCSIFFLAGS), up) == 0
    sock.close()
    return is_up and os.stat("/proc/self/ns/net").st_ino != before


def serve() -> None:
    """Fork processes on request, until the host closes the socket that is standard input, or ends.

    The messages are those of `agentd_runner.inside.fork_server`: `F` comes with the descriptors of standard input,
    output and errors, of the job, and of what bubblewrap is to inherit.
    """
    _libc.prctl(
        _PR_SET_PDEATHSIG, 9, 0, 0, 0
    )  # no sandbox outlives its program: bubblewrap ends with this process
    sock = socket.socket(fileno=0)
    sock.setblocking(True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the host's numbers may be high
    forks = SandboxForks(few_mounts())
    forks.prepare()
    has_begun = has_runner = False
    requests = select.poll()
    requests.register(sock, select.POLLIN)
    while True:
        # A program's first sandbox loads the runner itself: it needs the processors, and may be the only one.
        is_due = has_begun and not has_runner
        if not requests.poll((LOAD_S if is_due else IDLE_S) * 1000):
            if is_due:
                has_runner = _hold_runner()
                forks.prepare()
                continue
            forks.end()
            if not _has_children():
                return
            continue
        data, descriptors = received(sock, MOST_DESCRIPTORS)
        if not data:
            return
        if data[:1] == b"W":
            sock.send(b"%d" % os.waitpid(int(data[1:]), 0)[1])
            continue
        has_runner = has_runner or (has_begun and _hold_runner())
        pid = forks.start(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        _answer(sock, pid)
        has_begun = True
        if has_runner:
            forks.prepare()


def _hold_runner() -> bool:
    """Have the runner in memory that all later sandboxes share; return True."""
    load_runner(common=True)
    gc.freeze()
    return True


def _has_children() -> bool:
    """Whether a sandbox is left, or one that has ended and whose end was not asked for."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _answer(sock: socket.socket, pid: int) -> None:
    """Say the pid of a process, with a pidfd, or 0."""
    if not pid:
        sock.send(b"0")
        return
    pidfd = os.pidfd_open(pid)
    sock.sendmsg([b"%d" % pid], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", pidfd))])
    os.close(pidfd)


def _arranged(
    descriptors: list[int], runner: RunnerFork | None, view: int | None
) -> tuple[dict[str, Any], int | None]:
    """Read the job, and give the descriptors the numbers that bubblewrap's options have for them; return the job and
    the view, whose number may be another one by then."""
    with open(descriptors.pop(3), "rb") as file:
        job: dict[str, Any] = marshal.load(file)
    numbers = [0, 1, 2, *job["numbers"]]
    if runner is not None:
        runner.make_room(descriptors, numbers)
    if view is not None:
        view = moved(view, descriptors, numbers)
    arranged(descriptors, numbers)
    return job, view


def main() -> None:
    """Serve, or do the one job."""
    if sys.argv[1] == "--serve":
        serve()
        os._exit(0)
    with open(int(sys.argv[1]), "rb") as file:
        job = marshal.load(file)  # of the same interpreter; json takes longer to import than all the rest
    start(job, None, None)


def start(job: dict[str, Any], runner: RunnerFork | None, view: int | None) -> None:
    """Become bubblewrap, as the job says, or have the runner enter the sandbox. Does not return."""
    try:
        try:
            staged = {**job, "before": [*job["before"], *stage(job["mounts"], job["uid"], view)]}
        except OSError as error:
            raise StageError(_refusal(error)) from None
        if runner is not None:
            runner.enter(staged, become_bubblewrap)
        become_bubblewrap(staged)
    except (StageError, OSError) as error:
        os.write(2, f"{OURS}{error}\n".encode())
    os._exit(NOT_STARTED)


def become_bubblewrap(job: dict[str, Any]) -> None:
    """Give up root, and become bubblewrap. Does not return."""
    try:
        try:
            become_user(job["uid"])
        except OSError as error:
            raise StageError(_refusal(error)) from None
        execute(job["bubblewrap"], [*job["before"], *job["after"]], job["command"])
    except (StageError, OSError) as error:
        os.write(2, f"{OURS}{error}\n".encode())
    os._exit(NOT_STARTED)
