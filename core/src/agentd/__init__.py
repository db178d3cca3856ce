"""agentd: the runtime in which a language model acts by writing code.

Every public name is imported when it is first used, so that `import agentd` itself costs nothing. Their types, and
those of the official plugins' names, are in `__init__.pyi`.
"""

from __future__ import annotations

_MODULES = {
    "agentd.errors": "AgentdError AnswerError BlockedPluginError ConfigError ContextLengthError CorruptSnapshotError "
    "ExecutorClosedError ExecutorError IncompatiblePluginError MissingPluginError ModelError "
    "ModelStreamError PluginError PluginLoadError ProtocolError RunnerDiedError RunnerStartError "
    "SandboxUnavailableError SessionBusyError SnapshotError ToolDeniedError ToolError ToolInputError "
    "ToolTimeoutError UnknownPluginError UnknownSnapshotError UnknownToolError UnsafePathError WorkspaceError",
    "agentd.events": "Approval CodeDelta CodeExecution CodeOutput CodeStart Event Picture ReasoningDelta RunEnd "
    "RunStart SourceLog TextDelta ToolCall ToolProgress TurnEnd",
    "agentd.notation": "Notation",
    "agentd.registry": "PluginRecord Registry",
    "agentd.registry.config": "PluginConfig",
    "agentd.registry.defaults": "defaults",
    "agentd.protocols": "Checkpoint",
    "agentd.session.session": "Session",
    "agentd.session.sync": "SyncSession",
    "agentd.turn.transcript": "Transcript",
    "agentd.types": "Blob Budgets Limits Usage",
}

CORE_EXPORTS = {name: module for module, names in _MODULES.items() for name in names.split()}
"""Module by public name, for what belongs to core itself."""

# Names of plugins (`tool`, `patch_openai_with_ptc`, ...) are reachable too, but are left out here: a star import
# would fail where a plugin is not installed.
__all__ = ["__version__", *CORE_EXPORTS]


def __getattr__(name: str) -> object:
    if module := CORE_EXPORTS.get(name):
        from importlib import import_module

        value = getattr(import_module(module), name)
    else:
        from agentd.registry.exports import resolve

        value = resolve(name, CORE_EXPORTS)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from agentd.registry.exports import installed_names

    return sorted({*globals(), *__all__, *installed_names()})
