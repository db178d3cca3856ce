"""The status of a running daemon over a Unix socket in its state folder: one line of JSON for each connection.

Whoever sends the line `look` after it has the daemon see what is new in its journal, and gets a second line then.
"""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import attrs
from agentd.errors import AgentdError

from agentd_daemon.control import AgentStatus

__all__ = ["StatusError", "ask_status", "have_it_look", "serve_status"]

log = logging.getLogger("agentd.daemon")

VERSION: Final = 1
TIMEOUT_S: Final = 5.0
ACCEPT_AGAIN_S: Final = 1.0
LOOK: Final = b"look\n"


class StatusError(AgentdError):
    """The daemon cannot be asked how its agents are."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"the daemon behind {str(path)!r} cannot be asked: {reason}")


async def serve_status(
    path: Path,
    agents: Callable[[], list[AgentStatus]],
    look: Callable[[], None] = lambda: None,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Answer every connection with how the agents are; the socket has mode 0600. Ends when cancelled.

    :param look: called for whoever asks for it.
    """
    from agentd_daemon.journal import JournalError  # here: whoever asks for the status needs no journal

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
                    if await _wants_a_look(stream):
                        look()
                        await anyio.sleep(0)  # who waits for an answer takes it now
                        await stream.send(b"{}\n")
                except JournalError as error:
                    log.warning("the status could not be told: %s", error)
                except (anyio.BrokenResourceError, OSError):
                    pass

    try:
        async with listener:
            task_status.started()
            while True:
                try:
                    await listener.serve(answer)
                except* anyio.BrokenResourceError as error:  # no descriptor was free: later there may be one
                    log.warning("a status connection could not be taken: %s", error.exceptions[0].__cause__)
                await anyio.sleep(ACCEPT_AGAIN_S)
    finally:
        path.unlink(missing_ok=True)


async def _wants_a_look(stream: anyio.abc.SocketStream) -> bool:
    asked = b""
    while len(asked) < len(LOOK):
        try:
            asked += await stream.receive(len(LOOK) - len(asked))
        except anyio.EndOfStream:
            return False
    return asked == LOOK


def _encode(agents: list[AgentStatus]) -> bytes:
    status = {"version": VERSION, "pid": os.getpid(), "agents": [attrs.asdict(agent) for agent in agents]}
    return json.dumps(status).encode() + b"\n"


def have_it_look(path: Path) -> bool:
    """Have the daemon behind the socket see what is new in its journal; False if none runs. Raises `StatusError`."""
    return ask_status(path, LOOK) is not None


def ask_status(path: Path, then: bytes = b"") -> dict[str, Any] | None:
    """Return what the daemon behind the socket says of its agents; None if none runs.

    :param then: sent after that; what comes back is waited for.
    :raises StatusError: if one runs and does not answer, or may not be asked.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(TIMEOUT_S)
        try:
            with _short(path) as short:
                client.connect(short)
            with client.makefile("rb") as answer:
                found: dict[str, Any] = json.loads(answer.readline())
                if then:
                    client.sendall(then)
                    answer.readline()
        except (FileNotFoundError, NotADirectoryError, ConnectionError, ValueError):
            return None  # or it ended while it was asked
        except (TimeoutError, BlockingIOError):
            raise StatusError(path, f"it does not answer within {TIMEOUT_S:g} s") from None
        except OSError as error:
            raise StatusError(path, error.strerror or str(error)) from None
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
