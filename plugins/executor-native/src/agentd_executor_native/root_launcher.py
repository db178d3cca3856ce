"""The step between a host that is root and bubblewrap: gives up root, and shows root's folders as the new user's own.

A program of its own (`python -I -S FILE DESCRIPTOR`), with the standard library alone; it ends by becoming bubblewrap.
In a mount namespace of its own, each folder that the sandbox is to see is mounted with its owner's id exchanged for the
one that code gets (an idmapped mount, Linux 5.12): no file's owner changes, what code makes is the owner's, and nothing
has to be put right at the end. Files of others stay theirs.

The descriptor gives a dict (marshal): `uid`, the new user and group; `mounts`, a list of `{descriptor, path,
writable}`; `before` and `after`, bubblewrap's options up to the mounts and behind them; `bubblewrap` and `command`.
The exit code is 125, with a line on standard error, if it does not become bubblewrap.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import stat
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing, which takes longer than all the rest
    from typing import Any

NOT_STARTED = 125
OURS = "agentd: "  # how a line begins that is not bubblewrap's
STAGE = "/tmp"  # covered in this process's own mount namespace

# The same numbers on every machine.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 2, 4, 1 << 14, 1 << 19
_AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 0x1000, 0x8000, 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_IDMAP = 0x00100000
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
    (ready, say_ready), (end, say_end) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        made = _libc.unshare(_CLONE_NEWUSER)
        os.write(say_ready, b"0" if made == 0 else b"1")
        os.close(say_end)
        os.read(end, 1)
        os._exit(0)
    try:
        os.close(say_ready)
        if os.read(ready, 1) != b"0":
            raise StageError("this machine does not let root make user namespaces")
        for name, mine in (("uid_map", owner[0]), ("gid_map", owner[1])):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(exchanged(mine, uid))
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (ready, end, say_end):
            os.close(descriptor)
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
                    "a folder on one of those, or do not run as root"
                ) from None  # what is only read can be read by its modes
        made.append(tree)
    return made


def stage(mounts: list[dict[str, Any]], uid: int) -> list[str]:
    """Mount what the sandbox is to see where the new user gets at it; return bubblewrap's arguments for it."""
    trees = clone_mounts(mounts, uid)
    if _libc.unshare(_CLONE_NEWNS):
        _fail()
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)
    _mount("tmpfs", STAGE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=1m")
    arguments = []
    for number, (mount, tree) in enumerate(zip(mounts, trees, strict=True)):
        place = f"{STAGE}/{number}"
        if stat.S_ISDIR(os.stat(mount["descriptor"]).st_mode):
            os.mkdir(place, 0o755)
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        _call(_MOVE_MOUNT, tree, b"", -100, place.encode(), ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
        os.close(tree)
        os.close(mount["descriptor"])
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


def become_user(uid: int) -> None:
    """Give up root."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    os.umask(0o022)


def execute(bubblewrap: str, options: list[str], command: list[str]) -> None:
    """Become bubblewrap. Its options are a file: others would read them in its command line."""
    descriptor = os.memfd_create("agentd", 0)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(b"".join(os.fsencode(option) + b"\0" for option in options))
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.execv(bubblewrap, [bubblewrap, "--args", str(descriptor), "--", *command])


def main() -> None:
    """Do what the job says."""
    with open(int(sys.argv[1]), "rb") as file:
        job = marshal.load(file)  # of the same interpreter; json takes longer to import than all the rest
    try:
        try:
            mounts = stage(job["mounts"], job["uid"])
            become_user(job["uid"])
        except OSError as error:
            raise StageError(
                "root's sandbox needs a private view of the file system and a user of its own, with the capabilities "
                f"SYS_ADMIN, SETUID and SETGID ({error.strerror}): give them, or do not run as root"
            ) from None
        execute(job["bubblewrap"], [*job["before"], *mounts, *job["after"]], job["command"])
    except (StageError, OSError) as error:
        os.write(2, f"{OURS}{error}\n".encode())
    os._exit(NOT_STARTED)


if __name__ == "__main__":
    main()
