"""Which folders may be named: by the options `read`, `write` and `deny`, and as the workspace."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from agentd.errors import ConfigError

__all__ = ["check_readable", "check_writable", "read_paths"]

_SYSTEM: Final = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
)

_OR_NO_SANDBOX: Final = ", or choose the executor 'subprocess', which is no sandbox"


def read_paths(option: str, given: object, workspace: Path) -> tuple[Path, ...]:
    """Return absolute paths: `~` is this user's home, a relative path lies in the workspace.

    :raises ConfigError: for anything but a list of paths.
    """
    if given is None:
        return ()
    if isinstance(given, str | Path) or not isinstance(given, Iterable):
        raise ConfigError(f"{option}: must be a list of paths, got {given!r}")
    found = []
    for path in given:
        if not isinstance(path, str | Path) or not str(path) or "\0" in str(path):
            raise ConfigError(f"{option}: must be a list of paths, got {path!r} in it")
        found.append(Path(os.path.abspath(workspace / Path(path).expanduser())))
    return tuple(dict.fromkeys(found))


def check_writable(what: str, folder: Path) -> None:
    """Refuse a folder that holds the system or somebody's home. Raises `ConfigError`."""
    real = folder.resolve()
    if real == Path("/") or any(real.is_relative_to(system) for system in _SYSTEM):
        raise ConfigError(
            f"{what}: {folder} is the system's, which code in the sandbox must not change; "
            f"give another folder{_OR_NO_SANDBOX if what == 'workspace' else ''}"
        )
    for home in _homes():
        if home.is_relative_to(real):
            raise ConfigError(
                f"{what}: {folder} {'is' if home == real else 'holds'} your home, with your keys and settings in it; "
                f"give a folder of its own{_OR_NO_SANDBOX if what == 'workspace' else ''}"
            )


def check_readable(what: str, path: Path) -> None:
    """Refuse what cannot be shown. Raises `ConfigError`."""
    real = path.resolve()
    if real == Path("/") or any(real.is_relative_to(place) for place in ("/proc", "/dev")):
        raise ConfigError(
            f"{what}: {path} cannot be shown in the sandbox, which has its own; name files or folders below it"
        )
    if not path.exists():
        raise ConfigError(f"{what}: {path} does not exist")


def _homes() -> set[Path]:
    homes = {Path.home()}
    try:
        homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir))
    except KeyError:  # a user without an account
        pass
    return {home.resolve() for home in homes} - {Path("/")}
