"""The frame protocol between host and runner, used by both ends of the pipe: kinds, bounds, packing, reading.

!IBI  length of the payload, kind, id; then the payload. A payload is at most `MAX_FRAME` bytes. A frame of an
unknown kind, or of the wrong direction, ends the connection. The first frame each way is HELLO (READY from the
runner): it carries the protocol's version and the release, and the two ends must agree on both.

host -> runner
  HELLO   JSON: version, release, workspace, env, inherit, limits (setrlimit's by name; those that are watched:
          processes, workspace_bytes, workspace_inodes), watched (folders beside the workspace),
          output_bytes, grace_s, tells_clock, folders, socket, pythonpath, site (folders behind the
          standard library), preload (modules), sources (their text by path), catalog, token, line (an inherited
          descriptor: the host's direct line)
  RUN     id = action; u32 length of a JSON header, the header, then the code or the file's content, and what
          the code reads as standard input (stdin_bytes)
  CANCEL  id = action
  REPLY   id = call; u8 (0 ok, 1 error), then JSON
  SETUP   JSON: pythonpath, site, preload, sources, catalog, bindings_env (new bindings)
  SHELL   id = request; JSON: null asks for the shell's state, {"set": STATE} replaces it ({"set": null}: a fresh
          one); both are answered by SHELL
  CLOCK   id = action; JSON: waited_s (how long it has waited for tools), waits (whether it does so now)
  END     end everything; a closed pipe means the same
runner -> host
  READY   JSON: version, release, pid, python, bash, subreaper
  STDOUT, STDERR  id = action; the bytes as they came
  DROPPED id = action; u8 stream (1, 2), u64 bytes left out in the middle; the tail follows
  EXIT    id = action; JSON: status, exit_code, wall_s, cpu_s, peak_memory_bytes, message
  CALL    id = call; u32 action, u16 length of the tool's name, the name, the arguments as JSON
  SHELL   id = request; JSON: STATE = {workspace, cwd, source, options, shopts, unset}, or {error}
  CLOCK   id = action, whose time is up: asks for CLOCK, if HELLO has `tells_clock`. The time-out does not count its
          wait for tools
  FATAL   JSON: message; the runner ends

The direct line, where there is one, carries messages of one u32, the action, each with the descriptor of a socket
over which the action's code calls tools; the host reads the calls from it (`agentd_runner.host.line`).
"""

from __future__ import annotations

import socket
import struct

RELEASE = "1.0.0rc1"  # of all distributions; scripts/version writes it
VERSION = 1  # of this protocol
MAX_FRAME = 64 * 1024 * 1024
MAX_CALL = MAX_FRAME - 1024
SERVE = "--serve"
HEADER = struct.Struct("!IBI")
U32 = struct.Struct("!I")

HELLO, RUN, CANCEL, REPLY, SETUP, END = 1, 2, 3, 4, 5, 6
SHELL, CLOCK = 7, 8  # these go both ways
READY, STDOUT, STDERR, DROPPED, EXIT, CALL, FATAL = 65, 66, 67, 68, 69, 70, 71
TO_RUNNER = frozenset((HELLO, RUN, CANCEL, REPLY, SETUP, END, SHELL, CLOCK))
TO_HOST = frozenset((READY, STDOUT, STDERR, DROPPED, EXIT, CALL, FATAL, SHELL, CLOCK))

# Tool calls: what both ends hold the code to.
MESSAGE_SIZE = 64 * 1024  # below malloc's mmap threshold: a larger buffer costs a call more than its work
MAX_CHANNELS = 512
MAX_DIRECT = 64 * 1024  # bytes of a request that code sends to the host past us
MAX_DIRECT_CHANNELS = 32  # of one action: the host's descriptors are not the code's to use up
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


class FrameError(Exception):
    """The other side sent something that is no frame of this protocol."""


def pack(kind: int, ident: int, payload: bytes) -> bytes:
    """Return one frame."""
    return HEADER.pack(len(payload), kind, ident) + payload


class FrameReader:
    """Cuts a byte stream into frames; the kinds that may arrive are given."""

    def __init__(self, kinds: frozenset[int]) -> None:
        self.kinds = kinds
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Return the frames that are complete with `data`. Raises `FrameError`."""
        buffer = self.buffer
        buffer += data
        frames = []
        start, end = 0, len(buffer)
        while end - start >= HEADER.size:
            length, kind, ident = HEADER.unpack_from(buffer, start)
            if kind not in self.kinds:
                raise FrameError(f"unknown frame kind {kind}")
            if length > MAX_FRAME:
                raise FrameError(f"a frame of {length} bytes; at most {MAX_FRAME} are allowed")
            body = start + HEADER.size
            if end - body < length:
                break
            frames.append((kind, ident, bytes(buffer[body : body + length])))
            start = body + length
        if start:
            del buffer[:start]
        return frames
