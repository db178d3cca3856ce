"""A runner that is forked in its sandbox: interpreter and modules are there, in memory that all sandboxes share.

To start an interpreter in each sandbox, and to import the runner, took half of what a sandbox costs. So root's launcher
has the runner imported, and forks it, as the first process of a PID namespace. bubblewrap makes the sandbox as ever, in
that namespace, and runs a shell that waits there. The runner enters the sandbox's namespaces by that shell's pidfd.
Then it does what bubblewrap does before it executes a program: it becomes the unprivileged user, without any
capability, lets no later program have more, and gets the filter of system calls. It goes on, and reads what the host
has sent, when shell and bubblewrap have ended. `/proc` is the runner's to mount as well: bubblewrap mounts one only
for a PID namespace that it has made, and else shows the host's.

What it comes from has nothing of the host: neither its memory nor its environment, and of its descriptors those of this
one sandbox alone, which the runner closes but for its pipes. Sandboxes of a program have the same layout of memory, and
the same seed of hashes, as forks have.
"""

from __future__ import annotations

import ctypes
import fcntl
import marshal
import os
import struct
import sys

TYPE_CHECKING = False  # `typing` and `socket` take longer to import than all the rest
if TYPE_CHECKING:
    import signal
    import socket
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    try:
        import _signal as signal
        import _socket as socket
    except ImportError:
        import signal
        import socket

__all__ = ["NOT_STARTED", "OURS", "RunnerFork", "arranged", "load_runner", "moved", "received"]

NOT_STARTED = 125
OURS = "agentd: "  # how a line begins that is not bubblewrap's
SHELL = "/bin/sh"  # in the sandbox
_HOLD = [SHELL, "-c", "echo; read -r end"]  # says that the sandbox is there, and waits
_BUT_PIDS = [f"--unshare-{kind}" for kind in ("ipc", "net", "uts", "cgroup-try")]
_PROC = "/proc"
_OWN = (
    *("_agentd_launcher", "_agentd_launcher.root_launcher", "_agentd_launcher.root_mounts"),
    *("_agentd_launcher.sandbox_fork", "_agentd_port", "_agentd_port.proxy_port"),
)

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
_NEWUSER, _NEWPID, _NEWNET = 0x10000000, 0x20000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = (
    1,
    22,
    24,
    38,
    47,
)
_PR_CAP_AMBIENT_CLEAR_ALL, _SECCOMP_MODE_FILTER = 4, 2
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432  # the same on every machine
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 6, 4
_MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_NOEXEC = 2, 4, 8
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 32, 4096
_CAPABILITY_VERSION_3, _MOST_CAPABILITIES = 0x20080522, 64
_MOST_TO_KEEP = 8
_MOST_DESCRIPTORS = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def load_runner(*, common: bool) -> Callable[[], None]:
    """Import the runner, whose package `root_launcher.BOOT` has made known; return its main function.

    :param common: import what many blocks use as well.
    """
    package = __import__("_agentd_runner.__main__", fromlist=["main"])
    __import__("_agentd_port.proxy_port")  # its file is not in the sandbox, where it is used
    if common:
        __import__("_agentd_runner.python", fromlist=["python"]).import_common()
        if sys.version_info >= (3, 14):  # the runner imports it there
            __import__("multiprocessing")
    return package.main  # type: ignore[no-any-return]


def received(sock: socket.socket, most: int) -> tuple[bytes, list[int]]:
    """Return the next message, and so many descriptors at most that came with it."""
    data, ancillary, *_ = sock.recvmsg(1 << 16, socket.CMSG_SPACE(most * 4))
    return data, [number for *_, packed in ancillary for (number,) in struct.iter_unpack("i", packed)]


def moved(number: int, descriptors: list[int], numbers: list[int]) -> int:
    """Return a duplicate of a descriptor that `arranged` does not overwrite, and close it."""
    duplicate = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, max(*descriptors, *numbers) + 1 + len(descriptors))
    os.close(number)
    return duplicate


def arranged(descriptors: list[int], numbers: list[int]) -> None:
    """Give the descriptors these numbers."""
    free = max(*descriptors, *numbers) + 1
    for place, descriptor in enumerate(descriptors):  # first where none is overwritten
        os.dup2(descriptor, free + place, inheritable=False)
        os.close(descriptor)
    for place, number in enumerate(numbers):
        os.dup2(free + place, number)
        os.close(free + place)


class RunnerFork:
    """The process that becomes a runner, as its parent sees it: it waits for a sandbox.

    :raises OSError: if no PID namespace, or no process, can be made; or if a part of `/proc` is covered here. Whoever
        has covered it wants nobody to see it; bubblewrap tells what follows from that.
    """

    def __init__(self) -> None:
        if _is_covered():
            raise OSError(f"a part of {_PROC} is covered")
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        _checked(_libc.unshare(_NEWPID))
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _wait_for_sandbox(theirs.detach())
            except BaseException as error:  # its traceback would be of no use to anybody: nothing has run yet
                os.write(2, f"{OURS}the runner cannot be forked in the sandbox: {error}\n".encode())
            finally:
                os._exit(NOT_STARTED)
        theirs.close()
        # `enter` needs it, in a view of the files in which its own need not be: /tmp is the sandbox's there
        __import__("_agentd_runner.processes")

    def make_room(self, descriptors: list[int], numbers: list[int]) -> None:
        """Take what it has out of the way of `arranged`."""
        self._home = moved(self._home, descriptors, numbers)
        self._socket = socket.socket(fileno=moved(self._socket.detach(), descriptors, numbers))

    def give_up(self) -> None:
        """Do without it: this process may have children in a PID namespace of their own again."""
        self._socket.close()
        os.waitpid(self._pid, 0)
        _checked(_libc.setns(self._home, _NEWPID))

    def enter(self, job: dict[str, Any], execute: Callable[[dict[str, Any]], None]) -> NoReturn:
        """Have bubblewrap make a sandbox, and the runner enter it; wait for the runner's end.

        :param job: `root_launcher` says what it is; its descriptors have their numbers, its folders are staged.
        :param execute: becomes bubblewrap, as a job says.
        """
        words = fcntl.fcntl(2, fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            self._enter(job, execute, words)
        except BaseException as error:  # without this, nobody would hear of it
            told = f"{OURS}the runner cannot enter its sandbox: {type(error).__name__}: {error}"
            os.write(words, f"{told}\n".encode())
        os._exit(NOT_STARTED)

    def _enter(self, job: dict[str, Any], execute: Callable[[dict[str, Any]], None], words: int) -> NoReturn:
        before, after, masked = _without_pids(job["before"], job["after"])
        ours, theirs = socket.socketpair()
        bubblewrap = os.fork()
        if bubblewrap == 0:
            try:
                for number in (0, 1):
                    os.dup2(theirs.fileno(), number)
                for number in job["kept"]:
                    os.close(number)
                execute({**job, "before": [*_BUT_PIDS, *before], "after": after, "command": _HOLD})
            finally:
                os._exit(NOT_STARTED)
        kept = [0, 1, 2, *job["kept"]]
        told = {
            "numbers": kept,
            "uid": job["uid"],
            "filter": job["filter"],
            "port": job["port"],
            "masked": masked,
        }
        _send(self._socket, marshal.dumps(told), kept)
        low = 3
        for mine in sorted((ours.fileno(), self._socket.fileno(), words)):
            os.closerange(low, mine)
            low = mine + 1
        os.closerange(low, _MOST_DESCRIPTORS)
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):  # or nobody would see the runner's end
            os.dup2(null, number)
        if not ours.recv(1):  # bubblewrap has said why
            self._socket.close()
            os._exit(_exit_code(bubblewrap) or NOT_STARTED)
        shell = os.pidfd_open(_child_of(bubblewrap))
        _send(self._socket, b"N", [shell])
        if not self._socket.recv(1):
            os._exit(_exit_code(self._pid))
        signal.pidfd_send_signal(shell, signal.SIGKILL)
        os.waitpid(bubblewrap, 0)
        os.close(words)  # the runner alone has its output from here on
        self._socket.send(b"G")
        os._exit(_exit_code(self._pid))


def _without_pids(before: list[str], after: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return bubblewrap's options without those about processes, and what of `/proc` they cover."""
    place = before.index("--proc")
    assert before[place + 1] == _PROC
    before = [*before[:place], "--dir", _PROC, *before[place + 2 :]]
    before = [option for option in before if option not in ("--unshare-all", "--as-pid-1")]
    masked = [target for target in after if target.startswith(f"{_PROC}/")]
    for target in masked:
        place = after.index(target) - 2
        assert after[place : place + 2] == ["--ro-bind", os.devnull]
        after = [*after[:place], *after[place + 3 :]]
    return before, after, masked


def _is_covered() -> bool:
    """Tell whether something is mounted in `/proc` that hides a part of it."""
    with open("/proc/self/mountinfo", "rb") as file:
        places = [line.split()[4].decode() for line in file]
    return any(place.startswith(f"{_PROC}/") and place != f"{_PROC}/sys/fs/binfmt_misc" for place in places)


def _exit_code(pid: int) -> int:
    """Wait for the end of a child; return its exit code, 128 + N if signal N has ended it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


def _child_of(pid: int) -> int:
    children: list[int] = __import__("_agentd_runner.processes", fromlist=["x"]).children_of(pid)
    return children[0]


def _send(sock: socket.socket, message: bytes, descriptors: list[int]) -> None:
    rights = struct.pack(f"{len(descriptors)}i", *descriptors)
    sock.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


# --- the process that becomes a runner


def _wait_for_sandbox(descriptor: int) -> None:
    """All that it does until it is one."""
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, _MOST_DESCRIPTORS)
    sock = socket.socket(fileno=descriptor)
    proc = new_proc()
    main = load_runner(common=False)  # while bubblewrap makes a program's first sandbox; else it is there
    data, descriptors = received(sock, _MOST_TO_KEEP)
    if not data:
        return
    job = marshal.loads(data)
    # Out of the way of what it is given; the numbers are the host's.
    proc = moved(proc, descriptors, job["numbers"])
    sock = socket.socket(fileno=moved(sock.detach(), descriptors, job["numbers"]))
    arranged(descriptors, job["numbers"])
    data, descriptors = received(sock, 1)
    if not data:  # there is no sandbox: bubblewrap has said why
        return
    enter(descriptors[0], proc, job["masked"])
    confine(descriptors[0], job["uid"])
    os.close(descriptors[0])
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))  # a change of user voids an earlier one
    sock.send(b"1")
    if not sock.recv(1):
        return
    sock.close()
    if job["port"] is not None:
        __import__("_agentd_port.proxy_port", fromlist=["x"]).hand_over_port(job["port"])
    filter_calls(job["filter"])
    for name in _OWN:  # by their names: to look at all there are would touch sixty pages of memory
        sys.modules.pop(name, None)
    sys.argv, sys.orig_argv = ["-c"], sys.orig_argv[:-1]
    __import__("_agentd_runner.fork_server", fromlist=["x"]).open_streams()
    main()


def new_proc() -> int:
    """Return a descriptor of a mount of `/proc`, attached nowhere, that shows this process's PID namespace."""
    made = _call(_FSOPEN, b"proc", 0)
    _call(_FSCONFIG, made, _FSCONFIG_SET_STRING, b"source", b"proc", 0)
    _call(_FSCONFIG, made, _FSCONFIG_CMD_CREATE, None, None, 0)
    mount = _call(_FSMOUNT, made, 0, _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | _MOUNT_ATTR_NOEXEC)
    os.close(made)
    os.set_inheritable(mount, False)
    return mount


def enter(pidfd: int, proc: int, masked: list[str]) -> None:
    """Enter all of a process's namespaces but that of users, and have `/proc` there.

    :param proc: a mount of it; closes that.
    :param masked: what of it is to be covered.
    :raises OSError: if it cannot be done: nothing may run then.
    """
    _checked(_libc.setns(pidfd, _NEWNS | _NEWCGROUP | _NEWUTS | _NEWIPC | _NEWNET))
    os.chdir("/")
    _call(_MOVE_MOUNT, proc, b"", -100, _PROC.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(proc)
    null = os.devnull.encode()
    for path in map(str.encode, masked):
        _checked(_libc.mount(null, path, None, ctypes.c_ulong(_MS_BIND), None))
        flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV
        _checked(_libc.mount(b"none", path, None, ctypes.c_ulong(flags), None))


def confine(pidfd: int, uid: int) -> None:
    """Enter a process's user namespace, and become a user without any right beyond its own.

    :raises OSError: if any of it cannot be done: nothing may run then.
    """
    os.setgroups([])  # in there, nobody may
    _checked(_libc.setns(pidfd, _NEWUSER))
    os.setsid()
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o022)
    # By entering a user namespace, a process gets all capabilities there.
    _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    for capability in range(_MOST_CAPABILITIES):
        if _libc.prctl(
            _PR_CAPBSET_DROP, capability, 0, 0, 0
        ):  # it is the first that this kernel does not know
            if capability == 0:
                _checked(-1)
            break
    _checked(_libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)))
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def filter_calls(program: bytes) -> None:
    """Have the kernel filter this process's system calls by a program (`agentd_runner.call_filter`) from now on."""
    buffer = ctypes.create_string_buffer(program, len(program))
    given = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _checked(_libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, given, 0, 0))


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    _checked(result)
    return result


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
