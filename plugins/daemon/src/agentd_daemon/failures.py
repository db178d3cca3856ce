"""What ends a task before its answer: failures, of which some trying again cannot mend, and persons."""

from __future__ import annotations

from typing import Final

from agentd.errors import ConfigError, PluginError, SandboxUnavailableError

__all__ = ["HOPELESS", "TaskCancelledError", "TaskParkedError", "is_hopeless", "is_refused"]

HOPELESS: Final = (ConfigError, PluginError, SandboxUnavailableError)
"""Errors that trying again does not mend: a person must."""
NOT_ADMITTED: Final = (401, 402, 403)
"""HTTP statuses of a provider that refuses whatever it is asked: the key is wrong, or its credit used up."""
REFUSED: Final = (400, 404, 413, 422)
"""HTTP statuses of a provider that refuses this one request, however often it comes."""


class TaskCancelledError(Exception):
    """A person has ended the turn; never seen outside."""


class TaskParkedError(Exception):
    """The task waits for a person's answer, and its session ends meanwhile; never seen outside."""


def is_refused(error: Exception) -> bool:
    """Tell whether a provider refuses this one task for good; the next may be another matter."""
    return getattr(error, "status", None) in REFUSED


def is_hopeless(error: Exception) -> bool:
    """Tell whether the next task would fail in the same way."""
    return isinstance(error, HOPELESS) or getattr(error, "status", None) in NOT_ADMITTED
