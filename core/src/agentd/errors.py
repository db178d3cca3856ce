"""The exceptions that agentd raises: one tree under `AgentdError`, to which distributions add their own.

An exception takes data and composes its own message: what happened, where, what was got, what is
allowed, and the next step. Where a builtin is what a caller would catch, the class inherits it too.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AgentdError", "AnswerError", "BlockedPluginError", "ConfigError", "ContextLengthError", "CorruptSnapshotError",
    "ExecutorClosedError", "ExecutorError", "IncompatiblePluginError", "MissingPluginError", "ModelError",
    "ModelStreamError", "PluginError", "PluginLoadError", "ProtocolError", "RunnerDiedError",
    "RunnerStartError", "SandboxUnavailableError", "SessionBusyError", "SnapshotError", "ToolDeniedError",
    "ToolError", "ToolInputError", "ToolTimeoutError", "UnknownPluginError", "UnknownSnapshotError",
    "UnknownToolError", "UnsafePathError", "WorkspaceError",
]  # fmt: skip


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the known name closest to `word`, or an empty string."""
    from difflib import get_close_matches  # most programs suggest nothing, and it takes a millisecond

    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class AgentdError(Exception):
    """The root of all errors that agentd raises on purpose."""


class ConfigError(AgentdError, ValueError):
    """A setting has a value that it must not have."""


class SessionBusyError(AgentdError, RuntimeError):
    """A run of the session is under way, and what was asked for must not happen meanwhile."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}: a run of this session is under way; read it to its end or close it first "
            "(`checkpoint_every_turn=True` keeps a checkpoint of each turn while it runs)"
        )


# --- plugins ---------------------------------------------------------------------------------


class PluginError(AgentdError):
    """A plugin is missing, broken or not allowed."""


class MissingPluginError(PluginError, ImportError):
    """`what` was asked for, and the `distribution` that brings it is not installed, or in a version without it."""

    def __init__(self, what: str, distribution: str) -> None:
        from importlib.metadata import distributions

        self.what, self.distribution = what, distribution
        names = (distribution, "agentd-core")  # read as text: of a half removed one, `version` raises
        files = ["".join(d.read_text("METADATA") or "" for d in distributions(name=n)) for n in names]
        there, core = (text.partition("\nVersion: ")[2].split("\n")[0] for text in files)
        found, needed = "which is not installed", distribution
        if there and core and there != core:
            found, needed = f"of which {there} is installed", f"{distribution}=={core}"
        super().__init__(
            f"{what!r} comes with the distribution {distribution!r}, {found}; install it with: pip install {needed}"
        )


class UnknownPluginError(PluginError, LookupError):
    """No installed plugin has this name."""

    def __init__(self, kind: str, name: str, installed: Iterable[str], *, hint: str = "") -> None:
        self.kind = kind
        self.name = name
        self.installed = tuple(sorted(installed))
        listed = ", ".join(map(repr, self.installed)) or "none"
        super().__init__(
            f"unknown {kind.replace('_', ' ')} {name!r}; installed: {listed}{suggest(name, self.installed)}{hint}"
        )


class PluginLoadError(PluginError):
    """A plugin is installed but could not be loaded, or its hook raised."""

    def __init__(self, kind: str, name: str, distribution: str, reason: str) -> None:
        self.kind = kind
        self.name = name
        self.distribution = distribution
        self.reason = reason
        super().__init__(
            f"the {kind.replace('_', ' ')} plugin {name!r} of {distribution} failed: {reason}; "
            f"see `agentd plugins --check`, update or uninstall {distribution}"
        )


class IncompatiblePluginError(PluginLoadError):
    """A plugin was made for another version of the plugin interface."""


class BlockedPluginError(PluginError):
    """A plugin is installed but the allow or block list keeps it out."""

    def __init__(self, kind: str, name: str, reason: str) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"the {kind.replace('_', ' ')} plugin {name!r} is installed but blocked: {reason}")


# --- executing -------------------------------------------------------------------------------


class ExecutorError(AgentdError):
    """Code could not be run. (Code that ran and failed is a result, not an exception.)"""


class RunnerStartError(ExecutorError):
    """The runner process did not start or did not say hello."""


class RunnerDiedError(ExecutorError):
    """The runner ended while something was still expected from it. The next action starts a new one.

    `partial` is an `ActionResult` with the output that had arrived, or None.
    """

    def __init__(self, reason: str, *, partial: object = None) -> None:
        self.partial = partial
        super().__init__(f"{reason}. The next action starts a new one, with a fresh shell")


class ProtocolError(ExecutorError):
    """The other side of the pipe broke the frame protocol; the connection is closed."""


class SandboxUnavailableError(ExecutorError):
    """The sandbox that was asked for cannot run here. agentd never falls back to none."""


class ExecutorClosedError(ExecutorError):
    """The executor was closed before or while this was asked of it."""


class WorkspaceError(AgentdError, OSError):
    """The workspace directory cannot be used."""


class UnsafePathError(WorkspaceError, ValueError):
    """A path leaves the workspace or names something that is not a plain file."""


# --- snapshots -------------------------------------------------------------------------------


class SnapshotError(WorkspaceError):
    """A snapshot could not be taken, restored or deleted; nothing was changed unless the message says so.

    `errno` is that of the system call that failed (`ENOSPC`: the disk is full), or None.
    """

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class UnknownSnapshotError(SnapshotError, LookupError):
    """No snapshot has this id, label or turn."""

    def __init__(self, wanted: object, known: Iterable[str]) -> None:
        self.wanted = wanted
        self.known = tuple(known)
        listed = ", ".join(map(repr, self.known[:20])) + (", ..." if len(self.known) > 20 else "")
        hint = suggest(wanted, self.known) if isinstance(wanted, str) else ""
        which = "there is no snapshot yet" if wanted is None else f"unknown snapshot {wanted!r}"
        super().__init__(f"{which}; there are: {listed}{hint}" if listed else which)


class CorruptSnapshotError(SnapshotError):
    """A file of the snapshot store is damaged: its content does not have the hash that it had when written."""


# --- tools -----------------------------------------------------------------------------------


class ToolError(AgentdError):
    """A tool call failed. Inside the sandbox, the code sees an exception of the same name.

    :ivar data: what the tool says of it beside the text, as JSON has it; None if nothing.
    """

    def __init__(self, message: str = "", *, data: object = None) -> None:
        self.data = data
        super().__init__(message)


class UnknownToolError(ToolError, LookupError):
    """No tool has this name."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        known = sorted(known)
        listed = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        super().__init__(f"unknown tool {name!r}; there are: {listed or 'none'}{suggest(name, known)}")


class ToolInputError(ToolError, TypeError):
    """The arguments do not fit the tool's parameters; the tool was not called."""


class ToolDeniedError(ToolError, PermissionError):
    """The session's policy does not allow the call; the tool was not called."""


class ToolTimeoutError(ToolError, TimeoutError):
    """The tool did not answer in time."""


# --- models ----------------------------------------------------------------------------------


class ModelError(AgentdError):
    """The model's provider refused or failed. `__cause__` is the provider library's exception.

    `retry_after_s` is how many seconds the provider asks to wait before the next request, `status` the HTTP status of
    its reply; None if it does not say.
    """

    retry_after_s: float | None = None
    status: int | None = None


class AnswerError(AgentdError, ValueError):
    """The last answer does not have the form that was asked for; `text` is the answer."""

    def __init__(self, reason: str, text: str) -> None:
        shown = text if len(text) <= 500 else f"{text[:500]}..."
        super().__init__(f"the answer does not have its form: {reason}; the answer: {shown!r}")
        self.text = text


class ContextLengthError(ModelError):
    """The conversation is too long for the model. `tokens` are how many it has, `limit` how many the model takes, if
    the provider says so."""

    tokens: int | None = None
    limit: int | None = None


class ModelStreamError(ModelError):
    """The model's stream ended without its finish marker: the answer is only a part."""
