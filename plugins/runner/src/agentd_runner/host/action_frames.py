"""What the runner is told of an action: the header and the body of a RUN frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from agentd.errors import ConfigError, suggest
from agentd.types import Action, BashAction, CreateAction, Limits, PythonState

from agentd_runner.host.imports import imports_of
from agentd_runner.host.limits import runner_limits

__all__ = ["encode_action", "timeout_of"]

LOWERED = ("cpu_s", "memory_mib", "file_mib", "open_files", "output_bytes")
"""The limits that an action may have of its own: those of a process, and of what is kept of its output."""


def encode_action(action: Action, limits: Limits, state: PythonState) -> tuple[dict[str, Any], bytes]:
    """Return header and body. `limits` and `state` are the executor's.

    :raises ConfigError: if the action wants a limit that it may not have.
    """
    if isinstance(action, CreateAction):
        return {"type": "create", "path": action.path, "cwd": action.cwd}, _bytes(action.content)
    header: dict[str, Any] = {"cwd": action.cwd, "env": action.env, "timeout_s": timeout_of(action, limits)}
    stdin = _bytes(action.stdin) if action.stdin else b""
    if stdin:
        header["stdin_bytes"] = len(stdin)
    if action.limits:
        lowered = _lowered(action.limits, limits)
        header["limits"] = {k: v for k, v in runner_limits(lowered).items() if k.startswith("RLIMIT_")}
        header["output_bytes"] = lowered.output_bytes
    if action.lasting:
        header["lasting"] = True
    if isinstance(action, BashAction):
        own = {} if action.job is None else {"job": action.job}
        if action.state == "fresh":
            own["state"] = "fresh"
        return {"type": "bash", **header, **own}, _bytes(action.command) + stdin
    state = action.state or state
    if action.limits and state == "kept":
        raise ConfigError(
            "limits: a kept interpreter has those of the executor; run the block with state='fresh'"
        )
    header |= {"type": "python", "state": state, "pythonpath": list(action.pythonpath)}
    if state == "fresh" and (imports := imports_of(action.code)):
        header["imports"] = imports
    return header, _bytes(action.code) + stdin


def timeout_of(action: Action, limits: Limits) -> float | None:
    """Return the seconds that an action may take; None without a time-out."""
    own = None if isinstance(action, CreateAction) else action.timeout_s
    return limits.timeout_s if own is None else own


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")


def _lowered(wanted: Mapping[str, int], limits: Limits) -> Limits:
    """Return the executor's limits with an action's own in their place, which may only be lower."""
    for name, value in wanted.items():
        if name not in LOWERED:
            raise ConfigError(
                f"limits: an action may lower {', '.join(LOWERED)}, not {name!r}{suggest(name, LOWERED)}"
            )
        most = getattr(limits, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"limits.{name}: must be an integer of at least 1, got {value!r}")
        if most is not None and value > most:
            raise ConfigError(f"limits.{name}: {value} is more than the executor's own, {most}: raise that")
    return attrs.evolve(limits, **wanted)
