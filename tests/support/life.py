"""The daemon as a person runs it: the command `agentd` in a process of its own, with the test's servers and model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentd_daemon.journal import Journal, JournalError
from agentd_daemon.status import ask_status
from agentd_testing.processes import living_with
from fake_openai import Answer, FakeOpenAI

__all__ = ["Home", "Life", "call", "said", "tree_of"]

BOARD = Path(__file__).with_name("board.py")
PATIENCE_S = 60.0  # a loaded machine; what is awaited comes at once otherwise


def call(name: str, /, **arguments: Any) -> Answer:
    """An answer of the model that calls a tool."""
    return Answer(calls=[("call_1", name, json.dumps(arguments))])


def said(request: dict[str, Any]) -> str:
    """Return the last message that a request to the model has."""
    return str(request["messages"][-1]["content"])


def eventually(holds: Callable[[], Any], what: object = "") -> Any:
    """Wait until something holds that no event tells of: in other processes."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < deadline, what() if callable(what) else what or "it never came"
        time.sleep(0.01)
    return found


def started_at(pid: int) -> str:
    """Return when a living process was started, empty if there is none; so no pid is taken for another."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()


def command_of(pid: int) -> bytes:
    """Return the command line of a living process, empty if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def tree_of(pid: int) -> dict[int, str]:
    """Return the processes below one, and itself, with the time of their start."""
    found = {pid: started_at(pid)}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= tree_of(int(child))
    return found


def left_of(tree: dict[int, str], seconds: float = 20.0) -> list[int]:
    """Return those that still live, given a moment to leave the table of processes."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid, start in tree.items() if start and started_at(pid) == start]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.01)
    return left


class Life:
    """A daemon that runs. What it logs is read all the time."""

    def __init__(self, command: Sequence[str], home: Home, **how: Any) -> None:
        self.home = home
        self.lines: list[str] = []
        self._changed = threading.Condition()
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "env": home.env, "cwd": home.cwd} | how
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **how)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def logs(self, text: str, times: int = 1) -> None:
        """Wait until it has logged a text, so many times."""
        with self._changed:
            found = self._changed.wait_for(lambda: self.log.count(text) >= times, PATIENCE_S)
        assert found, f"never logged: {text!r}; what was:\n{self.log}"

    def status(self, agent: str | None = None) -> Any:
        """Return what it says of itself, or of one agent."""
        status = eventually(lambda: ask_status(self.home.state / "control.sock"), lambda: self.log)
        if agent is None:
            return status
        return next((found for found in status["agents"] if found["name"] == agent), None)

    def becomes(self, agent: str, **state: Any) -> Any:
        """Wait until an agent is so, and return its status."""

        def is_so() -> Any:
            status = self.status(agent)
            return status and all(status[key] == value for key, value in state.items()) and status

        return eventually(is_so, lambda: f"{self.status(agent)}\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and return the exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def stop(self) -> int:
        """End it in the orderly way."""
        self.send(signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """End it however it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdout, self.process.stderr, self.process.stdin):
            if pipe is not None:
                pipe.close()


class Home:
    """A place for one daemon: a configuration, a state folder, a folder of the server, a model."""

    def __init__(self, path: Path, model: FakeOpenAI) -> None:
        self.cwd = path / "here"
        self.state = path / "state"
        self.board = path / "board"
        for folder in (self.cwd, self.board):
            folder.mkdir()
        self.model = model
        self.file = self.cwd / "agents.yaml"
        self.env = {**os.environ, "PYTHONWARNINGS": "error", "XDG_STATE_HOME": str(path / "xdg")}
        self.env["AGENTD_EXECUTOR"] = "subprocess"  # the same with and without bubblewrap
        self.env |= {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "none"}
        self._lives: list[Life] = []

    def server(self, *ways: str, **more: Any) -> dict[str, Any]:
        """The configuration of a server."""
        arguments = ["-S", str(BOARD), str(self.board), *ways]
        return {"type": "stdio", "command": sys.executable, "arguments": arguments, **more}

    def agent(self, name: str = "a", **more: Any) -> dict[str, Any]:
        """The configuration of an agent."""
        return {"name": name, "model": "m", **more}

    def write(self, *agents: dict[str, Any], **more: Any) -> Path:
        """Write the configuration."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"agents": agents, **more}), encoding="utf-8")  # JSON is YAML
        return new.replace(self.file)

    def post(self, name: str, text: str) -> None:
        """Change a resource, whole."""
        new = self.board / f".{name}"
        new.write_text(text, encoding="utf-8")
        new.replace(self.board / name)

    def command(self, *arguments: str) -> list[str]:
        """The command `agentd`."""
        return [sys.executable, "-m", "agentd", *arguments]

    def start(self, *arguments: str, **how: Any) -> Life:
        """Start the daemon with its configuration."""
        state = ["--state-dir", str(self.state)]
        life = Life(self.command(str(self.file), *state, *arguments), self, **how)
        self._lives.append(life)
        return life

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `agentd` to its end."""
        return subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.cwd,
            timeout=PATIENCE_S,
        )

    def servers(self) -> list[int]:
        """The pids of all servers that were ever started, in order."""
        journal = self.board / "journal"
        words = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
        return [int(word[1]) for word in words if word[0] == "start"]

    def living_servers(self) -> list[int]:
        """The pids of those that live."""
        return [pid for pid in self.servers() if pid in living_with(str(self.board))]

    def asked(self, text: str, times: int = 1) -> None:
        """Wait until a server was asked something."""
        journal = self.board / "journal"
        eventually(lambda: journal.exists() and journal.read_text().count(text) >= times, text)

    def seen(self, name: str, *agents: str) -> None:
        """Wait until agents ("a" unless told) have noted what a resource holds: what is posted then wakes them.

        That a server was asked is too early: it, or its answer, may not have got further.
        """

        def is_noted(agent: str) -> bool:
            try:
                with Journal.open(self.state / "journal.db", readonly=True) as journal:
                    return journal.last_seen(agent, f"board://{name}") is not None
            except JournalError:  # it is not made yet
                return False

        for agent in agents or ("a",):
            eventually(lambda agent=agent: is_noted(agent), f"{agent} has not looked at {name}")

    def requests(self, number: int) -> list[dict[str, Any]]:
        """Wait for so many requests to the model and return them."""
        eventually(lambda: len(self.model.requests) >= number, lambda: self.model.requests)
        return self.model.requests

    def close(self) -> None:
        for life in self._lives:
            life.close()
