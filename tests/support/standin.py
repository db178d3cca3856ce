"""A stand-in for the part of microsandbox that needs hardware virtualisation: the running guest.

`StandIn` has the methods of the SDK's `Sandbox` that agentd uses. It takes the same arguments (the SDK's own
`Network`, `Volume`, `Secret`, ... objects), keeps the configuration in a folder, and runs a command under
bubblewrap: the mounts of the configuration and nothing else of the host but its programs, a process tree
and a network of its own. Where bubblewrap is missing, the command runs as a plain process with no mounts; such
a stand-in needs `guest_dir` to be the workspace's own path.
What it does not show: a guest's kernel, virtiofs, msb's network and its proxy.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microsandbox import SandboxNotFoundError, SandboxStatus
from microsandbox.types import ExecEventType, MountConfig

BWRAP = shutil.which("bwrap")
GUEST_ENV = {"PATH": f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin", "IMAGE_SAYS": "hello"}
GUEST_PYTHON = f"{sys.base_prefix}/bin/python3"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", sys.base_prefix)


def root() -> Path:
    """Where configurations are kept: what MSB_HOME is to msb."""
    return Path(os.environ["AGENTD_STANDIN_HOME"])


def disks() -> Path:
    """Where kept "disks" lie."""
    return root().with_name("standin-disks")


class StandIn:
    """One "microVM": its configuration, and the commands that run in it."""

    can_mount = BWRAP is not None
    calls: list[tuple[str, str]] = []  # noqa: RUF012 - what was done to which, for the tests
    created: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - the arguments of `create`, as they came

    def __init__(self, name: str) -> None:
        self.name = name

    # --- life

    @staticmethod
    async def create(name: str, **options: Any) -> StandIn:
        StandIn.calls.append(("create", name))
        StandIn.created[name] = options
        folder = root() / name
        (folder / "disk").mkdir(parents=True)
        stored = {
            "labels": dict(options["labels"]),
            "volumes": {guest: _stored(mount) for guest, mount in options["volumes"].items()},
            "secrets": {entry.env_var: entry.placeholder for entry in options["secrets"]},
        }
        (folder / "config.json").write_text(json.dumps(stored))
        return StandIn(name)

    @staticmethod
    async def restore(
        snapshot: str, *, name: str, volumes: Mapping[str, MountConfig], **options: Any
    ) -> StandIn:
        StandIn.calls.append(("restore", name))
        StandIn.created[name] = {**options, "volumes": volumes, "snapshot": snapshot}
        folder = root() / name
        shutil.copytree(disks() / snapshot / "disk", folder / "disk")
        mounts = {guest: _stored(mount) for guest, mount in volumes.items()}
        (folder / "config.json").write_text(json.dumps({"labels": {}, "volumes": mounts, "secrets": {}}))
        return StandIn(name)

    @staticmethod
    async def list_with(*, cursor: str | None) -> Page:
        return Page([StandIn(folder.name) for folder in sorted(root().iterdir())])

    async def remove(self) -> None:
        await self.destroy()

    @staticmethod
    async def get(name: str) -> StandIn:
        if not (root() / name / "config.json").exists():
            raise SandboxNotFoundError(f"there is no {name}")
        return StandIn(name)

    @property
    def status(self) -> SandboxStatus:
        stopped = (root() / self.name / "stopped").exists()
        return SandboxStatus.STOPPED if stopped else SandboxStatus.RUNNING

    def config(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((root() / self.name / "config.json").read_text())
        return loaded

    async def connect(self) -> StandIn:
        StandIn.calls.append(("connect", self.name))
        return self

    async def touch(self) -> None:
        StandIn.calls.append(("touch", self.name))

    async def destroy(self, *, force: bool = False, timeout: float | None = None) -> None:
        StandIn.calls.append(("destroy", self.name))
        shutil.rmtree(root() / self.name)

    # --- commands

    def _command(self, command: list[str], env: Mapping[str, str], cwd: str) -> list[str]:
        config = self.config()
        env = {**GUEST_ENV, **config["secrets"], **env}
        if BWRAP is None:
            return ["env", "-i", *(f"{name}={value}" for name, value in env.items()), *command]
        found = [BWRAP, "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        for path in dict.fromkeys(SYSTEM):
            if os.path.islink(path):
                found += ["--symlink", os.readlink(path), path]
            elif os.path.exists(path):
                found += ["--ro-bind", path, path]
        found += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
        disk = root() / self.name / "disk"
        found += ["--bind", str(disk), "/opt/disk"]
        for guest, (host, readonly) in sorted(config["volumes"].items()):
            found += ["--ro-bind" if readonly else "--bind", host, guest]
        for name, value in env.items():
            found += ["--setenv", name, value]
        return [*found, "--chdir", cwd, "--", *command]

    async def _start(
        self, command: list[str], env: Mapping[str, str], cwd: str
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self._command(command, env, cwd),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"]},  # the guest's first process shows it
            start_new_session=True,
        )

    async def exec(self, cmd: str, args: list[str], *, user: str | None = None) -> Output:
        process = await self._start([cmd, *args], {}, "/")
        out, err = await process.communicate()
        return Output(out, err)

    async def exec_stream(
        self, cmd: str, args: list[str], *, env: Mapping[str, str], cwd: str, user: str | None, stdin: object
    ) -> Handle:
        StandIn.calls.append(("exec_stream", self.name))
        return Handle(await self._start([cmd, *args], env, cwd))


class Page:
    next_cursor = None

    def __init__(self, sandboxes: list[StandIn]) -> None:
        self.sandboxes = sandboxes


class StandInSnapshot:
    """A kept "disk": what a stand-in's code has written below /opt/disk."""

    def __init__(self, ident: str) -> None:
        self.id, self.image_ref = ident, "python"
        about = json.loads((disks() / ident / "about.json").read_text())
        self.group, self.labels, self.created_at = about["group"], about["labels"], about["created_at"]

    @staticmethod
    async def create(name: str, *, from_sandbox: str, group: str, labels: dict[str, str]) -> StandInSnapshot:
        StandIn.calls.append(("snapshot", from_sandbox))
        number = len(StandIn.calls)
        ident = f"snap_{number:032x}"
        shutil.copytree(root() / from_sandbox / "disk", disks() / ident / "disk")
        about = {"group": group, "labels": labels, "created_at": 1000.0 * number}
        (disks() / ident / "about.json").write_text(json.dumps(about))
        return StandInSnapshot(ident)

    @staticmethod
    async def list() -> list[StandInSnapshot]:
        return [StandInSnapshot(folder.name) for folder in disks().iterdir()] if disks().exists() else []

    async def open(self) -> StandInSnapshot:
        return self

    @staticmethod
    async def remove(ident: str, *, force: bool) -> None:
        shutil.rmtree(disks() / ident)


class Output:
    def __init__(self, out: bytes, err: bytes) -> None:
        self.stdout_bytes, self.stderr_bytes = out, err


class Event:
    def __init__(
        self, kind: str, *, pid: int | None = None, data: bytes | None = None, code: int | None = None
    ) -> None:
        self.event_type = ExecEventType(kind)
        self.pid, self.data, self.code = pid, data, code


class Sink:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()


class Handle:
    """A running command, as the SDK's `ExecHandle` shows it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._killed = False
        self._events: asyncio.Queue[Event | None] = asyncio.Queue(16)
        self._events.put_nowait(Event("started", pid=process.pid))
        self._task = asyncio.ensure_future(self._watch())

    def take_stdin(self) -> Sink | None:
        assert self.process.stdin is not None
        return Sink(self.process.stdin)

    async def recv(self) -> Event | None:
        return await self._events.get()

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        self._killed = True  # nobody reads the events any more
        while not self._events.empty():
            self._events.get_nowait()

    async def _watch(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        await asyncio.gather(
            self._carry("stdout", self.process.stdout), self._carry("stderr", self.process.stderr)
        )
        code = await self.process.wait()
        await self._events.put(Event("exited", code=code if code >= 0 else 128 - code))
        await self._events.put(None)

    async def _carry(self, kind: str, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(1 << 16):
            if not self._killed:
                await self._events.put(Event(kind, data=data))


async def unpulled_problem(_image: str) -> str:
    """The stand-in's image is the host's programs: always there."""
    return ""


def _stored(mount: MountConfig) -> tuple[str, bool]:
    assert mount.bind is not None
    return mount.bind, mount.readonly
