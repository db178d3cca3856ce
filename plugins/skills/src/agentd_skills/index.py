"""The search index: one JSON line for each tool, which `skills search` ranks inside the sandbox.

Plain lines and no database: building SQLite's full-text index of a thousand tools in memory takes less time
than importing sqlite3, one changed skill is one changed file, and no version of SQLite has to fit another's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from agentd_skills.sandbox.search import words_of
from agentd_skills.signatures import ToolView
from agentd_skills.texts import first_sentence, one_line

__all__ = ["index_lines"]

_SIGNATURE_CHARS: Final = 400
_LINE_CHARS: Final = 160
_TEXT_CHARS: Final = 4000


def index_lines(folder: str, tools: Sequence[ToolView], note: str = "") -> str:
    """Return the index of one skill.

    A line is a JSON array: what a hit shows (call, line), then what is searched (names, as they are and as their words;
    parameters; description; the parameters' descriptions).

    :param note: what the source says about its tools; found as a hit that names the document to read.
    """
    lines = [_line(folder, t) for t in tools]
    if note.strip():
        shown = f"(skills read {folder})"
        lines.insert(
            0, [shown, first_sentence(note, _LINE_CHARS), _with_words(folder), "", note[:_TEXT_CHARS], ""]
        )
    return "".join(json.dumps(line) + "\n" for line in lines)


def _line(folder: str, tool: ToolView) -> list[str]:
    spec, parameters = tool.spec, tool.signature.parameters
    schema = spec.input_schema if isinstance(spec.input_schema, Mapping) else {}
    names = dict.fromkeys(
        (tool.name, spec.name[:200], str(schema.get("title", ""))[:200], spec.source[:200], folder)
    )
    return [
        one_line(tool.signature.short(), _SIGNATURE_CHARS),
        first_sentence(spec.description, _LINE_CHARS),
        _with_words(" ".join(names)),
        " ".join(dict.fromkeys(p.wire[:100] for p in parameters))[:_TEXT_CHARS],
        spec.description[:_TEXT_CHARS],
        " ".join(p.text[:300] for p in parameters if p.text)[:_TEXT_CHARS],
    ]


def _with_words(names: str) -> str:
    return f"{names} {' '.join(words_of(names))}"
