"""A recording: the turns of a model that was recorded once, to be replayed against real results.

A recorded turn may hold placeholders, `{{name}}`, which are filled with what regular expressions find in
the conversation so far: the task and the results of the rounds before. So a replayed answer states what
the code really gave, and a conversation without those results gets an error instead of an answer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from agentd.errors import ConfigError

__all__ = ["Recording", "RecordingMismatch", "Turn"]

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


class RecordingMismatch(Exception):
    """The conversation that was received is no continuation of the recorded one."""


@attrs.frozen(kw_only=True)
class Turn:
    """One recorded answer.

    `expect` are regular expressions that must all be found in what was received since the answer before
    (for the first turn: the task); `capture` maps names to regular expressions whose first group (or whole
    match) fills the placeholders of this and all later turns. Both are compiled with MULTILINE.
    `delay_s` is the pause between chunks of `chunk` characters.
    """

    text: str
    expect: tuple[str, ...] = ()
    capture: Mapping[str, str] = attrs.field(factory=dict)
    delay_s: float = 0.0
    chunk: int = 24


@attrs.frozen
class Recording:
    """The turns of a model, in order, and the name it answers to."""

    turns: tuple[Turn, ...]
    model: str = "replay"

    @classmethod
    def of(cls, turns: Sequence[str | Turn], *, model: str = "replay") -> Recording:
        """Make a recording of plain texts and turns."""
        return cls(tuple(t if isinstance(t, Turn) else Turn(text=t) for t in turns), model)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recording:
        """Read a recording from a JSON file: `{"model": ..., "turns": [{"text": ..., ...}]}`.

        `text` may be a list of lines. Raises `ConfigError` for a file that is no recording.
        """
        try:
            data = json.loads(Path(path).read_text("utf-8"))
            turns = tuple(_turn(entry) for entry in data["turns"])
            return cls(turns, str(data.get("model", "replay")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{os.fspath(path)}: not a recording: {error!r}") from error

    def without_delays(self) -> Recording:
        """Return the same recording without pauses between the chunks."""
        return attrs.evolve(self, turns=tuple(attrs.evolve(turn, delay_s=0.0) for turn in self.turns))

    def answer(self, received: Sequence[str], *, turn: int | None = None) -> tuple[Turn, str]:
        """Return the turn that continues a conversation, and its text with the placeholders filled.

        `received[i]` is what the model was sent before its answer number i; `turn` the number of the turn
        to answer with, by default the one that comes next. Raises `RecordingMismatch`.
        """
        number = len(received) - 1 if turn is None else turn
        if number >= len(self.turns):
            raise RecordingMismatch(f"the recording ends after {len(self.turns)} turns")
        found: dict[str, str] = {}
        for entry, text in zip(self.turns[: number + 1], received, strict=False):
            found |= _captured(entry, text)
        current = self.turns[number]
        for pattern in current.expect:
            if not re.search(pattern, received[-1], re.MULTILINE):
                raise RecordingMismatch(
                    f"turn {number + 1} expects to read {pattern!r} in the results before it, "
                    f"but got: {received[-1][-400:]!r}"
                )
        return current, _PLACEHOLDER.sub(lambda m: _fill(m, found, number), current.text)


def _turn(entry: Mapping[str, object]) -> Turn:
    fields = dict(entry)
    text = fields.pop("text")
    if isinstance(text, list):
        text = "\n".join(text)
    if not isinstance(text, str):
        raise TypeError(f"text must be a string or a list of lines, got {text!r}")
    expect = fields.pop("expect", ())
    return Turn(text=text, expect=tuple(expect), **fields)  # type: ignore[arg-type]


def _captured(turn: Turn, text: str) -> dict[str, str]:
    found = {}
    for name, pattern in turn.capture.items():
        if match := re.search(pattern, text, re.MULTILINE):
            found[name] = match[1] if match.re.groups else match[0]
    return found


def _fill(match: re.Match[str], found: Mapping[str, str], number: int) -> str:
    try:
        return found[match[1]]
    except KeyError:
        raise RecordingMismatch(
            f"turn {number + 1} quotes {match[1]!r}, but nothing that was received holds it"
        ) from None
