"""The frame protocol between host and runner, used by both ends of the pipe: kinds, bounds, packing, reading.

!IBI  length of the payload, kind, id; then the payload. How long it may be depends on the kind (`TO_HOST`,
`TO_RUNNER`). A frame of an unknown kind, of the wrong direction or longer than its kind may be ends the connection. The
first frame each way is HELLO (READY from the runner): it carries the protocol's version and the release, and the two
ends must agree on both. What else a frame must be is checked by the host first (`agentd_runner.host.border`).

host -> runner
  HELLO   JSON: version, release, workspace, env, inherit, limits (setrlimit's by name; those that are watched:
          processes, workspace_bytes, workspace_inodes), watched (folders beside the workspace),
          output_bytes, grace_s, jobs (how many there may be at once), job_output_bytes, tells_clock, folders, socket,
          pythonpath, site (folders behind the standard library), preload (modules), sources (their text by path),
          catalog, token, line (an inherited descriptor: the host's direct line), ahead (kinds of workers to make before
          an action asks for one), niceness (what runs here has at least that)
  RUN     id = action; u32 length of a JSON header (with the name of a job, `job`, if it starts one; `lasting` if what
          it leaves running becomes one), the header, then the code or the file's content, and what the code reads as
          standard input (stdin_bytes)
  CANCEL  id = action
  REPLY   id = call; u8 (0 ok, 1 error), then JSON
  SETUP   JSON: pythonpath, site, preload, sources, catalog, bindings_env (new bindings; the last one only if it is
          another)
  SHELL   id = request; JSON: null asks for the shell's state, {"set": STATE} replaces it ({"set": null}: a fresh
          one); both are answered by SHELL
  CLOCK   id = action; JSON: waited_s (how long it has waited for tools), waits (whether it does so now)
  IMPORTS id = request; before END: which modules are not imported ahead? Nothing else is in it
  END     end everything; a closed pipe means the same
runner -> host
  READY   JSON: version, release, pid, python, bash, subreaper
  STDOUT, STDERR  id = action; the bytes as they came
  DROPPED id = action; u8 stream (1, 2), u64 bytes left out in the middle; the tail follows; once for each stream
  EXIT    id = action; JSON: status, exit_code, wall_s, cpu_s, peak_memory_bytes, message, channels (how many of its
          channels the host was given over the direct line, if any),
          left_out (lines "module: reason" of those that are not imported ahead, if there are new ones)
  CALL    id = call; u32 action, u16 length of the tool's name, the name, the arguments as JSON
  SHELL   id = request; JSON: STATE = {workspace, cwd, source, options, shopts, unset}, or {error}
  CLOCK   id = action, whose time is up: asks for CLOCK, if HELLO has `tells_clock`. The time-out does not count its
          wait for tools
  IMPORTS id = request; JSON: left_out, as in EXIT; when what is under way is done, or has taken a moment
  JOB     JSON: name, state (`started`, `ended`), exit_code, wall_s, message; if HELLO has `jobs`: a job outlives its
          block, and one that does has ended. What ends in its block's own answer is not told
  FATAL   JSON: message; the runner ends

The direct line, where there is one, carries messages of one u32, the action, each with the descriptor of a socket
over which the action's code calls tools; the host reads the calls from it (`agentd_runner.host.line`).
"""

from __future__ import annotations

import struct

from .primitives import socket

RELEASE = "1.0.0rc1"  # of all distributions; scripts/version writes it
VERSION = 1  # of this protocol
MAX_FRAME = 64 * 1024 * 1024
MAX_CALL = MAX_FRAME - 1024
MAX_OUTPUT = 1024 * 1024  # of one frame with output
MAX_STATE = 8 * 1024 * 1024  # of a shell's state, as JSON
MAX_WORDS = 64 * 1024  # of the frames that hold nothing but numbers and a message
MAX_MODULES = 128  # that are imported ahead of the blocks of one session
SERVE = "--serve"
HEADER = struct.Struct("!IBI")
U32 = struct.Struct("!I")

HELLO, RUN, CANCEL, REPLY, SETUP, END = 1, 2, 3, 4, 5, 6
SHELL, CLOCK, IMPORTS = 7, 8, 9  # these go both ways
READY, STDOUT, STDERR, DROPPED, EXIT, CALL, FATAL, JOB = 65, 66, 67, 68, 69, 70, 71, 72
# The kinds of each direction, and how many bytes a payload of them may have.
TO_RUNNER = dict.fromkeys((HELLO, RUN, CANCEL, REPLY, SETUP, END, SHELL, CLOCK, IMPORTS), MAX_FRAME)
TO_HOST = {
    READY: MAX_WORDS,
    STDOUT: MAX_OUTPUT,
    STDERR: MAX_OUTPUT,
    DROPPED: 9,
    EXIT: MAX_WORDS,
    CALL: MAX_FRAME,
    SHELL: MAX_STATE,
    CLOCK: 0,
    IMPORTS: MAX_WORDS,
    FATAL: MAX_WORDS,
    JOB: MAX_WORDS,
}

# Tool calls: what both ends hold the code to.
MESSAGE_SIZE = 64 * 1024  # below malloc's mmap threshold: a larger buffer costs a call more than its work
MAX_CHANNELS = (
    4096  # each thread of the code has one; so many threads and processes an action may have by default
)
# So many calls of a runner are on their way: one for each channel, as those that wait for somebody's permission must
# hold up no other one. Those on top, of channels that were closed meanwhile, wait in their sockets.
MAX_CALLS_SENT = MAX_CHANNELS
# Of the channels, the host takes so many itself: its descriptors are not the code's to use up.
MAX_DIRECT_CHANNELS = 32  # of one action
MAX_LINE_CHANNELS = (
    512  # of all together; a runner passes on half of it, as the host learns of an action's end later
)
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


class FrameError(Exception):
    """The other side sent something that is no frame of this protocol."""


def pack(kind: int, ident: int, payload: bytes) -> bytes:
    """Return one frame."""
    return HEADER.pack(len(payload), kind, ident) + payload


class FrameReader:
    """Cuts a byte stream into frames; the kinds that may arrive are given, with the most bytes that each may have."""

    def __init__(self, kinds: dict[int, int]) -> None:
        self.kinds = kinds
        self.rest = b""  # the beginning of a header
        self.head = (0, 0)  # kind and id of the frame under way
        self.length = 0  # its payload's
        self.missing = 0  # so much of that has not arrived; 0: no frame is under way
        self.body = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Return the frames that are complete with `data`. Raises `FrameError`."""
        frames: list[tuple[int, int, bytes]] = []
        if self.missing:
            if len(data) < self.missing:
                self.body += data
                self.missing -= len(data)
                return frames
            self.body += data[: self.missing]
            frames.append((*self.head, bytes(self.body)))
            self.body = bytearray()
            data = data[self.missing :]
            self.missing = 0
        if self.rest:
            data = self.rest + data
        start, end = 0, len(data)
        while end - start >= HEADER.size:
            length, kind, ident = HEADER.unpack_from(data, start)
            if length > self.kinds.get(kind, -1):
                self.refuse(kind, length)
            start += HEADER.size
            if end - start < length:
                self.head, self.length = (kind, ident), length
                self.missing = length - (end - start)
                self.body += data[start:]
                start = end
                break
            frames.append((kind, ident, data[start : start + length]))
            start += length
        self.rest = data[start:]
        return frames

    def refuse(self, kind: int, length: int) -> None:
        if kind not in self.kinds:
            raise FrameError(f"unknown frame kind {kind}")
        raise FrameError(
            f"a frame of kind {kind} with {length} bytes; at most {self.kinds[kind]} are allowed"
        )
