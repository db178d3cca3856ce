"""Checks plugins, each in a process of its own: whatever one does when it is imported, it does there."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from tempfile import TemporaryFile
from typing import IO

import attrs
from agentd.errors import PluginError
from agentd.registry import PluginRecord, Registry

__all__ = ["answer", "check_apart"]

_CHILD = """\
import json, sys
path, reply, record = map(json.loads, sys.argv[1:])
sys.path[:] = path
from agentd_cli.plugin_trials import answer
answer(reply, record)"""
_AT_ONCE = min(8, os.cpu_count() or 1)
_MAX_OUTPUT_BYTES = 16 * 2**20  # of one plugin, in a temporary file
_SHOWN_CHARS = 200


def check_apart(
    registry: Registry, kind: str | None = None, *, timeout_s: float = 30.0
) -> list[PluginRecord]:
    """Load every plugin (of one kind) that may be loaded, in processes that end with that, and return the records.

    Whatever a plugin does there becomes its record: it dies, hangs, or leaves a thread (`failed`), or prints
    (`loaded`, with `error` saying so). `registry` imports nothing.

    :param timeout_s: seconds for each plugin.
    """
    with ExitStack() as stack:
        return list(_checked(registry.records(kind), timeout_s, stack))


def _checked(records: tuple[PluginRecord, ...], timeout_s: float, stack: ExitStack) -> Iterator[PluginRecord]:
    waiting: deque[PluginTrial] = deque()
    for record in records:
        if len(waiting) == _AT_ONCE:
            yield waiting.popleft().outcome(timeout_s)
        waiting.append(PluginTrial(record, stack))
    for trial in waiting:
        yield trial.outcome(timeout_s)


class PluginTrial:
    """A process that loads one plugin; none if there is nothing to load."""

    def __init__(self, record: PluginRecord, stack: ExitStack) -> None:
        self._record = record
        self._child: subprocess.Popen[bytes] | None = None
        if record.state != "available":
            return
        files = [stack.enter_context(TemporaryFile()) for _ in range(3)]  # noqa: SIM115 - the stack closes it
        self._reply, self._stdout, self._stderr = files
        fields = (sys.path, self._reply.fileno(), attrs.asdict(record))
        self._child = subprocess.Popen(
            # -P: a module of the current directory must not be imported in place of an installed one
            [sys.executable, "-P", "-c", _CHILD, *map(json.dumps, fields)],
            stdin=subprocess.DEVNULL,
            stdout=self._stdout,
            stderr=self._stderr,
            pass_fds=[self._reply.fileno()],
            start_new_session=True,
        )
        stack.callback(self._end)
        self._start = time.monotonic()

    def _end(self) -> None:
        assert self._child is not None
        with suppress(ProcessLookupError, PermissionError):  # macOS says the second of a group of zombies
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()

    def outcome(self, timeout_s: float) -> PluginRecord:
        """Wait for the process and return the record."""
        if self._child is None:
            return self._record
        try:
            code = self._child.wait(max(0.0, self._start + timeout_s - time.monotonic()))
            ended = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            how = f"ended its process ({ended}) while it was imported"
        except subprocess.TimeoutExpired:
            how = f"was not imported within {timeout_s:g} s"
        self._end()
        if reply := _read(self._reply):
            record = PluginRecord(**json.loads(reply))
            said = _read(self._stdout).strip()
            if not said or record.error:
                return record
            return attrs.evolve(record, error=f"prints while it is imported: {said[:_SHOWN_CHARS]!r}")
        complaint = _read(self._stderr).strip().rpartition("\n")[2][-_SHOWN_CHARS:]
        error = f"{how}: {complaint}" if complaint else how
        return attrs.evolve(self._record, state="failed", error=error)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MAX_OUTPUT_BYTES).decode(errors="replace")


def answer(reply: int, fields: dict[str, str]) -> None:
    """In the child: load the plugin of this record, write what has become of it, and end.

    :param reply: the descriptor of an open file.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_OUTPUT_BYTES, _MAX_OUTPUT_BYTES))
    registry = Registry()
    kind, name = fields["kind"], fields["name"]
    with suppress(PluginError):
        registry.load(kind, name)
    record = next(
        r for r in registry.records(kind) if (r.name, r.distribution) == (name, fields["distribution"])
    )
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(1.0)
            if thread.is_alive() and not record.error:
                error = f"leaves the thread {thread.name!r} running, which would keep programs from ending"
                record = attrs.evolve(record, state="failed", error=error)
    with suppress(Exception):
        sys.stdout.flush()
    os.write(reply, json.dumps(attrs.asdict(record)).encode())
    os._exit(0)  # neither threads nor exit handlers of the plugin hold this up
