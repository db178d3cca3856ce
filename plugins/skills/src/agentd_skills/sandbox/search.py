"""The ranking behind `skills search`. Standard library only.

BM25 of SQLite's full-text search over names, parameters, descriptions and the parameters' descriptions,
built in memory from the lines in `lib/.search`, and from the sections of skills that have none there.
Written by agentd; changes are overwritten.
"""

from __future__ import annotations

import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Hit", "ranked"]

WEIGHTS = (8.0, 2.0, 3.0, 1.0)
MAX_WORDS = 32


class Hit:
    """One tool or section: its skill, what is shown of it (`call`, `line`), and what is searched."""

    def __init__(self, skill: str, call: str, line: str, fields: list[str]) -> None:
        self.skill = skill
        self.call = call
        self.line = line
        self.fields = fields


def ranked(
    root: str, skills: Iterable[str], document: Callable[[str], str | None], text: str, limit: int
) -> list[Hit] | None:
    """Return what fits the words best; None if `text` has no words.

    :param root: the skills directory.
    :param document: what reads the document of a skill that has no index; None if it is not to be found.
    """
    words = words_of(text)[:MAX_WORDS]
    if not words:
        return None
    hits = list(all_hits(root, skills, document))
    found = by_bm25(hits, words, limit)
    if found is None:
        print("skills: this Python's SQLite has no FTS5; ranked by plain substrings", file=sys.stderr)
    return found or by_substring(hits, words, limit)


def words_of(text: str) -> list[str]:
    """Return the words of a text, camelCase and snake_case taken apart."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_", " ", text)
    return list(dict.fromkeys(w.lower() for w in re.findall(r"\w+", apart)))


def all_hits(root: str, skills: Iterable[str], document: Callable[[str], str | None]) -> Iterator[Hit]:
    """Yield everything that can be found, skill by skill."""
    for skill in skills:
        lines = indexed(os.path.join(root, "lib", ".search", f"{skill}.jsonl"))
        if lines is None:
            text = document(skill)
            yield from sections(skill, text) if text is not None else ()
            continue
        for line in lines:
            try:
                call, shown, names, parameters, description, texts = json.loads(line)
                " ".join((call, shown, names, parameters, description, texts))  # none is anything but a text
                yield Hit(skill, call, shown, [names, parameters, description, texts])
            except (ValueError, TypeError):  # a line that somebody has damaged
                continue


def indexed(path: str) -> list[str] | None:
    """Return the lines of a skill's index, or None if it has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().split("\n")
    except OSError:
        return None


def sections(skill: str, text: str) -> Iterator[Hit]:
    """Yield the sections of a skill that was written by hand."""
    for section in re.split(r"^(?=## )", text, flags=re.MULTILINE):
        title = section.split("\n", 1)[0][3:].strip() if section.startswith("## ") else ""
        yield Hit(skill, f"(skills read {skill})", title or "", [f"{skill} {title}", "", section[:20000], ""])


def by_bm25(hits: list[Hit], words: list[str], limit: int) -> list[Hit] | None:
    """Rank with SQLite; None if it cannot be had."""
    try:
        import sqlite3
    except ImportError:
        return None
    database = sqlite3.connect(":memory:")
    try:
        database.execute(
            "CREATE VIRTUAL TABLE hits USING fts5(a, b, c, d, content='', tokenize='porter unicode61')"
        )
    except sqlite3.OperationalError:
        database.close()
        return None
    rows = [(n, *map(valid, hit.fields)) for n, hit in enumerate(hits)]
    database.executemany("INSERT INTO hits(rowid, a, b, c, d) VALUES (?, ?, ?, ?, ?)", rows)
    # Every word is a quoted string and nothing of the query is syntax; `*` finds beginnings of longer words.
    query = " OR ".join(f'"{w}"*' if len(w) > 2 else f'"{w}"' for w in words)
    ranking = f"bm25(hits, {', '.join(map(str, WEIGHTS))})"
    found = database.execute(
        f"SELECT rowid FROM hits WHERE hits MATCH ? ORDER BY {ranking}, rowid LIMIT ?", (query, limit)
    ).fetchall()
    database.close()
    return [hits[n] for (n,) in found]


def valid(text: str) -> str:
    """Return a text without halves of characters, which SQLite does not take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def by_substring(hits: list[Hit], words: list[str], limit: int) -> list[Hit]:
    """Rank by how many of the words occur anywhere, by the weight of the place."""
    scored = []
    for number, hit in enumerate(hits):
        fields = [f.lower() for f in hit.fields]
        score = sum(WEIGHTS[n] for word in words for n, field in enumerate(fields) if word in field)
        if score:
            scored.append((-score, number))
    return [hits[n] for _, n in sorted(scored)[:limit]]
