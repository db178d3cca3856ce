"""The record of a conversation: what was asked, answered and run. Plain data, saved as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from agentd.errors import ConfigError
from agentd.text import valid_data, valid_text
from agentd.types import Usage

if TYPE_CHECKING:
    from agentd.protocols import Model

__all__ = ["Execution", "Message", "NativeCall", "Transcript"]

Role = Literal["task", "answer", "results", "withdrawn"]
VERSION = 3  # 1 had no `calls`, 2 no withdrawn tasks and no `parts`
PARTS = ("text", "image_url", "file")
_FORMS = (
    "({'type': 'text', 'text': ...}, {'type': 'image_url', 'image_url': ...}, {'type': 'file', 'file': ...})"
)


@attrs.frozen(kw_only=True)
class Execution:
    """One block or native tool call and what became of it.

    `header` is `bash:execute`, `notes.txt:create` and so on, for a native call `NAME:call`; `code` is the
    source, or the call's arguments; `output` what the model was given. `status` is that of `ActionResult`, or
    `rejected` for what could not be run, or `error` if the executor failed.
    """

    id: str
    turn: int
    header: str
    code: str
    output: str
    status: str
    exit_code: int
    wall_s: float = 0.0


@attrs.frozen(kw_only=True)
class NativeCall:
    """A native tool call of the model; in `results`, with what the model read about it."""

    id: str
    name: str
    arguments: str = ""
    output: str = ""


@attrs.frozen
class Message:
    """A task, an answer of the model (cut after its blocks), or the results that it was given; or a task that was taken
    back, with the reason: no model is told of that one.

    `calls` are the native tool calls of an answer, or those that the results are about; `parts` those of a task that is
    more than text, whose `content` is the text in them.
    """

    role: Role
    content: str
    calls: tuple[NativeCall, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of_task(cls, task: object) -> Message:
        """Return the message of a task: text, or parts as chat completions have them. Raises `ConfigError`."""
        if isinstance(task, str):
            return cls("task", valid_text(task))  # an argument of a command may hold any bytes
        parts: list[Any] = task if isinstance(task, list) else []
        wrong = [
            p for p in parts if not isinstance(p, dict) or p.get("type") not in PARTS or p["type"] not in p
        ]
        if wrong or not parts:
            got = f"a part {wrong[0]!r:.80}" if wrong else f"{type(task).__name__} {task!r:.80}"
            raise ConfigError(f"task: must be text, or a list of parts {_FORMS}; got {got}")
        texts = [str(p["text"]) if p["type"] == "text" else f"[{p['type']}]" for p in parts]
        return cls("task", valid_text("\n".join(texts)), parts=tuple(valid_data(parts)))

    def tell_task(self, model: Model) -> None:
        """Tell a model this task. Raises `ConfigError` if it has parts that the model cannot be told."""
        from agentd.protocols import PartsModel

        if not self.parts:
            model.add_task(self.content)
        elif isinstance(model, PartsModel):
            model.add_parts(self.parts)
        else:
            raise ConfigError(f"task: the model {model.name!r} takes text alone (it has no add_parts)")


@attrs.define
class Transcript:
    """Everything that was said and done in a session, in order, also after an error or a cancellation."""

    messages: list[Message] = attrs.field(factory=list)
    executions: list[Execution] = attrs.field(factory=list)
    usage: Usage = attrs.field(factory=Usage)

    def add(self, role: Role, content: str, calls: Iterable[NativeCall] = ()) -> None:
        """Append a message."""
        self.messages.append(Message(role, content, tuple(calls)))

    def withdraw(self, why: str) -> str:
        """Take the last task back, with what followed it, and return it. Raises `ConfigError` without one."""
        roles = [m.role for m in self.messages]
        if "task" not in roles:
            raise ConfigError("there is no task to take back")
        at = len(roles) - 1 - roles[::-1].index("task")
        task = self.messages[at].content
        self.messages[at:] = [Message("withdrawn", f"{task}\n\n[{why}]")]
        return task

    @property
    def last_answer(self) -> str:
        """The model's newest answer; empty if there is none."""
        return next((m.content for m in reversed(self.messages) if m.role == "answer"), "")

    def become(self, other: Transcript) -> None:
        """Have the content of another one."""
        self.messages[:] = other.messages
        self.executions[:] = other.executions
        self.usage = other.usage

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-ready data."""
        return {"version": VERSION, **attrs.asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Transcript:
        """Make a transcript from what `as_dict` returned. Raises `ConfigError` for anything else."""
        try:
            if data.get("version") not in (1, 2, VERSION):
                raise ConfigError(f"transcript: version must be 1 to {VERSION}, got {data.get('version')!r}")
            return cls(
                messages=[_message(m) for m in data["messages"]],
                executions=[Execution(**e) for e in data["executions"]],
                usage=Usage() + Usage(**data["usage"]),  # which fails for what are no numbers
            )
        except (AttributeError, KeyError, TypeError) as exc:
            raise ConfigError(f"transcript: not in the form that Transcript.save writes: {exc!r}") from exc

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        Path(path).write_text(
            json.dumps(self.as_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )

    @classmethod
    def load(cls, path: str | Path) -> Transcript:
        """Read what `save` wrote. Raises `OSError` and `ConfigError`."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as exc:
            raise ConfigError(f"transcript: {path} holds no JSON: {exc}") from exc
        if not isinstance(data, dict):
            raise ConfigError(f"transcript: {path} must hold a JSON object, got {type(data).__name__}")
        return cls.from_dict(data)

    def replay(self, model: Model, *, native: bool = False) -> None:
        """Tell a new model everything that was said.

        :param native: the model is offered tools; without it, it reads its earlier calls as text, since many
            providers refuse calls in a conversation without tools.
        """
        for message in self.messages:
            if message.role == "task":
                message.tell_task(model)
            elif message.calls and native:
                _replay_calls(model, message)
            elif message.role == "answer":
                model.add_answer(_as_text(message))
            elif message.role == "results":
                model.add_results(_as_text(message))


def _message(data: dict[str, Any]) -> Message:
    calls = tuple(NativeCall(**c) for c in data.get("calls", ()))
    return Message(**{**data, "calls": calls, "parts": tuple(data.get("parts", ()))})


def _replay_calls(model: Model, message: Message) -> None:
    from agentd.protocols import ModelToolCall, ToolResult

    if message.role == "answer":
        calls = [ModelToolCall(id=c.id, name=c.name, arguments=c.arguments) for c in message.calls]
        model.add_answer(message.content, calls)
    else:
        model.add_tool_results([ToolResult(call_id=c.id, output=c.output) for c in message.calls])


def _as_text(message: Message) -> str:
    if message.role == "answer":
        parts = [f"[call of {c.name}: {c.arguments}]" for c in message.calls]
    else:
        parts = [f"[result of {c.name}]\n{c.output}\n[end of result]" for c in message.calls]
    return "\n\n".join(p for p in [message.content, *parts] if p)
