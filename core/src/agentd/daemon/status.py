"""The status of a running daemon over a Unix socket in its state folder: one line of JSON for each connection."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import attrs

from agentd.daemon.control import AgentStatus

__all__ = ["ask_status", "serve_status"]

VERSION: Final = 1
TIMEOUT_S: Final = 5.0


async def serve_status(
    path: Path,
    agents: Callable[[], list[AgentStatus]],
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer every connection with how the agents are; the socket has mode 0600. Ends when cancelled."""
    path.unlink(missing_ok=True)  # of a daemon that was killed: whoever gets here holds the folder's lock
    before = os.umask(0o177)  # or others could connect until the mode is set
    try:
        with _short(path) as short:
            listener = await anyio.create_unix_listener(short)
    finally:
        os.umask(before)

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with anyio.move_on_after(TIMEOUT_S):
                try:
                    await stream.send(_encode(agents()))
                except (anyio.BrokenResourceError, OSError):
                    pass

    try:
        async with listener:
            task_status.started()
            await listener.serve(answer)
    finally:
        path.unlink(missing_ok=True)


def _encode(agents: list[AgentStatus]) -> bytes:
    status = {"version": VERSION, "pid": os.getpid(), "agents": [attrs.asdict(agent) for agent in agents]}
    return json.dumps(status).encode() + b"\n"


def ask_status(path: Path) -> dict[str, Any] | None:
    """Return what the daemon behind the socket says of its agents; None if none runs.

    :raises TimeoutError: if it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(TIMEOUT_S)
        try:
            with _short(path) as short:
                client.connect(short)
            with client.makefile("rb") as answer:
                found: dict[str, Any] = json.loads(answer.readline())
        except (FileNotFoundError, ConnectionError, ValueError):
            return None
    return found


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a name for the path that fits into a socket's address, which holds some 100 bytes."""
    if not os.path.isdir("/proc/self/fd") or len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
