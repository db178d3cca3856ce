"""A parser plugin: a line `!run COMMAND` is a bash block.

[project.entry-points."agentd.parsers"]
line = "parser_line"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentd.hookspecs import hookimpl
from agentd.notation import Notation
from agentd.registry.options import check_options
from agentd.types import Block, Segment

AGENTD_API = 1

OPENER = "!run "


class LineParser:
    """Looks at whole lines. It holds back only what may still become `!run `."""

    def __init__(self) -> None:
        self._held = ""  # the start of a line that is not decided
        self._position = 0  # where it begins in the answer
        self._fresh = True  # it begins a line

    def feed(self, text: str) -> Sequence[Segment]:
        self._held += text
        return self._take(end=False)

    def close(self) -> Sequence[Segment]:
        return self._take(end=True)

    def _take(self, *, end: bool) -> list[Segment]:
        found: list[Segment] = []
        while self._held:
            line, newline, _ = self._held.partition("\n")
            opened = self._fresh and line.startswith(OPENER)
            undecided = self._fresh and OPENER.startswith(line) and not newline
            if (opened and not newline and not end) or (undecided and not end):
                break
            block = Block("bash", "execute", line.removeprefix(OPENER), "bash") if opened else None
            found.append(self._cut(line + newline, block))
            self._fresh = bool(newline)
        return found

    def _cut(self, text: str, block: Block | None) -> Segment:
        start, self._position = self._position, self._position + len(text)
        self._held = self._held[len(text) :]
        return Segment("block" if block else "prose", text, start, self._position, block)


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> Notation:
    check_options("the parser 'line'", options, {})
    return Notation(
        guide="A line of your answer in this form is run in bash while you write; no other text is run:",
        forms="!run COMMAND",
        rules=("Write files with `!run printf '...' > PATH`.",),
        parser=LineParser,
    )
