"""The two ways to an executor beside its class: the function of agentd 0.8, and a plugin's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentd.registry.options import check_options
from agentd_runner.host import COMMON_OPTIONS

from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.places import check_conversation, conversation_folder
from agentd_executor_msb.settings import MountSetting

__all__ = ["OPTIONS", "create_microsandbox_cli_executor", "from_options"]

OPTIONS: Final = {
    **COMMON_OPTIONS,
    **dict.fromkeys(
        ("image", "memory", "cpus", "envs", "volumes", "network", "secrets", "conversation_id"), object
    ),
    **dict.fromkeys(("user", "pull", "security", "guest_dir", "idle_timeout_s", "vm_snapshot"), object),
}
"""The options of the executor `msb`; `MicrosandboxCLIExecutor` checks the values of its own ones."""


def create_microsandbox_cli_executor(
    conversation_id: str | None = None,
    base_dir: str | Path | None = None,
    image: str | Path = "python",
    memory: int = 1024,
    cpus: int = 1,
    timeout: float | None = 60,
    workspace_dir: str | Path | None = None,
    additional_volumes: Sequence[MountSetting] | None = None,
    envs: Mapping[str, str] | None = None,
    **more: Any,
) -> MicrosandboxCLIExecutor:
    """Make an executor for a conversation, as programs written for agentd 0.8 do.

    :param base_dir: where the conversation's files lie: `workspace` and `snapshots` in it. By default a
        folder named after the conversation in the user's state folder, or a temporary one without a
        conversation.
    :param workspace_dir: the workspace itself, if it is to lie elsewhere.
    :param additional_volumes: `volumes` of `MicrosandboxCLIExecutor`, which has the other parameters, too.
    :raises ConfigError: as `MicrosandboxCLIExecutor`; also for an unknown parameter.
    """
    check_options("the executor 'msb'", more, OPTIONS)
    check_conversation(conversation_id)
    if workspace_dir is None:
        base_dir = conversation_folder(conversation_id, base_dir)
        workspace_dir = base_dir / "workspace"
    if additional_volumes is not None:
        more["volumes"] = [*additional_volumes, *more.get("volumes", ())]
    return from_options(
        Path(workspace_dir),
        {
            "conversation_id": conversation_id,
            "image": image,
            "memory": memory,
            "cpus": cpus,
            "timeout": timeout,
            "envs": envs,
            "base_dir": base_dir,
            **more,
        },
    )


def from_options(workspace_dir: Path, options: Mapping[str, Any]) -> MicrosandboxCLIExecutor:
    """Make an executor from a plugin's options; raises `ConfigError` for a wrong one."""
    check_options("the executor 'msb'", options, OPTIONS)
    given = dict(options)
    if "env" in given:  # as other executors call it
        given["envs"] = {**given.pop("env"), **(given.get("envs") or {})}
    return MicrosandboxCLIExecutor(workspace_dir, **given)
