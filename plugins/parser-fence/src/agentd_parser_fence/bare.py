"""What becomes of an answer without a block that ends in a fence with a language but no action, as small models write
them: whether the model is asked what it meant."""

from __future__ import annotations

from typing import Final

from agentd_parser_fence.parser import FenceParser

__all__ = ["nudge"]

NUDGE: Final = """\
Nothing of your answer was run: a block is carried out only if its info string has an action, and the last block has \
none. If you want it to be run, write it again with the info string `{language}:execute`. If you only show it and your \
answer is complete, give the same answer again."""


def nudge(answer: str) -> str:
    """Return what the model is told about such an answer, or an empty string: see `agentd.notation.Notation.review`."""
    if "```" not in answer and "~~~" not in answer:
        return ""
    parser = FenceParser(bare="last")
    segments = [*parser.feed(answer), *parser.close()]
    found = next((s.block for s in reversed(segments) if s.text.strip()), None)
    return NUDGE.format(language=found.language) if found is not None else ""
