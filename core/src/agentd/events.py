"""The events of a run: one schema for the facade, the command line, the sinks and programs.

Every event is frozen and has a `type` tag, so that `match event.type` and JSON both work. Ids are
unique within a run; `turn` counts from 1.
"""

from __future__ import annotations

from typing import Literal

import attrs

from agentd.types import OutputStream, StopReason, Usage

__all__ = [
    "Approval", "CodeDelta", "CodeExecution", "CodeOutput", "CodeStart", "Event", "Picture", "ReasoningDelta",
    "RunEnd", "RunStart", "SourceLog", "TextDelta", "ToolCall", "ToolProgress", "TurnEnd", "as_dict",
]  # fmt: skip


@attrs.frozen(kw_only=True)
class RunStart:
    """A run begins: the task, and the names of the model and of the executor, where code may run."""

    task: str = ""
    model: str = ""
    executor: str = ""
    type: Literal["run_start"] = "run_start"


@attrs.frozen
class TextDelta:
    """A piece of the model's prose, in order, no character twice."""

    text: str
    type: Literal["text_delta"] = attrs.field(default="text_delta", kw_only=True)


@attrs.frozen
class ReasoningDelta:
    """A piece of what the model thinks before it answers, without its tags. No block in it is run."""

    text: str
    type: Literal["reasoning"] = attrs.field(default="reasoning", kw_only=True)


@attrs.frozen(kw_only=True)
class CodeDelta:
    """A piece of a block's code while the model writes it, as it stands in the answer: the block's end may be in it.

    `id`, `action` and `target` are those of the events that follow; they have the code itself.
    """

    id: str
    text: str
    action: str = "execute"
    target: str = ""
    type: Literal["code_delta"] = "code_delta"


@attrs.frozen(kw_only=True)
class CodeStart:
    """A block starts to run. `target` is the language, or the path of a `create` block."""

    id: str
    code: str
    action: str = "execute"
    target: str = ""
    turn: int = 1
    type: Literal["code_start"] = "code_start"


@attrs.frozen(kw_only=True)
class CodeOutput:
    """Output of a running block, while it runs. Bytes that are no UTF-8 are replaced."""

    id: str
    text: str
    stream: OutputStream = "stdout"
    type: Literal["code_output"] = "code_output"


@attrs.frozen(kw_only=True)
class CodeExecution:
    """A block has ended. `output` is what the model will read; `status` is `completed` for exit code 0."""

    code: str
    output: str
    status: Literal["completed", "failed"]
    exit_code: int = 0
    id: str = ""
    action: str = "execute"
    target: str = ""
    wall_s: float = 0.0
    type: Literal["code_execution"] = "code_execution"


@attrs.frozen(kw_only=True)
class ToolCall:
    """A tool was called, from code (`code_id` names the block, if known) or by the model.

    `arguments` and `result` are JSON text, cut to a readable length; `decision` is the policy's, if nobody was asked.
    """

    id: str
    name: str
    arguments: str = ""
    result: str = ""
    status: Literal["completed", "failed"] = "completed"
    code_id: str = ""
    wall_s: float = 0.0
    decision: str = ""
    type: Literal["tool_call"] = "tool_call"


@attrs.frozen(kw_only=True)
class Approval:
    """Somebody is asked whether something may be done; or the `decision` about it. `code_id` is the block's."""

    id: str
    kind: Literal["tool", "create", "host"]
    name: str
    arguments: str = ""
    decision: str = ""
    waited_s: float = 0.0
    code_id: str = ""
    type: Literal["approval"] = "approval"


@attrs.frozen(kw_only=True)
class ToolProgress:
    """A tool call that still runs says how far it is; `id` and `code_id` as in the `ToolCall` that follows."""

    id: str
    name: str
    done: float = 0.0
    total: float | None = None
    message: str = ""
    code_id: str = ""
    type: Literal["tool_progress"] = "tool_progress"


@attrs.frozen(kw_only=True)
class SourceLog:
    """A tool source (an MCP server, say) logs something. `level` as syslog names it."""

    source: str
    level: str = "info"
    text: str = ""
    type: Literal["source_log"] = "source_log"


@attrs.frozen(kw_only=True)
class Picture:
    """Code has shown the model a picture, or a tool has returned one. `path` is its file (absolute; empty if it could
    not be kept), width and height are in pixels, as the model gets it, `code_id` is as in `ToolCall`."""

    name: str
    path: str
    mime_type: str
    width: int
    height: int
    size_bytes: int
    code_id: str = ""
    type: Literal["picture"] = "picture"


@attrs.frozen(kw_only=True)
class TurnEnd:
    """One round of the model is over, its blocks included. `usage` is that round's."""

    turn: int = 1
    usage: Usage = attrs.field(factory=Usage)
    type: Literal["turn_end"] = "turn_end"


@attrs.frozen(kw_only=True)
class RunEnd:
    """The run is over: why, the last answer's prose, the usage of all rounds, and the error if one ended it (what the
    provider says about an answer that it refused or broke off)."""

    stop_reason: StopReason = "answer"
    text: str = ""
    turns: int = 0
    usage: Usage = attrs.field(factory=Usage)
    error: str = ""
    type: Literal["run_end"] = "run_end"

    def __str__(self) -> str:
        return self.text


Event = (
    RunStart | TextDelta | ReasoningDelta | CodeDelta | CodeStart | CodeOutput
    | CodeExecution | ToolCall | Approval | ToolProgress | SourceLog | Picture | TurnEnd | RunEnd
)  # fmt: skip


def as_dict(event: Event) -> dict[str, object]:
    """Return the event as plain JSON-ready data, `type` first."""
    data = attrs.asdict(event)
    return {"type": data.pop("type"), **data}
