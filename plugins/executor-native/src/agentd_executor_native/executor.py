"""`NativeExecutor`: the runner in a sandbox of the Linux kernel's own means, which lasts as long as the session."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
from agentd.errors import ConfigError, RunnerStartError, SandboxUnavailableError
from agentd.protocols import Layout, ToolDispatcher
from agentd.registry.options import check_options
from agentd.statedir import make_private, user_state_dir
from agentd.types import ActionResult, Limits, PythonState
from agentd_runner.host import COMMON_OPTIONS, RunnerExecutor
from agentd_runner.host.connection import Connection
from agentd_runner.host.pending import Pending
from agentd_runner.host.process import LocalProcess
from agentd_runner.inside.timings import KILL_MARGIN_S

from agentd_executor_native import root_launcher
from agentd_executor_native.call_filter import filter_program
from agentd_executor_native.interpreter import needed_paths
from agentd_executor_native.launching import IDS, SandboxStart, held, namespaces, start_sandboxed
from agentd_executor_native.outlet import NetworkOutlet
from agentd_executor_native.places import check_readable, check_writable, guarded_settings, read_paths
from agentd_executor_native.requirements import Bubblewrap, explain, find_bubblewrap
from agentd_executor_native.sources import opened
from agentd_executor_native.view import Account, View, covered_by

if TYPE_CHECKING:
    from agentd_executor_native.network import OnHostRequest

__all__ = ["OPTIONS", "NativeExecutor", "from_options"]

Backend = Literal["auto", "bubblewrap"]

OPTIONS: Final = {
    **COMMON_OPTIONS,
    **dict.fromkeys(("read", "write", "deny", "allowed_hosts", "secrets", "on_host_request"), object),
    "allow_git_config": bool,
    "backend": Literal["auto", "bubblewrap"],
}
"""The options of the executor `native`, with their types; `NativeExecutor` checks the rest."""


class NativeExecutor(RunnerExecutor):
    """Runs code in a sandbox of the kernel's own means, Linux only: bubblewrap's namespaces, a filter of system calls.

    One sandbox is started with the first action and lasts until `close`. Code may read and write the workspace, and
    read the interpreter and the system's programs and libraries; it sees no other file, no process and no socket of
    this machine, and has no network. As root, it runs as an unprivileged user.

    :param workspace_dir: the folder to work in; neither your home nor the system's.
    :param read: files and folders that code may read as well.
    :param write: folders that it may also change. Of entries in each other, the inner one counts.
    :param deny: files and folders that it cannot read, in the workspace as well. Beats all others.
    :param allowed_hosts: what code may reach: `example.com` and `*.example.com` (ports 443 and 80), `example.com:8443`,
        an address or a network of this machine's surroundings; nothing by default.
    :param on_host_request: called with a host and a port that code asks for and is not allowed; `True` allows it for
        the session. It may be asynchronous.
    :param secrets: by name of a variable `{"hosts": [...], "value": ...}`: code sees a placeholder, and the proxy puts
        the value (by default, this program's variable of that name) into what is sent to the named hosts, which are
        allowed thereby.
    :param allow_git_config: whether it may change the settings of the workspace's git repository (`.git/config`), which
        can name commands that git runs outside.
    :param backend: what makes the sandbox: `auto` takes what this machine has, which is `bubblewrap` so far.
    :raises ConfigError: for a path, host, secret or backend that cannot be used.
    :raises WorkspaceError: if the workspace cannot be used.

    `python`, `limits`, `timeout`, `state`, `env`, `base_dir` and `preload` as in
    `agentd_runner.host.RunnerExecutor`. What is missing on this machine is told by `verify`, and raised as
    `SandboxUnavailableError` by the first action: there is no fallback.
    """

    plugin_name = "native"
    own_loopback = True

    def __init__(
        self,
        workspace_dir: str | Path = ".",
        *,
        read: Sequence[str | Path] | None = None,
        write: Sequence[str | Path] | None = None,
        deny: Sequence[str | Path] | None = None,
        allowed_hosts: Sequence[str] | None = None,
        on_host_request: OnHostRequest | None = None,
        secrets: Mapping[str, Any] | None = None,
        allow_git_config: bool = False,
        backend: Backend = "auto",
        python: str | Path | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        timeout: float | None = None,
        state: PythonState = "fresh",
        env: Mapping[str, str] | None = None,
        base_dir: str | Path | None = None,
        preload: Sequence[str] | None = None,
    ) -> None:
        if backend not in ("auto", "bubblewrap"):
            raise ConfigError(f"backend: must be 'auto' or 'bubblewrap', got {backend!r}")
        check_writable("workspace", Path(workspace_dir).expanduser())
        super().__init__(
            workspace_dir,
            python=python,
            limits=limits,
            timeout=timeout,
            state=state,
            env=env,
            base_dir=base_dir,
            preload=preload,
        )
        self.read = read_paths("read", read, self.workspace_dir)
        self.write = read_paths("write", write, self.workspace_dir)
        self.deny = read_paths("deny", deny, self.workspace_dir)
        self.allow_git_config = allow_git_config
        self.backend = backend
        self._outlet = NetworkOutlet.of(allowed_hosts, on_host_request, secrets)
        self._check_places()
        self._guarded: tuple[
            Path, ...
        ] = ()  # what of the renderer's files the running sandbox shows read-only
        self._bubblewrap: Bubblewrap | None = None

    def _check_places(self) -> None:
        for path in self.read:
            check_readable("read", path)
        for path in self.write:
            check_readable("write", path)
            check_writable("write", path)
        for needed in (self.workspace_dir, *needed_paths(self.python)):
            if holding := next((path for path in self.deny if needed.is_relative_to(path)), None):
                raise ConfigError(f"deny: {holding} holds {needed}, which the sandbox needs")

    # --- starting

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> LocalProcess:
        """Start bubblewrap with the runner inside. Raises `SandboxUnavailableError`."""
        self._bubblewrap = find_bubblewrap()
        view = self._view()
        with ExitStack() as stack:
            sources = stack.enter_context(opened(view))
            account = self._account(env["HOME"])
            contents = {**account.files(), **self._outlet.files()}
            files = {name: held(text.encode(), stack) for name, text in contents.items()}
            calls = held(filter_program(os.uname().machine), stack)
            before = [*namespaces(self._bubblewrap), "--seccomp", str(calls), *view.before_mounts()]
            for name, descriptor in files.items():
                before += ["--perms", "0444", "--file", str(descriptor), name]
            inherited, command = self._outlet.joined(self.python, command, stack)
            started = SandboxStart(self._bubblewrap.path, before, view.after_mounts(), command)
            given, start = started.by_us(account.uid, sources, stack)
            inherited += [*(source.descriptor for source in sources), *files.values(), calls, given]
            return start_sandboxed(start, inherited)

    def _view(self) -> View:
        self._guarded = self._layout.read_only
        shown = (*self._layout.importable, *self._layout.programs, *self._layout.read_only)
        write = tuple(dict.fromkeys(path.resolve() for path in (self.workspace_dir, *self.write)))
        return View(
            write=write,
            read=(
                *needed_paths(self.python),
                *self.read,
                *(path for path in shown if not covered_by(path, write)),
            ),
            guarded=(
                *(path for path in needed_paths(self.python) if covered_by(path, write)),
                *(path for path in self._layout.read_only if covered_by(path, write)),
                *guarded_settings(self.workspace_dir, allow_git_config=self.allow_git_config),
            ),
            deny=(*self.deny, *self._private()),
        )

    def _private(self) -> list[Path]:
        """Return agentd's own folders; they are made, for what is not there cannot be covered."""
        found = []
        for folder in (user_state_dir(), self.base_dir):
            if folder is not None and not self.workspace_dir.is_relative_to(folder):
                with contextlib.suppress(OSError):
                    make_private(folder)
                found.append(folder)
        return found

    def _account(self, home: str) -> Account:
        if os.geteuid() == 0:
            uid = random.SystemRandom().choice(IDS)
            return Account("agentd", uid, uid, home)
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a user without an account
            name = "agentd"
        return Account(name, os.getuid(), os.getgid(), home)

    def _start(self) -> Connection:
        try:
            return super()._start()
        except RunnerStartError as error:
            said = str(error).partition("it said: ")[2]
            if self._bubblewrap is None or not said.startswith(("bwrap: ", root_launcher.OURS)):
                raise  # the sandbox was there; the interpreter or the runner did not start in it
            reason = explain(said, self._bubblewrap)
            raise SandboxUnavailableError(f"the sandbox native cannot run here: {reason}") from error

    def _environment(self) -> dict[str, str]:
        env = super()._environment()
        name = self._account(env["HOME"]).name
        own: dict[str, str] = {key: name for key in ("USER", "LOGNAME") if key in env}
        dropped = self._outlet.dropped
        kept = {key: value for key, value in env.items() if key not in dropped}
        return {**kept, **own, **self._outlet.environment(), **self.env}

    def _result(self, pending: Pending) -> ActionResult:
        result = super()._result(pending)
        refused = self._outlet.take_refused()
        return (
            attrs.evolve(result, message="; ".join(filter(None, (result.message, *refused))))
            if refused
            else result
        )

    def close(self) -> None:
        """As in `RunnerExecutor`; the connections of code end, too."""
        super().close()
        self._outlet.close()

    # --- skills

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """As in `RunnerExecutor`. What is read-only in the layout cannot be written to from inside."""
        read_only = layout.read_only if layout is not None else ()
        if self._connected() is not None and not set(read_only) <= set(self._guarded):
            self._restart()
        super().attach(tools=tools, layout=layout)

    def _restart(self) -> None:
        """End the sandbox; the next action starts one that guards what is there by then."""
        with self._start_lock:
            if self._connection is not None:
                self._connection.close(self.limits.grace_s + KILL_MARGIN_S)

    # --- checking

    def verify(self) -> tuple[bool, str]:
        """Try to get out of the sandbox; return whether it holds, and a sentence that says what is missing."""
        from agentd_executor_native.probes import probe

        try:
            return probe(self)
        except Exception as error:
            return False, str(error)

    @property
    def version(self) -> str:
        """What makes the sandbox, with its version."""
        return f"bubblewrap {(self._bubblewrap or find_bubblewrap()).version}"


def from_options(workspace_dir: Path, options: Mapping[str, Any]) -> NativeExecutor:
    """Make an executor from a plugin's options; raises `ConfigError` for a wrong one."""
    check_options("the executor 'native'", options, OPTIONS)
    return NativeExecutor(workspace_dir, **options)
