"""A release says each thing once: a merge of two branches may leave a line twice."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from places import ROOT

_SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\]", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Return the text of each release by its name."""
    found = [*_SECTION.finditer(text)]
    ends = [one.start() for one in found[1:]] + [len(text)]
    return {one["name"]: text[one.end() : end] for one, end in zip(found, ends, strict=True)}


def doubled(section: str) -> list[str]:
    """Return what a section says twice: lines, and beginnings of entries."""
    lines = [line.strip() for line in section.splitlines() if line.strip()]
    entries = [line[:60] for line in lines if line.startswith("- ")]
    again = [line for line, count in Counter(lines).items() if count > 1]
    return again + [begin for begin, count in Counter(entries).items() if count > 1 and len(begin) == 60]


RELEASES = sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("release", RELEASES)
def test_a_release_says_each_line_once(release: str) -> None:
    assert doubled(RELEASES[release]) == []


def test_a_line_that_a_merge_has_doubled_is_found() -> None:
    entry = "- `agentd serve`: an endpoint in front of any model, whose answers act, with keys."
    twice = f"{entry}\n  More of it.\n" * 2
    text = f"# Changelog\n\n## [2]\n\n### Added\n\n{twice}\n## [1]\n\n{entry}\n"
    assert doubled(sections(text)["2"]) == [entry, "More of it.", entry[:60]]
    assert doubled(sections(text)["1"]) == []
    other = entry.replace("with keys", "with keys and money")
    assert doubled(f"{entry}\n{other}\n") == [entry[:60]]
