"""What the sandbox needs: what of it is on this machine, and in one sentence what is missing and how to get it."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import attrs
from agentd.errors import SandboxUnavailableError
from agentd.protocols import Requirement
from agentd_runner.call_filter import lacking_filter

__all__ = ["Bubblewrap", "UnfitMachineError", "explain", "find_bubblewrap", "is_refused", "list_requirements"]

_NEEDED: Final = ("--size", "--perms", "--seccomp", "--bind-fd", "--ro-bind-fd")
_HOW: Final = "Debian and Ubuntu: sudo apt-get install bubblewrap"
_FOLDERS: Final = "/usr/bin:/bin:/usr/local/bin:/run/current-system/sw/bin"  # none that code could write to
_OTHER_SYSTEM: Final = (
    f"the executor 'native' runs on Linux alone, and this is {sys.platform}; use 'subprocess' for code that you trust, "
    "or 'msb'"
)


class UnfitMachineError(SandboxUnavailableError):
    """This machine cannot run the sandbox, and will not the next time: nothing that had merely run out."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the sandbox native cannot run here: {reason}")


@attrs.frozen
class Bubblewrap:
    """The program, and what it can."""

    path: str
    version: str
    can_end_nesting: bool
    """Whether it can forbid user namespaces within that of the sandbox. The filter of system calls does, too."""


def find_bubblewrap() -> Bubblewrap:
    """Return the system's bubblewrap.

    :raises UnfitMachineError: naming what is missing.
    :raises SandboxUnavailableError: if it does not say what it is, for lack of memory perhaps.
    """
    if missing := _missing():
        raise UnfitMachineError(missing)
    return _look_at(_where(), os.stat(_where()).st_mtime_ns)


def _where() -> str:
    return shutil.which("bwrap", path=_FOLDERS) or ""


@functools.cache
def _look_at(path: str, _changed: int) -> Bubblewrap:
    """Ask bubblewrap what it is: distributions bring options to older versions, so the version does not tell."""
    try:
        said = [
            subprocess.run([path, option], capture_output=True, text=True, timeout=20, check=True).stdout
            for option in ("--version", "--help")
        ]
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailableError(
            f"the sandbox native cannot run here: bubblewrap at {path} does not say what it is: {error}"
        ) from error
    version = said[0].split()[-1] if said[0].split() else "of no version"
    if lacking := [option for option in _NEEDED if option not in said[1]]:
        raise UnfitMachineError(
            f"bubblewrap {version} at {path} has no {', '.join(lacking)}: "
            "0.10 has, and 0.8 with the security updates of Debian 12; install a newer one"
        )
    writable = not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY  # bubblewrap sets a limit in there
    return Bubblewrap(path, version, can_end_nesting="--disable-userns" in said[1] and writable)


def _missing() -> str:
    """Say what keeps every sandbox from starting here, or nothing."""
    if not sys.platform.startswith("linux"):
        return _OTHER_SYSTEM
    if not _where():
        return f"bubblewrap is missing ({_HOW})"
    return lacking_filter() or _namespaces_off() or _unfit_for_root()


def list_requirements() -> list[Requirement]:
    """Return what the sandbox needs, each part with whether it is there; no sandbox is started."""
    if not sys.platform.startswith("linux"):
        return [Requirement(name="Linux", ok=False, remedy=_OTHER_SYSTEM)]
    refused = (
        _namespaces_off()
        or _unfit_for_root()
        or (_BY_APPARMOR if _reads(_APPARMOR, "1") and os.geteuid() != 0 else "")
    )
    return [
        _bubblewrap_requirement(),
        Requirement(name="user namespaces", ok=not refused, remedy=refused),
        Requirement(name="system call filter", ok=not lacking_filter(), remedy=lacking_filter()),
    ]


def _bubblewrap_requirement() -> Requirement:
    where = _where()
    if not where:
        return Requirement(name="bubblewrap", ok=False, remedy=f"install bubblewrap ({_HOW})")
    try:
        found = _look_at(where, os.stat(where).st_mtime_ns)
    except (SandboxUnavailableError, OSError) as error:
        return Requirement(name="bubblewrap", ok=False, detail=where, remedy=str(error))
    return Requirement(name="bubblewrap", ok=True, detail=f"{found.version} {where}")


# --- why it did not start -----------------------------------------------------------------------

_APPARMOR: Final = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE: Final = Path("/proc/sys/kernel/unprivileged_userns_clone")
_IDS: Final = Path("/proc/self/uid_map")
_COUNT: Final = Path("/proc/sys/user/max_user_namespaces")
_BY_APPARMOR: Final = (
    "AppArmor keeps bubblewrap from making user namespaces; as root: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap a profile that allows userns"
)


def explain(said: str, bubblewrap: Bubblewrap) -> str:
    """Return one sentence for what bubblewrap, or our own step before it, said when the sandbox did not start."""
    if said.startswith("agentd: "):
        return _short(said.removeprefix("agentd: "))
    if off := _namespaces_off():
        return off
    refused = re.search(r"uid map|new namespace|user namespace|Operation not permitted", said)
    if refused and _reads(_APPARMOR, "1"):
        return _BY_APPARMOR
    if re.search(r"mount proc|mounting proc", said):
        return (
            "this machine does not let bubblewrap mount a /proc of its own (in a container whose /proc is masked: "
            f"start it with docker's --security-opt systempaths=unconfined, say); it said: {_short(said)}"
        )
    if re.search(r"No permissions to create new namespace|Creating new namespace failed|uid map", said):
        return (
            "this machine does not let bubblewrap make user namespaces (in a container: start it with a seccomp "
            f"profile that allows them); it said: {_short(said)}"
        )
    return f"bubblewrap {bubblewrap.version} did not start it; it said: {_short(said) or 'nothing'}"


def is_refused(said: str) -> bool:
    """Tell whether bubblewrap, or our own step before it, was refused something by a rule of this machine.

    What has run out (memory, processes, descriptors, namespaces) is another matter: it may be there the next time, and
    code may have used it up in order to be run without a sandbox.
    """
    return re.search(r"not permitted|[Pp]ermission|does not support user namespaces", said) is not None


def _namespaces_off() -> str:
    if _reads(_CLONE, "0"):
        return "user namespaces are switched off here; as root: sysctl -w kernel.unprivileged_userns_clone=1"
    if _reads(_COUNT, "0"):
        return "user namespaces are switched off here; as root: sysctl -w user.max_user_namespaces=15000"
    return ""


def _unfit_for_root() -> str:
    if os.geteuid() != 0:
        return ""
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found[1]), int(found[2])) < (5, 12):
        return f"root's sandbox needs Linux 5.12, and this is {release}: do not run as root"
    if not _has_all_ids():
        return (
            "this is the root of a user namespace (in a container without privileges, say), which has no other user "
            "for code to be: run as another user in there"
        )
    return ""


def _has_all_ids() -> bool:
    """Tell whether user ids are the machine's own."""
    try:
        return _IDS.read_text().split() == ["0", "0", str((1 << 32) - 1)]
    except OSError:
        return True  # nothing is known


def _reads(path: Path, value: str) -> bool:
    try:
        return path.read_text().strip() == value
    except OSError:
        return False


def _short(said: str) -> str:
    return " ".join(said.split())[-600:]
