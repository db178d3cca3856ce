"""The documentation's navigation: four kinds of pages, every page once, every title once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NAV: list[dict[str, Any]] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]


def pages(entry: str | list[Any] | dict[str, Any], title: str = "") -> Iterator[tuple[str, str]]:
    """Title and path of each page below an entry."""
    if isinstance(entry, str):
        yield title, entry
    elif isinstance(entry, list):
        for part in entry:
            yield from pages(part)
    else:
        for name, below in entry.items():
            yield from pages(below, name)


def test_the_navigation_has_four_kinds_of_pages_behind_the_start() -> None:
    assert [name for entry in NAV for name in entry] == [
        "Start",
        "Tutorials",
        "How-to guides",
        "Reference",
        "Explanation",
    ]


def test_every_page_stands_once_in_the_navigation() -> None:
    there = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    assert sorted(path for _, path in pages(NAV)) == there


def test_no_title_stands_twice_in_the_navigation() -> None:
    titles = [title for title, _ in pages(NAV)]
    assert sorted(titles) == sorted(set(titles))
    assert "" not in titles
