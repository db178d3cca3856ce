"""The record of a conversation: what was asked, answered and run. Plain data, saved as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs

from agentd.errors import ConfigError
from agentd.types import Usage

if TYPE_CHECKING:
    from agentd.protocols import Model

__all__ = ["Execution", "Message", "Transcript"]

Role = Literal["task", "answer", "results"]
VERSION = 1


@attrs.frozen(kw_only=True)
class Execution:
    """One block and what became of it.

    `header` is `bash:execute`, `notes.txt:create` and so on; `output` what the model was given. `status` is
    that of `ActionResult`, or `rejected` for a block that could not be run, or `error` if the executor
    failed.
    """

    id: str
    turn: int
    header: str
    code: str
    output: str
    status: str
    exit_code: int
    wall_s: float = 0.0


@attrs.frozen
class Message:
    """A task, an answer of the model (cut after its blocks), or the results that it was given."""

    role: Role
    content: str


@attrs.define
class Transcript:
    """Everything that was said and done in a session, in order, also after an error or a cancellation."""

    messages: list[Message] = attrs.field(factory=list)
    executions: list[Execution] = attrs.field(factory=list)
    usage: Usage = attrs.field(factory=Usage)

    def add(self, role: Role, content: str) -> None:
        """Append a message."""
        self.messages.append(Message(role, content))

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain JSON-ready data."""
        return {"version": VERSION, **attrs.asdict(self)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Transcript:
        """Make a transcript from what `as_dict` returned. Raises `ConfigError` for anything else."""
        if data.get("version") != VERSION:
            raise ConfigError(f"transcript: version must be {VERSION}, got {data.get('version')!r}")
        try:
            return cls(
                messages=[Message(**m) for m in data["messages"]],
                executions=[Execution(**e) for e in data["executions"]],
                usage=Usage(**data["usage"]),
            )
        except (KeyError, TypeError) as exc:
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

    def replay(self, model: Model) -> None:
        """Tell a new model everything that was said."""
        add = {"task": model.add_task, "answer": model.add_answer, "results": model.add_results}
        for message in self.messages:
            add[message.role](message.content)
