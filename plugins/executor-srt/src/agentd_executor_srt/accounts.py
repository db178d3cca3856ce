"""The entries of a session's user in the files of users and groups that its sandbox sees, where root has made one up.

Used by the supervisor, with the standard library alone. Without an entry, `whoami`, Python's `getpass.getuser`, Node's
`os.userInfo`, Java's `user.home` and `ssh` fail. `bubblewrap.sh` mounts the files over the host's.
"""

from __future__ import annotations

import os

__all__ = ["write_accounts"]

NAME = "agentd"


def write_accounts(folder: str, uid: int, home: str, etc: str = "/etc") -> None:
    """Write `passwd` and `group` into a new folder: what this machine has, and an entry for the user and his group.

    Does nothing where one of them is not a plain file: nothing could be mounted over it.
    """
    sources = [f"{etc}/{name}" for name in ("passwd", "group")]
    if not all(os.path.isfile(path) and not os.path.islink(path) for path in sources):
        return
    host = []
    for path in sources:
        with open(path, "rb") as file:
            host.append(file.read().rstrip(b"\n") + b"\n")
    name = _free_name(uid, host)
    if ":" in home or "\n" in home:  # which end a field, and an entry
        home = "/"
    entries = [f"{name}:x:{uid}:{uid}:agentd:{home}:/bin/bash\n", f"{name}:x:{uid}:\n"]
    os.mkdir(folder, 0o755)
    for path, text, entry in zip(sources, host, entries, strict=True):
        with open(f"{folder}/{os.path.basename(path)}", "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask
            file.write(text + os.fsencode(entry))
    os.chmod(folder, 0o755)


def _free_name(uid: int, host: list[bytes]) -> str:
    taken = any(line.startswith(f"{NAME}:".encode()) for text in host for line in text.splitlines())
    return f"{NAME}{uid}" if taken else NAME
