"""`Limits` on their way: read from plain data, and in the words that the runner takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd.errors import ConfigError
from agentd.types import Limits

__all__ = ["MIB", "most_output", "read_limits", "runner_limits"]

MIB = 1024 * 1024


def read_limits(given: Limits | Mapping[str, Any] | None) -> Limits:
    """Return limits as given: as an object, or as plain data from a configuration file or the command line.

    :raises ConfigError: naming each unknown or ill-typed field.
    """
    if given is None:
        return Limits()
    if isinstance(given, Limits):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"limits: must be a mapping such as {{'memory_mib': 512}}, got {given!r}")
    from agentd_runner.host.plain_values import read_values

    return read_values(given, Limits, where="limits")


def runner_limits(limits: Limits) -> dict[str, int]:
    """Return what the runner's HELLO carries: the names of setrlimit's, and those that the runner watches.

    The memory limit counts data, not address space: V8, Go and the JVM reserve far more than they use.
    """
    values = {
        "RLIMIT_CPU": limits.cpu_s,
        "RLIMIT_DATA": limits.memory_mib and limits.memory_mib * MIB,
        "RLIMIT_FSIZE": limits.file_mib and limits.file_mib * MIB,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_NPROC": limits.processes,
        "RLIMIT_CORE": 0,
        "processes": limits.processes,
        "workspace_bytes": limits.workspace_mib and limits.workspace_mib * MIB,
        "workspace_inodes": limits.workspace_inodes,
    }
    return {name: value for name, value in values.items() if value is not None}


def most_output(limits: Limits) -> int:
    """Return what a healthy runner passes on of one stream, at most.

    Twice the limit, as a kept interpreter's block may have to be begun a second time, and what the runner itself says.
    """
    return 2 * limits.output_bytes + MIB
