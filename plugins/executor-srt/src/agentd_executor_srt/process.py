"""One srt as the host sees it: a supervisor's pipes, and the pipe that tells srt new settings."""

from __future__ import annotations

import json
import marshal
import os
import select
import subprocess
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentd_runner.host.process import LocalProcess
from agentd_runner.reaper import supervisor_command

__all__ = ["MORE_S", "SandboxProcess", "start_sandbox"]

MORE_S = 1.0
"""How long the end of a session waits for folders of `allow_write` to be given back; the rest is in the background."""

POLL_S = 0.05

_open: weakref.WeakSet[SandboxProcess] = weakref.WeakSet()


def _close_in_child() -> None:
    for process in list(_open):
        process.close_control()
    _open.clear()


os.register_at_fork(after_in_child=_close_in_child)


class SandboxProcess(LocalProcess):
    """A `RunnerProcess` whose process is the supervisor of srt.

    It is never killed, but told to end: it kills what runs in the sandbox at once and then tidies up.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: int) -> None:
        super().__init__(process)
        self._control = control
        self._in_order_at = 0.0
        self._lock = threading.Lock()
        _open.add(self)

    def kill(self) -> None:
        """End everything in the sandbox at once; returns before the end."""
        self._process.terminate()

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Give srt new settings; those of the network hold from the next connection on."""
        data = memoryview(json.dumps(settings).encode() + b"\n")
        with self._lock:
            while data and self._control >= 0:
                try:
                    data = data[os.write(self._control, data) :]
                except BrokenPipeError:  # srt has ended; the next one starts with the new settings
                    return

    def close_control(self) -> None:
        """Let go of the pipe; srt keeps the settings that it has."""
        with self._lock:
            control, self._control = self._control, -1
            if control >= 0:
                os.close(control)

    def wait(self, timeout_s: float) -> int | None:
        """As in `LocalProcess`; it counts as ended, with 0, once all but the files of `allow_write` is in order."""
        deadline = time.monotonic() + timeout_s
        if not self._is_in_order(deadline):
            return super().wait(0)
        self._in_order_at = self._in_order_at or time.monotonic()
        left = min(self._in_order_at + MORE_S, deadline) - time.monotonic()
        code = super().wait(max(0.0, left))
        return 0 if code is None and time.monotonic() >= self._in_order_at + MORE_S else code

    def wait_gone(self, timeout_s: float) -> bool:
        """Wait until srt is gone and the workspace its owner's again; return whether the supervisor has ended, too.

        It may go on giving back folders of `allow_write`, which is waited for during `MORE_S` alone.
        """
        self.wait(timeout_s)
        self.close_control()
        return super().wait(0) is not None

    def wait_ended(self, timeout_s: float) -> bool:
        """Wait until the supervisor has ended."""
        return super().wait(timeout_s) is not None

    def _is_in_order(self, deadline: float) -> bool:
        """Wait until nobody holds the other end of the pipe: srt does, and the supervisor while it is at work."""
        poller = select.poll()
        while True:
            left = deadline - time.monotonic()
            with self._lock:
                if self._control < 0:
                    return True
                poller.register(self._control, 0)
                if poller.poll(max(0.0, min(left, POLL_S)) * 1000):
                    return True
            if left <= 0:
                return False

    def __del__(self) -> None:
        if getattr(self, "_control", -1) >= 0:
            os.close(self._control)


def start_sandbox(job: Mapping[str, Any], env: Mapping[str, str]) -> SandboxProcess:
    """Start the supervisor with this job (see `supervisor.SandboxJob`) and exactly this environment for srt."""
    reading, writing = os.pipe()
    given = os.memfd_create("job")  # no argument: those are bounded, and a large workspace's names are many
    try:
        os.write(given, marshal.dumps({**job, "control": reading}))
        os.lseek(given, 0, os.SEEK_SET)
        process = subprocess.Popen(
            [
                *supervisor_command("agentd_executor_srt.supervisor", str(Path(__file__).parents[1])),
                str(given),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd="/",
            bufsize=0,
            close_fds=True,
            pass_fds=[reading, given],
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
        os.close(given)
    return SandboxProcess(process, writing)
