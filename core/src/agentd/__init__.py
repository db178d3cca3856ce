"""agentd: the runtime in which a language model acts by writing code.

Every public name is imported when it is first used, so that `import agentd` itself costs nothing. Their types, and
those of the official plugins' names, are in `__init__.pyi`.
"""

from __future__ import annotations

# Core's own names. Those of plugins (`tool`, `patch_openai_with_ptc`, ...) are reachable too, but are left out
# here: a star import would fail where a plugin is not installed.
__all__ = [
    "AgentdError",
    "Blob",
    "BlockedPluginError",
    "Budgets",
    "Checkpoint",
    "CodeExecution",
    "CodeOutput",
    "CodeStart",
    "ConfigError",
    "CorruptSnapshotError",
    "Event",
    "ExecutorClosedError",
    "ExecutorError",
    "IncompatiblePluginError",
    "Limits",
    "MissingPluginError",
    "ModelError",
    "ModelStreamError",
    "Notation",
    "PluginConfig",
    "PluginError",
    "PluginLoadError",
    "PluginRecord",
    "ProtocolError",
    "ReasoningDelta",
    "Registry",
    "RunEnd",
    "RunStart",
    "RunnerDiedError",
    "RunnerStartError",
    "SandboxUnavailableError",
    "Session",
    "SessionBusyError",
    "SnapshotError",
    "SourceLog",
    "SyncSession",
    "TextDelta",
    "ToolCall",
    "ToolError",
    "ToolInputError",
    "ToolProgress",
    "ToolTimeoutError",
    "Transcript",
    "TurnEnd",
    "UnknownPluginError",
    "UnknownSnapshotError",
    "UnknownToolError",
    "UnsafePathError",
    "Usage",
    "WorkspaceError",
    "__version__",
]


def __getattr__(name: str) -> object:
    from agentd.registry.exports import resolve

    value = globals()[name] = resolve(name)
    return value


def __dir__() -> list[str]:
    from agentd.registry.exports import public_names

    return sorted({*globals(), *public_names()})
