"""The record of a conversation: what was asked, answered and run, as plain data; and what the model reads of it.

About its blocks, that is a fixed text, the same for the same results:

    [result 1 of 2: bash:execute, completed, exit code 0]
    total 3
    [end of result 1]

    [result 2 of 2: python:execute, failed, exit code 1]
    Traceback (most recent call last): ...
    [end of result 2]

`completed` means exit code 0; the other words are `failed`, `timeout`, `cancelled`, `error` (the executor failed)
and `rejected` (not run). A block without output says `(no output)`. Notes of the run stand last, a line each.

The result of a native tool call is a message of its own: the tool's result as text or JSON, or its error;
for the `bash` tool the output, then `[failed, exit code 1]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from agentd.errors import ConfigError
from agentd.text import valid_data, valid_text
from agentd.types import Action, ActionResult, BashAction, Block, CreateAction, PythonAction, Usage

if TYPE_CHECKING:
    from agentd.protocols import Model

__all__ = [
    "Execution", "Message", "NativeCall", "Transcript", "action_of", "cut_middle", "format_results",
    "output_text", "rejection",
]  # fmt: skip

Role = Literal["task", "answer", "results", "withdrawn"]
HINT = "write long output to a file and read the part that you need"
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
        """Return the message of a task: text, or parts as chat completions have them; of others, agentd-images makes
        such. Raises `ConfigError`."""
        if isinstance(task, str):
            # An argument of a command may hold any bytes.
            return cls("task", task if task.isascii() else valid_text(task))
        if isinstance(task, list) and not all(isinstance(p, dict) and p.get("type") in PARTS for p in task):
            from agentd import task_parts

            task = task_parts(task)
        parts: list[Any] = valid_data(task) if isinstance(task, list) else []
        wrong = [
            p for p in parts if not isinstance(p, dict) or p.get("type") not in PARTS or p["type"] not in p
        ]
        if wrong or not parts:
            got = f"a part {wrong[0]!r:.80}" if wrong else f"{type(task).__name__} {task!r:.80}"
            raise ConfigError(f"task: must be text, or a list of parts {_FORMS}; got {got}")
        texts = [str(p["text"]) if p["type"] == "text" else f"[{p['type']}]" for p in parts]
        return cls("task", "\n".join(texts), parts=tuple(parts))

    def with_text(self, text: str) -> Message:
        """Return the same with more text at its end."""
        parts = (*self.parts, {"type": "text", "text": text}) if self.parts else ()
        return attrs.evolve(self, content=f"{self.content}\n\n{text}", parts=parts)

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
    """All that was said and done in a session, in order, also after an error; `decisions` are a policy's, by action."""

    messages: list[Message] = attrs.field(factory=list)
    executions: list[Execution] = attrs.field(factory=list)
    usage: Usage = attrs.field(factory=Usage)
    decisions: dict[str, dict[str, int]] = attrs.field(factory=dict)

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
        self.usage, self.decisions = other.usage, other.decisions

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
                decisions=dict(data.get("decisions", {})),
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


# --- what the model reads about its blocks ---------------------------------------------------------------


def header(block: Block) -> str:
    """Return the block's header as the model wrote it, in its canonical form."""
    return f"{block.target}:{block.action}"


def target_of(block: Block) -> str:
    """Return the language of a block, or the path if it creates a file."""
    return block.target if block.action == "create" or not block.language else block.language


def action_of(block: Block) -> Action | None:
    """Return what an executor is to run for the block, or None if it cannot be run."""
    if not block.complete or block.reason:
        return None
    if block.action == "create":
        return CreateAction(path=block.target, content=block.source) if block.target.strip() else None
    word, _, name = block.action.partition(" ")
    if word in ("execute", "job") and block.language == "bash":
        return BashAction(command=block.source, job=name.strip() if word == "job" else None)
    if block.action == "execute" and block.language == "python":
        return PythonAction(code=block.source)
    return None


def rejection(block: Block, forms: str) -> str:
    """Return what the model is told about a block that `action_of` refused: why, and the forms that there are."""
    if block.reason:
        why = f"The block {header(block)} was not run: {block.reason}."
    elif not block.complete:
        cut = ", or a fence in the file ended it" if block.action == "create" else ""
        why = f"The block {header(block)} was not closed{cut}, so it was not run."
    elif block.action == "execute":
        why = f"Blocks in the language {block.target!r} cannot be run: bash and python can."
    elif block.action == "create":
        why = "The block has no path, so no file was written."
    else:
        why = f"{block.action!r} is no action: there are execute and create."
    return f"{why} The forms are:\n\n{forms}" if forms else why


def cut_middle(text: str, limit: int, hint: str = HINT) -> str:
    """Return `text` with at most about `limit` characters, its head and tail kept, and a note of what was
    cut, with a hint on what to do about it."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 3, limit - limit * 2 // 3
    cut = len(text) - head - tail
    return f"{text[:head]}\n[... {cut} characters were cut here; {hint} ...]\n{text[-tail:]}"


def output_text(result: ActionResult, limit: int, file: str = "") -> str:
    """Return a result's output as the model reads it: both streams in the order of arrival, and what was
    left out; `file` has all of it, if there is one."""
    text = cut_middle(result.output, limit, f"all of it is in {file}" if file else HINT)
    if result.dropped_bytes:
        text += "" if text.endswith("\n") else "\n"
        text += f"[{result.dropped_bytes} bytes were dropped; {HINT}]"
    return text


def format_results(executions: Sequence[Execution], notes: Sequence[str] = ()) -> str:
    """Return the message that tells the model what its blocks gave."""
    total = len(executions)
    parts = []
    for number, done in enumerate(executions, 1):
        code = "" if done.status in ("rejected", "error") else f", exit code {done.exit_code}"
        body = done.output.removesuffix("\n") or "(no output)"
        parts.append(
            f"[result {number} of {total}: {done.header}, {done.status}{code}]\n{body}\n[end of result {number}]"
        )
    if notes:
        parts.append("\n".join(f"[note: {n}]" for n in notes))
    return "\n\n".join(parts)


# --- native tool calls -----------------------------------------------------------------------------------


def bash_text(done: Execution) -> str:
    """Return the result of a call of the `bash` tool."""
    if done.status in ("rejected", "error"):
        return done.output
    output = done.output.removesuffix("\n") or "(no output)"
    return f"{output}\n[{done.status}, exit code {done.exit_code}]"


def with_notes(text: str, notes: Sequence[str]) -> str:
    """Return the text with the notes of the run behind it."""
    return "\n".join([text, *(f"[note: {n}]" for n in notes)])
