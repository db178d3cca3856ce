"""`SandboxRuntimeExecutor`: the runner inside one srt sandbox, which lasts as long as the session."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import agentd
import agentd_runner
import attrs
from agentd.errors import ConfigError, RunnerStartError, SandboxUnavailableError
from agentd.protocols import Layout, ToolDispatcher
from agentd.statedir import make_private, user_state_dir
from agentd.types import ActionResult, Limits, PythonState
from agentd_runner.host import RunnerExecutor
from agentd_runner.host.connection import Connection
from agentd_runner.host.pending import Pending
from agentd_runner.host.placeholders import mark_dir, standing_names
from agentd_runner.host.repositories import kept_settings_note
from agentd_runner.inside.timings import KILL_MARGIN_S
from agentd_runner.stand_ins import FOLDER

from agentd_executor_srt import settings as rules
from agentd_executor_srt.additions import filtered
from agentd_executor_srt.domains import check_domains
from agentd_executor_srt.ending import end_later
from agentd_executor_srt.placeholders import git_excludes, guard_workspace, write_git_excludes
from agentd_executor_srt.process import SandboxProcess, start_sandbox
from agentd_executor_srt.requirements import Programs, explain, find_programs, safe_path
from agentd_executor_srt.risks import RiskyFile, find_risky_files
from agentd_executor_srt.run_dir import make_run_dir, remove_run_dir, run_base
from agentd_executor_srt.settings import Policy, Profile, read_secrets

__all__ = ["SandboxRuntimeExecutor"]

GIVING_S = (
    1.0  # how long the start waits for folders of `allow_write` to be handed over to the sandbox's user
)
END_S = 15.0  # beyond the grace, how long the supervisor may take to kill, to tidy up and to hand back

# What srt says when `which` has not told it within a second where a program is: all are there, `find_programs` has seen
# them, but on a busy machine that is too short.
SLOW_LOOKUP = ("Shell 'bash' not found in PATH", "Sandbox dependencies not available")

log = logging.getLogger("agentd.executor.srt")


class SandboxRuntimeExecutor(RunnerExecutor):
    """Runs code in Anthropic's sandbox-runtime (`srt`), Linux only: bubblewrap, seccomp and a filtering proxy.

    One sandbox is started with the first action and lasts until `close`. Code may write in the workspace, read what is
    not denied, and reach the allowed hosts through the sandbox's proxy. As root, everything in it runs as an
    unprivileged user that the workspace is handed over to until `close`.

    :param workspace_dir: the folder to work in. Without it, `BASE_DIR/CONVERSATION_ID/workspace`.
    :param conversation_id: names the workspace below `base_dir`; made up if there is none.
    :param base_dir: where workspaces and snapshots lie; code cannot read it.
    :param allowed_domains: hosts that code may reach (`example.com`, `*.example.com`, `example.com:443`); none by
        default.
    :param denied_domains: hosts that it may not reach though they are allowed; `*` for all.
    :param allow_local_binding: kept for programs written for 0.8. The sandbox has a loopback of its own on Linux,
        where code may always listen.
    :param deny_read: files and folders that code cannot read; by default `~/.ssh`, `~/.aws` and `~/.gnupg`.
    :param allow_read: what it may read below a denied folder.
    :param allow_write: folders that it may write to beside the workspace.
    :param deny_write: what it may not write to in there.
    :param allow_git_config: whether it may change the settings of the workspace's git repositories (`.git/config`),
        which can name commands that git runs outside; upstream branches and remotes are settings, too.
    :param profile: `strict` lets code read the workspace, the interpreter and the system's programs alone.
    :param secrets: by name of a variable `{"hosts": [...], "value": ...}`: code sees a placeholder, and the
        proxy puts the value (by default, this program's variable of that name) into what is sent to the named hosts,
        which are allowed thereby.
    :param srt_path: the `srt` command or its `cli.js`; by default the `srt` on PATH.
    :raises ConfigError: for a profile or secrets that are none.
    :raises WorkspaceError: if the workspace cannot be used.

    `python`, `limits`, `timeout`, `state` and `env` as in `agentd_runner.host.RunnerExecutor`. What is missing on this
    machine is told by `verify`, and raised as `SandboxUnavailableError` by the first action: there is no fallback.
    """

    plugin_name = "srt"
    own_loopback = True

    def __init__(
        self,
        workspace_dir: str | Path | None = None,
        *,
        conversation_id: str | None = None,
        base_dir: str | Path | None = None,
        timeout: float | None = None,
        allowed_domains: Sequence[str] | None = None,
        denied_domains: Sequence[str] | None = None,
        allow_local_binding: bool = False,
        deny_read: Sequence[str | Path] | None = None,
        allow_read: Sequence[str | Path] | None = None,
        allow_write: Sequence[str | Path] | None = None,
        deny_write: Sequence[str | Path] | None = None,
        allow_git_config: bool = False,
        srt_path: str | Path | None = None,
        profile: Profile = "default",
        secrets: Mapping[str, Any] | None = None,
        python: str | Path | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        state: PythonState = "fresh",
        env: Mapping[str, str] | None = None,
        preload: Sequence[str] | None = None,
    ) -> None:
        if profile not in ("default", "strict"):
            raise ConfigError(f"profile: must be 'default' or 'strict', got {profile!r}")
        self.conversation_id = conversation_id or uuid.uuid4().hex[:12]
        self.base_dir = Path(base_dir).expanduser().absolute() if base_dir is not None else None
        super().__init__(
            workspace_dir if workspace_dir is not None else self._own_workspace(),
            python=python,
            limits=limits,
            timeout=timeout,
            state=state,
            env=env,
            base_dir=self.base_dir,
            preload=preload,
        )
        self.profile = profile
        self.allowed_domains = check_domains("allowed_domains", allowed_domains)
        self.denied_domains = check_domains("denied_domains", denied_domains, deny=True)
        self.allow_local_binding = allow_local_binding
        self.deny_read = self._paths("deny_read", rules.DENY_READ if deny_read is None else deny_read)
        self.allow_read = self._paths("allow_read", allow_read)
        self.allow_write = self._paths("allow_write", allow_write)
        self.deny_write = self._paths("deny_write", deny_write)
        self.allow_git_config = allow_git_config
        self.srt_path = srt_path
        self._secrets = read_secrets(secrets, os.environ)
        self._policy: Policy | None = None
        self._process: SandboxProcess | None = None
        self._sandbox_dir: Path | None = None
        self._token = ""
        self._made_by = 0
        self._attached = False
        self._guarded: tuple[Path, ...] = ()  # what the renderer has written
        self.placeholders: tuple[str, ...] = ()
        """Names in the workspace that stand for absent files while a sandbox runs."""
        self._before: dict[str, RiskyFile] | None = None

    def _own_workspace(self) -> Path:
        if "/" in self.conversation_id or self.conversation_id in (".", ".."):
            raise ConfigError(f"conversation_id: a name, not a path, got {self.conversation_id!r}")
        if self.base_dir is None:
            self.base_dir = user_state_dir() / "conversations"
        return self.base_dir / self.conversation_id / "workspace"

    def _paths(self, option: str, given: Iterable[str | Path] | None) -> list[Path]:
        """Return absolute paths: `~` is this user's home, a relative path lies in the workspace."""
        if isinstance(given, str | Path) or not isinstance(given or (), Iterable):
            raise ConfigError(f"{option}: must be a list of paths, got {given!r}")
        return [Path(os.path.abspath(self.workspace_dir / Path(path).expanduser())) for path in given or ()]

    # --- starting

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> SandboxProcess:
        """Start srt with the runner inside. Raises `SandboxUnavailableError`."""
        writable = [self.workspace_dir, *self.allow_write]
        path = safe_path(os.environ.get("PATH", ""), writable)
        programs = find_programs(self.srt_path, path, writable)
        self._await_end()  # of a sandbox before, whose placeholders and owner must not mix with those of this one
        if self._attached:
            self._guarded = self._guarded or (self.workspace_dir / "skills",)
            for folder in self._guarded:
                folder.mkdir(parents=True, exist_ok=True)  # or srt would put an empty file in its place
        self._token = os.urandom(24).hex()
        self._sandbox_dir, self._made_by = make_run_dir(), os.getpid()
        try:
            policy = self._policy = self._make_policy(programs, self._sandbox_dir)
            host_env = rules.host_environment(os.environ, self._sandbox_dir, path, policy)
            self._process = start_sandbox(self._job(policy, self._sandbox_dir, command), host_env)
        except BaseException:
            remove_run_dir(self._sandbox_dir)
            raise
        if self._before is None:  # while srt starts
            self._before = find_risky_files(self.workspace_dir)
        return self._process

    def _job(self, policy: Policy, sandbox_dir: Path, command: Sequence[str]) -> dict[str, Any]:
        """Write srt's settings and return what the supervisor is to do (`supervisor.SandboxJob`)."""
        settings_file = sandbox_dir / "settings.json"
        _write_private(settings_file, policy.settings())
        write_git_excludes(sandbox_dir, self.workspace_dir, self.placeholders)
        programs = policy.programs
        return {
            "command": [
                *(programs.node, "--no-warnings", programs.cli, "--settings", str(settings_file)),
                *("--control-fd", "3", "-c", f"exec {shlex.join(filtered(command))}"),
            ],
            "workspace": str(self.workspace_dir),
            "writable": [os.path.realpath(path) for path in self.allow_write if path.is_dir()],
            "run_dir": str(sandbox_dir),
            "readable": self._reachable(policy),
            "mark": str(mark_dir(self.workspace_dir, "srt")),
            "stand_ins": {**policy.stand_ins, **dict.fromkeys(self._place.folders, FOLDER)},
            "made": ["skills"] if self._attached else [],
            "home": self.env.get("HOME", str(self._place.home)),
            "grace_s": self.limits.grace_s + KILL_MARGIN_S,
            "giving_s": GIVING_S,
        }

    def _reachable(self, policy: Policy) -> list[str]:
        """What the user of the session must have a way to, where this program is root."""
        programs = policy.programs
        wanted = [*policy.needed(), programs.node, programs.bwrap, programs.socat, programs.rg]
        wanted += map(str, self.allow_read)
        return list(dict.fromkeys(os.path.realpath(path) for path in wanted if os.path.exists(path)))

    def _make_policy(self, programs: Programs, sandbox_dir: Path) -> Policy:
        private = [user_state_dir(), *([self.base_dir] if self.base_dir is not None else [])]
        for folder in private:  # what is not there yet cannot be denied, and tokens may be stored meanwhile
            with contextlib.suppress(OSError):
                make_private(folder)
        standing = standing_names(self.workspace_dir)
        guarded = guard_workspace(
            self.workspace_dir, self.deny_write, standing, allow_git_config=self.allow_git_config
        )
        self.placeholders = guarded.absent
        return Policy(
            workspace=self.workspace_dir,
            programs=programs,
            python=self.python,
            profile=self.profile,
            allowed_domains=self.allowed_domains,
            denied_domains=self.denied_domains,
            allow_local_binding=self.allow_local_binding,
            deny_read=self.deny_read,
            allow_read=self.allow_read,
            allow_write=self.allow_write,
            deny_write=guarded.deny_write,
            stand_ins=guarded.stand_ins,
            allow_git_config=self.allow_git_config,
            guarded=self._guarded,
            secrets=self._secrets,
            sandbox_dir=sandbox_dir,
            private=[
                run_base(sandbox_dir),
                sandbox_dir / "hidden",
                *(path for path in private if path.exists()),
            ],
            package_dirs=tuple(
                Path(str(file)).parent for file in (agentd.__file__, agentd_runner.__file__, __file__)
            ),
        )

    def _start(self) -> Connection:
        connection = self._start_patiently()
        if self._sandbox_dir is not None:  # srt has read it, and no code runs yet
            (self._sandbox_dir / "settings.json").unlink(missing_ok=True)
        return connection

    def _start_patiently(self) -> Connection:
        attempts = 3
        while True:
            attempts -= 1
            try:
                return super()._start()
            except RunnerStartError as error:
                if not attempts or not any(said in str(error) for said in SLOW_LOOKUP):
                    raise self._unavailable(error) from error

    def _unavailable(self, error: RunnerStartError) -> SandboxUnavailableError | RunnerStartError:
        said = str(error).partition("it said: ")[2]
        if self._policy is None:
            return error
        if not os.access(self.python, os.X_OK):
            return error
        return SandboxUnavailableError(
            f"the sandbox srt cannot run here: {explain(said or str(error), self._policy.programs)}"
        )

    def _hello(self, env: Mapping[str, str]) -> dict[str, object]:
        hello = super()._hello(env)
        inherited = self._policy.inherited() if self._policy is not None else []
        hello["inherit"] = [name for name in inherited if name not in self.env]
        hello["token"] = self._token
        own = {str(self.workspace_dir / folder) for folder in self._place.folders}
        hello["folders"] = [folder for folder in (env["TMPDIR"], env["HOME"]) if folder not in own]
        if self._sandbox_dir is not None and "GIT_CONFIG_COUNT" not in self.env:
            hello["env"] = {**env, **git_excludes(self._sandbox_dir)}
        return hello

    def _environment(self) -> dict[str, str]:
        env = super()._environment()
        # srt's own take their place: those of the host are out of reach, and may have passwords
        dropped = {*rules.INHERITED, *(rules.CERTIFICATES if self._secrets else ())}
        return {name: value for name, value in env.items() if name in self.env or name not in dropped}

    def _result(self, pending: Pending) -> ActionResult:
        result = super()._result(pending)
        note = kept_settings_note(result.stderr)
        return (
            attrs.evolve(result, message="; ".join(filter(None, (result.message, note)))) if note else result
        )

    @property
    def running(self) -> tuple[Policy, Path]:
        """The rules of the sandbox that runs, and its run folder."""
        assert self._policy is not None
        assert self._sandbox_dir is not None
        return self._policy, self._sandbox_dir

    # --- skills

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """As in `RunnerExecutor`. What is read-only in the layout cannot be written to from inside."""
        self._attached = True
        if layout is not None and layout.read_only:
            self._guarded = layout.read_only
            guarded = self._policy is not None and self._policy.guarded == layout.read_only
            if not guarded and self._connected() is not None:
                self._restart()
        super().attach(tools=tools, layout=layout)

    def _restart(self) -> None:
        """End the sandbox; the next action starts one that knows the new settings."""
        with self._start_lock:
            connection = self._connection
            if connection is not None:
                connection.close(self.limits.grace_s + KILL_MARGIN_S)

    # --- the network, while it runs

    def allow_domain(self, domain: str) -> None:
        """Let code reach this host from now on; a running sandbox takes it over with its next connection.

        :raises ConfigError: if it is no host.
        """
        check_domains("domain", [domain])
        self._change_domains(self.allowed_domains, self.denied_domains, domain)

    def deny_domain(self, domain: str) -> None:
        """Let code no longer reach this host; connections that are open stay open.

        :raises ConfigError: if it is no host.
        """
        check_domains("domain", [domain], deny=True)
        self._change_domains(self.denied_domains, self.allowed_domains, domain)

    def _change_domains(self, to: list[str], away: list[str], domain: str) -> None:
        if domain in away:
            away.remove(domain)
        if domain not in to:
            to.append(domain)
        if self._connected() is not None and self._policy is not None and self._process is not None:
            self._process.configure(self._policy.settings())

    # --- what was left behind

    def risky_files(self) -> tuple[RiskyFile, ...]:
        """Return files that appeared or changed since the start and that another program may run or obey later.

        Git hooks and settings, editor and shell settings, instructions for agents, test and build configuration:
        harmless in the sandbox, but a program that works in the folder outside would act on them. Blocks.
        """
        before = self._before or {}
        found = find_risky_files(self.workspace_dir)
        return tuple(found[path] for path in sorted(found) if before.get(path) != found[path])

    # --- snapshots

    def pause(self) -> None:
        """End the sandbox and hand the workspace back; the next action starts a new one, with a fresh shell.

        To be called before files of the workspace are replaced from outside, as a restore does. A running sandbox
        guards the very files that it found: those that take their place could be written to, and would be the host's,
        not the sandbox's user's. Actions that run are ended. Blocks.
        """
        self._restart()
        self._await_end()

    # --- checking

    def verify(self) -> tuple[bool, str]:
        """Try to get out of the sandbox; return whether it holds, and a sentence that says what is missing."""
        from agentd_executor_srt.probes import probe

        try:
            return probe(self)
        except Exception as error:
            return False, str(error)

    # --- the end

    def close(self) -> None:
        """End everything, remove what srt left, hand the workspace back, and log risky files that code left."""
        running = self._connection is not None
        super().close()
        if running:
            self._await_end()
            self._log_risks()

    def _await_end(self) -> None:
        process, run_dir = self._process, self._sandbox_dir
        self._process = self._sandbox_dir = None
        if run_dir is None or self._made_by != os.getpid():  # in a forked child it is not ours
            return
        if process is not None and not process.wait_gone(self.limits.grace_s + END_S):
            end_later(process, run_dir, [path for path in self.allow_write if path.is_dir()])
        remove_run_dir(run_dir)  # the supervisor has done it, unless it was killed

    def _log_risks(self) -> None:
        risky = self.risky_files()
        if risky:
            # their names are the code's to choose: quoted, they can neither end the line nor steer a terminal
            named = ", ".join(f"{file.path!a} ({file.reason})" for file in risky[:20])
            log.warning("code in the sandbox left files that other programs may act on: %s", named)


def _write_private(path: Path, value: object) -> None:
    import json

    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
