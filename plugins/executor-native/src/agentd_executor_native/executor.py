"""`NativeExecutor`: the runner in a sandbox of the Linux kernel's own means, which lasts as long as the session."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import attrs
from agentd.errors import ConfigError, RunnerStartError, SandboxUnavailableError
from agentd.protocols import Layout, ToolDispatcher
from agentd.registry.options import check_options
from agentd.types import ActionResult, Limits, PythonState
from agentd_runner.host import COMMON_OPTIONS, RunnerExecutor
from agentd_runner.host.connection import Connection
from agentd_runner.host.pending import Pending
from agentd_runner.host.placeholders import git_variables
from agentd_runner.host.process import RunnerProcess
from agentd_runner.host.repositories import kept_settings_note
from agentd_runner.inside import frames
from agentd_runner.inside.timings import KILL_MARGIN_S

from agentd_executor_native.blueprint import Blueprint, account_name
from agentd_executor_native.interpreter import needed_paths
from agentd_executor_native.launching import prepare_start
from agentd_executor_native.outlet import NetworkOutlet
from agentd_executor_native.places import check_readable, check_writable, read_paths
from agentd_executor_native.prewarmed import MOST, prewarmed
from agentd_executor_native.requirements import Bubblewrap, explain, find_bubblewrap
from agentd_executor_native.sandbox_fork import OURS
from agentd_executor_native.standing import GIT_PATTERNS, SandboxStandIns

if TYPE_CHECKING:
    from agentd_executor_native.network import OnHostRequest, OnPolicyRequest

__all__ = ["OPTIONS", "NativeExecutor", "from_options"]

Backend = Literal["auto", "bubblewrap"]

NO_BINDINGS: Final[Mapping[str, object]] = {"preload": [], "sources": {}, "catalog": "[]"}
"""What a sandbox that is started ahead is not told of a session: its tools."""

OPTIONS: Final = {
    **COMMON_OPTIONS,
    **dict.fromkeys(("read", "write", "deny", "allowed_hosts", "secrets", "on_host_request"), object),
    "allow_git_config": bool,
    "backend": Literal["auto", "bubblewrap"],
    "prewarm": int | None,
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
    :param allow_git_config: whether it may change the settings of the workspace's git repositories (`.git/config`),
        which can name commands that git runs outside.
    :param backend: what makes the sandbox: `auto` takes what this machine has, which is `bubblewrap` so far.
    :param prewarm: so many empty sandboxes of this workspace and these options are kept ready for later sessions of
        this program, for a minute after the last one; by default one, while there are several sessions.
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
        prewarm: int | None = None,
    ) -> None:
        if backend not in ("auto", "bubblewrap"):
            raise ConfigError(f"backend: must be 'auto' or 'bubblewrap', got {backend!r}")
        if prewarm is not None and (type(prewarm) is not int or not 0 <= prewarm <= MOST):
            raise ConfigError(f"prewarm: must be a number from 0 to {MOST}, got {prewarm!r}")
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
        self.prewarm = prewarm
        self._outlet = NetworkOutlet.of(allowed_hosts, on_host_request, secrets)
        self._check_places()
        self._guarded: tuple[
            Path, ...
        ] = ()  # what of the renderer's files the running sandbox shows read-only
        self._bubblewrap: Bubblewrap | None = None
        self._stand_ins: SandboxStandIns | None = None
        self._was_prewarmed = self._must_be_new = self._is_greeted = False
        self._began: Blueprint | None = None

    def _check_places(self) -> None:
        for path in self.read:
            check_readable("read", path)
        for path in self.write:
            check_readable("write", path)
            check_writable("write", path)
        for needed in (self.workspace_dir, *needed_paths(self.python)):
            if holding := next((path for path in self.deny if needed.is_relative_to(path)), None):
                raise ConfigError(f"deny: {holding} holds {needed}, which the sandbox needs")

    def attach_policy(self, policy: OnPolicyRequest) -> None:
        """Have a session's policy decide about each host that code asks for, those of `allowed_hosts` too."""
        self._outlet.attach_policy(policy)

    # --- starting

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        """Start bubblewrap with the runner inside, or take over what was started ahead.

        Raises `SandboxUnavailableError`.
        """
        prepare_start()  # before a program's first look at bubblewrap
        blueprint = self._blueprint(command, env)
        sandbox = None if self._must_be_new else prewarmed.take(blueprint)
        self._was_prewarmed = sandbox is not None
        if sandbox is None:
            sandbox = blueprint.start()
        self._is_greeted = sandbox.is_greeted
        before, self._stand_ins = self._stand_ins, sandbox.stand_ins
        if before is not None:  # not sooner: there is no moment without
            before.remove()
        self._outlet.receive_from(sandbox.port)
        if self._began is None and not blueprint.files:  # those are of this session alone
            self._began = blueprint
            prewarmed.session_begins(blueprint, self.prewarm)
        return sandbox.process

    def _blueprint(self, command: Sequence[str], env: Mapping[str, str]) -> Blueprint:
        self._bubblewrap = find_bubblewrap()
        self._guarded = self._layout.read_only
        return Blueprint(
            place=self._place,
            bubblewrap=self._bubblewrap,
            python=self.python,
            command=tuple(command),
            home=env["HOME"],
            read=self.read,
            write=self.write,
            deny=self.deny,
            layout=(*self._layout.importable, *self._layout.programs),
            read_only=tuple(self._layout.read_only),
            base_dir=self.base_dir,
            allow_git_config=self.allow_git_config,
            files=tuple(self._outlet.files().items()),
            has_network=self._outlet.has_network,
            greeting=json.dumps({**self._hello(env), **NO_BINDINGS, "token": ""}, sort_keys=True),
        )

    def _greet(self, connection: Connection, env: Mapping[str, str]) -> None:
        if not self._is_greeted:
            super()._greet(connection, env)
        elif any((bindings := self._bindings())[name] != nothing for name, nothing in NO_BINDINGS.items()):
            connection.send_json(frames.SETUP, 0, bindings)

    def _start(self) -> Connection:
        try:
            connection = super()._start()
            if not self._is_greeted or connection.process.wait(0) is None:
                return connection
            connection.close(1.0)  # its hello was there already, from before it ended
        except RunnerStartError as error:
            if not self._was_prewarmed:
                self._fail(error)
        except BaseException:
            self._remove_stand_ins()
            raise
        self._must_be_new = True  # what was started ahead has ended meanwhile
        try:
            return self._start()
        finally:
            self._must_be_new = False

    def _fail(self, error: RunnerStartError) -> NoReturn:
        self._remove_stand_ins()
        said = str(error).partition("it said: ")[2]
        if self._bubblewrap is None or not said.startswith(("bwrap: ", OURS)):
            raise error  # the sandbox was there; the interpreter or the runner did not start in it
        reason = explain(said, self._bubblewrap)
        raise SandboxUnavailableError(f"the sandbox native cannot run here: {reason}") from error

    def _remove_stand_ins(self) -> None:
        if self._stand_ins is not None:
            self._stand_ins.remove()

    def _environment(self) -> dict[str, str]:
        env = super()._environment()
        name = account_name()
        own: dict[str, str] = {key: name for key in ("USER", "LOGNAME") if key in env}
        dropped = self._outlet.dropped
        kept = {key: value for key, value in env.items() if key not in dropped}
        git = {} if "GIT_CONFIG_COUNT" in self.env else git_variables(GIT_PATTERNS)
        return {**kept, **own, **git, **self._outlet.environment(), **self.env}

    def _hello(self, env: Mapping[str, str]) -> dict[str, object]:
        made = {str(self.workspace_dir / folder) for folder in self._place.folders}  # by `standing`
        folders = [folder for folder in (env["TMPDIR"], env["HOME"]) if folder not in made]
        return {**super()._hello(env), "folders": folders}

    def _result(self, pending: Pending) -> ActionResult:
        result = super()._result(pending)
        notes = [*self._outlet.take_refused(), kept_settings_note(result.stderr)]
        message = "; ".join(filter(None, (result.message, *notes)))
        return attrs.evolve(result, message=message) if message != result.message else result

    def close(self) -> None:
        """As in `RunnerExecutor`; the connections of code end, too, and nothing stands in for absent files any more."""
        super().close()
        self._remove_stand_ins()
        began, self._began = self._began, None
        if began is not None:
            prewarmed.session_ends(began, self.prewarm)
        self._outlet.close()

    def __del__(self) -> None:
        super().__del__()
        stand_ins = getattr(self, "_stand_ins", None)
        if stand_ins is not None:  # else it was refused, or has not started
            then = None if self._began is None else partial(prewarmed.session_ends, self._began, self.prewarm)
            stand_ins.remove_later(self.limits.grace_s + KILL_MARGIN_S, then)

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

    def pause(self) -> None:
        """End the sandbox; the next action starts a new one, with a fresh shell.

        To be called before files of the workspace are replaced from outside, as a restore does. A running sandbox
        guards the very files that it found: those that take their place could be written to. Blocks.
        """
        with self._start_lock:
            if self._connection is not None:
                reason = "the sandbox was ended before files of the workspace were replaced"
                self._connection.close(self.limits.grace_s + KILL_MARGIN_S, reason)
            self._remove_stand_ins()

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
