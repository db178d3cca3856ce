"""agentd: the runtime in which a language model acts by writing code.

Every public name is imported when it is first used, so that `import agentd` itself costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # the name is what type checkers look for; `typing` itself takes milliseconds to load
if TYPE_CHECKING:
    from typing import Any

    from agentd.config import PluginConfig
    from agentd.display import display_events, display_events_async
    from agentd.errors import (
        AgentdError,
        BlockedPluginError,
        ConfigError,
        CorruptSnapshotError,
        ExecutorClosedError,
        ExecutorError,
        IncompatiblePluginError,
        MissingPluginError,
        ModelError,
        ModelStreamError,
        PluginError,
        PluginLoadError,
        ProtocolError,
        RunnerDiedError,
        RunnerStartError,
        SandboxUnavailableError,
        SessionBusyError,
        SnapshotError,
        ToolError,
        ToolInputError,
        ToolTimeoutError,
        UnknownPluginError,
        UnknownSnapshotError,
        UnknownToolError,
        UnsafePathError,
        WorkspaceError,
    )
    from agentd.events import (
        CodeExecution,
        CodeOutput,
        CodeStart,
        Event,
        RunEnd,
        RunStart,
        SourceLog,
        TextDelta,
        ToolCall,
        ToolProgress,
        TurnEnd,
    )
    from agentd.patch import patch_openai_with_mcp, patch_openai_with_ptc
    from agentd.registry import PluginRecord, Registry
    from agentd.session import Session
    from agentd.sinks.jsonl import ConversationLog
    from agentd.sync_session import SyncSession
    from agentd.timeline import Checkpoint
    from agentd.tools import tool
    from agentd.types import Blob

    __version__: str

# Core's own names. Those of plugins (`SubprocessExecutor`, ...) are reachable too, but are left out
# here: a star import would fail where a plugin is not installed.
__all__ = [
    "AgentdError",
    "Blob",
    "BlockedPluginError",
    "Checkpoint",
    "CodeExecution",
    "CodeOutput",
    "CodeStart",
    "ConfigError",
    "ConversationLog",
    "CorruptSnapshotError",
    "Event",
    "ExecutorClosedError",
    "ExecutorError",
    "IncompatiblePluginError",
    "MissingPluginError",
    "ModelError",
    "ModelStreamError",
    "PluginConfig",
    "PluginError",
    "PluginLoadError",
    "PluginRecord",
    "ProtocolError",
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
    "TurnEnd",
    "UnknownPluginError",
    "UnknownSnapshotError",
    "UnknownToolError",
    "UnsafePathError",
    "WorkspaceError",
    "__version__",
    "display_events",
    "display_events_async",
    "patch_openai_with_mcp",
    "patch_openai_with_ptc",
    "tool",
]


def __getattr__(name: str) -> Any:
    from agentd.exports import resolve

    value = globals()[name] = resolve(name)
    return value


def __dir__() -> list[str]:
    from agentd.exports import public_names

    return sorted({*globals(), *public_names()})
