"""`RunnerExecutor`: an executor on top of a runner process; subclasses say only how to start it."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import (
    ConfigError,
    ExecutorClosedError,
    RunnerDiedError,
    RunnerStartError,
)
from agentd.protocols import Layout, OnOutput, ToolDispatcher
from agentd.types import Action, ActionResult, Limits, PythonAction, PythonState
from agentd.workspace import open_workspace

from agentd_runner.artefact import folder_command
from agentd_runner.host.action_frames import encode_action, timeout_of
from agentd_runner.host.connection import Connection
from agentd_runner.host.environment import Place, base_environment, find_interpreter, path_environment
from agentd_runner.host.file_transfer import FileTransfer
from agentd_runner.host.hub import shared_hub
from agentd_runner.host.imports import read_preload, tell_left_out, tell_rest
from agentd_runner.host.jobs import ExecutorJobs, JobLedger
from agentd_runner.host.limits import MIB, most_output, read_limits, runner_limits
from agentd_runner.host.old_protocol import OldProtocol
from agentd_runner.host.pending import Pending, is_set_in_time, is_set_in_time_sync
from agentd_runner.host.process import RunnerProcess
from agentd_runner.host.settling import settle
from agentd_runner.host.shell import HUNG_MARGIN_S, ExecutorShell
from agentd_runner.host.snapshotting import WorkspaceSnapshots
from agentd_runner.host.tool_calls import CodeCalls
from agentd_runner.inside import frames
from agentd_runner.inside.files import remove_tree
from agentd_runner.inside.timings import KILL_MARGIN_S

__all__ = ["COMMON_OPTIONS", "RunnerExecutor"]

COMMON_OPTIONS: Final = {
    "python": str | Path | None,
    "timeout": float | None,
    "limits": Limits | dict | None,
    "state": Literal["fresh", "kept"],
    "env": dict | None,
    "base_dir": str | Path | None,
    "preload": list | None,
}
"""The options that every executor on a runner has, with their types, for `agentd.registry.options.check_options`."""

START_TIMEOUT_S = 30.0


class RunnerExecutor(OldProtocol, WorkspaceSnapshots, FileTransfer, ExecutorShell, ExecutorJobs, ABC):
    """Runs actions through one long-lived runner process (see `agentd_runner.inside`).

    A subclass implements `launch` and may set `own_loopback`. Async methods work on asyncio and trio, the
    sync ones from any thread, and both on one object. Usable as a context manager, sync and async.

    :param workspace_dir: an existing or new directory; the only place that code is meant to write to.
    :param python: path of the interpreter that runs the runner and the Python blocks; by default the one that runs
        agentd. It is never looked up on PATH.
    :param limits: time-outs, output and resource limits, each with a default; also as a mapping of plain data.
    :param timeout: seconds that an action may take; a shorthand for `limits.timeout_s`, and wins over it.
    :param state: `fresh` runs every Python block as a new `__main__`; `kept` runs them all, one after the other, in
        one namespace that lasts until a time-out or the end.
    :param env: variables that are added to the session's environment. Nothing else of the host's environment gets in
        but the names in `agentd_runner.host.environment.ALLOWED`.
    :param preload: modules to import before the first block asks for them; those that a block imports are there for
        later blocks anyhow.
    :param base_dir: where snapshots of the workspace lie, outside of it; by default in the user's state folder.
    :raises WorkspaceError: if the workspace is a file or cannot be made.
    :raises ConfigError: if `python` is not an executable file, or another argument is not of its type.
    """

    own_loopback = False
    """True if the place has a loopback interface of its own, so that the runner may listen there."""

    trusts_interpreter = False
    """True if code could change the interpreter's own packages, and the runner, anyhow."""

    niceness: int | None = None
    """What code has at least, as nice(1) counts (19 is the lowest priority); None for what this process has. To be set
    before the first action."""

    def __init__(
        self,
        workspace_dir: str | Path = ".",
        *,
        python: str | Path | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        timeout: float | None = None,
        state: PythonState = "fresh",
        env: Mapping[str, str] | None = None,
        base_dir: str | Path | None = None,
        preload: Sequence[str] | None = None,
    ) -> None:
        if state not in ("fresh", "kept"):
            raise ConfigError(f"state: must be 'fresh' or 'kept', got {state!r}")
        self.state = state
        self.workspace_dir = open_workspace(workspace_dir)
        self.python = find_interpreter(python)
        self.limits = read_limits(limits)
        if timeout is not None:
            self.limits = attrs.evolve(self.limits, timeout_s=timeout)
        self.env = dict(env or {})
        self.preload = read_preload(preload)
        self.base_dir = Path(base_dir).expanduser().absolute() if base_dir is not None else None
        self._place = Place(self.workspace_dir)
        self._calls = CodeCalls()
        self._jobs = JobLedger(self.limits.jobs)
        self._layout = Layout()
        self._connection: Connection | None = None
        self._start_lock = threading.Lock()
        self._idents = itertools.count(1)
        self._run_dir: str | None = None
        self._run_dir_of = 0
        self._note = ""
        self._unused_shell = None
        self._kept = False
        self._closed = False
        _made.add(self)

    # --- for subclasses

    @abstractmethod
    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        """Start `command` (the runner) in this executor's place with exactly `env`; return its process.

        Called in a worker thread, once for each start. `agentd_runner.host.spawn` starts a local command.
        Raises `SandboxUnavailableError` when the place cannot be had.
        """

    def runner_command(self) -> list[str]:
        """Return the command that `launch` gets: interpreter, isolated, UTF-8, the runner's folder."""
        return folder_command(self.python)

    # --- starting

    def _connected(self) -> Connection | None:
        connection = self._connection
        return connection if connection is not None and connection.is_open else None

    def _connect(self) -> Connection:
        """Return the live connection, starting a runner if there is none. Blocks; thread-safe."""
        with self._start_lock:
            if self._closed:
                raise ExecutorClosedError(f"the executor of {self.workspace_dir} is closed; make a new one")
            connection = self._connected()
            if connection is not None:
                return connection
            if self._connection is not None:
                reason = self._connection.lost or f"the runner ended: {self._connection.end_reason}"
                self._note = f"note: {reason}; a new one was started, with a fresh shell"
                self._jobs.lose(reason)
                self._remove_run_dir()
            if done := settle(self.workspace_dir):
                self._note = "; ".join(filter(None, [self._note, *(f"note: {text}" for text in done)]))
            self._connection = self._start()
            self._bring_shell(self._connection)
            return self._connection

    def _start(self) -> Connection:
        if not self.own_loopback:
            # Short and private: a socket's path may have some 100 bytes, a workspace's path has no bound.
            self._run_dir = tempfile.mkdtemp(prefix="agentd-")
            self._run_dir_of = os.getpid()
        env = self._environment()
        env |= {
            name: value
            for name, value in path_environment(env, self._place, self.python, self._layout).items()
            if name not in self.env
        }
        try:
            process = self.launch(self.runner_command(), env)
        except OSError as error:
            self._remove_run_dir()
            raise RunnerStartError(f"cannot start the runner with {self.python}: {error}") from error
        ready = threading.Event()
        line = getattr(process, "line", None)
        connection = Connection(
            process,
            shared_hub(),
            self._calls.loosely(),
            ready,
            line,
            self._calls.actions.waited,
            self._jobs.listener(),
            held_bytes=self.limits.host_mib * MIB,
            output_bytes=most_output(self.limits),
        )
        self._greet(connection, env)
        ready.wait(START_TIMEOUT_S)
        if connection.hello is None:
            connection.kill(f"no hello within {START_TIMEOUT_S:g} s")
            connection.close(1.0)
            self._remove_run_dir()
            raise RunnerStartError(f"the runner did not start with {self.python}: {connection.lost}")
        return connection

    def _environment(self) -> dict[str, str]:
        temporary = f"{self._run_dir}/tmp" if self._run_dir is not None else None
        return base_environment(os.environ, self._place, self.env, temporary=temporary)

    def _greet(self, connection: Connection, env: Mapping[str, str]) -> None:
        """Send the first frame."""
        line = getattr(connection.process, "line", None)
        own = {} if line is None else {"line": line.theirs}
        connection.send_json(frames.HELLO, 0, {**self._hello(env), **own})

    def _hello(self, env: Mapping[str, str]) -> dict[str, object]:
        hello: dict[str, object] = {
            "version": frames.VERSION,
            "release": frames.RELEASE,
            "workspace": str(self.workspace_dir),
            "folders": [env["TMPDIR"], env["HOME"]],
            "watched": self._watched(env),
            "env": dict(env),
            "limits": runner_limits(self.limits),
            "output_bytes": self.limits.output_bytes,
            "grace_s": self.limits.grace_s,
            "jobs": self.limits.jobs,
            "job_output_bytes": self.limits.job_output_bytes,
            "tells_clock": True,
            "trusts_interpreter": self.trusts_interpreter,
            "imports": self.preload,
            "token": os.urandom(24).hex(),
            **self._bindings(),
        }
        if self._run_dir is not None:
            hello["socket"] = f"{self._run_dir}/tools.sock"
        if self.niceness is not None:
            hello["niceness"] = self.niceness
        return hello

    def _watched(self, env: Mapping[str, str]) -> list[str]:
        """Folders beside the workspace whose growth is the session's own: not one that `env` shares with others."""
        temporary = env["TMPDIR"]
        shared = "TMPDIR" in self.env or Path(temporary).is_relative_to(self._place.workspace)
        return [] if shared else [temporary]

    def _bindings(self) -> dict[str, object]:
        layout = self._layout
        return {
            "pythonpath": list(map(str, layout.importable)),
            "site": [str(self._place.site)],
            "preload": list(layout.preload),
            "sources": {str(path): text for path, text in layout.sources.items()},
            "catalog": self._calls.tools.catalog().decode() if self._calls.tools is not None else "[]",
        }

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """Say who answers tool calls and where the renderer's files are; again whenever they change."""
        self._calls.tools = tools
        self._layout = layout or Layout()
        connection = self._connected()
        if connection is not None:
            env = self._environment()
            paths = path_environment(env, self._place, self.python, self._layout)
            setup = {**self._bindings(), "bindings_env": {**paths, **self.env}}
            connection.send_json(frames.SETUP, 0, setup)

    async def start(self) -> None:
        """Start the runner, if none runs."""
        if self._connected() is None:
            await call_in_thread(self._connect)

    # --- running

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        """Run one action; see `agentd.protocols.Executor`.

        :raises RunnerDiedError: if the runner ends meanwhile; `partial` has the output so far.
        :raises ProtocolError: if it sends what no runner sends, and was ended; or if the action fits into no frame.
        :raises RunnerStartError: if it cannot be started.
        :raises SandboxUnavailableError: if its sandbox cannot.
        :raises ExecutorClosedError: after `close`.
        """
        connection = self._connected()
        if connection is None:
            connection = await call_in_thread(self._connect)
        waiter = AsyncWaiter()
        pending = Pending(waiter, on_output, output_bytes=connection.output_bytes)
        ident = self._submit(connection, action, action_id, pending)
        try:
            in_time = await is_set_in_time(waiter, self._calls.actions, ident, self._patience(action))
        except BaseException:  # cancelled: the tree ends before the cancellation goes on
            connection.send(frames.CANCEL, ident, b"")
            with anyio.move_on_after(self.limits.grace_s + HUNG_MARGIN_S, shield=True) as patience:
                await waiter.wait()
            if patience.cancelled_caught:
                connection.kill("it did not end a cancelled action")
            raise
        finally:
            self._calls.end_action(ident, outlasts=pending.outlasts)
        if not in_time and not pending.has_ended:
            connection.kill("it stopped answering")
            await waiter.wait()
        return self._result(pending)

    def run_sync(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        """The same for callers without an event loop. Ctrl-C ends the action, then raises."""
        connection = self._connected() or self._connect()
        waiter = threading.Event()
        pending = Pending(waiter, on_output, output_bytes=connection.output_bytes)
        ident = self._submit(connection, action, action_id, pending)
        try:
            if not is_set_in_time_sync(waiter, self._calls.actions, ident, self._patience(action)):
                connection.kill("it stopped answering")
                waiter.wait(HUNG_MARGIN_S)
        except BaseException:
            connection.send(frames.CANCEL, ident, b"")
            if not waiter.wait(self.limits.grace_s + HUNG_MARGIN_S):
                connection.kill("it did not end a cancelled action")
            raise
        finally:
            self._calls.end_action(ident, outlasts=pending.outlasts)
        return self._result(pending)

    def _submit(self, connection: Connection, action: Action, action_id: str, pending: Pending) -> int:
        self._unused_shell = None
        ident = next(self._idents) & 0xFFFFFFFF
        header, body = self._encode(action)
        pending.outlasts = header.get("state") == "kept"
        self._calls.actions.add(ident, action_id)
        connection.run(ident, header, body, pending)
        return ident

    def _encode(self, action: Action) -> tuple[dict[str, Any], bytes]:
        if isinstance(action, PythonAction):
            self._kept = self._kept or (action.state or self.state) == "kept"
        return encode_action(action, self.limits, self.state)

    def _patience(self, action: Action) -> float | None:
        """Seconds after which a runner that says nothing counts as hung; None without a time-out."""
        timeout_s = timeout_of(action, self.limits)
        return None if timeout_s is None else timeout_s + self.limits.grace_s + HUNG_MARGIN_S

    def _result(self, pending: Pending) -> ActionResult:
        if pending.error is not None:
            raise pending.error
        if pending.result is None:
            raise RunnerDiedError("the runner gave no result", partial=pending.partial("no result"))
        result, note, self._note = pending.result, self._note, ""
        if pending.left_out:
            tell_left_out(pending.left_out, self.preload)
        if note:
            result = attrs.evolve(result, message="; ".join(filter(None, (result.message, note))))
        return result

    # --- the end

    def close(self) -> None:
        """End every action and the runner. May be called again."""
        with self._start_lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            if self.preload and connection.is_open:
                tell_rest(connection, next(self._idents) & 0xFFFFFFFF, self.preload)
            connection.close(self.limits.grace_s + KILL_MARGIN_S)
            self._jobs.lose("the session was closed")
        self._remove_run_dir()

    async def aclose(self) -> None:
        """The same, without blocking the event loop and not cut short by a cancellation."""
        with anyio.CancelScope(shield=True):
            if self._connection is None:
                self.close()
            else:
                await call_in_thread(self.close)

    def _remove_run_dir(self) -> None:
        if self._run_dir is not None and self._run_dir_of == os.getpid():  # not in a forked child
            remove_tree(self._run_dir)
        self._run_dir = None

    def __enter__(self) -> RunnerExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> RunnerExecutor:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A forgotten executor: the runner ends, and tidies up, by itself. No waiting in a finaliser.
        connection = getattr(self, "_connection", None)
        if connection is not None and connection.lost is None:
            connection.send(frames.END, 0, b"")


_made: weakref.WeakSet[RunnerExecutor] = weakref.WeakSet()


def _free_in_child() -> None:
    for executor in list(_made):
        executor._start_lock = threading.Lock()  # a thread of the parent may have held it


os.register_at_fork(after_in_child=_free_in_child)
