"""The types of `agentd`'s public names.

Core's own stand here whole. Of the plugins' names, those that decorate or give back what they were given have a
signature, or whatever they touch would lose its type; the others are untyped here and typed where they live
(`from agentd_executor_srt.executor import SandboxRuntimeExecutor`): core imports no plugin, not even for types.
"""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from agentd.errors import *

# fmt: off
from agentd.events import (
    Approval as Approval, CodeDelta as CodeDelta, CodeExecution as CodeExecution, CodeOutput as CodeOutput,
    CodeStart as CodeStart, Event as Event, Picture as Picture, ReasoningDelta as ReasoningDelta, RunEnd as RunEnd,
    RunStart as RunStart, SourceLog as SourceLog, TextDelta as TextDelta, ToolCall as ToolCall,
    ToolProgress as ToolProgress, TurnEnd as TurnEnd
)
# fmt: on
from agentd.notation import Notation as Notation
from agentd.registry import PluginRecord as PluginRecord, Registry as Registry
from agentd.registry.config import PluginConfig as PluginConfig
from agentd.registry.defaults import defaults as defaults
from agentd.protocols import Checkpoint as Checkpoint
from agentd.session.session import Session as Session
from agentd.session.sync import SyncSession as SyncSession
from agentd.turn.transcript import Transcript as Transcript
from agentd.types import Blob as Blob, Budgets as Budgets, Limits as Limits, Usage as Usage

__version__: str
CORE_EXPORTS: dict[str, str]

_C = TypeVar("_C")
_F = TypeVar("_F", bound=Callable[..., Any])

@overload
def tool(function: _F, /) -> _F: ...
@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout: float | None = None,
    read_only: bool | None = None, destructive: bool | None = None, idempotent: bool | None = None,
) -> Callable[[_F], _F]: ...  # fmt: skip
def create_pictures(images: object, host: Any) -> Any: ...
def create_policy(policy: object, approver: object, host: Any) -> Any: ...
def patch_openai_with_ptc(client: _C, *args: Any, **settings: Any) -> _C: ...
def patch_openai_with_mcp(client: _C, **settings: Any) -> _C: ...
def show(picture: object, name: str | None = None) -> None: ...
def task_parts(task: list[Any]) -> list[dict[str, Any]]: ...
def __getattr__(name: str) -> Any: ...
