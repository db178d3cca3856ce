"""A program for the tests: the real REPL on this terminal, over a daemon whose agents do what a pipe says.

    repl_daemon.py ORDERS_FD LOG_FD [HISTORY_FILE]

Orders and log are JSON lines. Orders: {"emit": AGENT, "event": CLASS, "fields": {...}}, {"state": AGENT, "is": STATE},
{"ping": N}, {"print": TEXT}, {"warn": TEXT}, {"cancel": true}.
The log tells which calls of `Control` were made, and answers pings.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
from agentd import events
from agentd.errors import UnknownSnapshotError
from agentd.events import Event
from agentd.turn.transcript import Message
from agentd.types import ToolSpec, Usage
from agentd_cli.prompt import prompt_possible
from agentd_daemon.control import AgentState, AgentStatus, ServerStatus
from agentd_daemon.journal import JournalledQuestion, UnknownQuestionError
from agentd_daemon.repl import run_repl


class ToldDaemon:
    """A `Control` that keeps its promises and leaves the work to the test."""

    def __init__(self, log: int) -> None:
        self._log = log
        self._listeners: list[Callable[[str, Event], None]] = []
        servers = (
            ServerStatus(name="fetch", state="up"),
            ServerStatus(name="files", state="down", error="gone"),
        )
        self._agents = {
            "news": AgentStatus(name="news", state="idle", queued=0, model="m-1", servers=servers),
            "mail": AgentStatus(name="mail", state="parked", queued=2, last_error="no such\x1b[2J server"),
        }
        question = JournalledQuestion(
            id="q1",
            agent="news",
            trigger_id="t0",
            state="open",
            kind="tool",
            name="send_mail",
            source="mail",
            digest="",
            arguments='{"to": "you\x1b[2J"}',
            why="rule 1",
            workspace="/w",
            asked_at=0.0,
            until=1e12,
        )
        self._questions = {question.id: question}
        self._agents["news"] = attrs.evolve(self._agents["news"], questions=("q1",))
        self._checkpoints: list[str] = []
        self._triggers = 0
        self.stopped = asyncio.Event()

    def note(self, *words: object) -> None:
        os.write(self._log, json.dumps(words).encode() + b"\n")

    def set_state(self, agent: str, state: AgentState) -> None:
        current = "t0" if state == "running" else ""
        self._agents[agent] = attrs.evolve(self._agents[agent], state=state, current=current)

    def emit(self, agent: str, event: Event) -> None:
        for on_event in list(self._listeners):
            on_event(agent, event)

    def agents(self) -> list[AgentStatus]:
        return list(self._agents.values())

    async def submit(self, agent: str, text: str) -> str:
        self.note("submit", agent, text)
        if text == "wait":
            await anyio.sleep_forever()
        if text == "fail":
            raise OSError("the disk is full\x1b]52;c;aGk=\x07")
        self._triggers += 1
        return f"t{self._triggers}"

    def listen(self, on_event: Callable[[str, Event], None]) -> Callable[[], None]:
        self._listeners.append(on_event)
        self.note("listen")
        return lambda: self._listeners.remove(on_event)

    def cancel(self, agent: str) -> bool:
        running = self._agents[agent].state == "running"
        self.note("cancel", agent, running)
        if running:
            self.set_state(agent, "idle")
            self.emit(agent, events.RunEnd(stop_reason="cancelled"))
        return running

    def resume(self, agent: str) -> bool:
        parked = self._agents[agent].state == "parked"
        if parked:
            self.set_state(agent, "idle")
        return parked

    def questions(self) -> list[JournalledQuestion]:
        return list(self._questions.values())

    def answer(self, id: str, *, allowed: bool, scope: str = "once", reason: str = "") -> str:
        self.note("answer", id, allowed, scope, reason)
        question = self._questions.pop(id, None)
        if question is None:
            raise UnknownQuestionError(id, "here")
        return f"{'allowed' if allowed else 'denied'}: {question.name}"

    async def tools(self, agent: str) -> list[ToolSpec]:
        return [ToolSpec(name="fetch", source="web", description="Get a page.\nMore about it.")]

    def history(self, agent: str, limit: int = 20) -> list[Message]:
        said = [Message("task", "what is new?"), Message("answer", f"nothing for {agent}\n" * 40)]
        return said[-limit:]

    async def snapshot(self, agent: str, label: str | None = None) -> str:
        self._checkpoints.append(label or f"c{len(self._checkpoints) + 1}")
        return self._checkpoints[-1]

    async def rewind(self, agent: str, wanted: str) -> str:
        if wanted not in self._checkpoints:
            raise UnknownSnapshotError(wanted, self._checkpoints)
        return wanted

    def stop(self) -> None:
        self.note("stop", len(self._listeners))
        self.stopped.set()


async def carry_out(daemon: ToldDaemon, order: dict[str, Any], scope: anyio.CancelScope) -> None:
    match order:
        case {"emit": agent, "event": kind, "fields": fields}:
            if "usage" in fields:
                fields["usage"] = Usage(**fields["usage"])
            daemon.emit(agent, getattr(events, kind)(**fields))
        case {"state": agent, "is": state}:
            daemon.set_state(agent, state)
        case {"ping": number}:
            daemon.note("pong", number)
        case {"print": text}:
            print(text)
        case {"warn": text}:
            await anyio.to_thread.run_sync(logging.getLogger("agentd.test").warning, text)
        case {"cancel": _}:
            scope.cancel()


async def main(orders: int, log: int, history: Path | None) -> None:
    daemon = ToldDaemon(log)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    pipe = os.fdopen(orders, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    async with anyio.create_task_group() as group:

        async def follow() -> None:
            while line := await reader.readline():
                await carry_out(daemon, json.loads(line), scope)

        group.start_soon(follow)
        with anyio.CancelScope() as scope:
            await run_repl(daemon, history_file=history)
        daemon.note("returned", scope.cancelled_caught, repr(termios.tcgetattr(0)[3] & termios.ECHO != 0))
        group.cancel_scope.cancel()
    transport.close()


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # the terminal of this session: resizing it sends SIGWINCH
    assert prompt_possible(sys.stdin, sys.stdout)
    file = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    anyio.run(main, int(sys.argv[1]), int(sys.argv[2]), file)
    print("goodbye", flush=True)
