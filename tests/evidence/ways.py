"""The four ways in which a model makes the gold calls of a turn, and what it looks up before.

code           one Python block with all calls of the turn, each result printed
code, stepwise a block for each call
JSON           one tool call for each request
JSON, parallel all calls of the turn in one answer, as parallel calls

`code` beside `JSON` is how they are usually run. The other two tell apart where a difference comes from: they ask
the model as often as the one beside them does.

With code, a prompt has no room for the signatures of many tools. Then the model looks each tool up before its
first call, in one bash block for the turn: `skills search -n 3` with the words of the tool's name. What is not
among the three is searched for among ten, and then thirty, each in a block more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from evidence.cases import GoldCall, GoldTurn
from evidence.scripted_client import Answer

__all__ = ["USUAL", "WAYS", "WIDER", "Known", "Way", "answers", "lookup"]

Way = Literal["code", "code-stepwise", "json", "json-parallel"]
WAYS: Final[tuple[Way, ...]] = ("code", "code-stepwise", "json", "json-parallel")
USUAL: Final[tuple[Way, ...]] = ("code", "json")
HITS: Final = 3
WIDER: Final = (10, 30)


class Known:
    """The signatures that the model has read."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def read(self, text: str) -> None:
        """Take the signatures that stand in a text: of the system prompt, or of a search."""
        self._names.update(re.findall(r"^(?:- |[\w-]+  )(\w+)\(", text, re.MULTILINE))

    def missing(self, names: Sequence[str]) -> list[str]:
        """Return those of these names that are not known."""
        return [name for name in dict.fromkeys(names) if name not in self._names]


def answers(way: Way, turn: GoldTurn, known: Known) -> list[Answer]:
    """Return what the model says in a turn, one answer for each request."""
    calls = list(turn.calls)
    if way == "json":
        said: list[Answer] = [[call] for call in calls]
    elif way == "json-parallel":
        said = [calls] if calls else []
    else:
        missing = known.missing([call.name for call in calls])
        said = [lookup(missing)] if missing else []
        groups = [calls] if way == "code" else [[call] for call in calls]
        said += [block(group) for group in groups if group]
    return [*said, turn.answer]


def block(calls: Sequence[GoldCall]) -> str:
    """Return a Python block that makes calls and prints what each returns."""
    names = ", ".join(dict.fromkeys(call.name for call in calls))
    lines = [f"from lib.tools import {names}"]
    for call in calls:
        arguments = ", ".join(f"{name}={value!r}" for name, value in call.arguments.items())
        lines.append(f"print({call.name}({arguments}))")
    return "```python:execute\n" + "\n".join(lines) + "\n```"


def lookup(names: Sequence[str], hits: int = HITS) -> str:
    """Return a bash block that searches for tools by the words of their names."""
    words = [" ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+", name)) for name in names]
    lines = [f"skills search -n {hits} {text}" for text in words]
    return "```bash:execute\n" + "\n".join(lines) + "\n```"
