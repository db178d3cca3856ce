"""Daemons that live for a test: in this process, or as the real command; their servers, and waiting for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs
from agentd.events import Event, RunEnd, RunStart
from agentd_daemon.config.values import (
    AgentConfig,
    AgentServerConfig,
    DaemonConfig,
    OnErrorConfig,
    SubscriptionConfig,
)
from agentd_daemon.control import AgentStatus, ServerStatus
from agentd_daemon.daemon import Daemon
from agentd_daemon.journal import Journal, JournalError, Trigger
from agentd_daemon.places import AgentPlace
from agentd_daemon.state import StateFolder
from agentd_demo.replay import ReplayServer, Request

HERE = Path(__file__).parent
PATIENCE_S = 60.0  # for a loaded machine; what is waited for comes at once on an idle one
LOOK_S = 0.01
T = TypeVar("T")


def files_server(folder: Path, *more: str, name: str = "files") -> AgentServerConfig:
    """A server over the files of a folder; `more` are options of `files_server.py`."""
    arguments = ("-S", str(HERE / "files_server.py"), str(folder), *more)
    return AgentServerConfig(command=sys.executable, arguments=arguments, name=name)


def modern_server(folder: Path) -> AgentServerConfig:
    """The same in the 2026-07-28 revision."""
    arguments = (str(HERE / "modern_files_server.py"), str(folder))
    return AgentServerConfig(command=sys.executable, arguments=arguments, name="files")


def agent(model: ReplayServer, *servers: AgentServerConfig, name: str = "news", **keys: Any) -> AgentConfig:
    """An agent that fails fast."""
    keys.setdefault("on_error", OnErrorConfig(backoff_s=0.05, max_backoff_s=0.1))
    keys.setdefault("model_options", {"max_retries": 0})
    keys.setdefault("executor", "subprocess")  # the same with and without bubblewrap
    return AgentConfig(name=name, model="replay", base_url=model.base_url, mcp_servers=servers, **keys)


class Living:
    """A daemon in this process, seen by a test."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.events: list[tuple[str, Event]] = []
        self._news = anyio.Event()
        daemon.listen(self._hear)

    def _hear(self, agent: str, event: Event) -> None:
        self.events.append((agent, event))
        self._news.set()

    @property
    def journal(self) -> Journal:
        assert self.daemon._journal is not None
        return self.daemon._journal

    def count(self, kind: type[Event], agent: str = "news") -> int:
        return sum(name == agent and isinstance(event, kind) for name, event in self.events)

    async def runs_begin(self, number: int, agent: str = "news") -> None:
        """Wait until so many runs of an agent have begun."""
        await self._until_event(RunStart, number, agent)

    async def runs_end(self, number: int, agent: str = "news") -> None:
        """Wait until so many runs of an agent have ended."""
        await self._until_event(RunEnd, number, agent)

    async def _until_event(self, kind: type[Event], number: int, agent: str) -> None:
        with anyio.fail_after(PATIENCE_S):
            while self.count(kind, agent) < number:
                self._news = anyio.Event()
                await self._news.wait()

    async def asked(self, model: ReplayServer, number: int) -> Request:
        """Wait until a model has been asked so often, and return the newest request."""
        await self.until(lambda: len(model.requests) >= number)
        return model.requests[number - 1]

    async def until(self, condition: Callable[[], T]) -> T:
        """Wait for something that nobody tells of, and return it."""
        with anyio.fail_after(PATIENCE_S):
            while not (found := condition()):
                await anyio.sleep(LOOK_S)
        return found

    async def seen(self, uri: str, agent: str = "news") -> None:
        """Wait for the first look."""
        await self.until(lambda: self.journal.last_seen(agent, uri))

    async def settled(self, number: int, agent: str = "news") -> list[Trigger]:
        """Wait until so many triggers are settled, and return them, the oldest first."""

        def ended() -> list[Trigger]:
            found = [t for t in reversed(self.journal.recent(agent, 1000)) if t.ended_at is not None]
            return found if len(found) >= number else []

        return await self.until(ended)

    def status(self, agent: str = "news") -> AgentStatus:
        return next(status for status in self.daemon.agents() if status.name == agent)

    def server(self, agent: str = "news", name: str = "files") -> ServerStatus:
        return next(server for server in self.status(agent).servers if server.name == name)


@asynccontextmanager
async def living(
    folder: Path, *agents: AgentConfig, place: AgentPlace | None = None
) -> AsyncIterator[Living]:
    """Run a daemon with these agents."""
    with StateFolder(folder) as state:
        daemon = Daemon(DaemonConfig(agents=agents), state, place=place)
        seen = Living(daemon)
        async with anyio.create_task_group() as group:
            group.start_soon(daemon.run)
            await daemon.started.wait()
            try:
                yield seen
            finally:
                daemon.stop()


async def once(folder: Path, *agents: AgentConfig) -> Daemon:
    """Run a daemon with `--once`."""
    with StateFolder(folder) as state:
        daemon = Daemon(DaemonConfig(agents=agents), state)
        await daemon.run(once=True)
    return daemon


def told(request: Request) -> list[str]:
    """What a person has said in a request, as the model is told."""
    return [text for role, text in request.messages if role == "user"]


def watching(uri: str, **keys: Any) -> tuple[SubscriptionConfig, ...]:
    """A subscription with options."""
    return (SubscriptionConfig(uri=uri, **keys),)


# --- the real command ----------------------------------------------------------------------------------------


def starts(log: Path) -> list[int]:
    """The pids of the servers that this log tells of, the newest last."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("start ") and len(line.split()) == 2]


def kill_server(pid: int, folder: Path, number: signal.Signals = signal.SIGKILL) -> bool:
    """Kill one of our servers (or send it another signal), if it is (still) one; tell whether it was."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    if os.fsencode(folder) not in command or b"files_server.py" not in b" ".join(command):
        return False
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@attrs.define
class Command:
    """`agentd FILE`, in a process of its own."""

    config: Path
    state: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agentd", str(self.config), "--state-dir", str(self.state)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def triggers(self, agent: str = "news") -> list[Trigger]:
        """All triggers of an agent, the oldest first."""
        with self.reading() as journal:
            return journal.recent(agent, 100_000)[::-1] if journal is not None else []

    def seen(self, uri: str, agent: str = "news") -> str | None:
        """What the agent was last told of a resource."""
        with self.reading() as journal:
            seen = journal.last_seen(agent, uri) if journal is not None else None
        return None if seen is None else seen.content

    @contextmanager
    def reading(self) -> Iterator[Journal | None]:
        """Give the journal to read beside the daemon; None as long as it has not made one."""
        try:
            journal = Journal.open(self.state / "journal.db", readonly=True)
        except JournalError:
            yield None
            return
        with journal:
            yield journal

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        assert self.process.poll() is None, f"the daemon ended by itself:\n{self.tail()}"
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it in order, and by force if that does not work."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the daemon did not end:\n{self.tail()}") from None

    def peak_mib(self) -> int:
        """How much memory the process has had at most; 0 where nobody knows."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status")
        lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
        return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)

    def tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-5000:]


def until(condition: Callable[[], T], what: str, patience_s: float = PATIENCE_S) -> T:
    """Wait for what another process does."""
    deadline = time.monotonic() + patience_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)
    return found
