"""What holds for every answer and every way of cutting it."""

from __future__ import annotations

from itertools import pairwise

from agentd.types import Segment
from agentd_parser_xml.parser import LONGEST_OPENER, XmlParser
from hypothesis import given, settings
from hypothesis import strategies as st

TAGS = st.sampled_from(
    [
        '<invoke name="bash:execute">',
        "<ns:invoke name='x y.txt:create'>",
        '<invoke name="other">',
        "</invoke>",
    ]
)
PARAMETERS = st.sampled_from(
    ['<parameter name="command">', "</parameter>", "</ns:parameter >", "<parameter>"]
)
WRAPPERS = st.sampled_from(["<function_calls>", "</function_calls>", "<ns:tool_calls >", "</ns:tool_calls>"])
PARTS = st.sampled_from(
    ["<", ">", "</", "<inv", "oke ", "<![CDATA[", "]]>", "&lt;", "&&", "name='py:execute'"]
)
OTHERS = st.sampled_from([" ", "    ", "\t", "\n", "\r\n", "\r", "`", "``", "text", "🚀", "\0"])
WHOLE = st.just('<invoke name="sh:execute"><parameter name="command">ls</parameter></invoke>')
ANSWERS = st.one_of(
    st.lists(TAGS | PARAMETERS | WRAPPERS | PARTS | OTHERS | WHOLE, max_size=40).map("".join),
    st.text(max_size=80),
    st.text(alphabet="<>/:invokefunction_calls ", max_size=60),
)
CUTS = st.lists(st.integers(0, 800), max_size=30)


def read(text: str, cuts: list[int]) -> list[Segment]:
    parser = XmlParser()
    out: list[Segment] = []
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(places):
        out += parser.feed(text[start:end])
    return [*out, *parser.close()]


def merged(segments: list[Segment]) -> list[tuple[object, ...]]:
    """Neighbouring prose as one: where it is cut depends on the deltas."""
    out: list[tuple[object, ...]] = []
    for s in segments:
        if out and s.kind == "prose" and out[-1][0] == "prose":
            out[-1] = ("prose", out[-1][1], s.end, None)
        else:
            out.append((s.kind, s.start, s.end, s.block))
    return out


@settings(max_examples=500)
@given(ANSWERS, CUTS)
def test_every_way_of_cutting_gives_the_same(text: str, cuts: list[int]) -> None:
    whole = merged(read(text, []))
    assert merged(read(text, cuts)) == whole
    assert merged(read(text, list(range(len(text))))) == whole


@given(ANSWERS, CUTS)
def test_nothing_is_lost_or_doubled_and_positions_are_those_of_the_answer(text: str, cuts: list[int]) -> None:
    segments = read(text, cuts)
    assert "".join(s.text for s in segments) == text
    position = 0
    for s in segments:
        assert s.start == position
        assert s.end > s.start
        assert text[s.start : s.end] == s.text
        assert (s.block is not None) == (s.kind == "block")
        position = s.end


@given(ANSWERS)
def test_outside_of_a_call_only_what_begins_with_a_bracket_is_held_back(text: str) -> None:
    parser = XmlParser()
    given_out = 0
    for index, char in enumerate(text):
        given_out += sum(len(s.text) for s in parser.feed(char))
        held = text[given_out : index + 1]
        inside_a_call = ":execute" in held or ":create" in held
        assert not held or held.startswith("<")
        assert inside_a_call or len(held) <= LONGEST_OPENER
