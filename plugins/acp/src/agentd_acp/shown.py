"""What is shown of blocks and calls: titles, code and output as Markdown, and the differences of files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from acp.helpers import text_block, tool_content, tool_diff_content
from agentd_sink_console.neutral import neutral, one_line

__all__ = ["OUTPUT_CHARS", "call_title", "code_title", "diff_of", "fenced", "parsed", "place_of"]

OUTPUT_CHARS: Final = 16_000
"""Of a block's output: its end, while it runs; its head and tail afterwards."""
_TITLE_CHARS: Final = 100
_MAX_DEPTH: Final = 100
"""Of arguments and results that are sent as data: pydantic writes 255 levels, the message's included."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_HIGHLIGHTED: Final = {"bash": "bash", "python": "python"}


def code_title(code: str, target: str) -> str:
    """Return a title for a block: its first line that says something."""
    for line in code.splitlines():
        if words := one_line(line):
            return _cut(words)
    return _cut(one_line(target)) or "code"


def call_title(name: str, arguments: str) -> str:
    """Return a title for a tool's call."""
    given = parsed(arguments)
    if isinstance(given, dict):
        arguments = ", ".join(
            f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in given.items()
        )
    return _cut(one_line(f"{name}({arguments})"))


def parsed(text: str) -> Any:
    """Return what JSON text says. Return the text if it is not JSON, as after a cut, or if no message can carry it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return neutral(text)
    return value if _can_be_sent(value) else neutral(text)


def _can_be_sent(value: Any) -> bool:
    """Tell whether the SDK can write a value: it raises for deep ones, and for a key with a lone surrogate."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                if any(_SURROGATE.search(key) for key in one):
                    return False
                below += one.values()
            elif isinstance(one, list):
                below += one
        if not below:
            return True
        level = below
    return False


def fenced(text: str, language: str = "") -> Any:
    """Return a text as content of a tool call, shown as it is."""
    text = neutral(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    end = "" if text.endswith("\n") else "\n"
    return tool_content(text_block(f"{fence}{_HIGHLIGHTED.get(language, '')}\n{text}{end}{fence}"))


def diff_of(path: Path, new: str, old: str | None) -> Any:
    """Return a file's difference as content of a tool call."""
    return tool_diff_content(str(path), neutral(new), None if old is None else neutral(old))


def place_of(path: str, cwd: Path) -> Path:
    """Return the absolute path of a file that a block names."""
    return Path(neutral(str(cwd / path)))


def _cut(text: str) -> str:
    return text if len(text) <= _TITLE_CHARS else f"{text[: _TITLE_CHARS - 1]}…"
