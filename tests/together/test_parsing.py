"""Several parsers over one answer: who wins, what the others see, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise, permutations

import agentd.turn.parser_stack
import pytest
from agentd.errors import PluginError
from agentd.notation import read_header
from agentd.protocols import Parser
from agentd.turn.parser_stack import ParserStack
from agentd.types import LANGUAGES, Block, Segment
from agentd_parser_fence.parser import FenceParser
from agentd_parser_xml.parser import XmlParser
from hypothesis import example, given, settings, strategies as st

FENCE = "```bash:execute\nls\n```\n"
CALL = '<invoke name="bash:execute"><parameter name="command">ls</parameter></invoke>'


class Brackets:
    """A parser for tests: from `opener` to `closer` is a segment of `kind`. An `opaque` one comes in parts."""

    def __init__(self, opener: str, closer: str, kind: str = "block") -> None:
        self.opener, self.closer, self.kind = opener, closer, kind
        self.position = 0
        self.inside = False
        self.held = ""

    def out(self, kind: str, text: str) -> Segment:
        start, self.position = self.position, self.position + len(text)
        block = Block(self.opener, "execute", text) if kind == "block" else None
        return Segment(kind, text, start, self.position, block)  # type: ignore[arg-type]

    def part_of_opener(self) -> int:
        """How many characters at the end may be the beginning of an opener."""
        lengths = range(len(self.opener) - 1, 0, -1)
        return next((n for n in lengths if not self.inside and self.held.endswith(self.opener[:n])), 0)

    def feed(self, text: str) -> Sequence[Segment]:
        segments: list[Segment] = []
        self.held += text
        while self.held:
            end = self.held.find(self.closer if self.inside else self.opener)
            if end < 0:
                if not self.inside or self.kind == "opaque":
                    cut = len(self.held) - self.part_of_opener()
                    segments.append(self.out(self.kind if self.inside else "prose", self.held[:cut]))
                    self.held = self.held[cut:]
                break
            cut = end + len(self.closer) if self.inside else end
            if cut:
                segments.append(self.out(self.kind if self.inside else "prose", self.held[:cut]))
            self.held = self.held[cut:]
            self.inside = not self.inside
            if self.inside and self.kind == "opaque":  # the opener is not looked at again
                segments.append(self.out("opaque", self.opener))
                self.held = self.held[len(self.opener) :]
        return segments

    def close(self) -> Sequence[Segment]:
        held, self.held = self.held, ""
        return [self.out("block" if self.inside else "prose", held)] if held else []


def read(stack: Parser | ParserStack, text: str, cuts: Sequence[int] = ()) -> list[Segment]:
    out: list[Segment] = []
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    for start, end in pairwise(places):
        out += stack.feed(text[start:end])
    return [*out, *stack.close()]


def shape(segments: Sequence[Segment]) -> list[tuple[str, str]]:
    """Kind and text, with neighbours of one kind (except blocks) as one."""
    out: list[tuple[str, str]] = []
    for s in segments:
        if out and s.kind != "block" and out[-1][0] == s.kind:
            out[-1] = (s.kind, out[-1][1] + s.text)
        else:
            out.append((s.kind, s.text))
    return out


def stack(*parsers: tuple[str, str, str]) -> ParserStack:
    return ParserStack([lambda p=p: Brackets(*p) for p in parsers])  # type: ignore[misc]


# --- who wins ----------------------------------------------------------------------------------

SQUARE, ROUND, SHOWN = ("[", "]", "block"), ("(", ")", "block"), ("{", "}", "opaque")


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_the_earliest_opener_wins_and_hides_what_is_inside(size: int) -> None:
    text = "a[b(c]d(e[f)g{[h](i}j]k"
    for order in permutations([SQUARE, ROUND, SHOWN]):
        found = shape(read(stack(*order), text, range(0, len(text), size)))
        assert found == [
            ("prose", "a"),
            ("block", "[b(c]"),
            ("prose", "d"),
            ("block", "(e[f)"),
            ("prose", "g"),
            ("opaque", "{[h](i}"),
            ("prose", "j]k"),
        ]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_of_two_openers_at_one_place_the_earlier_parser_wins(size: int) -> None:
    text = "x<a>b</>y<a>z"
    long, short = ("<a>", "</>", "block"), ("<", ">", "block")
    cuts = range(0, len(text), size)
    assert shape(read(stack(long, short), text, cuts))[1] == ("block", "<a>b</>")
    assert shape(read(stack(short, long), text, cuts))[1] == ("block", "<a>")


def test_a_block_that_is_never_closed_hides_the_rest() -> None:
    assert shape(read(stack(SQUARE, ROUND), "a(b[c]d")) == [("prose", "a"), ("block", "(b[c]d")]
    assert shape(read(stack(ROUND, SQUARE), "a(b[c]d")) == [("prose", "a"), ("block", "(b[c]d")]


def test_prose_goes_out_as_soon_as_no_parser_holds_it_back() -> None:
    both = stack(SQUARE, ROUND)
    assert both.feed("one ") == [Segment("prose", "one ", 0, 4)]
    assert both.feed("two[") == [Segment("prose", "two", 4, 7)]
    assert both.feed("three(") == []
    assert shape(both.feed("]four")) == [("block", "[three(]"), ("prose", "four")]


def test_an_example_fence_hides_calls_and_a_call_hides_fences() -> None:
    orders: list[list[Callable[[], Parser]]] = [[FenceParser, XmlParser], [XmlParser, FenceParser]]
    for order in orders:
        assert {s.kind for s in read(ParserStack(order), f"```xml\n{CALL}\n```\n")} == {"opaque"}
        inside = CALL.replace("ls", f"cat <<EOF\n{FENCE}EOF")
        assert [s.kind for s in read(ParserStack(order), f"{inside}\n{FENCE}")] == ["block", "prose", "block"]


def test_an_opaque_piece_that_comes_in_parts_is_not_opened_in_its_middle() -> None:
    """The other parser would open exactly where the deltas cut the piece, and stands first."""
    both = ParserStack([XmlParser, FenceParser])
    segments = [
        *both.feed("```xml\n"),
        *both.feed(CALL),
        *both.feed("\n"),
        *both.feed("```\n"),
        *both.close(),
    ]
    assert {s.kind for s in segments} == {"opaque"}


# --- properties --------------------------------------------------------------------------------

FENCE_PIECES = ["```", "~~~", "````", "bash:execute", "js", FENCE, "\n" + FENCE, "    ", "> ", "1. "]
CALL_PIECES = [CALL, "<function_calls>", "</function_calls>", "<invoke name='sh:execute'>", "</invoke>", "<"]
PIECES = [
    *FENCE_PIECES,
    *CALL_PIECES,
    "</parameter>",
    "<parameter name='c'>",
    "`",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "é",
]
ANSWERS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
TOYS = st.text(alphabet="ab[](){}<>", max_size=60)
CUTS = st.lists(st.integers(0, 600), max_size=30)


def both() -> ParserStack:
    return ParserStack([FenceParser, XmlParser])


def toys() -> ParserStack:
    return stack(SQUARE, ROUND, SHOWN, ("<", ">", "opaque"))


@settings(max_examples=400)
@given(ANSWERS, CUTS)
def test_every_way_of_cutting_gives_the_same(text: str, cuts: list[int]) -> None:
    whole = read(both(), text)
    for other in (read(both(), text, cuts), read(both(), text, range(len(text)))):
        assert shape(other) == shape(whole)
        assert [s.block for s in other if s.block] == [s.block for s in whole if s.block]


@settings(max_examples=300)
@given(TOYS, CUTS)
def test_so_it_is_with_any_parsers(text: str, cuts: list[int]) -> None:
    whole = shape(read(toys(), text))
    assert shape(read(toys(), text, cuts)) == whole
    assert shape(read(toys(), text, range(len(text)))) == whole


@given(TOYS)
def test_the_result_is_that_of_reading_from_left_to_right(text: str) -> None:
    expected: list[tuple[str, str]] = []
    closers = {"[": "]", "(": ")", "{": "}", "<": ">"}
    index = 0
    while index < len(text):
        char = text[index]
        end = text.find(closers[char], index) + 1 if char in closers else index + 1
        kind = "prose" if char not in closers else "block" if char in "[(" else "opaque"
        piece = text[index : end or len(text)]
        if expected and kind != "block" and expected[-1][0] == kind:
            expected[-1] = (kind, expected[-1][1] + piece)
        else:
            expected.append((kind, piece))
        index += len(piece)
    assert shape(read(toys(), text, range(0, len(text), 3))) == expected


@given(st.one_of(ANSWERS, TOYS, st.text(max_size=600)), CUTS)
def test_nothing_is_lost_or_doubled_and_positions_are_those_of_the_answer(text: str, cuts: list[int]) -> None:
    for make in (both, toys, lambda: ParserStack([FenceParser])):
        segments = read(make(), text, cuts)
        assert "".join(s.text for s in segments) == text
        position = 0
        for s in segments:
            assert s.start == position
            assert text[s.start : s.end] == s.text != ""
            position = s.end


@example("```sh\n" + "ls\n" * 100, [])
@given(ANSWERS, CUTS)
def test_one_parser_in_a_stack_gives_what_it_gives_alone(text: str, cuts: list[int]) -> None:
    in_stack, alone = read(ParserStack([FenceParser]), text, cuts), read(FenceParser(), text, cuts)
    # a stack reads a long text in slices: what is opaque comes in more pieces
    assert shape(in_stack) == shape(alone)
    assert [s for s in in_stack if s.block] == [s for s in alone if s.block]


@given(ANSWERS, CUTS)
def test_neighbouring_prose_is_merged_within_one_feed(text: str, cuts: list[int]) -> None:
    answer = both()
    for start, end in pairwise(sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})):
        kinds = [s.kind for s in answer.feed(text[start:end])]
        assert ("prose", "prose") not in list(pairwise(kinds))


@settings(max_examples=300)
@given(st.one_of(ANSWERS, st.text(max_size=200)), CUTS)
def test_what_is_skimmed_is_the_prose_that_feed_would_return(text: str, cuts: list[int]) -> None:
    answer = both()
    out: list[Segment] = []
    for start, end in pairwise(sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})):
        skimmed = answer.skim(text[start:end])
        if skimmed == "prose":
            out.append(Segment("prose", text[start:end], start, end))
        elif not skimmed:
            out += answer.feed(text[start:end])
    out += answer.close()
    assert shape(out) == shape(read(both(), text))
    assert all(before.end == after.start for before, after in pairwise(out))


def test_a_line_of_prose_is_skimmed_and_a_fence_or_a_tag_is_not() -> None:
    answer = both()
    assert not answer.skim("The ")  # nothing is known before the first feed
    answer.feed("The ")
    assert answer.skim("size `x` is 3 < 4,\nso ")
    assert not answer.skim("see <a>")
    assert not answer.skim("this:\n```")
    assert answer.feed("this:\n```")[0] == Segment("prose", "this:\n", 26, 32)
    assert not answer.skim("bash:execute")


def test_inside_a_block_what_cannot_end_it_is_held_without_a_look() -> None:
    answer = both()
    answer.feed("```bash:execute\n")
    assert answer.skim("echo '<b>' `date`\n") == "held"
    assert answer.skim("  echo\n") == "held"
    assert not answer.skim("\n  ")  # may be the indentation of the closing fence
    assert answer.feed("\n  ") == []
    assert not answer.skim("```")
    assert answer.feed("```\nB")[0].block == Block("bash", "execute", "echo '<b>' `date`\n  echo\n\n", "bash")

    answer = both()
    answer.feed('<invoke name="bash:execute"><parameter name="command"> ')
    assert answer.skim("ls\n```\n") == "held"
    assert not answer.skim("</parameter></invoke>")
    (segment,) = answer.feed("</parameter></invoke>")
    assert segment.block == Block("bash", "execute", " ls\n```\n", "bash")


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_closing_fence_is_found_wherever_the_skimmed_text_is_cut(cut: int, end: str) -> None:
    lines = [
        "```bash:execute",
        "a",
        "  `b`",
        "",
        " ``",
        "\t```",
        "````x",
        "c ```",
        "   ```",
        "after",
        "```x",
        "",
    ]
    text = end.join(lines)
    answer = both()
    out: list[Segment] = []
    for start in range(0, len(text), cut):
        if not answer.skim(piece := text[start : start + cut]):
            out += answer.feed(piece)
    out += answer.close()
    assert [s.block for s in out if s.block] == [s.block for s in read(both(), text) if s.block]


# --- cost --------------------------------------------------------------------------------------


def characters_read(make: Callable[[], Parser], text: str, size: int) -> int:
    """How many characters all instances of one of two parsers were given."""
    made: list[Counting] = []

    class Counting:
        def __init__(self) -> None:
            self.parser = make()
            self.seen = 0
            made.append(self)

        def feed(self, text: str) -> Sequence[Segment]:
            self.seen += len(text)
            return self.parser.feed(text)

        def close(self) -> Sequence[Segment]:
            return self.parser.close()

    read(
        ParserStack([Counting, XmlParser if make is FenceParser else FenceParser]),
        text,
        range(0, len(text), size),
    )
    return sum(counting.seen for counting in made)


@pytest.mark.parametrize("size", [4, 1000, 10**9])
@pytest.mark.parametrize("make", [FenceParser, XmlParser])
@pytest.mark.parametrize("piece", [FENCE, CALL, f"{CALL}\n{FENCE}prose\n", f"```\n{CALL}\n```\n", "prose\n"])
def test_restarted_parsers_read_little_twice(make: Callable[[], Parser], piece: str, size: int) -> None:
    text = piece * (60_000 // len(piece))
    assert characters_read(make, text, size) < 3 * len(text)


@pytest.mark.parametrize("size", [4, 10**9])
def test_inside_a_long_block_the_other_parser_reads_nearly_nothing(size: int) -> None:
    text = "```bash:execute\n" + "echo '<b>'\n" * 20_000 + "```\n"
    assert characters_read(XmlParser, text, size) < 1000


# --- parsers that break the contract -----------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [(1, 4, "from 1 to 4 where 0 was due"), (0, 9, "ends at 9 where 4 was due"), (0, -1, "from 0 to -1")],
)
def test_a_parser_whose_segments_do_not_cover_the_text_is_named(start: int, end: int, message: str) -> None:
    class Liar:
        def feed(self, text: str) -> Sequence[Segment]:
            return [Segment("opaque", text, start, end)]

        def close(self) -> Sequence[Segment]:
            return []

    with pytest.raises(PluginError, match=message) as caught:
        read(ParserStack([Liar, FenceParser]), "text")
    assert "Liar" in str(caught.value)
    assert "uninstall its plugin" in str(caught.value)


def test_a_parser_whose_stops_pass_over_its_own_opener_is_named() -> None:
    class Careless(Brackets):
        stops = "x"

        def __init__(self) -> None:
            super().__init__("[", "]")

    with pytest.raises(PluginError, match=r"a block at 3, in what its `stops` passed where 6 was due"):
        read(ParserStack([Careless, lambda: Careless()]), "a b[c]dx", [1, 2, 6])


def test_a_parser_that_swallows_the_end_is_named() -> None:
    class Swallower:
        def feed(self, text: str) -> Sequence[Segment]:
            return []

        def close(self) -> Sequence[Segment]:
            return []

    with pytest.raises(PluginError, match="text up to 0 only where 4 was due"):
        read(ParserStack([Swallower, FenceParser]), "text")


# --- headers and blocks ------------------------------------------------------------------------


def test_the_language_of_a_block_is_canonical_and_its_target_as_written() -> None:
    for name, language in LANGUAGES.items():
        block = Block.of(name.upper(), "Execute", "x")
        assert (block.target, block.action, block.language) == (name.upper(), "execute", language)
        assert block.complete
    assert Block.of("Ruby", "execute", "x", complete=False) == Block("Ruby", "execute", "x", "Ruby", False)


@given(st.text(max_size=30), st.sampled_from(["execute", "create", "CREATE", "Execute"]))
def test_every_target_with_a_known_action_is_a_header(target: str, action: str) -> None:
    assert read_header(f"{target}:{action}") == (target, action.lower())


@given(st.text(alphabet="abc/.-_12 :", max_size=20))
def test_what_is_read_as_a_header_is_split_at_its_last_colon(text: str) -> None:
    header = read_header(text)
    assert header is None or ":".join(header) == text


def test_the_module_exports_what_it_says() -> None:
    assert all(hasattr(agentd.turn.parser_stack, name) for name in agentd.turn.parser_stack.__all__)
