"""What the parts expect of each other: the structural types that plugins implement.

Plugins need not inherit anything. The objects are made by the hooks of `agentd.hookspecs`.
"""

from __future__ import annotations

from agentd.protocols.executors import (
    Executor,
    OnOutput,
    PausableExecutor,
    ShellExecutor,
    SnapshotExcluding,
    StatefulExecutor,
    VerifyingExecutor,
)
from agentd.protocols.models import (
    EstimatingModel,
    Model,
    ModelEvent,
    ModelFinish,
    ModelText,
    ModelToolCall,
    OwnedModel,
    PartsModel,
    PreparingModel,
    ResettableModel,
    ToolOffer,
    ToolResult,
)
from agentd.protocols.parsers import Parser, SkippingParser
from agentd.protocols.sinks import EventSink, Requirement
from agentd.protocols.skills import NO_NOTES, Layout, SkillRenderer
from agentd.protocols.snapshots import AsyncSnapshotStore, KeptSnapshot, SnapshotStore
from agentd.protocols.tools import (
    DirectSource,
    OnProgress,
    ResourceSource,
    SourceHost,
    SubscriptionSource,
    SubscriptionState,
    Toolbox,
    ToolDispatcher,
    ToolEvents,
    ToolReply,
    Tools,
    ToolSource,
    is_tool_source,
)

__all__ = [
    "NO_NOTES",
    "AsyncSnapshotStore",
    "DirectSource",
    "EstimatingModel",
    "EventSink",
    "Executor",
    "KeptSnapshot",
    "Layout",
    "Model",
    "ModelEvent",
    "ModelFinish",
    "ModelText",
    "ModelToolCall",
    "OnOutput",
    "OnProgress",
    "OwnedModel",
    "Parser",
    "PartsModel",
    "PausableExecutor",
    "PreparingModel",
    "Requirement",
    "ResettableModel",
    "ResourceSource",
    "ShellExecutor",
    "SkillRenderer",
    "SkippingParser",
    "SnapshotExcluding",
    "SnapshotStore",
    "SourceHost",
    "StatefulExecutor",
    "SubscriptionSource",
    "SubscriptionState",
    "ToolDispatcher",
    "ToolEvents",
    "ToolOffer",
    "ToolReply",
    "ToolResult",
    "ToolSource",
    "Toolbox",
    "Tools",
    "VerifyingExecutor",
    "is_tool_source",
]
