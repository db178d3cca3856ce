"""What the sandbox needs: where it is on this machine, and in one sentence what is missing and how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import attrs
from agentd.errors import SandboxUnavailableError
from agentd.protocols import Requirement

from agentd_executor_srt.additions import NO_LANDLOCK, lacking_additions
from agentd_executor_srt.inside.write_guard import can_guard_writes

__all__ = ["MINIMUM", "Programs", "explain", "find_programs", "list_requirements", "safe_path"]

MINIMUM = (0, 0, 83)
"""The oldest srt that is used: 0.0.78 and older leave AF_VSOCK open, and hosts of virtual machines with it."""

PACKAGE = "@anthropic-ai/sandbox-runtime"
NODE_MAJOR = 20
HOW_SRT = f"install it with: npm install -g {PACKAGE} (or give srt_path)"
SYSTEM = {"bwrap": "bubblewrap", "socat": "socat", "rg": "ripgrep"}
_OTHER_SYSTEM = (
    f"the executor 'srt' runs on Linux alone so far, and this is {sys.platform}; use 'subprocess' for code "
    "that you trust, or 'msb'"
)


@attrs.frozen
class Programs:
    """Absolute, resolved paths."""

    node: str
    cli: str
    bwrap: str
    socat: str
    rg: str
    version: str

    @property
    def package(self) -> str:
        """The folder of srt's npm package."""
        return str(Path(self.cli).parent.parent)


def safe_path(host_path: str, writable: Iterable[Path]) -> str:
    """Return the folders of PATH that nothing in the sandbox can write to, so that it cannot plant programs."""
    forbidden = [path.resolve() for path in writable]
    kept = []
    for entry in host_path.split(":"):
        folder = Path(entry)
        if folder.is_absolute() and not any(_reaches(folder.resolve(), path) for path in forbidden):
            kept.append(entry)
    return ":".join(dict.fromkeys([*kept, "/usr/local/bin", "/usr/bin", "/bin"]))


def _reaches(folder: Path, writable: Path) -> bool:
    return folder == writable or folder.is_relative_to(writable)


def find_programs(srt_path: str | Path | None, path: str, writable: Iterable[Path] = ()) -> Programs:
    """Find all that is needed on `path`. Raises `SandboxUnavailableError`, which names all that is missing.

    Nothing of it may lie in a folder that code can write to: it would be run outside, the next time.
    """
    if not _is_linux():
        raise SandboxUnavailableError(_OTHER_SYSTEM)
    problems: list[str] = []
    cli, version = _find_cli(srt_path, path, problems)
    node = _find_node(cli, path, problems)
    found = {name: shutil.which(name, path=path) for name in SYSTEM}
    packages = [SYSTEM[name] for name, where in found.items() if where is None]
    if packages:
        problems.append(f"{' and '.join(packages)} missing ({_how_to_install(packages)})")
    problems += filter(None, lacking_additions().values())
    if problems:
        raise SandboxUnavailableError(f"the sandbox srt cannot run here: {'; '.join(problems)}")
    real = {name: os.path.realpath(str(where)) for name, where in found.items()}
    for program in (cli, node, *real.values()):
        for folder in writable:
            if _reaches(Path(program), folder.resolve()):
                raise SandboxUnavailableError(
                    f"the sandbox srt cannot run here: {program} lies in {folder}, where code could change it; "
                    "install it elsewhere"
                )
    return Programs(node=node, cli=cli, version=version, **real)


def _find_cli(srt_path: str | Path | None, path: str, problems: list[str]) -> tuple[str, str]:
    given = srt_path or os.environ.get("AGENTD_SRT")
    where = os.path.realpath(os.path.expanduser(given)) if given else shutil.which("srt", path=path)
    if where is None:
        problems.append(f"no srt on PATH; {HOW_SRT}")
        return "", ""
    cli = os.path.realpath(where)
    if not os.path.isfile(cli):
        problems.append(f"srt_path: no such file: {cli}; {HOW_SRT}")
        return "", ""
    version = _version(Path(cli))
    if version is None:
        problems.append(f"{cli} is not srt of the npm package {PACKAGE}; {HOW_SRT}")
    elif tuple(map(int, version.split(".")[:3])) < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        problems.append(f"srt {version} at {cli} is too old, {wanted} is the first that holds; {HOW_SRT}")
    return cli, version or ""


def _version(cli: Path) -> str | None:
    """Read the version from the package's manifest; to start srt for it would take as long as all the rest."""
    import json

    try:
        manifest = json.loads((cli.parent.parent / "package.json").read_text("utf-8"))
        version = str(manifest["version"])
    except (OSError, ValueError, KeyError):
        return None
    if manifest.get("name") != PACKAGE or not re.match(r"\d+\.\d+\.\d+", version):
        return None
    return version.partition("-")[0]


def _find_node(cli: str, path: str, problems: list[str]) -> str:
    """Return node: the one that npm put beside srt, or that of PATH."""
    beside = [str(folder / "node" / "bin") for folder in Path(cli).parents if folder.name == "node_modules"]
    node = shutil.which("node", path=":".join([*beside, path]))
    if node is None:
        problems.append(f"no node on PATH; install Node.js {NODE_MAJOR} or newer")
        return ""
    return os.path.realpath(node)


def list_requirements() -> list[Requirement]:
    """Return what the sandbox needs, each part with whether it is there; nothing is started."""
    if not _is_linux():
        return [Requirement(name="Linux", ok=False, remedy=_OTHER_SYSTEM)]
    path = safe_path(os.environ.get("PATH", os.defpath), ())
    problems: list[str] = []
    cli, version = _find_cli(None, path, problems)
    needed = [Requirement(name="srt", ok=not problems, detail=" ".join(filter(None, (version, cli))),
                          remedy="; ".join(problems))]  # fmt: skip
    problems = []
    node = _find_node(cli, path, problems)
    needed.append(Requirement(name="node", ok=not problems, detail=node, remedy="; ".join(problems)))
    for name, package in SYSTEM.items():
        where = shutil.which(name, path=path)
        remedy = f"install {package} ({_how_to_install([package])})"
        needed.append(Requirement(name=name, ok=where is not None, detail=where or "", remedy=remedy))
    refused = _refused_namespaces()
    return [
        *needed,
        Requirement(name="user namespaces", ok=not refused, remedy=refused),
        Requirement(name="Landlock", ok=True, detail="" if can_guard_writes() else NO_LANDLOCK),
        *(
            Requirement(name=name, ok=not lacking, remedy=lacking)
            for name, lacking in lacking_additions().items()
        ),
    ]


def _is_linux() -> bool:
    return sys.platform.startswith("linux")


def _how_to_install(packages: Iterable[str]) -> str:
    return f"Debian and Ubuntu: sudo apt-get install {' '.join(packages)}"


# --- why it did not start -----------------------------------------------------------------------

_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")
_COUNT = Path("/proc/sys/user/max_user_namespaces")
_BY_APPARMOR = (
    "AppArmor keeps bubblewrap from making user namespaces; as root: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give bwrap a profile that allows userns"
)


def explain(said: str, programs: Programs) -> str:
    """Return one sentence for what srt or bubblewrap said when the sandbox did not start."""
    if said.startswith("agentd: "):  # our own supervisor's words
        return _short(said.removeprefix("agentd: "))
    if off := _namespaces_off():
        return off
    if re.search(r"uid map|new namespace|Operation not permitted|user namespace", said) and _reads(
        _APPARMOR, "1"
    ):
        return _BY_APPARMOR
    if re.search(r"No permissions to create new namespace|Creating new namespace failed|uid map", said):
        return (
            "this machine does not let bubblewrap make user namespaces (in a container: start it with a seccomp "
            f"profile that allows them); it said: {_short(said)}"
        )
    if re.search(r"SyntaxError|ERR_|Unexpected token", said) and "node:" in said:
        version = _node_version(programs.node)
        return (
            f"srt does not run with node {version}; install Node.js 22.12 or newer; it said: {_short(said)}"
        )
    return f"srt {programs.version} did not start; it said: {_short(said) or 'nothing'}"


def _namespaces_off() -> str:
    if _reads(_CLONE, "0"):
        return "user namespaces are switched off here; as root: sysctl -w kernel.unprivileged_userns_clone=1"
    if _reads(_COUNT, "0"):
        return "user namespaces are switched off here; as root: sysctl -w user.max_user_namespaces=15000"
    return ""


def _refused_namespaces() -> str:
    """Say what the kernel's settings are known to refuse, or nothing. (A container may refuse them all the same.)"""
    return _namespaces_off() or (_BY_APPARMOR if _reads(_APPARMOR, "1") and os.geteuid() != 0 else "")


def _reads(path: Path, value: str) -> bool:
    try:
        return path.read_text().strip() == value
    except OSError:
        return False


def _short(said: str) -> str:
    return " ".join(said.split())[-600:]


def _node_version(node: str) -> str:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "of this version"
    return done.stdout.strip() if re.fullmatch(r"v[\d.]+\s*", done.stdout) else "of this version"
