"""What happened in a run, as a tree: turns, what the model wrote in each, blocks, what was called inside them.

It is read from the events, live or from the lines of a `jsonl` sink: each is a mapping as `agentd.events.as_dict` gives
it, and a time in seconds. Anything may be missing: lines get lost, runs break off, and newer versions say more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

__all__ = [
    "BlockTrace",
    "CallTrace",
    "LogLine",
    "PictureTrace",
    "Prose",
    "QuestionTrace",
    "RunTrace",
    "Thought",
    "Traces",
    "TurnTrace",
]

_LIVE_CHARACTERS: Final = 65_536  # what is kept of the output of a block that never ended
_LOGS: Final = 1_000  # a run's
_MOMENT: Final = re.compile(r"(checkpoint|rewind|fork) (\S+ )?(took|failed \(\w+\) after) [\d.]+ s from \S+")
"""What the session's timeline logs when a checkpoint was made, say (`agentd_snapshots.timeline`)."""
_CALL_OF_CODE: Final = "call_"
"""Begins the id of a tool call that code makes; the model's own have the id of an action."""


@attrs.define(kw_only=True)
class Prose:
    """Prose of the model, as Markdown."""

    pieces: list[str] = attrs.field(factory=list)
    kind: str = "text"

    @property
    def text(self) -> str:
        """All of it. It comes in tens of thousands of pieces, and to add each to what there is would take the square
        of that."""
        return "".join(self.pieces)


@attrs.define(kw_only=True)
class Thought(Prose):
    """What the model thought before it answered."""

    kind: str = "reasoning"


@attrs.define(kw_only=True)
class LogLine:
    """A line that a tool source logged."""

    source: str
    level: str
    text: str
    kind: str = "logged"


@attrs.define(kw_only=True)
class CallTrace:
    """A tool call. Times are seconds since the epoch."""

    id: str
    name: str
    start: float
    end: float
    arguments: str = ""
    result: str = ""
    status: str = "completed"
    decision: str = ""
    kind: str = "call"


@attrs.define(kw_only=True)
class PictureTrace:
    """A picture that the model was shown. `path` is its file."""

    name: str
    path: str
    mime_type: str
    size: str
    kind: str = "picture"


@attrs.define(kw_only=True)
class QuestionTrace:
    """Somebody was asked; `decision` is empty as long as there is no answer."""

    id: str
    about: str
    name: str
    start: float
    end: float
    arguments: str = ""
    decision: str = ""
    kind: str = "question"


@attrs.define(kw_only=True)
class BlockTrace:
    """A block of code, with what was called and asked inside it. `status` is `unfinished` if its end is not known."""

    id: str
    target: str
    action: str
    code: str
    start: float
    end: float
    output: str = ""
    status: str = "unfinished"
    exit_code: int = 0
    inside: list[CallTrace | QuestionTrace | PictureTrace] = attrs.field(factory=list)
    kind: str = "block"


@attrs.define(kw_only=True)
class TurnTrace:
    """One round of the model. The model was asked at `start` and wrote until `written`."""

    number: int
    start: float
    end: float
    written: float
    usage: dict[str, Any] = attrs.field(factory=dict)
    parts: list[Prose | BlockTrace | CallTrace | QuestionTrace | PictureTrace | LogLine] = attrs.field(
        factory=list
    )


@attrs.define(kw_only=True)
class RunTrace:
    """A run. `stop_reason` is empty if its end is not known; `has_start` is false if its start is not."""

    start: float
    end: float
    has_start: bool = True
    task: str = ""
    model: str = ""
    executor: str = ""
    stop_reason: str = ""
    error: str = ""
    answer: str = ""
    usage: dict[str, Any] = attrs.field(factory=dict)
    turns: list[TurnTrace] = attrs.field(factory=list)
    logs_left_out: int = 0

    def blocks(self) -> list[BlockTrace]:
        return [part for turn in self.turns for part in turn.parts if isinstance(part, BlockTrace)]

    def calls(self) -> list[CallTrace]:
        return [part for part in self._everything() if isinstance(part, CallTrace)]

    def questions(self) -> list[QuestionTrace]:
        return [part for part in self._everything() if isinstance(part, QuestionTrace)]

    def _everything(self) -> list[Any]:
        parts = [part for turn in self.turns for part in turn.parts]
        return parts + [part for block in self.blocks() for part in block.inside]


class Traces:
    """Builds runs from events: `add()` each, in order; `runs` has what is known so far, in the order of their starts.

    Events of several runs may come in turn if they name their `run`, as the lines of the sink jsonl do.
    """

    def __init__(self) -> None:
        self.runs: list[RunTrace] = []
        self._readers: dict[str, _RunReader] = {}  # of runs that have not ended, by name

    def add(self, event: Mapping[str, Any], at: float) -> None:
        """Take an event that came at this time. An event of an unknown type is passed over."""
        type_ = str(event.get("type", ""))
        take = getattr(_RunReader, f"_take_{type_}", None) if type_.isidentifier() else None
        if take is None:
            return
        named = _text(event, "run")
        reader = self._readers.get(named)
        if reader is None or type_ == "run_start":
            reader = self._readers[named] = _RunReader(event, at)
            self.runs.append(reader.run)
        reader.run.end = max(reader.run.end, at)
        take(reader, event, at)
        if reader.run.stop_reason:
            del self._readers[named]


class _RunReader:
    """Builds one run from its events, of which this is the first."""

    def __init__(self, event: Mapping[str, Any], at: float) -> None:
        has_start = event.get("type") == "run_start"
        names = _texts(event, "task", "model", "executor") if has_start else {}
        self.run = RunTrace(start=at, end=at, has_start=has_start, **names)
        self._blocks: dict[str, BlockTrace] = {}
        self._ended: dict[str, BlockTrace] = {}
        self._questions: dict[str, QuestionTrace] = {}
        self._seen_written: set[str] = set()  # blocks of this turn: they may wait before they start
        self._turn_is_over = True
        self._logs = 0

    def _turn(self, at: float) -> TurnTrace:
        run = self.run
        if self._turn_is_over:
            start = run.turns[-1].end if run.turns else run.start
            run.turns.append(TurnTrace(number=len(run.turns) + 1, start=start, end=start, written=start))
            self._turn_is_over = False
            self._seen_written.clear()
        turn = run.turns[-1]
        turn.end = max(turn.end, at)
        return turn

    def _wrote(self, until: float, at: float | None = None) -> TurnTrace:
        """Return the turn, in which the model wrote until then. `at` is the time of the event that tells so."""
        turn = self._turn(until if at is None else at)
        turn.written = max(turn.written, until)
        return turn

    # --- one method for each type of event -----------------------------------------------------------

    def _take_run_start(self, event: Mapping[str, Any], at: float) -> None:
        pass  # the reader was made of it

    def _take_text_delta(self, event: Mapping[str, Any], at: float) -> None:
        self._say(Prose, event, at)

    def _take_reasoning(self, event: Mapping[str, Any], at: float) -> None:
        self._say(Thought, event, at)

    def _say(self, kind: type[Prose] | type[Thought], event: Mapping[str, Any], at: float) -> None:
        turn = self._wrote(at)
        if not (turn.parts and type(turn.parts[-1]) is kind):
            turn.parts.append(kind())
        last = turn.parts[-1]
        assert isinstance(last, Prose)
        last.pieces.append(_text(event, "text"))

    def _take_code_delta(self, event: Mapping[str, Any], at: float) -> None:
        self._wrote(at)
        self._seen_written.add(_text(event, "id"))

    def _take_code_start(self, event: Mapping[str, Any], at: float) -> None:
        block = _block(event, at)
        # Nothing tells of a native call while it is written.
        turn = self._turn(at) if block.id in self._seen_written else self._wrote(at)
        self._blocks[block.id] = block
        turn.parts.append(block)

    def _take_code_output(self, event: Mapping[str, Any], at: float) -> None:
        self._turn(at)
        block = self._blocks.get(_text(event, "id"))
        if block is not None:
            block.end = at
            block.output = (block.output + _text(event, "text"))[-_LIVE_CHARACTERS:]

    def _take_code_execution(self, event: Mapping[str, Any], at: float) -> None:
        turn = self._turn(at)
        block = self._blocks.pop(_text(event, "id"), None)
        if block is not None:
            self._ended[block.id] = block  # its pictures come when the round is over
        if block is None:
            block = _block(event, at - _number(event, "wall_s"))
            turn.parts.append(block)
        block.end, block.output, block.status = at, _text(event, "output"), _text(event, "status")
        block.code = _text(event, "code") or block.code
        block.exit_code = int(_number(event, "exit_code"))

    def _take_tool_call(self, event: Mapping[str, Any], at: float) -> None:
        names = _texts(event, "id", "name", "arguments", "result", "status", "decision")
        call = CallTrace(start=at - _number(event, "wall_s"), end=at, **names)
        if not _text(event, "code_id") and not call.id.startswith(_CALL_OF_CODE):
            self._wrote(call.start, at)  # the model's own was written when it began
        self._put(event, at, call)

    def _take_approval(self, event: Mapping[str, Any], at: float) -> None:
        known = self._questions.get(_text(event, "id"))
        if known is not None:
            known.end, known.decision = at, _text(event, "decision")
            return
        names = _texts(event, "id", "name", "arguments", "decision")
        start = at - _number(event, "waited_s")
        question = QuestionTrace(about=_text(event, "kind"), start=start, end=at, **names)
        self._questions[question.id] = question
        self._put(event, at, question)

    def _take_picture(self, event: Mapping[str, Any], at: float) -> None:
        size = f"{_number(event, 'width'):.0f} x {_number(event, 'height'):.0f} pixels"
        self._put(event, at, PictureTrace(size=size, **_texts(event, "name", "path", "mime_type")))

    def _put(
        self, event: Mapping[str, Any], at: float, part: CallTrace | QuestionTrace | PictureTrace
    ) -> None:
        turn = self._turn(at)
        code = _text(event, "code_id")
        block = self._blocks.get(code) or self._ended.get(code)
        (turn.parts if block is None else block.inside).append(part)

    def _take_source_log(self, event: Mapping[str, Any], at: float) -> None:
        if _text(event, "source") == "checkpoints" and _MOMENT.fullmatch(_text(event, "text")):
            turn = self._turn(at)
            if _has_only_logs(turn):  # the model is asked when this is over
                turn.start = turn.written = max(turn.start, at)
        self._logs += 1
        if self._logs > _LOGS:
            self.run.logs_left_out += 1
            return
        self._turn(at).parts.append(LogLine(**_texts(event, "source", "level", "text")))

    def _take_turn_end(self, event: Mapping[str, Any], at: float) -> None:
        turn = self._turn(at)
        turn.usage = _usage(event)
        if _has_only_logs(turn):  # nothing tells of what the model wrote
            turn.written = turn.end
        self._turn_is_over = True

    def _take_run_end(self, event: Mapping[str, Any], at: float) -> None:
        run = self.run
        if len(run.turns) > 1 and not self._turn_is_over and _has_only_logs(run.turns[-1]):
            last = run.turns.pop()  # the checkpoint after the last turn, say: the model was not asked again
            run.turns[-1].parts += last.parts
        run.stop_reason = _text(event, "stop_reason") or "answer"
        run.answer, run.error, run.usage = _text(event, "text"), _text(event, "error"), _usage(event)


def _has_only_logs(turn: TurnTrace) -> bool:
    """Tell whether nothing of the model is in a turn yet."""
    return turn.written <= turn.start and all(part.kind == "logged" for part in turn.parts)


def _block(event: Mapping[str, Any], start: float) -> BlockTrace:
    return BlockTrace(start=start, end=start, **_texts(event, "id", "target", "action", "code"))


def _text(event: Mapping[str, Any], name: str) -> str:
    value = event.get(name)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _texts(event: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: _text(event, name) for name in names}


def _number(event: Mapping[str, Any], name: str) -> float:
    value = event.get(name)
    return (
        float(value) if isinstance(value, int | float) and abs(value) < 1e12 else 0.0
    )  # NaN is not below it


def _usage(event: Mapping[str, Any]) -> dict[str, Any]:
    usage = event.get("usage")
    return dict(usage) if isinstance(usage, Mapping) else {}
