"""What root's sandboxes are shown of the host: mounts in which folders are the new user's, in a view of few others.

A part of `root_launcher`'s program: the standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct

TYPE_CHECKING = False  # `typing` takes longer to import than all the rest
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    try:
        import _signal as signal
    except ImportError:
        import signal

__all__ = ["StageError", "exchanged", "few_mounts", "stage"]

UNSEEN = (
    *("/boot/", "/dev/hugepages/", "/dev/mqueue/", "/dev/pts/", "/dev/shm/", "/media/", "/run/docker/"),
    *("/run/snapd/", "/run/user/", "/snap/", "/sys/", "/var/lib/containers/", "/var/lib/docker/"),
    "/var/lib/kubelet/",
)
"""Where machines have many mounts, and nothing that a sandbox shows but by the descriptors of a job."""

STAGE = "/tmp"  # covered in this process's own mount namespace

# The same numbers on every machine.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE_VM, _CLONE_NEWNS, _CLONE_NEWUSER = 0x00000100, 0x00020000, 0x10000000
_STACK_BYTES = 1 << 14
_MAP_S = 10  # in which maps are written; then the process ends by itself, whatever became of this one
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 2, 4, 1 << 14, 1 << 19
_AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 0x1000, 0x8000, 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
_MNT_DETACH = 2
_ALL_IDS = (1 << 32) - 1

_libc = ctypes.CDLL(None, use_errno=True)


class StageError(Exception):
    """The sandbox's folders cannot be shown as another user's; the message says why."""


def exchanged(owner: int, uid: int) -> str:
    """Return a map of ids (user_namespaces(7)) in which these two are exchanged, and all others stay what they are."""
    if owner == uid:
        return f"0 0 {_ALL_IDS}\n"
    low, high = sorted((owner, uid))
    parts = [(0, 0, low), (low, high, 1), (low + 1, low + 1, high - low - 1), (high, low, 1)]
    parts.append((high + 1, high + 1, _ALL_IDS - high - 1))
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in parts if count)


def namespace_of(owner: tuple[int, int], uid: int) -> int:
    """Return a descriptor of a user namespace that exchanges an owner's user and group for the new ones."""
    stack = ctypes.create_string_buffer(_STACK_BYTES)
    top = ctypes.c_void_p((ctypes.addressof(stack) + _STACK_BYTES) & ~15)
    flags = _CLONE_NEWUSER | _CLONE_VM | signal.SIGCHLD
    # It shares this process's memory and sleeps: the fork of an interpreter takes twenty times as long.
    child = int(_libc.clone(_libc.sleep, top, flags, ctypes.c_void_p(_MAP_S)))
    if child < 0:
        raise StageError("this machine does not let root make user namespaces")
    try:
        for name, mine in (("uid_map", owner[0]), ("gid_map", owner[1])):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(exchanged(mine, uid))
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def clone_mounts(mounts: list[dict[str, Any]], uid: int) -> list[int]:
    """Return a mount of each, attached nowhere, in which it is the new user's."""
    namespaces: dict[tuple[int, int], int] = {}
    made = []
    for mount in mounts:
        found = os.stat(mount["descriptor"])
        owner = (found.st_uid, found.st_gid)
        if owner not in namespaces:
            namespaces[owner] = namespace_of(owner, uid)
        flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
        tree = _call(_OPEN_TREE, mount["descriptor"], b"", ctypes.c_uint(flags))
        try:
            attributes = struct.pack("QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, namespaces[owner])
            flags = _AT_EMPTY_PATH | _AT_RECURSIVE
            _call(
                _MOUNT_SETATTR, tree, b"", ctypes.c_uint(flags), attributes, ctypes.c_size_t(len(attributes))
            )
        except OSError as error:
            if mount["writable"]:
                raise StageError(
                    f"root's sandbox shows {mount['path']} as an unprivileged user's, which its file system or this "
                    f"kernel cannot ({error.strerror}; ext4, xfs, btrfs and tmpfs can, from Linux 5.12 to 6.3 on): use "
                    "a folder on one of those, do not run as root, or name the executor 'subprocess', which is no "
                    "sandbox (agentd run -e subprocess)"
                ) from None  # what is only read can be read by its modes
        os.close(mount["descriptor"])  # before the next one is made: few may be open
        made.append(tree)
    return made


def few_mounts() -> int | None:
    """Return a descriptor of a mount namespace like this one, but without most of what no sandbox shows; None if it
    cannot be had. bubblewrap reads the list of all mounts again for each that it makes.
    """
    with open("/proc/self/mountinfo", "rb") as file:
        places = [os.fsdecode(line.split()[4]) for line in file]
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.unshare(_CLONE_NEWNS):
        return None
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)
    for place in places:
        if f"{place}/".startswith(UNSEEN):
            _libc.umount2(os.fsencode(place), _MNT_DETACH)  # with what is mounted below it; or it stays
    made = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if _libc.setns(home, _CLONE_NEWNS):
        _fail()
    os.close(home)
    return made


def stage(mounts: list[dict[str, Any]], uid: int, view: int | None) -> list[str]:
    """Mount what the sandbox is to see where the new user gets at it; return bubblewrap's arguments for it.

    :param view: of `few_mounts`.
    """
    trees = clone_mounts(mounts, uid)  # in the host's own namespace: a mount of another one cannot be cloned
    if view is not None:
        if _libc.setns(view, _CLONE_NEWNS):
            _fail()
        os.close(view)
    if _libc.unshare(_CLONE_NEWNS):
        _fail()
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)
    _mount("tmpfs", STAGE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
    arguments = []
    for number, (mount, tree) in enumerate(zip(mounts, trees, strict=True)):
        place = f"{STAGE}/{number}"
        if stat.S_ISDIR(os.stat(tree).st_mode):
            os.mkdir(place, 0o755)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        _call(_MOVE_MOUNT, tree, b"", -100, place.encode(), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
        os.close(tree)
        arguments += ["--bind" if mount["writable"] else "--ro-bind", place, mount["path"]]
    return arguments


def _call(number: int, *arguments: object) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        _fail()
    return result


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = (source.encode(), target.encode(), kind.encode() if kind else None)
    if _libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() or None):
        _fail()


def _fail() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
