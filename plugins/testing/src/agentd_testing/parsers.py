"""`ParserContract`: what every parser promises, as tests."""

from __future__ import annotations

import gc
import re
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import pytest
from agentd.notation import Notation
from agentd.protocols import Parser
from agentd.turn.parser_stack import ParserStack
from agentd.turn.transcript import action_of
from agentd.types import Block, Segment
from hypothesis import HealthCheck, given, settings, strategies as st

from agentd_testing.strategies import answers, cuts, pieces_of

__all__ = ["ParserContract", "merged", "read"]

_settings = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def read(parser: Parser, pieces: Sequence[str]) -> list[Segment]:
    """Return what a new parser makes of a text in these pieces."""
    segments = [segment for piece in pieces for segment in parser.feed(piece)]
    return [*segments, *parser.close()]


def merged(segments: Sequence[Segment]) -> list[tuple[str, int, int, Block | None]]:
    """Return kind, start, end and block, with neighbours of one kind (but blocks) as one: where prose is cut may
    depend on how the text arrived."""
    out: list[tuple[str, int, int, Block | None]] = []
    for segment in segments:
        if out and segment.kind != "block" and out[-1][0] == segment.kind:
            out[-1] = (segment.kind, out[-1][1], segment.end, None)
        else:
            out.append((segment.kind, segment.start, segment.end, segment.block))
    return out


def _filled(block: Block, places: Sequence[str]) -> list[str]:
    """Return which of the filled places a block holds, in its target and its body."""
    return [place for place in set(places) if place in (block.target, block.source.strip())]


class ParserContract:
    """Subclass it, say how the notation is made and how it looks:

        class TestMyParser(ParserContract):
            examples = {"!run ls\\n": Block("bash", "execute", "ls", "bash")}
            parts = ("!run ", "!r")

            def make_notation(self):
                return my_plugin.agentd_create_parser({})

    `examples` are whole blocks with what they mean; each must also be found between lines of prose. `parts` are
    pieces of the notation from which answers are made; add what is hard. `longest_held` is how many characters may be
    held back outside of a block: the length of the longest partial opener. `fillings` are what a model writes in place
    of the words in capital letters in the notation's forms.
    """

    examples: ClassVar[dict[str, Block]] = {}
    parts: ClassVar[Sequence[str]] = ()
    longest_held: ClassVar[int] = 1024

    fillings: ClassVar[Mapping[str, str]] = {
        "CONTENT OF THE FILE": "some content",
        "COMMANDS": "ls -l",
        "COMMAND": "ls -l",
        "CODE": "print(6 * 7)",
        "PATH": "notes/a.txt",
    }

    def make_notation(self) -> Notation:
        """Return the notation, as the plugin's hook does."""
        pytest.fail("override make_notation() in the subclass", pytrace=False)

    def make_parser(self) -> Parser:
        """Return a new parser for one answer."""
        return self.make_notation().parser()

    def _answers(self) -> st.SearchStrategy[str]:
        return answers([*self.parts, *self.examples])

    def test_there_are_examples(self) -> None:
        assert self.examples, "set `examples`: whole blocks of the notation and the Block that each means"
        assert isinstance(self.make_parser(), Parser), "a parser has feed(text) and close()"

    def test_the_notation_teaches_what_the_parser_reads(self) -> None:
        """A model that writes the forms of the prompt, each filled in, has every one of them carried out."""
        notation = self.make_notation()
        assert notation.guide.strip()
        text, places = notation.forms, []
        for word, filling in self.fillings.items():
            places += [filling] * len(re.findall(rf"\b{word}\b", text))
            text = re.sub(rf"\b{word}\b", filling.replace("\\", r"\\"), text)
        assert places, f"the forms have no place to fill in; name it in `fillings`: {notation.forms!r}"
        for before, after in (("", "\n"), ("I act.\n\n", "\n\nThat was it.\n")):
            segments = read(notation.parser(), [before + text + after])
            blocks = [segment.block for segment in segments if segment.block is not None]
            assert blocks, f"the parser finds no block in the forms that the model is taught: {text!r}"
            for block in blocks:
                assert action_of(block) is not None, (
                    f"{block} cannot be carried out, and the model is taught it"
                )
            filled = sorted(place for block in blocks for place in _filled(block, places))
            assert filled == sorted(places), "each place of the forms must come out in a block"

    def test_the_guide_and_the_rules_are_no_blocks_themselves(self) -> None:
        notation = self.make_notation()
        for text in (notation.guide, *notation.rules):
            assert text.strip(), "a rule is empty"
            found = [s.block for s in read(notation.parser(), [text + "\n"]) if s.block is not None]
            assert found == [], f"a model that quotes {text!r} would run it"

    def test_each_example_is_found_alone_and_in_prose(self) -> None:
        for text, block in self.examples.items():
            for before, after in (("", ""), ("Look:\n\n", ""), ("Look:\n\n", "\nDone.\n")):
                segments = read(self.make_parser(), [before + text + after])
                found = [segment.block for segment in segments if segment.block is not None]
                assert found == [block], f"{before + text + after!r} must give this one block"

    def test_an_example_is_complete_before_the_answer_ends(self) -> None:
        for text, block in self.examples.items():
            parser = self.make_parser()
            segments = [s for char in text + "\n\nprose\n" for s in parser.feed(char)]
            found = [s.block for s in segments if s.block is not None]
            assert found == [block], (
                "a block must be given by `feed` when it is complete, not at the end: it starts then"
            )

    def test_an_example_that_is_cut_off_is_no_complete_block(self) -> None:
        for text in self.examples:
            half = text.rstrip()[: len(text.rstrip()) * 2 // 3]
            for segment in read(self.make_parser(), [half]):
                block = segment.block
                assert block is None or not block.complete or block.source in half, (
                    f"{half!r} ends before its block does"
                )

    def test_every_way_of_cutting_gives_the_same(self) -> None:
        @_settings
        @given(self._answers(), cuts)
        def holds(text: str, places: list[int]) -> None:
            whole = merged(read(self.make_parser(), [text]))
            assert merged(read(self.make_parser(), pieces_of(text, places))) == whole, (
                "the result depends on the cuts"
            )
            assert merged(read(self.make_parser(), list(text))) == whole, "the result depends on the cuts"

        holds()

    def test_the_segments_cover_the_text_exactly_once(self) -> None:
        @_settings
        @given(self._answers(), cuts)
        def holds(text: str, places: list[int]) -> None:
            position = 0
            for segment in read(self.make_parser(), pieces_of(text, places)):
                assert segment.start == position, "a segment must start where the last one ended"
                is_told = segment.block is not None and segment.block.reason  # what stood before it was shown
                assert segment.end > segment.start or is_told, "a segment must not be empty"
                assert text[segment.start : segment.end] == segment.text, "`text` must be answer[start:end]"
                assert (segment.block is not None) == (segment.kind == "block"), (
                    "blocks, and they alone, have a `block`"
                )
                position = segment.end
            assert position == len(text), "characters at the end were lost"

        holds()

    def test_what_it_says_of_stops_and_holds_changes_nothing(self) -> None:
        """A parser with the attributes `stops` and `holds` (see `ParserStack`) is not shown all of the text at once."""

        @_settings
        @given(self._answers(), cuts)
        def holds(text: str, places: list[int]) -> None:
            for pieces in (pieces_of(text, places), list(text)):
                spared, shown = (ParserStack([self.make_parser, self.make_parser]) for _ in range(2))
                got: list[Segment] = []
                plain: list[Segment] = []
                position = 0
                for piece in pieces:
                    skimmed = spared.skim(piece)
                    if skimmed == "prose" and piece:
                        got.append(Segment("prose", piece, position, position + len(piece)))
                    elif not skimmed:
                        got += spared.feed(piece)
                    plain += shown.feed(piece)
                    position += len(piece)
                    assert [s.block for s in got if s.block] == [s.block for s in plain if s.block], (
                        "`holds` passes over the end of a block: it would start late"
                    )
                got += spared.close()
                plain += shown.close()
                assert merged(got) == merged(plain), "`stops` passes over what matters"

        holds()

    def test_prose_is_not_held_back(self) -> None:
        text = "All is well. " * 200
        parser = self.make_parser()
        given_out = sum(len(segment.text) for char in text for segment in parser.feed(char))
        held = len(text) - given_out
        assert held <= self.longest_held, (
            f"{held} characters of plain prose were held back: people wait for them"
        )

    def test_the_work_is_linear_in_the_text(self) -> None:
        """Ten times the text in small pieces may take twenty-five times as long; quadratic work takes a hundred.

        Of each step, which takes some microseconds, the least time of all rounds counts: what else a busy machine does
        meanwhile falls on other steps each time, or on few.
        """
        for part in ("prose ", *self.parts, *self.examples):
            slow, best = 0.0, dict[int, list[float]]()
            for _ in range(5):
                for size in (20_000, 200_000):
                    steps = self._steps_s(part * (size // len(part)))
                    best[size] = [*map(min, steps, best.get(size, steps))]
                slow = sum(best[200_000]) / max(sum(best[20_000]), 0.002)
                if slow < 25:
                    break
            assert slow < 25, f"{part!r} repeated: ten times the text took {slow:.0f} times as long"

    def _steps_s(self, text: str) -> list[float]:
        """Return the seconds of this thread for every sixteen pieces of a text, and for the end."""
        parser = self.make_parser()
        collects = gc.isenabled()
        gc.disable()  # what it costs depends on all that the process holds
        times = [time.thread_time()]
        try:
            for step in range(0, len(text), 256):
                for start in range(step, min(step + 256, len(text)), 16):
                    parser.feed(text[start : start + 16])
                times.append(time.thread_time())
            parser.close()
            times.append(time.thread_time())
            return [end - begin for begin, end in pairwise(times)]
        finally:
            if collects:
                gc.enable()

    def test_it_works_in_a_stack_of_parsers(self) -> None:
        for text, block in self.examples.items():
            stack = ParserStack([self.make_parser])
            segments = [*stack.feed("A\n\n" + text + "\nB\n"), *stack.close()]
            assert [s.block for s in segments if s.block] == [block]
