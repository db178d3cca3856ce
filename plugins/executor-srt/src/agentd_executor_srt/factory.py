"""The two ways to an executor beside its class: the function of agentd 0.8, and a plugin's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from agentd.registry.options import check_options
from agentd.types import Limits, PythonState
from agentd_runner.host import COMMON_OPTIONS

from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_executor_srt.settings import Profile

__all__ = ["create_sandbox_runtime_executor", "from_options"]

OPTIONS: Final = {
    **COMMON_OPTIONS,
    "conversation_id": str | None,
    **dict.fromkeys(("allowed_domains", "denied_domains", "profile", "secrets"), object),
    **dict.fromkeys(("allow_local_binding", "allow_git_config"), bool),
    **dict.fromkeys(("deny_read", "allow_read", "allow_write", "deny_write"), object),
    "srt_path": str | Path | None,
}
"""The options of the executor `srt`, with their types; `SandboxRuntimeExecutor` checks the rest."""


def create_sandbox_runtime_executor(
    conversation_id: str | None = None,
    base_dir: str | Path | None = None,
    timeout: float | None = 60,
    workspace_dir: str | Path | None = None,
    allowed_domains: Sequence[str] | None = None,
    denied_domains: Sequence[str] | None = None,
    allow_local_binding: bool = False,
    deny_read: Sequence[str | Path] | None = None,
    allow_write: Sequence[str | Path] | None = None,
    deny_write: Sequence[str | Path] | None = None,
    srt_path: str | Path | None = None,
    *,
    allow_read: Sequence[str | Path] | None = None,
    allow_git_config: bool = False,
    profile: Profile = "default",
    secrets: Mapping[str, Any] | None = None,
    python: str | Path | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    state: PythonState = "fresh",
    env: Mapping[str, str] | None = None,
    preload: Sequence[str] | None = None,
) -> SandboxRuntimeExecutor:
    """Return a `SandboxRuntimeExecutor`; the parameters are its own. `timeout` is in seconds."""
    return SandboxRuntimeExecutor(
        workspace_dir,
        conversation_id=conversation_id,
        base_dir=base_dir,
        timeout=timeout if limits is None else None,
        allowed_domains=allowed_domains,
        denied_domains=denied_domains,
        allow_local_binding=allow_local_binding,
        deny_read=deny_read,
        allow_read=allow_read,
        allow_write=allow_write,
        deny_write=deny_write,
        allow_git_config=allow_git_config,
        srt_path=srt_path,
        profile=profile,
        secrets=secrets,
        python=python,
        limits=limits,
        state=state,
        env=env,
        preload=preload,
    )


def from_options(workspace_dir: Path, options: Mapping[str, Any]) -> SandboxRuntimeExecutor:
    """Make an executor from a plugin's options; raises `ConfigError` for a wrong one."""
    check_options("the executor 'srt'", options, OPTIONS)
    return SandboxRuntimeExecutor(workspace_dir, **options)
