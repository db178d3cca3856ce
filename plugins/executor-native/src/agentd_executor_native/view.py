"""What a sandbox sees of the file system, as bubblewrap's arguments.

Everything is absent unless it is named here: the system's programs and libraries, of `/etc` what programs need, the
interpreter, the workspace, and what the options add. Of entries in each other, the inner one counts; what is denied
covers everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Final

import attrs

__all__ = ["MASKED", "Account", "View", "covered_by"]

_SYSTEM: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")

# Names, certificates, the linker's cache; each mount takes time. Services keep readable secrets in /etc and /etc/ssl.
_ETC: Final = (
    *(
        "alternatives",
        "bash.bashrc",
        "ca-certificates",
        "crypto-policies",
        "debian_version",
        "fonts",
        "ld.so.cache",
    ),
    *("localtime", "mime.types", "nsswitch.conf", "os-release", "pki/tls/certs", "pki/tls/openssl.cnf"),
    *("pki/ca-trust", "profile", "protocols", "services", "ssl/certs", "ssl/openssl.cnf", "ssl/cert.pem"),
    *("terminfo", "timezone"),
)

MASKED: Final = (
    "keys",
    "key-users",
    "kcore",
    "kmsg",
    "timer_list",
    "sched_debug",
    "sysrq-trigger",
    "kallsyms",
)
"""Of /proc: the kernel's own state and the user's keys, which no namespace makes the sandbox's own."""

_TMP_BYTES: Final = (
    1 << 30
)  # of `/tmp`, and of `/dev/shm`: they are memory, which no limit of a process counts


@attrs.frozen
class Account:
    """The user that code is in the sandbox."""

    name: str
    uid: int
    gid: int
    home: str

    def files(self) -> dict[str, str]:
        """The files of /etc that name users and hosts: this one, root and nobody; this host."""
        home = "/" if set(self.home) & {":", "\n"} else self.home
        return {
            "/etc/passwd": f"root:x:0:0::/:/usr/sbin/nologin\n{self.name}:x:{self.uid}:{self.gid}::{home}:/bin/bash\n"
            "nobody:x:65534:65534::/:/usr/sbin/nologin\n",
            "/etc/group": f"root:x:0:\n{self.name}:x:{self.gid}:\nnogroup:x:65534:\n",
            "/etc/hosts": "127.0.0.1 localhost agentd\n::1 localhost ip6-localhost\n",
        }


def covered_by(path: Path, folders: Iterable[Path]) -> bool:
    """Tell whether a path is one of these or lies in one. All are absolute."""
    return any(_lies_in(path, folder) for folder in folders)


def _lies_in(path: Path, folder: Path) -> bool:
    """The same as `Path.is_relative_to`, in a tenth of its time: a start asks some hundred times."""
    inner, outer = str(path), str(folder)
    return inner == outer or inner.startswith(outer if outer == "/" else f"{outer}/")


@attrs.frozen(kw_only=True, slots=False)
class View:
    """The folders and files of a sandbox, each under the path that it has on the host. All are absolute.

    What is there is looked at once: a view is of one moment.

    :ivar write: what code may change: the workspace, and what the option `write` names.
    :ivar read: what it may read: the interpreter, and what the option `read` names.
    :ivar guarded: what it may read, and not change though it lies in `write`: skills, settings of git.
    :ivar deny: what it cannot read, wherever it lies. Files and folders that are not there are left out.
    """

    write: tuple[Path, ...]
    read: tuple[Path, ...]
    guarded: tuple[Path, ...]
    deny: tuple[Path, ...]

    @cached_property
    def mounts(self) -> list[tuple[Path, bool]]:
        """What of the host is mounted, outer folders first, each with whether it is writable.

        A folder around a read-only one is mounted as well: what is a mount cannot be moved away with all that is in it.
        """
        modes = (
            dict.fromkeys(self.read, False)
            | dict.fromkeys(self.write, True)
            | dict.fromkeys(self.guarded, False)
        )
        modes = {path: mode for path, mode in modes.items() if os.path.exists(path)}
        for path in [path for path, writable in modes.items() if not writable]:
            for top in self.write:
                if path.parent != top and _lies_in(path, top):
                    modes = dict.fromkeys(set(path.parents) - set(top.parents), True) | modes
        kept: list[tuple[Path, bool]] = []
        for path, writable in sorted(modes.items(), key=lambda entry: len(entry[0].parts)):
            around = next((outer for outer in reversed(kept) if _lies_in(path, outer[0])), None)
            if around is None or around[1] or writable:  # what is readable is so already in a readable folder
                kept.append((path, writable))
        system = _system_paths()
        return [entry for entry in kept if not covered_by(entry[0], system)]

    @cached_property
    def covers(self) -> list[Path]:
        """What is covered because it is denied: what of it would be seen, by its own name."""
        seen = [*(path for path, _ in self.mounts), *map(Path, _SYSTEM), Path("/etc")]
        denied = dict.fromkeys(name for path in self.deny for name in (path, path.resolve()))
        return [
            path
            for path in denied
            if os.path.lexists(path) and not path.is_symlink() and covered_by(path, seen)
        ]

    @cached_property
    def before_mounts(self) -> list[str]:
        """bubblewrap's arguments for what comes before the `mounts`: the system, and what is new in there."""
        return [*_system(), "--proc", "/proc", "--dev", "/dev", *_temporary("/dev/shm"), *_temporary("/tmp")]

    @cached_property
    def after_mounts(self) -> list[str]:
        """Its arguments for what covers the mounts; nothing else can be made in the folders around them."""
        made = [
            part for name in MASKED if os.path.exists(f"/proc/{name}") for part in _no_file(f"/proc/{name}")
        ]
        for path in self.covers:
            made += _no_folder(str(path)) if path.is_dir() else _no_file(str(path))
        return [*made, "--remount-ro", "/dev", "--remount-ro", "/"]


def _system_paths() -> list[Path]:
    return [Path(path) for path in _SYSTEM if os.path.isdir(path)]


def _system() -> list[str]:
    made = []
    for path in _SYSTEM:
        if os.path.islink(path):
            made += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            made += ["--ro-bind", path, path]
    for name in _ETC:
        if os.path.exists(f"/etc/{name}"):
            made += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    return made


def _temporary(path: str) -> list[str]:
    return ["--perms", "1777", "--size", str(_TMP_BYTES), "--tmpfs", path]


def _no_file(path: str) -> list[str]:
    return ["--ro-bind", "/dev/null", path]  # on a mount without devices: opening it fails


def _no_folder(path: str) -> list[str]:
    return ["--perms", "0000", "--size", "4096", "--tmpfs", path, "--remount-ro", path]
