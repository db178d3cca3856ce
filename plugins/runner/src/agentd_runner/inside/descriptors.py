"""Descriptors: the numbers of a worker's, and how it comes to have no others; how processes make and send them."""

from __future__ import annotations

import os
import resource
import struct

from .primitives import signal, socket

# Descriptors of a worker, above those that scripts use by number (`exec 3>log`).
BROKER_FD, CODE_FD, JOB_FD, SAVE_FD, META_FD, GATE_FD, BASE_FD = 90, 91, 92, 93, 94, 95, 96
MAX_DESCRIPTOR = 1 << 16
OURS = 512  # what the runner keeps for pipes, workers and files


def settle(moves: dict[int, int]) -> None:
    """Lead a session of one's own, with the descriptors `moves` (number: from where) and no others."""
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(moves.get(descriptor, null), descriptor)
    start = 3
    kept = sorted(target for target in moves if target > 2)
    for target in kept:
        os.dup2(moves[target], target, inheritable=True)
    for target in kept:
        os.closerange(start, target)
        start = target + 1
    os.closerange(start, MAX_DESCRIPTOR)


def free_descriptors() -> int:
    """Return how many sockets this process may hold beside what else it opens."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_DESCRIPTOR if most == resource.RLIM_INFINITY else max(most - OURS, most // 2)


def anonymous_file() -> int:
    """Return a descriptor of a file without a name."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("agentd")
    import tempfile

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def message_pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:  # macOS has no SOCK_SEQPACKET for local sockets
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def close_quietly(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass


def send_with_descriptors(sock: socket.socket, message: bytes, descriptors: list[int]) -> None:
    sock.sendmsg(
        [message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(descriptors)}i", *descriptors))]
    )


def receive(sock: socket.socket, size: int, most: int = 0, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive a message with at most so many descriptors; nothing if the other end has gone.

    If it has gone with a message of ours unread, the kernel says that first, once; what it has sent is there still.
    Raises `BlockingIOError` if the flags say not to wait and there is none.
    """
    for _ in range(2):
        try:
            data, ancillary, *_ = sock.recvmsg(size, socket.CMSG_SPACE(4 * most), flags)
        except BlockingIOError:
            raise
        except ConnectionResetError:
            continue
        except OSError:
            break
        return data, [number for *_, packed in ancillary for number in received_descriptors(packed)]
    return b"", []


def received_descriptors(packed: bytes) -> list[int]:
    """Return the descriptors that came with a message. The data may be cut short."""
    return [number for (number,) in struct.iter_unpack("i", packed[: len(packed) - len(packed) % 4])]
