"""`MsbSettings`: which microVM a session gets, checked, and as the SDK's options."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import attrs
from agentd.errors import ConfigError
from agentd.statedir import make_private

from agentd_executor_msb.network import NetworkSetting, check_network, to_network

if TYPE_CHECKING:
    from microsandbox.types import MountConfig, SecretEntry

__all__ = [
    "GuestSecret",
    "Mount",
    "MsbSettings",
    "image_name",
    "local_image",
    "read_mounts",
    "read_secrets",
    "resolved_inside",
]

Pull = Literal["if-missing", "always", "never"]
Security = Literal["default", "restricted"]
MountSetting: TypeAlias = "str | Sequence[str]"
SecretSetting: TypeAlias = "Sequence[str] | Mapping[str, Any]"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@attrs.frozen
class Mount:
    """A directory of the host in the microVM."""

    host: Path
    guest: str
    readonly: bool = False


@attrs.frozen
class GuestSecret:
    """A variable that code sees as a placeholder; msb's proxy puts the value in for these hosts."""

    name: str
    hosts: tuple[str, ...]
    value: str = attrs.field(repr=False)

    @property
    def placeholder(self) -> str:
        return f"$MSB_{self.name}"


@attrs.frozen(kw_only=True)
class MsbSettings:
    """A microVM. Parameters as in `MicrosandboxCLIExecutor`, with paths resolved."""

    image: str
    memory: int
    cpus: int
    guest_dir: str
    mounts: tuple[Mount, ...]
    network: NetworkSetting
    secrets: tuple[GuestSecret, ...]
    user: str | None
    pull: Pull
    security: Security
    idle_timeout_s: float
    vm_snapshot: str | None = None

    def __attrs_post_init__(self) -> None:
        for name, value in (("memory", self.memory), ("cpus", self.cpus)):
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"{name}: must be a whole number from 1 ({'MiB' if name == 'memory' else 'processors'}), "
                    f"got {value!r}"
                )
        for name, text, allowed in (
            ("pull", self.pull, get_args(Pull)),
            ("security", self.security, get_args(Security)),
        ):
            if text not in allowed:
                raise ConfigError(f"{name}: must be one of {', '.join(map(repr, allowed))}, got {text!r}")
        if self.user is not None and not isinstance(self.user, str):
            raise ConfigError(f"user: must be a text such as '1000:1000', got {self.user!r}")
        if self.idle_timeout_s < 10:
            raise ConfigError(f"idle_timeout_s: must be at least 10 seconds, got {self.idle_timeout_s!r}")
        _check_guest_path("guest_dir", self.guest_dir)
        check_network(self.network)
        if self.secrets and self.network == "none":
            raise ConfigError(
                "secrets: they are of use only where the network allows their hosts; give network=[...] too"
            )
        self._check_places()

    def _check_places(self) -> None:
        seen = {self.guest_dir}
        for mount in self.mounts:
            _check_guest_path("volumes", mount.guest)
            if mount.guest in seen:
                raise ConfigError(f"volumes: {mount.guest!r} is mounted twice")
            seen.add(mount.guest)
            _refuse_state(mount.host)

    def check_mounts(self, workspace: Path) -> None:
        """Refuse mounts of what lies in the workspace: code could put a link in its place before the next boot.

        :raises ConfigError: with the mount.
        """
        for mount in self.mounts:
            if mount.host == workspace or mount.host.is_relative_to(workspace):
                raise ConfigError(
                    f"volumes: {str(mount.host)!r} lies in the workspace, which code sees at {self.guest_dir!r} already"
                )

    def restore_options(self, workspace: Path, skills: tuple[Path, str] | None = None) -> dict[str, Any]:
        """Return the same for the SDK's `Sandbox.restore`, which takes less."""
        made = self.create_options(workspace, skills)
        kept = {name: made[name] for name in ("memory", "cpus", "volumes", "user", "security")}
        # The mounts of the microVM that the disk is from need not come back: the ones here are all that are wanted.
        return {**kept, "network_policy": made["network"].policy, "allow_missing_resources": True}

    def create_options(self, workspace: Path, skills: tuple[Path, str] | None = None) -> dict[str, Any]:
        """Return the keyword arguments of the SDK's `Sandbox.create`, but for the lifecycle's.

        :param skills: the directory with the bindings and where it lies in the guest; it is mounted over the
            workspace's, read-only.
        """
        from microsandbox.types import PullPolicy, SecurityProfile

        _refuse_state(workspace)
        if self.secrets:
            _close_state()
        mounts = [Mount(workspace, self.guest_dir), *self.mounts]
        if skills is not None:
            mounts.append(Mount(*skills, readonly=True))
        volumes = {mount.guest: _bind(mount, self.user) for mount in mounts}
        return {
            "image": Path(self.image) if local_image(self.image) else self.image,
            "memory": self.memory,
            "cpus": self.cpus,
            "workdir": self.guest_dir,
            "volumes": volumes,
            "network": to_network(self.network),
            "secrets": [_entry(secret) for secret in self.secrets],
            "user": self.user,
            "pull_policy": PullPolicy(self.pull),
            "security": SecurityProfile(self.security),
        }

    def fingerprint(self, workspace: Path) -> str:
        """Return a short hash by which a later process knows that a microVM is the one that it would make."""
        values = attrs.asdict(self, filter=lambda attribute, _: attribute.name != "value")
        text = json.dumps({**values, "workspace": str(workspace)}, default=repr, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def image_name(image: str | Path) -> str:
    """Return a registry's name as it is, and a path as an absolute one."""
    if isinstance(image, Path) or image.startswith(("/", "./", "../", "~")):
        return str(Path(image).expanduser().absolute())
    if not image:
        raise ConfigError("image: must be a registry's name or a path, got ''")
    return image


def local_image(image: str) -> bool:
    """Tell whether an image is a path (a root file system or a disk image) rather than a registry's name."""
    return os.path.isabs(image)


def read_mounts(given: Sequence[MountSetting]) -> tuple[Mount, ...]:
    """Return mounts from `(HOST, GUEST)`, `(HOST, GUEST, "ro")` or `"HOST:GUEST[:ro]"`."""
    return tuple(map(_mount, given))


def _mount(given: MountSetting) -> Mount:
    parts = given.split(":") if isinstance(given, str) else [*map(str, given)]
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in ("ro", "rw")):
        raise ConfigError(
            f"volumes: must be (HOST, GUEST), (HOST, GUEST, 'ro') or 'HOST:GUEST:ro', got {given!r}"
        )
    host = Path(parts[0]).expanduser().resolve()
    if not host.is_dir():
        raise ConfigError(f"volumes: {str(host)!r} is no directory")
    return Mount(host, parts[1], readonly=parts[2:] == ["ro"])


def read_secrets(given: Mapping[str, SecretSetting] | None) -> tuple[GuestSecret, ...]:
    """Return secrets from `{NAME: [HOST, ...]}` or `{NAME: {"hosts": [...], "value": ...}}`.

    Without a value it is that of the host's environment variable NAME.
    """
    return tuple(_secret(name, setting) for name, setting in (given or {}).items())


def _secret(name: str, setting: SecretSetting) -> GuestSecret:
    if _NAME.fullmatch(name) is None:
        raise ConfigError(f"secrets: {name!r} is no name of an environment variable")
    fields = dict(setting) if isinstance(setting, Mapping) else {"hosts": setting}
    hosts, value = fields.pop("hosts", ()), fields.pop("value", os.environ.get(name))
    if fields or isinstance(hosts, str) or not hosts or not all(isinstance(host, str) for host in hosts):
        raise ConfigError(
            f"secrets[{name!r}]: must be a list of host names or a mapping with 'hosts' and, optionally, 'value'"
        )
    if not isinstance(value, str) or not value:
        raise ConfigError(f"secrets[{name!r}]: has no value; set the environment variable or give 'value'")
    return GuestSecret(name, tuple(hosts), value)


def _entry(secret: GuestSecret) -> SecretEntry:
    from microsandbox import Secret as Entry

    return Entry.env(secret.name, value=secret.value, allow=secret.hosts, placeholder=secret.placeholder)


def _bind(mount: Mount, user: str | None) -> MountConfig:
    """Return a bind mount, whose files belong to `user` in the guest if that is given by number.

    Setuid bits and devices made in the guest stay in the guest's view.

    With `mirror`, rwx bits reach the host, so that a script that code makes executable is executable for the
    user too; owners and other bits live in an extended attribute, where the host's file system has those.
    """
    from microsandbox import Volume
    from microsandbox.types import HostPermissions, StatVirtualization

    owner = re.fullmatch(r"(\d+)(?::(\d+))?", user or "")
    return Volume.bind(
        str(mount.host),
        readonly=mount.readonly,
        uid=int(owner[1]) if owner else None,
        gid=int(owner[2] or owner[1]) if owner else None,
        nosuid=True,
        nodev=True,
        stat_virtualization=StatVirtualization.RELAXED,
        host_permissions=HostPermissions.MIRROR,
    )


def resolved_inside(what: str, path: Path, workspace: Path) -> Path:
    """Return a path resolved. One in the workspace must not lead out of it: code may have put a link there.

    :raises ConfigError: if it does.
    """
    resolved = path.resolve()
    lies_in = Path(os.path.abspath(path)).is_relative_to(workspace)
    if lies_in and not resolved.is_relative_to(workspace):
        raise ConfigError(
            f"{what}: {str(path)!r} is a link that leads out of the workspace, to {str(resolved)!r}"
        )
    return resolved


def _check_guest_path(what: str, path: str) -> None:
    plain = path.isprintable() and ":" not in path and not path.startswith("//")  # normpath keeps two slashes
    if not plain or not posixpath.isabs(path) or posixpath.normpath(path) != path or path == "/":
        raise ConfigError(f"{what}: a place in the microVM is an absolute path such as '/data', got {path!r}")


def _state() -> Path:
    return Path(os.environ.get("MSB_HOME") or Path.home() / ".microsandbox").resolve()


def _close_state() -> None:
    """See that nobody else of this host can read msb's state: it stores secrets' values as they are."""
    state = _state()
    make_private(state)
    if state.stat().st_mode & 0o077:
        raise ConfigError(
            f"secrets: microsandbox stores their values in {str(state)!r}, which other users of this machine can "
            f"enter; close it first: chmod 700 {state}"
        )


def _refuse_state(host: Path) -> None:
    """Refuse a mount that would show msb's own state (secrets' values, its authority's key) to the code."""
    state = _state()
    if state == host or state.is_relative_to(host) or host.is_relative_to(state):
        raise ConfigError(
            f"{str(host)!r} cannot be mounted: microsandbox keeps secrets and keys in {str(state)!r}, and code would "
            "see them; use another directory, or set MSB_HOME to one outside"
        )
