"""Exit codes: what each means, and which one an error gives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from agentd.errors import (
    AgentdError,
    ConfigError,
    ExecutorError,
    MissingPluginError,
    ModelError,
    PluginLoadError,
    ToolError,
    WorkspaceError,
)

__all__ = [
    "BROKEN_PIPE",
    "EXIT_CODES",
    "HUNG_UP",
    "INTERNAL",
    "INTERRUPTED",
    "MODEL",
    "OK",
    "SANDBOX",
    "TERMINATED",
    "UNFINISHED",
    "USAGE",
    "exit_code",
    "exit_code_help",
    "is_expected",
    "lines_of",
    "message_of",
    "unwrapped",
]

OK: Final = 0
UNFINISHED: Final = 1
USAGE: Final = 2
MODEL: Final = 3
SANDBOX: Final = 4
INTERNAL: Final = 70  # EX_SOFTWARE of sysexits.h
HUNG_UP: Final = 129
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
TERMINATED: Final = 143

EXIT_CODES: Final = {
    OK: "the run ended with an answer",
    UNFINISHED: "the run ended at a budget, or its result did not pass the check",
    USAGE: "a wrong option, setting or name, or something is not installed",
    MODEL: "the model or its provider failed",
    SANDBOX: "the executor, its sandbox or the workspace failed",
    INTERNAL: "a defect in agentd",
    HUNG_UP: "the terminal was closed (SIGHUP)",
    INTERRUPTED: "Ctrl-C",
    BROKEN_PIPE: "the reader of the output went away",
    TERMINATED: "SIGTERM",
}


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, ModelError) or _is_from_openai(error):
        return MODEL
    if isinstance(error, (ExecutorError, WorkspaceError)):
        return SANDBOX
    if isinstance(error, PluginLoadError) and not isinstance(error, MissingPluginError):
        return SANDBOX if error.kind == "executor" else USAGE
    if isinstance(error, (AgentdError, ToolError)):
        return USAGE
    return INTERNAL


def is_expected(error: BaseException) -> bool:
    """Tell whether an error is one that agentd or the model's provider raises on purpose."""
    return isinstance(error, AgentdError) or _is_from_openai(error)


def message_of(error: BaseException) -> str:
    """Return the error's message in one harmless line, or its type where it has none; a line for each of `problems`."""
    from agentd_sink_console.neutral import one_line

    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return message_of(error.exceptions[0])
    parts = str(error).split("\n") if hasattr(error, "problems") else [str(error)]
    text = "\n".join(map(one_line, parts)) or type(error).__name__
    return text if is_expected(error) else f"{type(error).__name__}: {text}"


def lines_of(error: BaseException) -> str:
    """Return the same for a terminal, where each fault of a configuration has a line of its own, indented."""
    from agentd_sink_console.neutral import neutral, one_line

    if not isinstance(error, ConfigError):
        return message_of(error)
    faults = map(one_line, neutral(str(error)).splitlines())
    return "\n  ".join(filter(None, faults)) or message_of(error)


def _is_from_openai(error: BaseException) -> bool:
    # only if it is loaded: an error of a library that was never imported cannot be here
    openai = sys.modules.get("openai")
    return openai is not None and isinstance(error, openai.OpenAIError)


def unwrapped(error: BaseException) -> BaseException:
    """Return the one exception inside a group of one, so that its kind counts."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _lines() -> Iterator[str]:
    for code, meaning in EXIT_CODES.items():
        yield f"  {code:>3}  {meaning}"


def exit_code_help() -> str:
    """The list for `agentd --help`. (\\b keeps click from wrapping it into a paragraph.)"""
    return "\b\nExit codes:\n" + "\n".join(_lines())
