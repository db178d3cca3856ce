"""What `verify` tries in the sandbox: to write outside, to read what is denied, to reach a host that is not allowed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from agentd.types import Action, ActionResult, PythonAction

from agentd_executor_srt.additions import NO_LANDLOCK
from agentd_executor_srt.inside.write_guard import can_guard_writes
from agentd_executor_srt.settings import Policy

__all__ = ["probe"]

MAX_DENIED = 10_000
"""How many files of a denied folder are looked at for further names."""

# Each probe opens what it must not have and lets go of it at once: harmless where the sandbox fails.
_CODE = """
import json, os, socket

def tries(function):
    try:
        return bool(function())
    except OSError:
        return False

def opens(path, flags):
    os.close(os.open(path, flags))
    return True

def pairs_of_datagrams():
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        end.close()
    return True

def connects(port):
    socket.create_connection(("127.0.0.1", port), 2).close()
    return True

def answer_of_proxy(port):
    from urllib.parse import unquote, urlsplit
    from base64 import b64encode
    proxy = urlsplit(os.environ.get("HTTP_PROXY", ""))
    if not proxy.hostname:
        return b""
    user = b64encode(f"{unquote(proxy.username or '')}:{proxy.password}".encode()).decode()
    with socket.create_connection((proxy.hostname, proxy.port), 5) as connection:
        connection.settimeout(5)
        host = f"127.0.0.1:{port}"
        head = f"CONNECT {host} HTTP/1.1\\r\\nHost: {host}\\r\\nProxy-Authorization: Basic {user}\\r\\n\\r\\n"
        connection.sendall(head.encode())
        return connection.recv(200)

GIVEN = json.loads(%r)
print(json.dumps({
    "write": tries(lambda: opens(GIVEN["outside"], os.O_WRONLY)),
    "read": tries(lambda: opens(GIVEN["hidden"], os.O_RDONLY)),
    "loopback": tries(lambda: connects(GIVEN["port"])),
    "proxy": tries(lambda: b" 200 " in answer_of_proxy(GIVEN["port"])),
    "mute": not tries(lambda: answer_of_proxy(GIVEN["port"])),
    "root": os.getuid() == 0,
    "unfiltered": tries(pairs_of_datagrams),
    "ipc": os.readlink("/proc/self/ns/ipc") == GIVEN["ipc"],
}))
"""
_MEANING = {
    "write": "code can write outside of the workspace",
    "read": "code can read a denied file",
    "loopback": "code reaches this machine's loopback",
    "proxy": "the proxy lets code reach a host that is not allowed",
    "mute": "its proxy does not answer, so that no allowed host is reached",
    "root": "code runs as root",
    "unfiltered": "agentd's filter of system calls is not in force, so code may reach services on Unix sockets",
    "ipc": "code shares System V memory and queues with this machine's programs",
}


class Probed(Protocol):
    """An executor of ours, with what it knows of its sandbox once that runs."""

    deny_read: list[Path]

    @property
    def running(self) -> tuple[Policy, Path]: ...

    def execute_bash(self, command: str, /) -> tuple[str, int]: ...

    def run_sync(self, action: Action, /) -> ActionResult: ...


def probe(executor: Probed) -> tuple[bool, str]:
    """Run the probes in the executor's sandbox, started if it is not; return whether it holds, and a sentence."""
    executor.execute_bash("true")  # starts it
    policy, sandbox_dir = executor.running
    with (
        tempfile.TemporaryDirectory(prefix="agentd-") as folder,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        outside = Path(folder, "outside")
        outside.touch()
        outside.chmod(0o666)  # nothing but the sandbox shall be what keeps code from it
        Path(folder).chmod(0o755)
        given = {
            "outside": str(outside),
            "hidden": str(sandbox_dir / "hidden" / "file"),
            "port": server.getsockname()[1],
            "ipc": os.readlink("/proc/self/ns/ipc"),
        }
        result = executor.run_sync(PythonAction(code=_CODE % json.dumps(given), state="fresh"))
    version = policy.programs.version
    try:
        got: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        return False, f"the probes did not run in srt {version}: {result.output[-500:]}"
    broken = [meaning for name, meaning in _MEANING.items() if got[name]]
    if broken:
        return False, f"srt {version} does not hold here: {', '.join(broken)}"
    user = " as an unprivileged user" if os.geteuid() == 0 else ""
    said = f"srt {version} holds: code can neither write outside, read what is denied, nor reach other hosts{user}"
    if not can_guard_writes():
        said += f"; but {NO_LANDLOCK}"
    if linked := _linked_files(executor.deny_read):
        said += (
            f"; but {', '.join(map(repr, linked))} has further names (hard links), under which code may read it: "
            "deny those as well"
        )
    return True, said


def _linked_files(denied: Iterable[Path]) -> list[str]:
    """Return some of the denied files that have more names than one: a mount hides a name, not a file."""
    found: list[str] = []
    for top in denied:
        with contextlib.suppress(OSError):
            for path in itertools.islice(itertools.chain([top], top.rglob("*")), MAX_DENIED):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
                    found.append(str(path))
    return found[:5]
