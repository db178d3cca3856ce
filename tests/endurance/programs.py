"""The long-living programs of a run, each a process whose end is known, whoever caused it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from endurance.measuring import started
from endurance.world import Tally, World

__all__ = ["HostProgram", "Program"]

PATIENCE_S = 120.0
LOOK_S = 0.05


class Program:
    """A command that runs until it is ended, with its log in a file.

    :param ready: what its log says when it can be used; a group of it is its address.
    """

    def __init__(
        self, name: str, world: World, command: Sequence[str], ready: str, env: dict[str, str] | None = None
    ) -> None:
        self.name = name
        self.command = [sys.executable, *command]
        self.log = world.folder / "logs" / f"{name}.log"
        self.address = ""
        self.starts = 0
        self._env = {**world.env(), **(env or {})}
        self._cwd = world.folder / "work"
        self._ready = re.compile(ready)
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it can be used."""
        with self._lock:
            with self.log.open("ab") as log:
                since = log.tell()
                self._process = self._popen(log)
            self.starts += 1
            self.address = self._wait_until_ready(since)

    def _popen(self, log: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=log,  # type: ignore[call-overload]
            stderr=log,
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )

    def _wait_until_ready(self, since: int) -> str:
        end = time.monotonic() + PATIENCE_S
        while True:
            found = self._ready.search(self.text(since))
            if found is not None:
                return found[1] if found.groups() else ""
            if not self.pid or time.monotonic() > end:
                raise RuntimeError(f"{self.name} did not start; its log is {self.log}:\n{self.tail()}")
            time.sleep(LOOK_S)

    @property
    def pid(self) -> int:
        """Its pid while it lives, else 0."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    @property
    def life(self) -> str:
        """Which process of this name it is."""
        return f"{self.pid}@{started(self.pid)}" if self.pid else ""

    def text(self, since: int = 0) -> str:
        """What it has logged."""
        with self.log.open("rb") as log:
            log.seek(since)
            return log.read().decode("utf-8", "replace")

    def tail(self) -> str:
        """The end of its log."""
        return self.text()[-1500:]

    def revive(self, tally: Tally) -> None:
        """Start it again if it has ended by itself, which is wrong."""
        with self._lock:
            if self._process is not None and not self.pid:
                tally.wrong(f"{self.name} ended by itself ({self._process.returncode}):\n{self.tail()}")
                self.start()

    def hang_up(self) -> None:
        """Send SIGHUP."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(signal.SIGHUP)

    def kill(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """End it as a crash would, and start it again."""
        with self._lock:
            if self._process is None:
                return
            self._process.kill()
            self._process.wait()
            meanwhile()
            self.start()

    def end(self) -> str:
        """End it in order; return what is wrong with that, if anything."""
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return ""
            self._ask_to_end(process)
            try:
                code = process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return f"{self.name} did not end within {PATIENCE_S:g} s:\n{self.tail()}"
            if process.stdin is not None:
                process.stdin.close()
            return "" if code in (0, 143) else f"{self.name} ended with {code}:\n{self.tail()}"

    def _ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()


class HostProgram(Program):
    """The measured host, whose counts come as lines of JSON."""

    def __init__(self, world: World, works: Sequence[str], tally: Tally) -> None:
        worker = Path(__file__).with_name("worker.py")
        super().__init__("host", world, [str(worker), world.text(), *works], "")
        self._tally = tally
        self._reader: threading.Thread | None = None
        self._told = threading.Event()

    def _popen(self, log: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,  # type: ignore[call-overload]
            env=self._env,
            cwd=self._cwd,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()
        return process

    def _wait_until_ready(self, since: int) -> str:
        if not self._told.wait(PATIENCE_S) or not self.pid:
            raise RuntimeError(f"{self.name} did not start; its log is {self.log}:\n{self.tail()}")
        return ""

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self._tally.put(json.loads(line))
                self._told.set()
        self._told.set()

    def _ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()

    def end(self) -> str:
        """End it, and read the last that it has counted."""
        wrong = super().end()
        if self._reader is not None:
            self._reader.join(10)
        return wrong
