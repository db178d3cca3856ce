"""The wire: JSON-RPC messages, one a line, bounded. What is no message is answered with an error, the rest served."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentd_acp.incoming import INVALID_REQUEST, PARSE_ERROR, LineProblem, read_message

if TYPE_CHECKING:
    from agentd_cli.standard_streams import StandardInput, StandardOutput

__all__ = ["MAX_LINE_BYTES", "MessageWire"]

MAX_LINE_BYTES: Final = 32 << 20
"""Of one message: an image of 8 MiB as base64, and text around it, have room in it."""
_MAX_WAITING: Final = 1_000
"""So many answers may wait to be written, of this size in memory, before no message is received any more."""
_MAX_WAITING_BYTES: Final = 16 << 20
_END_CHECK_S: Final = 1.0
_ERROR_WRITE_S: Final = 5.0
_MAX_ERRORS: Final = 20
_NAMES: Final = {PARSE_ERROR: "Parse error", INVALID_REQUEST: "Invalid request"}


@attrs.define(eq=False)
class _Outgoing:
    data: str
    held_bytes: int  # of an answer, in memory; 0 for anything else
    written: asyncio.Event = attrs.field(factory=asyncio.Event)


class MessageWire:
    """Carries messages between the SDK's connection and two descriptors: an `acp` transport.

    A message is written whole, or not at all: whoever waits for it may be cancelled. A reader that is slow makes those
    wait who send.

    While 1,000 answers, or 16 MiB of them, wait to be written, no message is received: a client that asks and does not
    read would fill the memory. Only answers count. A turn has none for long, and a `session/cancel`, or the answer to a
    permission request, must come in meanwhile.

    :param source: where lines come from.
    :param target: where they go.
    :param max_line_bytes: of a message that comes in; a longer one is passed over, and answered with an error.
    """

    def __init__(
        self, source: StandardInput, target: StandardOutput, *, max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        self._source = source
        self._target = target
        self._max_line_bytes = max_line_bytes
        self._lines: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._held = 0  # bytes in the pieces; of a line that is too long, those that were passed over
        self._too_long = False
        self._at_end = False
        self._outgoing: deque[_Outgoing] = deque()
        self._waiting = 0  # answers among them
        self._waiting_bytes = 0
        self._has_room = asyncio.Event()
        self._is_more = asyncio.Event()
        self._unanswered: set[str | int | None] = set()
        self._all_answered = asyncio.Event()
        self._behind: dict[asyncio.Task[Any], list[Callable[[], Awaitable[object]]]] = {}
        self.is_gone = asyncio.Event()
        """Set when nothing that is written arrives any more."""

    # --- what the SDK's connection calls -------------------------------------------------------------

    async def receive(self) -> dict[str, Any] | None:
        """Wait for the next message; None is the end."""
        while True:
            await self._room()
            while not self._lines:
                if self._at_end or self.is_gone.is_set():
                    return None
                self._take(await self._source.read())
            line = self._lines.popleft()
            message = read_message(line) if line else self._too_long_line()
            if isinstance(message, LineProblem):
                await self._refuse(message)
            elif message is not None:
                if "method" in message and message.get("id") is not None:
                    self._unanswered.add(message["id"])
                    self._all_answered.clear()
                return message

    async def send(self, message: dict[str, Any]) -> None:
        """Write a message, and wait until it is written. If nobody reads, what is no request is dropped.

        :raises ConnectionError: for a request that nobody will answer.
        """
        is_request = "method" in message and "id" in message
        if not self.is_gone.is_set():
            await self._write(message)
        if self.is_gone.is_set() and is_request:
            raise ConnectionError("the client has gone away")
        if "method" not in message:
            self._unanswered.discard(message["id"])
            if not self._unanswered:
                self._all_answered.set()
            task = asyncio.current_task()
            for follow in self._behind.pop(task, []) if task is not None else []:
                await follow()

    async def close(self) -> None:
        """Whoever made the descriptors closes them."""

    # --- what the agent calls ------------------------------------------------------------------------

    def behind_answer(self, follow: Callable[[], Awaitable[object]]) -> None:
        """Have an asynchronous function called when the request that this task serves was answered: what a client is
        to hear of a session that it does not know yet."""
        task = asyncio.current_task()
        if task is not None:
            self._behind.setdefault(task, []).append(follow)

    async def write_all(self) -> None:
        """Write what is sent, until cancelled or until nobody reads."""
        try:
            while True:
                while not self._outgoing:
                    self._is_more.clear()
                    await self._is_more.wait()
                next_one = self._outgoing[0]
                await self._target.write(next_one.data)
                self._count(self._outgoing.popleft(), -1)
                self._has_room.set()
                next_one.written.set()
        except OSError:  # a pipe that was closed at its other end
            pass
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Write no more: whoever waits goes on."""
        self.is_gone.set()
        for one in self._outgoing:
            one.written.set()
        self._has_room.set()
        self._all_answered.set()

    async def finish(self, within_s: float) -> None:
        """Wait until every request was answered, but no longer than so many seconds."""
        if not self._unanswered:
            self._all_answered.set()
        try:
            async with asyncio.timeout(within_s):
                await self._all_answered.wait()
                while self._outgoing and not self.is_gone.is_set():
                    await self._outgoing[-1].written.wait()
                    await asyncio.sleep(0)
        except TimeoutError:
            pass

    # --- inside --------------------------------------------------------------------------------------

    async def _room(self) -> None:
        """Wait while too many answers wait to be written. A client that has closed its end is not waited for: it says
        no more than what is in the pipe, and the end must be seen."""
        # Many messages may have come at once: those before this one are answered first.
        await asyncio.sleep(0)
        while self._waiting >= _MAX_WAITING or self._waiting_bytes >= _MAX_WAITING_BYTES:
            if self.is_gone.is_set() or self._source.is_hung_up():
                return
            self._has_room.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_END_CHECK_S):  # nothing wakes a reader that does not read
                    await self._has_room.wait()

    def _count(self, outgoing: _Outgoing, sign: int) -> None:
        if outgoing.held_bytes:
            self._waiting += sign
            self._waiting_bytes += sign * outgoing.held_bytes

    def _take(self, data: bytes) -> None:
        """Cut what has come into lines."""
        if not data:
            self._at_end = True
            if self._held:
                self._end_line()
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            self._end_line()
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._held += len(piece)
        if self._held > self._max_line_bytes:
            self._too_long = True
            self._pieces.clear()
        elif piece:
            self._pieces.append(piece)

    def _end_line(self) -> None:
        line = b"".join(self._pieces).strip()
        if self._too_long:
            self._lines.append(b"")
        elif line:
            self._lines.append(line)
        self._pieces.clear()
        self._held, self._too_long = 0, False

    def _too_long_line(self) -> LineProblem:
        why = f"a message may have {self._max_line_bytes:,} bytes; a longer line was passed over"
        return LineProblem(None, INVALID_REQUEST, why)

    async def _refuse(self, problem: LineProblem) -> None:
        """Answer what is no message. Whoever does not read that either must not keep the others waiting."""
        said = {"code": problem.code, "message": _NAMES[problem.code], "data": {"details": problem.why}}
        try:
            async with asyncio.timeout(_ERROR_WRITE_S):
                await self._write({"jsonrpc": "2.0", "id": problem.id, "error": said})
        except TimeoutError:
            pass

    async def _write(self, message: dict[str, Any]) -> None:
        data = json.dumps(_tidy(message), ensure_ascii=False, default=str) + "\n"
        outgoing = _Outgoing(data, 0 if "method" in message else sys.getsizeof(data))
        self._outgoing.append(outgoing)
        self._count(outgoing, 1)
        self._is_more.set()
        await outgoing.written.wait()


def _tidy(message: dict[str, Any]) -> dict[str, Any]:
    """Leave out of an error about parameters what they were: they may be long, and the client has them."""
    data = message.get("error", {}).get("data")
    if isinstance(data, dict) and isinstance(data.get("errors"), list):
        errors = [
            {"where": ".".join(map(str, one.get("loc", ()))), "why": str(one.get("msg", ""))[:300]}
            for one in data["errors"][:_MAX_ERRORS]
            if isinstance(one, dict)
        ]
        message = {**message, "error": {**message["error"], "data": {"errors": errors}}}
    return message
