"""What `verify` tries in the sandbox. Each probe opens what it must not have and lets go of it at once."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any, Protocol

from agentd.types import Action, ActionResult, PythonAction

from agentd_executor_native.network.inside.proxy_port import PORT

__all__ = ["probe"]

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

def connects(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(2)
        sock.connect(address)
    return True

def pairs_of_datagrams():
    for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM):
        end.close()
    return True

def asks_proxy():
    with socket.create_connection(("127.0.0.1", GIVEN["proxy"]), 5) as connection:
        connection.settimeout(5)
        connection.sendall(b"CONNECT 127.0.0.1:%%d HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n" %% GIVEN["port"])
        return b" 200 " in connection.recv(200)

GIVEN = json.loads(%r)
print(json.dumps({
    "write": tries(lambda: opens(GIVEN["outside"], os.O_WRONLY)),
    "read": tries(lambda: opens(GIVEN["outside"], os.O_RDONLY)),
    "loopback": tries(lambda: connects(socket.AF_INET, ("127.0.0.1", GIVEN["port"]))),
    "proxy": tries(asks_proxy),
    "processes": os.path.isdir("/proc/%%d" %% GIVEN["pid"]) and os.readlink("/proc/self/ns/pid") == GIVEN["pid_view"],
    "ipc": os.readlink("/proc/self/ns/ipc") == GIVEN["ipc"],
    "root": os.getuid() == 0,
    "unfiltered": tries(pairs_of_datagrams),
}))
"""
_MEANING = {
    "write": "code can write outside of the workspace",
    "read": "code can read outside of the workspace",
    "loopback": "code reaches this machine's loopback",
    "proxy": "the proxy lets code reach a host that is not allowed",
    "processes": "code sees this machine's processes",
    "ipc": "code shares System V memory and queues with this machine's programs",
    "root": "code runs as root",
    "unfiltered": "the filter of system calls is not in force",
}


class ProbedSandbox(Protocol):
    """An executor of ours."""

    @property
    def version(self) -> str: ...

    def run_sync(self, action: Action, /) -> ActionResult: ...


def probe(executor: ProbedSandbox) -> tuple[bool, str]:
    """Run the probes in the executor's sandbox, started if it is not; return whether it holds, and a sentence."""
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
            "port": server.getsockname()[1],
            "proxy": PORT,
            "pid": os.getpid(),
            "pid_view": os.readlink("/proc/self/ns/pid"),
            "ipc": os.readlink("/proc/self/ns/ipc"),
        }
        result = executor.run_sync(PythonAction(code=_CODE % json.dumps(given), state="fresh"))
    version = executor.version
    try:
        got: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        return False, f"the probes did not run in {version}: {result.output[-500:]}"
    broken = [meaning for name, meaning in _MEANING.items() if got[name]]
    if broken:
        return False, f"{version} does not hold here: {', '.join(broken)}"
    user = " as an unprivileged user" if os.geteuid() == 0 else ""
    return (
        True,
        f"{version} holds: code can neither write nor read outside, nor reach this machine or any other{user}; its "
        "memory is bounded for each process, not for the session as a whole",
    )
