"""srt's settings: what code may read, write and reach."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from agentd.errors import ConfigError
from agentd_runner.host import environment
from agentd_runner.host.repositories import SEARCH_DEPTH

from agentd_executor_srt.additions import BUBBLEWRAP
from agentd_executor_srt.domains import check_domains
from agentd_executor_srt.requirements import Programs

__all__ = ["DENY_READ", "INHERITED", "Policy", "Profile", "ProxySecret", "read_secrets"]

Profile = Literal["default", "strict"]

DENY_READ = ("~/.ssh", "~/.aws", "~/.gnupg")

SHARED = (Path("/tmp/claude"),)
"""Folders that srt lets every sandbox of this machine write to, if they are there."""

# What srt sets inside, for programs that would use the network: its proxies, and its certificates if it looks into
# TLS connections. Code shall have them; it has no other way out.
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "grpc_proxy", "no_proxy")
INHERITED = (
    *_PROXIES,
    *(name.upper() for name in _PROXIES),
    *("RSYNC_PROXY", "DOCKER_HTTP_PROXY", "DOCKER_HTTPS_PROXY", "GIT_SSH_COMMAND", "GIT_CONFIG_PARAMETERS"),
    *("CLOUDSDK_PROXY_TYPE", "CLOUDSDK_PROXY_ADDRESS", "CLOUDSDK_PROXY_PORT", "CLOUDSDK_PROXY_USERNAME"),
    *("CLOUDSDK_PROXY_PASSWORD", "JAVA_TOOL_OPTIONS", "SANDBOX_RUNTIME"),
)
CERTIFICATES = (
    *(
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "CURL_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "PIP_CERT",
        "GIT_SSL_CAINFO",
    ),
    *(
        "AWS_CA_BUNDLE",
        "CARGO_HTTP_CAINFO",
        "DENO_CERT",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
        "NIX_SSL_CERT_FILE",
    ),
)

# What programs need of /etc: names, addresses, certificates, the linker's cache. Nothing else of it is readable in
# the strict profile, because services keep readable secrets there.
_ETC = (
    *(
        "alternatives",
        "bash.bashrc",
        "ca-certificates",
        "ca-certificates.conf",
        "crypto-policies",
        "debian_version",
    ),
    *(
        "fonts",
        "gai.conf",
        "group",
        "hosts",
        "inputrc",
        "ld.so.cache",
        "ld.so.conf",
        "ld.so.conf.d",
        "localtime",
    ),
    *(
        "machine-id",
        "magic",
        "mime.types",
        "networks",
        "nsswitch.conf",
        "os-release",
        "passwd",
        "pki",
        "protocols",
    ),
    *("profile", "resolv.conf", "services", "shells", "ssl", "terminfo", "timezone", "wgetrc", "inputrc"),
)
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")


@attrs.frozen
class ProxySecret:
    """A value that code sees a placeholder of; the proxy puts the value in for the named hosts."""

    name: str
    value: str = attrs.field(repr=False)
    hosts: tuple[str, ...]


def read_secrets(given: Mapping[str, Any] | None, host: Mapping[str, str]) -> tuple[ProxySecret, ...]:
    """Return the secrets of the option `secrets`. Raises `ConfigError`."""
    found = []
    for name, about in (given or {}).items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ConfigError(f"secrets: {name!r} is no name of an environment variable")
        if not isinstance(about, Mapping) or set(about) - {"hosts", "value"} or not about.get("hosts"):
            got = (
                f"keys {', '.join(map(repr, about))}" if isinstance(about, Mapping) else type(about).__name__
            )
            raise ConfigError(
                f"secrets[{name!r}]: must be a mapping with 'hosts' (a list of host names) and perhaps 'value', "
                f"got {got}"
            )
        hosts = about["hosts"]
        check_domains(f"secrets[{name!r}]['hosts']", hosts)
        value = about.get("value", host.get(name))
        if not isinstance(value, str) or not value:
            raise ConfigError(f"secrets[{name!r}]: no value: give 'value', or set the variable {name}")
        found.append(ProxySecret(name, value, tuple(hosts)))
    return tuple(found)


@attrs.define
class Policy:
    """What a sandbox allows; `settings` is the file for srt. Paths are absolute."""

    workspace: Path
    programs: Programs
    python: str
    profile: Profile
    allowed_domains: list[str]
    denied_domains: list[str]
    allow_local_binding: bool
    deny_read: list[Path]
    allow_read: list[Path]
    allow_write: list[Path]
    deny_write: list[Path]
    stand_ins: dict[str, str]  # what must be there when srt starts, in the workspace
    allow_git_config: bool
    guarded: tuple[Path, ...]
    secrets: tuple[ProxySecret, ...]
    sandbox_dir: Path  # for srt's settings and sockets
    private: list[Path]  # agentd's own folders
    package_dirs: tuple[Path, ...]  # agentd's own modules

    def settings(self) -> dict[str, Any]:
        """Return srt's settings."""
        programs = self.programs
        network: dict[str, Any] = {
            "allowedDomains": self._allowed(),
            "deniedDomains": self.denied_domains,
            "allowLocalBinding": self.allow_local_binding,
        }
        settings: dict[str, Any] = {
            "network": network,
            "filesystem": {
                "denyRead": _literal(self._deny_read()),
                "allowRead": _literal(self._allow_read()),
                "allowWrite": _literal([self.workspace, *self.allow_write]),
                "denyWrite": _literal(self._deny_write()),
                "allowGitConfig": self.allow_git_config,
            },
            "bwrapPath": str(BUBBLEWRAP),
            "socatPath": programs.socat,
            "ripgrep": {"command": programs.rg},
            "mandatoryDenySearchDepth": SEARCH_DEPTH,
        }
        if self.secrets:
            network["tlsTerminate"] = {}
            settings["credentials"] = {
                "envVars": [
                    {"name": s.name, "mode": "mask", "injectHosts": [_without_port(host) for host in s.hosts]}
                    for s in self.secrets
                ]
            }
        return settings

    def _allowed(self) -> list[str]:
        hosts = [host for secret in self.secrets for host in secret.hosts]
        return list(dict.fromkeys([*self.allowed_domains, *hosts]))

    def _deny_read(self) -> Iterable[Path]:
        # srt leaves `/proc`, `/dev` and `/sys` as they are unless they are named; the first two are the sandbox's own.
        broad = [Path("/"), Path("/sys")] if self.profile == "strict" else []
        return [*broad, *self.deny_read, *self.private]

    def _allow_read(self) -> Iterable[Path]:
        """What is readable below a denied folder; what is denied below that is denied nevertheless."""
        # its own folder, too: the socket of srt's proxy lies there, and to hide it would be to cut off every host
        own = [self.workspace, self.sandbox_dir, *(Path(path) for path in self.needed())]
        if self.profile == "strict":
            system = [*_SYSTEM, *(f"/etc/{name}" for name in _ETC)]
            own += [Path(path) for path in system if os.path.exists(path)]
            return [*own, *self.allow_write, *self.allow_read]
        denied = [*self.deny_read, *self.private]
        return [*(path for path in own if any(path.is_relative_to(d) for d in denied)), *self.allow_read]

    def _deny_write(self) -> Iterable[Path]:
        writable = [self.workspace, *self.allow_write]
        # or the host would run what code put there: the interpreter, srt's settings
        own = [*(Path(path) for path in self.needed()), self.sandbox_dir.parent]
        inside = [path for path in own if any(path != w and path.is_relative_to(w) for w in writable)]
        shared = [path for path in SHARED if path.exists()]
        return [*inside, *shared, *self.deny_write]

    def needed(self) -> list[str]:
        """The paths that the runner is made of; they must be readable in every sandbox."""
        paths = [*interpreter_paths(self.python), *map(str, self.package_dirs), self.programs.package]
        paths += map(str, self.guarded)
        return list(dict.fromkeys(paths))

    def denies(self, *paths: Path) -> bool:
        """Tell whether reading one of these files was denied on purpose."""
        return any(path.is_relative_to(denied) for path in paths for denied in self.deny_read)

    def inherited(self) -> list[str]:
        """The variables that code takes over from srt."""
        return [
            *INHERITED,
            *(CERTIFICATES if self.secrets else ()),
            *(secret.name for secret in self.secrets),
        ]


def interpreter_paths(python: str) -> list[str]:
    """The folders of an interpreter: its virtual environment's, and those of the one below it.

    `~/.local/bin/python3` may be a link to it: then its neighbours in `~/.local` are none of its business.
    """
    given, real = Path(python), Path(os.path.realpath(python))
    environment_dir = given.parent.parent
    paths = [environment_dir if (environment_dir / "pyvenv.cfg").exists() else given.parent, _prefix(real)]
    if python == sys.executable:
        paths += [Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix)]
    return [str(path) for path in dict.fromkeys(paths) if str(path) != "/"]


def _prefix(python: Path) -> Path:
    """The folder that an interpreter is installed in, but never a whole home."""
    home = Path(os.path.realpath(os.path.expanduser("~")))
    wider = [python.parent.parent, python.parent, python]
    return next(path for path in wider if path == python or not home.is_relative_to(path))


def host_environment(host: Mapping[str, str], run_dir: Path, path: str, policy: Policy) -> dict[str, str]:
    """The environment of srt itself, which runs outside: nothing that code or the option `env` may choose."""
    kept = ("LANG", "LC_ALL", "TZ", "NODE_EXTRA_CA_CERTS")
    env = {name: host[name] for name in kept if name in host}
    env |= {
        name: host[name]  # the way out of a network that has a proxy of its own; code does not see it
        for name in environment.ALLOWED
        if name.lower().endswith("_proxy") and name in host
    }
    env |= {"PATH": path, "HOME": str(run_dir), "TMPDIR": str(run_dir)}
    env["AGENTD_BWRAP"] = policy.programs.bwrap
    if not policy.denies(Path("/etc/passwd"), Path("/etc/group")):
        env["AGENTD_ACCOUNTS"] = str(run_dir / "accounts")
    return env | {secret.name: secret.value for secret in policy.secrets}


def _without_port(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _literal(paths: Iterable[Path]) -> list[dict[str, Any] | str]:
    """A path with characters of patterns in its name is still that path."""
    unique = dict.fromkeys(map(str, paths))
    return [{"path": path, "literal": True} if re.search(r"[*?\[\]]", path) else path for path in unique]
