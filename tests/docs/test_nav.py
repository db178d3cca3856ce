"""The documentation's navigation: four kinds of pages, every page once, every title once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
NAV: list[dict[str, Any]] = SITE["nav"]
COLUMN = 80
"""How many characters of code fit into the column of a page."""


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


def lines_of_code(page: Path) -> Iterator[str]:
    """What stands in a page's boxes, with the programs that they take in."""
    fence = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = re.match(r" *(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.strip() == fence:
            fence = ""
        elif fence and (example := re.search(r'--8<-- "(.*)"', line)):
            yield from (ROOT / example[1]).read_text(encoding="utf-8").splitlines()
        elif fence:
            yield line


def test_a_page_takes_in_programs_that_there_are_and_in_the_form_that_does_it() -> None:
    lines = [(page.name, line) for page in DOCS.glob("*.md") for line in page.read_text("utf-8").splitlines()]
    meant = [(page, line) for page, line in lines if re.match(r"\W*-+ *8 *<", line)]
    assert len(meant) > 10
    wrong = [one for one in meant if not re.fullmatch(r'--8<-- "[\w./-]+"', one[1])]
    assert wrong == []
    assert [one for one in meant if not (ROOT / one[1].split('"')[1]).is_file()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/recipes.md"])
def test_code_on_the_first_pages_is_no_wider_than_its_column(page: str) -> None:
    lines = list(lines_of_code(ROOT / page))
    assert len(lines) > 10
    assert [line for line in lines if len(line) > COLUMN] == []


def test_code_in_tables_breaks_between_words_alone() -> None:
    [sheet] = SITE["extra_css"]
    text = (DOCS / sheet).read_text(encoding="utf-8")
    assert "table:not([class]) code" in text  # as specific as the theme's own rule, which breaks words
    assert "word-break: normal" in text
