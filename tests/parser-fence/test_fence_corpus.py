"""Answers as models write them, with the blocks that both parsers together must find in them.

Beside each `corpus/NAME.md` lies `NAME.json`: the blocks, and `line_end: crlf` where the answer is to be
read with Windows line ends.
"""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from agentd.turn.parser_stack import ParserStack
from agentd.types import Segment
from agentd_parser_fence.parser import FenceParser
from agentd_parser_xml.parser import XmlParser

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.md"))


def load(path: Path) -> tuple[str, list[dict[str, object]]]:
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    if expected.get("line_end") == "crlf":
        text = text.replace("\n", "\r\n")
    return text, expected["blocks"]


def read(text: str, size: int) -> list[Segment]:
    stack = ParserStack([FenceParser, XmlParser])
    out: list[Segment] = []
    for start in range(0, len(text), size):
        out += stack.feed(text[start : start + size])
    return out + stack.close()


def test_the_corpus_is_large_enough_and_every_answer_has_its_blocks() -> None:
    assert len(CORPUS) >= 25
    assert {path.stem for path in CORPUS} == {p.stem for p in CORPUS[0].parent.glob("*.json")}


@pytest.mark.parametrize("size", [1, 4, 7, 64, 100_000])
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_the_blocks_of_an_answer_are_found_however_it_arrives(path: Path, size: int) -> None:
    text, expected = load(path)
    segments = read(text, size)
    found = [attrs.asdict(s.block) for s in segments if s.block is not None]
    assert found == [{**block, "reason": ""} for block in expected]
    assert "".join(s.text for s in segments) == text


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_prose_is_shown_without_the_source_of_a_block(path: Path) -> None:
    text, expected = load(path)
    shown = "".join(s.text for s in read(text, 5) if s.kind == "prose")
    for block in expected:
        longest = max(str(block["source"]).splitlines(), key=len, default="")
        if len(longest) > 12:
            assert longest not in shown
