"""The host's end of a side's process: one request, one answer, each a JSON line; a side that hangs is ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["SideProcess"]

WORKER = Path(__file__).with_name("worker.py")
START_S = 120.0


class SideProcess:
    """A worker of one side, which is started with the first request, or by `begin`, and again after it has ended.

    :param log: where its standard error goes.
    """

    def __init__(self, name: str, python: Path, log: Path) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        self._python = python
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._is_ready = False

    def ask(self, row: str, *, quick: bool, within_s: float) -> dict[str, Any]:
        """Have a row measured; an error of the process is an answer, too.

        :param within_s: when the process itself gives up; a little later it is ended.
        """
        request = {"row": row, "quick": quick, "within_s": within_s}
        try:
            self.begin()
            self.wait_ready()
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._answer(within_s + min(5.0, 1.0 + within_s / 4))
        except (OSError, EOFError, TimeoutError, ValueError, LookupError) as error:
            self.end(at_once=True)
            return {"figures": {}, "error": str(error)}
        if answer.get("stuck"):  # what it has begun may go on
            self.end(at_once=True)
        return answer

    def wait_ready(self) -> None:
        """Wait until the process has imported everything. Raises as `ask` catches it, if there is none."""
        if not self._is_ready:
            self.ready = self._answer(START_S)["ready"]
            self._is_ready = True

    def begin(self) -> None:
        """Start the process, if there is none, and do not wait for it."""
        if self._process is not None:
            return
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("OPENAI_", "AGENTD_", "PYTHON", "LANGSMITH_", "LOGFIRE_"))
        }
        env["PATH"] = f"{self._python.parent}{os.pathsep}{env.get('PATH', '')}"
        env["VIRTUAL_ENV"] = str(self._python.parent.parent)
        env["OPENAI_API_KEY"] = "none"
        env["RIVALS_MCP_PYTHON"] = sys.executable
        self._buffer, self._is_ready = b"", False
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._python, WORKER, self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=env,
                start_new_session=True,
            )

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no answer after {timeout_s:.3g} s")
            part = os.read(self._process.stdout.fileno(), 1 << 16)
            if not part:
                raise EOFError(f"its process ended (see {self._log})")
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self, *, at_once: bool = False) -> None:
        """End the process and its group; the next request starts another one."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(0.0 if at_once else 20.0)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
