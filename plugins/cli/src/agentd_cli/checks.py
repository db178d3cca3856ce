"""What `agentd doctor` looks at. Each check is a value; nothing here prints."""

from __future__ import annotations

import os
import platform
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stdout
from typing import Literal, TypeVar

import attrs
from agentd.errors import AgentdError
from agentd.protocols import Executor, Requirement, VerifyingExecutor
from agentd.registry import PluginRecord, Registry
from agentd.registry.defaults import default_executor
from agentd.registry.official import OFFICIAL_EXPORTS, OFFICIAL_PLUGINS
from agentd.statedir import user_state_dir

from agentd_cli.plugin_trials import check_apart
from agentd_cli.readiness import USES, Need, has_key, pip_line, wanting
from agentd_cli.trial import try_executor

__all__ = ["Check", "run_checks"]

T = TypeVar("T")
State = Literal["ok", "missing", "failed", "info"]


@attrs.frozen
class Check:
    """One line of the report. `detail` is the reason, or what to do about it."""

    section: str
    name: str
    state: State
    value: str = ""
    detail: str = ""


def run_checks(*, timeout_s: float = 30.0) -> list[Check]:
    """Look at everything. A plugin that takes longer than `timeout_s` seconds to answer has failed.

    What plugins print meanwhile goes to standard error.
    """
    registry = Registry(refresh=True)
    with redirect_stdout(sys.stderr):
        return _all_checks(registry, timeout_s)


def _all_checks(registry: Registry, timeout_s: float) -> list[Check]:
    # Only what came through this is loaded in this process.
    records = check_apart(registry, timeout_s=timeout_s)
    executors = list(_executors(registry, [r for r in records if r.kind == "executor"], timeout_s))
    return [
        *_ready(records, [check.name for check in executors if check.state == "ok"]),
        _default(registry, timeout_s),
        *_system(),
        *_distributions(),
        *map(_plugin, records),
        *executors,
        *_requirements(registry, records, timeout_s),
        *_state(),
    ]


def _ready(records: list[PluginRecord], working: list[str]) -> Iterator[Check]:
    missing: list[Need] = []
    for use in USES:
        needs = wanting(use, records, working)
        missing += needs
        listed = ", ".join(
            need.what for need in needs
        )  # installed but blocked or broken: the lines below say why
        yield Check("ready", use.name, "missing" if needs else "ok", "", f"needs {listed}" if needs else "")
    if not has_key():
        yield Check("ready", "a key", "info", "", "OPENAI_API_KEY is not set; servers of OpenAI want one")
    if line := pip_line(missing):
        yield Check("ready", "to install", "info", line, "then look again")


def _default(registry: Registry, timeout_s: float) -> Check:
    """Say where code runs if nobody names an executor."""

    def find() -> str:
        try:
            return try_executor(registry, default_executor(registry, sandboxed=True), _name)
        except AgentdError as error:
            return f"nowhere: {error}"

    found = _in_time(find, timeout_s, f"no answer within {timeout_s:g} s")
    if found == "subprocess":
        found += ", which is no sandbox"
    of_api = "" if os.environ.get("AGENTD_EXECUTOR") else "; a patched client and Session have subprocess"
    return Check("ready", "where code runs", "info", found, f"unless an executor is named{of_api}")


def _name(executor: Executor) -> str:
    return getattr(executor, "plugin_name", "") or type(executor).__name__


def _system() -> Iterator[Check]:
    yield Check("system", "python", "ok", platform.python_version(), sys.executable)
    yield Check("system", "platform", "info", platform.platform())
    if hasattr(os, "geteuid"):
        root = os.geteuid() == 0
        yield Check("system", "user", "info", f"uid {os.geteuid()}", "code runs as root" if root else "")


def _distributions() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    core = version("agentd-core")
    known = ["agentd-core", *OFFICIAL_PLUGINS.values(), *OFFICIAL_EXPORTS.values()]
    for name in ("agentd", *dict.fromkeys(known), "agentd-history", "agentd-runner"):
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
    """Ask an executor to prove that it works."""
    return _in_time(lambda: _verify(registry, name), timeout_s, (False, f"no answer within {timeout_s:g} s"))


def _verify(registry: Registry, name: str) -> tuple[bool, str]:
    def ask(executor: Executor) -> tuple[bool, str]:
        if isinstance(executor, VerifyingExecutor):
            return executor.verify()
        return True, "loaded; it has no verify() to ask"

    try:
        return try_executor(registry, name, ask)
    except AgentdError as error:
        return False, str(error)
    except Exception as error:  # a plugin's boundary
        return False, f"{type(error).__name__}: {error}"


# --- what plugins need, folders -------------------------------------------------------------------


def _requirements(registry: Registry, records: Iterable[PluginRecord], timeout_s: float) -> Iterator[Check]:
    for record in records:
        if record.state == "loaded":
            yield from _needs(registry, record, timeout_s)


def _needs(registry: Registry, record: PluginRecord, timeout_s: float) -> list[Check]:
    """Ask one plugin what it needs."""

    def ask() -> list[Check]:
        try:
            needed = registry.requirements(record.kind, record.name)
        except AgentdError as error:
            return [Check("requirements", label, "failed", "", str(error))]
        return [_requirement(label, one) for one in needed]

    label = f"{record.kind} {record.name}"
    silent = Check("requirements", label, "failed", "", f"did not say what it needs within {timeout_s:g} s")
    return _in_time(ask, timeout_s, [silent])


def _requirement(label: str, one: Requirement) -> Check:
    remedy = f"optional; {one.remedy}" if one.optional and one.remedy else one.remedy
    state: State = "ok" if one.ok else "missing"
    return Check("requirements", f"{label}: {one.name}", state, one.detail, "" if one.ok else remedy)


def _in_time(ask: Callable[[], T], timeout_s: float, instead: T) -> T:
    """Call in a thread: a plugin that hangs must not hang the doctor."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(ask()), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers[0] if answers else instead


def _state() -> Iterator[Check]:
    """agentd's folder of state: nobody else may read it, or OAuth tokens and snapshots lie open."""
    base = user_state_dir()
    for path in (base, *(base / name for name in ("oauth", "snapshots", "daemon", "chats", "trust"))):
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
