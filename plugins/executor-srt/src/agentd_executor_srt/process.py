"""One srt as the host sees it: a supervisor's pipes, and the pipe that tells srt new settings."""

from __future__ import annotations

import json
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

__all__ = ["SandboxProcess", "start_sandbox"]

TERM_S = (
    12.0  # how long the supervisor may take to kill, to tidy up and to hand back before it counts as lost
)

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

    def wait_gone(self, timeout_s: float) -> None:
        """Wait until the supervisor has ended, and srt, too, should the supervisor have been killed."""
        deadline = time.monotonic() + timeout_s
        self.wait(timeout_s)
        with self._lock:
            if self._control >= 0:  # its other end is srt's alone, so this one tells when srt is gone
                poller = select.poll()
                poller.register(self._control, 0)
                poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        self.close_control()

    def __del__(self) -> None:
        if getattr(self, "_control", -1) >= 0:
            os.close(self._control)


def start_sandbox(job: Mapping[str, Any], env: Mapping[str, str]) -> SandboxProcess:
    """Start the supervisor with this job (see `supervisor.SandboxJob`) and exactly this environment for srt."""
    reading, writing = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *supervisor_command("agentd_executor_srt.supervisor", str(Path(__file__).parents[1])),
                json.dumps({**job, "control": reading}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd="/",
            bufsize=0,
            close_fds=True,
            pass_fds=[reading],
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return SandboxProcess(process, writing)
