"""Which executor is used where nobody names one: what `defaults` or AGENTD_EXECUTOR say, else the caller's default."""

from __future__ import annotations

import logging
import os
from functools import cache
from typing import Final

from agentd.errors import ConfigError, PluginError
from agentd.registry.options import PluginSpec, split_spec
from agentd.registry.table import PluginTable

__all__ = ["default_executor", "defaults"]

VARIABLE: Final = "AGENTD_EXECUTOR"
_chosen: dict[str, PluginSpec | None] = {}


def defaults(*, executor: PluginSpec | None) -> None:
    """Choose, for this process, the executor of sessions and patched clients that name none; None: as it was.

    It wins over the variable AGENTD_EXECUTOR, and holds for executors that are made from now on.
    """
    if executor is not None:
        split_spec(executor, where="defaults: executor")
    _chosen["executor"] = executor


def default_executor(registry: PluginTable, *, sandboxed: bool = False) -> PluginSpec:
    """Return the executor where none is named. Says once if it is no sandbox and nobody has chosen it.

    :param sandboxed: if nobody has chosen, take `auto`, or `native` where that alone is allowed: programs do (the
        command line, the demo, the daemon); the Python API has `subprocess`, as it always had.
    :raises ConfigError: if the chosen one is not there, with who has chosen it; if the default is blocked.
    """
    chosen, by = _chosen.get("executor"), "agentd.defaults"
    if chosen is None:
        chosen, by = os.environ.get(VARIABLE), VARIABLE
    if chosen:
        try:
            registry.find("executor", split_spec(chosen, where=by)[0])
        except PluginError as error:
            raise ConfigError(f"{by}: {error}") from error
        return chosen
    states = {record.name: record.state for record in registry.records("executor")}
    for name in ("auto", "native") if sandboxed else ():
        if states.get(name, "blocked") != "blocked":
            return name
    if states.get("subprocess") == "blocked":
        free = ", ".join(repr(name) for name, state in states.items() if state != "blocked") or "none"
        raise ConfigError(
            f"no executor was chosen, and 'subprocess' is blocked; choose one that may be used: {free}"
        )
    _tell_that_it_is_no_sandbox()
    return "subprocess"


@cache  # once in a process
def _tell_that_it_is_no_sandbox() -> None:
    logging.getLogger("agentd.executor.subprocess").warning(
        "no executor was chosen, so the code of a model runs in 'subprocess', which is no sandbox: it has your rights; "
        'choose executor="native" (a sandbox, on Linux), or executor="subprocess" if that is what you want'
    )
