"""What `agentd doctor` looks at. Each check is a value; nothing here prints."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import attrs
from agentd.errors import AgentdError
from agentd.registry import PluginRecord, Registry
from agentd.registry.official import OFFICIAL_PLUGINS
from agentd.statedir import user_state_dir

__all__ = ["Check", "run_checks"]

State = Literal["ok", "missing", "failed", "info"]

EXTRAS: Final = {
    "openai": "pip install 'agentd-core[openai]'",
    "litellm": "pip install 'agentd-core[litellm]'",
    "mcp": "pip install agentd-mcp-bridge",
    "openai-agents": "pip install openai-agents",
    "microsandbox": "pip install agentd-executor-msb",
    "pytest": "pip install 'agentd-core[testing]'",
}
"""Packages that agentd uses if they are there, with what brings them."""

PROGRAMS: Final = {
    "bash": "bash blocks",
    "git": "code that works on repositories",
    "node": "srt, and MCP servers that are npm packages",
    "npx": "MCP servers that are npm packages",
    "uvx": "MCP servers that are Python packages",
    "srt": "executor srt",
    "bwrap": "executor srt",
    "socat": "executor srt",
    "rg": "executor srt",
    "msb": "executor msb",
}
"""Programs, with what needs them."""

_VERSION_TIMEOUT_S = 5.0


@attrs.frozen
class Check:
    """One line of the report. `detail` is the reason, or what to do about it."""

    section: str
    name: str
    state: State
    value: str = ""
    detail: str = ""


def run_checks(*, timeout_s: float = 30.0) -> list[Check]:
    """Look at everything. An executor that takes longer than `timeout_s` seconds to prove itself has failed."""
    registry = Registry(refresh=True)
    records = registry.check()
    return [
        *_system(),
        *_distributions(),
        *map(_plugin, records),
        *_executors(registry, [r for r in records if r.kind == "executor"], timeout_s),
        *_programs(),
        *_extras(),
        *_state(),
    ]


def _system() -> Iterator[Check]:
    yield Check("system", "python", "ok", platform.python_version(), sys.executable)
    yield Check("system", "platform", "info", platform.platform())
    if hasattr(os, "geteuid"):
        root = os.geteuid() == 0
        yield Check("system", "user", "info", f"uid {os.geteuid()}", "code runs as root" if root else "")
    kvm = Path("/dev/kvm")
    if not kvm.exists():
        yield Check(
            "system", "kvm", "missing", "", "no /dev/kvm: microVMs need a host with hardware virtualisation"
        )
    elif os.access(kvm, os.R_OK | os.W_OK):
        yield Check("system", "kvm", "ok", "/dev/kvm")
    else:
        yield Check(
            "system", "kvm", "missing", "/dev/kvm", "you may not open it; join the group that owns it"
        )
    yield from _namespaces()


def _namespaces() -> Iterator[Check]:
    """What the kernel says about user namespaces, which sandboxes without root are built on."""
    for name, bad in (
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    ):
        try:
            value = Path(name).read_text().strip()
        except OSError:
            continue
        short = name.removeprefix("/proc/sys/").replace("/", ".")
        refused = value == bad
        detail = "sandboxes without root cannot be made; ask the administrator" if refused else ""
        yield Check("system", short, "missing" if refused else "ok", value, detail)


def _distributions() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    core = version("agentd-core")
    for name in ("agentd", *dict.fromkeys(["agentd-core", *OFFICIAL_PLUGINS.values()])):
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Check("distributions", name, "missing", "", f"pip install {name}")
        else:
            differs = found != core
            yield Check(
                "distributions",
                name,
                "failed" if differs else "ok",
                found,
                f"agentd-core is {core}; all must have one version: pip install -U {name}" if differs else "",
            )


def _plugin(record: PluginRecord) -> Check:
    state: State = {"loaded": "ok", "available": "ok", "blocked": "missing"}.get(record.state, "failed")  # type: ignore[assignment]
    value = f"{record.distribution} {record.version}"
    return Check("plugins", f"{record.kind} {record.name}", state, value, record.error or "")


# --- executors -----------------------------------------------------------------------------------


def _executors(registry: Registry, records: list[PluginRecord], timeout_s: float) -> Iterator[Check]:
    for record in records:
        if record.state != "loaded":
            yield Check("executors", record.name, "missing", "", f"its plugin is {record.state}")
            continue
        ok, message = _verified(registry, record.name, timeout_s)
        # That a sandbox lacks something here is no defect: agentd says so and never runs code without it.
        yield Check(
            "executors", record.name, "ok" if ok else "missing", "" if ok else "cannot run here", message
        )


def _verified(registry: Registry, name: str, timeout_s: float) -> tuple[bool, str]:
    """Ask an executor to prove that it works, in a thread: a hanging one must not hang the doctor."""
    answers: list[tuple[bool, str]] = []
    thread = threading.Thread(target=lambda: answers.append(_verify(registry, name)), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else (False, f"no answer within {timeout_s:g} s")


def _verify(registry: Registry, name: str) -> tuple[bool, str]:
    try:
        with tempfile.TemporaryDirectory(prefix="agentd-doctor-") as folder:
            os.chmod(folder, 0o755)  # an executor that drops its rights must get to the workspace
            executor = registry.create_executor(name, folder)
            try:
                verify: Callable[[], tuple[bool, str]] | None = getattr(executor, "verify", None)
                return (True, "loaded; it has no verify() to ask") if verify is None else verify()
            finally:
                executor.close()
    except AgentdError as error:
        return False, str(error)
    except Exception as error:  # a plugin's boundary
        return False, f"{type(error).__name__}: {error}"


# --- programs, packages, folders -----------------------------------------------------------------


def _programs() -> Iterator[Check]:
    for name, used_by in PROGRAMS.items():
        path = shutil.which(name)
        if path is None:
            yield Check("programs", name, "missing", "", f"for {used_by}")
        else:
            yield Check("programs", name, "ok", _version_of(path) or path, f"for {used_by}")


def _version_of(path: str) -> str:
    """Return the first line of what `--version` prints, or an empty string."""
    try:
        done = subprocess.run(
            [path, "-V" if path.endswith("socat") else "--version"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_VERSION_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if path.endswith("socat"):
        lines = [line for line in lines if "version" in line]
    return lines[0].strip()[:60] if lines else ""


def _extras() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    for name, how in EXTRAS.items():
        try:
            yield Check("extras", name, "ok", version(name))
        except PackageNotFoundError:
            yield Check("extras", name, "missing", "", how)


def _state() -> Iterator[Check]:
    """agentd's folder of state: nobody else may read it, or OAuth tokens and snapshots lie open."""
    base = user_state_dir()
    for path in (base, *(base / name for name in ("oauth", "snapshots", "daemon"))):
        try:
            status = path.lstat()
        except OSError:
            yield Check("state", str(path), "info", "", "not made yet")
            continue
        mode = stat.S_IMODE(status.st_mode)
        private = path != base
        if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
            yield Check("state", str(path), "failed", "", "is no directory")
        elif private and mode & 0o077:
            yield Check("state", str(path), "failed", f"{mode:04o}", f"others can enter it; chmod 700 {path}")
        else:
            yield Check("state", str(path), "ok", f"{mode:04o}")
