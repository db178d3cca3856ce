"""The types of `agentd`'s public names.

Core's own stand here whole. Of the plugins' names, those that decorate or give back what they were given have a
signature, or whatever they touch would lose its type; the others are untyped here and typed where they live
(`from agentd_executor_srt.executor import SandboxRuntimeExecutor`): core imports no plugin, not even for types.
"""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from agentd.errors import (
    AgentdError as AgentdError,
)
from agentd.errors import (
    BlockedPluginError as BlockedPluginError,
)
from agentd.errors import (
    ConfigError as ConfigError,
)
from agentd.errors import (
    CorruptSnapshotError as CorruptSnapshotError,
)
from agentd.errors import (
    ExecutorClosedError as ExecutorClosedError,
)
from agentd.errors import (
    ExecutorError as ExecutorError,
)
from agentd.errors import (
    IncompatiblePluginError as IncompatiblePluginError,
)
from agentd.errors import (
    MissingPluginError as MissingPluginError,
)
from agentd.errors import (
    ModelError as ModelError,
)
from agentd.errors import (
    ModelStreamError as ModelStreamError,
)
from agentd.errors import (
    PluginError as PluginError,
)
from agentd.errors import (
    PluginLoadError as PluginLoadError,
)
from agentd.errors import (
    ProtocolError as ProtocolError,
)
from agentd.errors import (
    RunnerDiedError as RunnerDiedError,
)
from agentd.errors import (
    RunnerStartError as RunnerStartError,
)
from agentd.errors import (
    SandboxUnavailableError as SandboxUnavailableError,
)
from agentd.errors import (
    SessionBusyError as SessionBusyError,
)
from agentd.errors import (
    SnapshotError as SnapshotError,
)
from agentd.errors import (
    ToolError as ToolError,
)
from agentd.errors import (
    ToolInputError as ToolInputError,
)
from agentd.errors import (
    ToolTimeoutError as ToolTimeoutError,
)
from agentd.errors import (
    UnknownPluginError as UnknownPluginError,
)
from agentd.errors import (
    UnknownSnapshotError as UnknownSnapshotError,
)
from agentd.errors import (
    UnknownToolError as UnknownToolError,
)
from agentd.errors import (
    UnsafePathError as UnsafePathError,
)
from agentd.errors import (
    WorkspaceError as WorkspaceError,
)
from agentd.events import (
    CodeExecution as CodeExecution,
)
from agentd.events import (
    CodeOutput as CodeOutput,
)
from agentd.events import (
    CodeStart as CodeStart,
)
from agentd.events import (
    Event as Event,
)
from agentd.events import (
    RunEnd as RunEnd,
)
from agentd.events import (
    RunStart as RunStart,
)
from agentd.events import (
    SourceLog as SourceLog,
)
from agentd.events import (
    TextDelta as TextDelta,
)
from agentd.events import (
    ToolCall as ToolCall,
)
from agentd.events import (
    ToolProgress as ToolProgress,
)
from agentd.events import (
    TurnEnd as TurnEnd,
)
from agentd.notation import Notation as Notation
from agentd.registry import (
    PluginRecord as PluginRecord,
)
from agentd.registry import (
    Registry as Registry,
)
from agentd.registry.config import PluginConfig as PluginConfig
from agentd.session.checkpoints import Checkpoint as Checkpoint
from agentd.session.session import Session as Session
from agentd.session.sync import SyncSession as SyncSession
from agentd.turn.budgets import Budgets as Budgets
from agentd.turn.transcript import Transcript as Transcript
from agentd.types import (
    Blob as Blob,
)
from agentd.types import (
    Limits as Limits,
)
from agentd.types import (
    Usage as Usage,
)

__version__: str

_C = TypeVar("_C")
_F = TypeVar("_F", bound=Callable[..., Any])

@overload
def tool(function: _F, /) -> _F: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout: float | None = None
) -> Callable[[_F], _F]: ...
def patch_openai_with_ptc(client: _C, *args: Any, **settings: Any) -> _C: ...
def patch_openai_with_mcp(client: _C, **settings: Any) -> _C: ...
def __getattr__(name: str) -> Any: ...
