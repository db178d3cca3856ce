"""`MicrosandboxCLIExecutor`: the runner inside a microVM of microsandbox."""

from __future__ import annotations

import logging
import os
import posixpath
import secrets as random
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import attrs
from agentd._concurrency.pool import call_in_thread
from agentd._concurrency.waiting import AsyncWaiter
from agentd.errors import ConfigError, ExecutorError, SandboxUnavailableError, UnknownSnapshotError
from agentd.protocols import Layout, OnOutput, ToolDispatcher
from agentd.selectors import check_label
from agentd.types import Action, ActionResult, BashAction, Limits, PythonAction, PythonState
from agentd_runner.artefact import artefact_command, artefact_input
from agentd_runner.host import RunnerExecutor, RunnerProcess
from agentd_runner.host.connection import Connection
from agentd_runner.host.environment import Place, base_environment

from agentd_executor_msb import disks, probes
from agentd_executor_msb.guest import FROM_HOST, NOT_FROM_GUEST, moved_layout
from agentd_executor_msb.network import NetworkSetting
from agentd_executor_msb.places import check_conversation, slug
from agentd_executor_msb.settings import (
    MountSetting,
    MsbSettings,
    Pull,
    SecretSetting,
    Security,
    image_name,
    local_image,
    read_mounts,
    read_secrets,
    resolved_inside,
)
from agentd_executor_msb.stream import StreamProcess
from agentd_executor_msb.thread import sdk_thread
from agentd_executor_msb.vm import ANSWER_S, RESTORED, MicroVM

__all__ = ["MicrosandboxCLIExecutor"]

T = TypeVar("T")
log = logging.getLogger("agentd.executor.msb")
OUTER_SKILLS = "/opt/agentd/skills"
DOWN_S = 30.0


class MicrosandboxCLIExecutor(RunnerExecutor):
    """Runs code in a microVM of its own: another kernel, its own file system, processes and network.

    The host's side is the `microsandbox` SDK with the `msb` binary of its wheel; nothing listens on the host.
    The workspace is mounted at `guest_dir`; the skills directory in it read-only. Tool calls go over the
    runner's pipes. The microVM is booted with the first action and removed by `close`.

    :param workspace_dir: an existing or new directory of the host.
    :param image: a registry's name, such as `python`, or the path of a root file system (a directory) or of a
        disk image. It must have Python 3.11 or newer and bash.
    :param memory: MiB of the microVM.
    :param cpus: its virtual processors.
    :param timeout: seconds an action may take; short for `limits.timeout_s`.
    :param limits: time-outs, output and resource limits within the microVM.
    :param state: `fresh` or `kept`, as for every executor.
    :param python: the interpreter in the guest, a path or a name on its PATH.
    :param envs: variables for the code. Of the host's own, nothing but `FROM_HOST` gets in.
    :param volumes: more mounts: `(HOST, GUEST)`, `(HOST, GUEST, "ro")` or `"HOST:GUEST:ro"`.
    :param network: `none` (default), `public`, `private`, `host`, `all`, or a list of rules such as
        `"api.github.com"`, `"*.example.com"`, `"allow@10.0.0.0/8:tcp:5432"`; or the SDK's `Network`.
    :param secrets: `{NAME: [HOST, ...]}` or `{NAME: {"hosts": [...], "value": ...}}`: code sees a
        placeholder in the variable NAME; msb puts the value into headers of HTTPS requests to these hosts.
    :param conversation_id: a name under which a later process finds the microVM again if this one dies.
        Without it, the microVM ends with this program. One executor at a time may use a conversation.
    :param user: who runs the code in the guest; default is the image's user. One that is no root is best given
        by number (`"1000"` or `"1000:1000"`): then the files of the workspace belong to it in the guest.
    :param pull: `if-missing`, `always` or `never`: when the registry is asked for the image.
    :param security: `restricted` takes sudo and mounting from the guest's root.
    :param guest_dir: where the workspace lies in the guest.
    :param idle_timeout_s: seconds after which the microVM of a conversation ends when its host has died.
    :param vm_snapshot: begin with this kept disk instead of the image's (`snapshot_vm`): the object, its id or its
        label. Not together with `secrets`, `conversation_id` or an SDK's `Network`, which msb's restore does not take.
    :param base_dir: where snapshots of the workspace lie; by default in the user's state folder.

    :raises ConfigError: a parameter has a value that it must not have.
    :raises WorkspaceError: the workspace is a file or cannot be made.

    Starting raises `SandboxUnavailableError` with a sentence for each thing that is missing here.
    """

    plugin_name, own_loopback, trusts_interpreter = "msb", True, True  # the guest is the session's own

    def __init__(
        self,
        workspace_dir: str | Path = ".",
        *,
        image: str | Path = "python",
        memory: int = 1024,
        cpus: int = 1,
        timeout: float | None = None,
        limits: Limits | Mapping[str, Any] | None = None,
        state: PythonState = "fresh",
        python: str = "python3",
        envs: Mapping[str, str] | None = None,
        volumes: Sequence[MountSetting] = (),
        network: NetworkSetting = "none",
        secrets: Mapping[str, SecretSetting] | None = None,
        conversation_id: str | None = None,
        user: str | None = None,
        pull: Pull = "if-missing",
        security: Security = "default",
        guest_dir: str = "/workspace",
        idle_timeout_s: float = 900.0,
        vm_snapshot: disks.VmSnapshot | str | None = None,
        base_dir: str | Path | None = None,
        preload: Sequence[str] | None = None,
    ) -> None:
        check_conversation(conversation_id)
        super().__init__(
            workspace_dir,
            limits=limits,
            timeout=timeout,
            state=state,
            env=envs,
            base_dir=base_dir,
            preload=preload,
        )
        if not isinstance(python, str) or not python:
            raise ConfigError(f"python: must be a path or a name in the guest, got {python!r}")
        self.settings = MsbSettings(
            image=image_name(image),
            memory=memory,
            cpus=cpus,
            guest_dir=guest_dir,
            mounts=read_mounts(volumes),
            network=network,
            secrets=read_secrets(secrets),
            user=user,
            pull=pull,
            security=security,
            idle_timeout_s=idle_timeout_s,
            vm_snapshot=disks.check_disk(vm_snapshot),
        )
        self.settings.check_mounts(self.workspace_dir)
        self._refuse_what_restore_cannot(conversation_id)
        self.conversation_id = conversation_id
        self.python = python
        self._wanted_python = python
        self._place = Place(Path(guest_dir))
        self._guest_env: dict[str, str] = {}
        self._host_skills: Path | None = None
        self._temporary = f"/tmp/agentd-{random.token_hex(4)}/tmp"  # not on a mount: sockets are made in it
        self._vm = MicroVM(
            self._new_name(conversation_id),
            self.settings,
            self._create_options,
            self.settings.fingerprint(self.workspace_dir),
            lasting=conversation_id is not None,
        )

    def _new_name(self, conversation_id: str | None) -> str:
        if self.settings.vm_snapshot is not None:
            return RESTORED + random.token_hex(8)
        return f"agentd-{slug(conversation_id) if conversation_id else random.token_hex(8)}"

    def _refuse_what_restore_cannot(self, conversation_id: str | None) -> None:
        if self.settings.vm_snapshot is None:
            return
        for name, refused in (
            ("secrets", bool(self.settings.secrets)),
            ("conversation_id", conversation_id is not None),
            ("network", not isinstance(self.settings.network, str | list | tuple)),
        ):
            if refused:
                what = "an SDK's Network" if name == "network" else name
                raise ConfigError(
                    f"vm_snapshot: cannot go with {what}, which microsandbox does not take when it restores a disk; "
                    f"leave one of them out"
                )

    @property
    def vm_name(self) -> str:
        """The microVM's name, as `msb inspect` and `msb exec` take it."""
        return self._vm.name

    # --- starting

    def _create_options(self) -> dict[str, Any]:
        skills = None
        if self._host_skills is not None and self._host_skills.is_dir():
            skills = (self._host_skills, self._skills_place(self._host_skills))
        if self.settings.vm_snapshot is not None:
            return self.settings.restore_options(self.workspace_dir, skills)
        return self.settings.create_options(self.workspace_dir, skills)

    def _start(self) -> Connection:
        self._check_host()
        self.python, self._guest_env = sdk_thread().run(self._enter())
        return super()._start()

    def _check_host(self) -> None:
        missing = probes.problems(self.settings)
        if missing:
            raise SandboxUnavailableError(f"the executor 'msb' cannot run here: {' '.join(missing)}")

    async def start(self) -> None:
        """See `RunnerExecutor.start`. A cancellation ends the boot, and the microVM with it."""
        if self._connected() is None and not self._closed:
            await call_in_thread(self._check_host)
            await self._in_sdk(self._vm.up())  # in no thread: that could not be cancelled
        await super().start()

    async def run(
        self, action: Action, *, action_id: str = "", on_output: OnOutput | None = None
    ) -> ActionResult:
        """See `RunnerExecutor.run`."""
        await self.start()
        return await super().run(action, action_id=action_id, on_output=on_output)

    async def _enter(self) -> tuple[str, dict[str, str]]:
        await self._vm.up()
        return await self._vm.look(self._wanted_python)

    def runner_command(self) -> list[str]:
        return artefact_command(self.python)

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        thread = sdk_thread()
        handle = thread.run(self._vm.stream(command, env))
        return StreamProcess(thread, handle, artefact_input())

    def _environment(self) -> dict[str, str]:
        host = {name: os.environ[name] for name in FROM_HOST if name in os.environ}
        guest = {name: value for name, value in self._guest_env.items() if name not in NOT_FROM_GUEST}
        hidden = {secret.name: secret.placeholder for secret in self.settings.secrets}
        return base_environment(host, self._place, {**guest, **hidden, **self.env}, temporary=self._temporary)

    def _hello(self, env: Mapping[str, str]) -> dict[str, object]:
        return {**super()._hello(env), "workspace": self.settings.guest_dir}

    # --- paths: the host's outside, the guest's inside

    def inside(self, path: str | Path) -> str:
        """Return where a path of the host's workspace lies in the guest; any other path is the guest's own."""
        text = str(path)
        if not os.path.isabs(text):
            return text
        try:
            return posixpath.normpath(
                posixpath.join(self.settings.guest_dir, *Path(text).relative_to(self.workspace_dir).parts)
            )
        except ValueError:
            return text

    def attach(self, *, tools: ToolDispatcher | None, layout: Layout | None) -> None:
        """See `RunnerExecutor.attach`.

        What the layout has as read-only is one directory. Outside the workspace it is mounted when the microVM is
        made, so it must be known by then; a later one raises `ConfigError`.
        """
        inside, skills_dir = None, None
        if layout is not None and layout.read_only:
            skills_dir = resolved_inside("skills_dir", Path(layout.read_only[0]), self.workspace_dir)
            inside = moved_layout(layout, layout.read_only[0], Path(self._skills_place(skills_dir)))
            outside = not skills_dir.is_relative_to(self.workspace_dir)
            if outside and self._vm.known and skills_dir != self._host_skills:
                raise ConfigError(
                    f"skills_dir: {str(skills_dir)!r} lies outside the workspace, and the microVM runs already; "
                    "nothing can be mounted into it any more"
                )
        self._host_skills = skills_dir
        super().attach(tools=tools, layout=inside)

    def _skills_place(self, skills: Path) -> str:
        return self.inside(skills) if skills.is_relative_to(self.workspace_dir) else OUTER_SKILLS

    def _encode(self, action: Action) -> tuple[dict[str, Any], bytes]:
        cwd = None if action.cwd is None else self.inside(action.cwd)
        if isinstance(action, PythonAction):
            pythonpath = tuple(self.inside(path) for path in action.pythonpath)
            return super()._encode(attrs.evolve(action, cwd=cwd, pythonpath=pythonpath))
        if isinstance(action, BashAction):
            return super()._encode(attrs.evolve(action, cwd=cwd))
        return super()._encode(attrs.evolve(action, cwd=cwd))

    # --- the microVM's own disk

    async def snapshot_vm(self, label: str | None = None) -> disks.VmSnapshot:
        """Keep the microVM's disk: what code has installed or written outside the workspace.

        The microVM is started if it does not run. The workspace lies on the host: `snapshot` keeps that.

        :raises ConfigError: if the image is a path (msb keeps disks of a registry's images alone), or for a bad label.
        :raises SandboxUnavailableError: if this host cannot run microVMs, or msb cannot keep the disk.
        """
        check_label(label)
        if local_image(self.settings.image) and self.settings.vm_snapshot is None:
            raise ConfigError(
                f"snapshot_vm: the image is the path {self.settings.image!r}, and microsandbox keeps disks of images "
                "from a registry alone; load it as an image first (msb load --input ARCHIVE)"
            )
        await self.start()
        return await self._in_sdk(self._vm.keep(label))

    async def list_vm_snapshots(self) -> list[disks.VmSnapshot]:
        """All disks that agentd has kept on this machine, the oldest first."""
        return await self._in_sdk(disks.all_disks())

    async def delete_vm_snapshot(self, wanted: disks.VmSnapshot | str) -> disks.VmSnapshot:
        """Remove a kept disk, by id or label. :raises UnknownSnapshotError: if there is none."""
        return await self._in_sdk(disks.discard_disk(str(disks.check_disk(wanted))))

    @classmethod
    def from_vm_snapshot(
        cls, vm_snapshot: disks.VmSnapshot | str, workspace_dir: str | Path = ".", **options: Any
    ) -> MicrosandboxCLIExecutor:
        """Make an executor whose microVM begins with a kept disk; `options` are those of this class."""
        return cls(workspace_dir, vm_snapshot=vm_snapshot, **options)

    async def fork_vm(self, workspace_dir: str | Path) -> MicrosandboxCLIExecutor:
        """Return a second executor with a copy of this one's disk and of its workspace; the two share nothing more.

        The copy of the microVM boots anew, so processes, memory and the shell's state are not in it. Tools are
        attached by whoever uses it. It has started; it is the caller's to close.

        :param workspace_dir: a folder for the copy of the workspace, empty or not there.
        :raises ConfigError: as `snapshot_vm`; also with `secrets` or an SDK's `Network`.
        :raises SandboxUnavailableError: as `snapshot_vm`.
        :raises SnapshotError: if the folder is not empty.
        """
        child = self._sibling(workspace_dir)
        disk = await self.snapshot_vm()
        try:
            child.settings = child._vm.settings = attrs.evolve(child.settings, vm_snapshot=disk.id)
            await self._copy_workspace(child.workspace_dir)
            await child.start()
        except BaseException:
            await child.aclose()
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._drop(disk)
        return child

    async def _copy_workspace(self, folder: Path) -> None:
        kept = await self.asnapshot()
        try:
            await (await self._manager()).acopy_to(kept, folder)
        finally:
            with anyio.CancelScope(shield=True):
                await self.adelete_snapshot(kept)

    async def _drop(self, disk: disks.VmSnapshot) -> None:
        try:
            await self.delete_vm_snapshot(disk)
        # What the caller has asked for was done, or has failed.
        except (ExecutorError, UnknownSnapshotError) as error:
            log.warning("%s; remove it with: msb snapshot rm --force %s", error, disk.id)

    def _sibling(self, workspace_dir: str | Path) -> MicrosandboxCLIExecutor:
        own = self.settings
        return type(self)(
            workspace_dir,
            image=own.image,
            memory=own.memory,
            cpus=own.cpus,
            limits=self.limits,
            state=self.state,
            python=self._wanted_python,
            envs=self.env,
            volumes=[(str(m.host), m.guest, "ro" if m.readonly else "rw") for m in own.mounts],
            network=own.network,
            secrets={one.name: {"hosts": one.hosts, "value": one.value} for one in own.secrets},
            user=own.user,
            pull=own.pull,
            security=own.security,
            guest_dir=own.guest_dir,
            idle_timeout_s=own.idle_timeout_s,
            vm_snapshot="fork",  # its id is known when the disk has been kept
            base_dir=self.base_dir,
            preload=self.preload,
        )

    async def _in_sdk(self, work: Coroutine[Any, Any, T]) -> T:
        """Await work of the SDK's thread from any event loop; a cancellation ends the work, too."""
        future = sdk_thread().start(work)
        done = AsyncWaiter()
        future.add_done_callback(lambda _: done.set())
        try:
            await done.wait()
        except BaseException:
            future.cancel()
            raise
        return future.result()

    # --- the end

    def verify(self) -> tuple[bool, str]:
        """Look for what is missing, then boot and run a trivial block; return whether that works and a sentence.

        What is missing is told apart: KVM, hardware virtualisation, the firmware, the image. No image is
        pulled for it: only an action does that.
        """
        missing = probes.problems(self.settings)
        if not missing:
            missing = list(filter(None, [self._unpulled()]))
        if missing:
            return False, " ".join(missing)
        works, message = super().verify()
        return works, f"{message} in the microVM {self.vm_name}" if works else message

    def _unpulled(self) -> str:
        if self.settings.vm_snapshot is not None:  # it names its image itself
            return ""
        try:
            return sdk_thread().run(probes.unpulled_problem(self.settings.image), ANSWER_S)
        except Exception as error:  # the SDK's, or its silence
            return f"microsandbox does not say which images there are ({type(error).__name__}: {error})."

    def close(self) -> None:
        """End every action and the runner, and remove the microVM. May be called again.

        :raises ExecutorError: if microsandbox does not remove it; the message has the command that does.
        """
        super().close()
        if not self._vm.known:
            return
        try:
            sdk_thread().run(self._vm.down(), DOWN_S)
        except Exception as error:  # the SDK's, or its silence
            raise ExecutorError(
                f"the microVM {self.vm_name!r} could not be removed ({type(error).__name__}: {error}); "
                f"remove it with: msb rm -f {self.vm_name}"
            ) from error

    async def aclose(self) -> None:
        with anyio.CancelScope(shield=True):
            await call_in_thread(self.close)

    def __del__(self) -> None:
        # A forgotten executor: its microVM goes too. No waiting in a finaliser.
        super().__del__()
        vm = getattr(self, "_vm", None)
        if vm is not None and vm.known and not self._closed:
            sdk_thread().forget(vm.down())
