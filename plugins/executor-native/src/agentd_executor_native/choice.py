"""The choice of `auto`: the sandbox where this machine can run it, else `subprocess` with a word about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentd.errors import BlockedPluginError, ConfigError, PluginError, SandboxUnavailableError
from agentd.registry.options import check_options
from agentd_runner.host import COMMON_OPTIONS

from agentd_executor_native.executor import OPTIONS
from agentd_executor_native.trial import obstacle

if TYPE_CHECKING:
    from agentd.protocols import Executor

__all__ = ["create"]

log = logging.getLogger("agentd.executor.auto")


def create(
    workspace_dir: Path, options: Mapping[str, Any], make_executor: Callable[..., Executor]
) -> Executor:
    """Make the executor `native`, or `subprocess` if this machine cannot run the sandbox.

    :param options: for the executor that is made; those below `native` for that one alone, where they win.
    :param make_executor: through the registry, so that lists of allowed and blocked plugins hold.
    :raises ConfigError: for a wrong option, for a workspace that `native` refuses, and if that is blocked.
    :raises SandboxUnavailableError: if it cannot be found out whether the sandbox runs here, and where `subprocess`
        will not do: it is not there, or an option asks for what a sandbox alone can do,
        or is given for `native`.
    """
    check_options("the executor 'auto'", options, {**OPTIONS, "native": dict})
    options = dict(options)
    native = options.pop("native", {})
    check_options("the executor 'native'", native, OPTIONS)
    try:
        reason = obstacle()
    except SandboxUnavailableError as error:
        raise SandboxUnavailableError(f"{error}; try again, or choose an executor by its name") from error
    if not reason:
        try:
            return make_executor(("native", {**options, **native}), workspace_dir)
        except BlockedPluginError as error:
            raise ConfigError(
                f"'auto' takes 'native' on this machine, but {error}; allow it, or choose an executor by its name"
            ) from error
    if native:
        raise SandboxUnavailableError(
            f"{reason}; and these options are for 'native' alone: {', '.join(native)}"
        )
    options = {name: value for name, value in options.items() if name != "prewarm"}  # nothing to start ahead
    if beyond := [name for name in options if name not in COMMON_OPTIONS]:
        raise SandboxUnavailableError(f"{reason}; without it, nothing holds code to: {', '.join(beyond)}")
    try:
        executor = make_executor(("subprocess", options), workspace_dir)
    except PluginError as error:
        raise SandboxUnavailableError(f"{reason}; and without a sandbox: {error}") from error
    _tell(reason)
    return executor


@cache  # once in a process
def _tell(reason: str) -> None:
    log.warning(
        "%s; so the code of a model runs without a sandbox, with your rights, in 'subprocess'; choose that by its name "
        "if it is what you want",
        reason,
    )
