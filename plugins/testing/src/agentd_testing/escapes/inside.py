"""What a case's code has at hand: sent in front of it, into the sandbox. The standard library alone.

`W` is a dict that stands before this text: `mark` (begins the verdict's line), `secret` (what the baits hold),
and the paths and addresses of `world.World.facts`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import stat  # noqa: F401 - for the cases
import subprocess
import sys
import time  # noqa: F401 - for the cases
from collections.abc import Iterator
from pathlib import Path

W: dict[str, object] = globals().get("W", {})
LIBC = ctypes.CDLL(None, use_errno=True)


def say(verdict: str, detail: object = "") -> None:
    """Print the verdict. The last one counts."""
    text = " ".join(str(detail).split())[:200]
    print(f"\n{W['mark']} {verdict} {text}", flush=True)


def opened(detail: object = "") -> None:
    """Say that the sandbox let it happen."""
    say("open", detail)


def blocked(detail: object = "") -> None:
    """Say that the sandbox kept it from happening."""
    say("blocked", detail)


def judge(is_open: object, detail: object = "") -> None:
    """Say `open` with the detail if true, else `blocked`."""
    say("open", detail) if is_open else say("blocked")


@contextlib.contextmanager
def trying(detail: object = "") -> Iterator[None]:
    """`open` if the body runs through, `blocked` if the system refuses with an OSError; else it is broken."""
    try:
        yield
    except OSError as error:
        blocked(f"{type(error).__name__}: {error.strerror or error}")
    else:
        opened(detail)


def only_open(path: object, flags: int = os.O_RDONLY) -> None:
    """Open and close again; nothing is read, written, made or cut short."""
    with trying(f"opened {path}"):
        os.close(os.open(str(path), flags | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))


def is_the_hosts(path: str) -> bool:
    """Tell whether a system folder is the host's own; a sandbox may have put another at its path."""
    places = W["places"]
    assert isinstance(places, dict)
    status = os.stat(path)
    return path in places and tuple(places[path]) == (status.st_dev, status.st_ino)


def may_write(path: str) -> None:
    """Ask whether writing to a system folder of the host is allowed, without writing. (Read-only mounts count.)"""
    judge(os.access(path, os.W_OK, effective_ids=True) and is_the_hosts(path), f"writing to {path}")


def has_secret(data: bytes | str) -> bool:
    """Tell whether a bait's content is in the data."""
    secret = str(W["secret"])
    return secret in data if isinstance(data, str) else secret.encode() in data


def read_bait(path: object) -> None:
    """Read a bait: `open` if its content comes out."""
    with trying():
        found = has_secret(Path(str(path)).read_bytes())
        if not found:
            raise OSError(errno.ENOENT, "something else is there")


def plant(path: str, text: str = "# planted\n") -> None:
    """Write a file into the workspace, see whether it is there, and take everything away again."""
    target = Path(str(W["workspace"])) / path
    made = [p for p in target.parents if not p.exists()]
    with trying(f"wrote {path}"):
        if target.exists():
            os.close(os.open(target, os.O_WRONLY))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            target.unlink()
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def syscall(number: int, *arguments: object) -> int:
    """Call the kernel; raises OSError as the os module does."""
    result = int(LIBC.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def unshare(flags: int) -> None:
    """Move this process (and no other) into new namespaces."""
    if LIBC.unshare(ctypes.c_int(flags)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def decoy() -> int:
    """Return the pid of the host's decoy; raises OSError unless that number is the decoy here, too."""
    pid = int(str(W["decoy_pid"]))
    if not has_secret(Path(f"/proc/{pid}/cmdline").read_bytes()):
        raise OSError(errno.ESRCH, "the decoy is not in this /proc")
    return pid


def connect(family: int, address: object, kind: int = socket.SOCK_STREAM) -> None:
    """Connect: `open` if somebody accepts. (For UDP: if there is a route; no packet is sent.)"""
    with trying(f"reached {address!r}"), socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)  # type: ignore[arg-type]


def new_socket(family: int, kind: int, protocol: int = 0) -> None:
    """Make a socket of a kind that untrusted code has no use for."""
    with trying("the socket was made"):
        socket.socket(family, kind, protocol).close()


def host_system_v(kind: str) -> int:
    """Return the id of the host's segment, queue or semaphore, or its value; raises KeyError for another word."""
    known = W["system_v"]
    assert isinstance(known, dict)
    return int(known[kind])


def status_of_self(field: str) -> str:
    """Return a field of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return line.partition(":")[2].strip()
    return ""


def tools_http(request: bytes, *, size: int = 4096) -> bytes:
    """Send raw bytes to the endpoint for tool calls; return what comes back (empty: it was closed)."""
    path = os.environ.get("AGENTD_TOOLS_SOCKET")
    if path:
        sock = socket.socket(socket.AF_UNIX)
        address: object = path
    else:
        sock = socket.socket(socket.AF_INET)
        host, _, port = os.environ["AGENTD_TOOLS_URL"].split("/")[2].rpartition(":")
        address = (host, int(port))
    with sock:
        sock.settimeout(5)
        sock.connect(address)  # type: ignore[arg-type]
        try:
            sock.sendall(request)
            return sock.recv(size)
        except OSError:
            return b""


def ask_tools(
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes = b"",
    headers: str = "",
    base: str | None = None,
) -> int:
    """Make an HTTP request to the endpoint for tool calls; return its status, or 0 if it was closed."""
    if token is None:
        token = os.environ["AGENTD_TOOLS_TOKEN"]
    if base is None:
        base = (
            "/" + os.environ["AGENTD_TOOLS_URL"].split("/", 3)[3]
            if os.environ["AGENTD_TOOLS_URL"].count("/") > 2
            else ""
        )
    lines = [f"{method} {base}{path} HTTP/1.1", "Host: tools", f"Content-Length: {len(body)}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    reply = tools_http("\r\n".join([*lines, *headers.split("\n")]).rstrip().encode() + b"\r\n\r\n" + body)
    words = reply.split(b"\r\n")[0].split()
    return int(words[1]) if len(words) > 1 else 0


def leave(program: str) -> None:
    """Start a process that wants to outlive the block; its command line carries this case's mark."""
    command = [sys.executable, "-S", "-c", program, str(W["mark"])]
    subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
