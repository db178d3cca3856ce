"""Finding blocks in a streamed answer of 100 KB that arrives in deltas of 4 characters, and in one of 1 MB.

Ours: the parser stack with both parsers (fence and xml), given delta by delta as the turn loop does
(`skim` until the first block, `feed` for what it leaves) and closed.
Theirs: what 0.8.6 does with each delta of a stream that is displayed: the handler appends it to its
buffer and looks for complete blocks in all of it, and `display_events` adds it to a second buffer. 1 MB
is left out: it takes minutes (the time grows with the square).
Floor: appending the deltas to a list and joining them once."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.kit import cut, median_ms
from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="parser",
    rows=(
        Row(key="prose_ms", title="parser: 100 KB of prose, 4-character deltas", unit="ms", ratio=100),
        Row(key="block_ms", title="  one block of 100 KB", unit="ms", ratio=1000),
        Row(key="prose_growth", title="  1 MB of prose: times 100 KB", unit="x", limit=12),
        Row(key="block_growth", title="  one block of 1 MB: times 100 KB", unit="x", limit=12),
    ),
    rounds=2,
)
PROSE = "The report counts the lines of every file, `main.py` first; 3 < 4 holds, and so on.\n"
LINE_OF_CODE = "printf '%s\\n' \"$(date)\" >> log.txt  # one more line\n"


def _prose(size: int) -> list[str]:
    return cut((PROSE * (size // len(PROSE) + 1))[:size], 4)


def _block(size: int) -> list[str]:
    body = (LINE_OF_CODE * (size // len(LINE_OF_CODE) + 1))[: size - 24]
    return cut(f"```bash:execute\n{body}\n```\n", 4)


def ours(quick: bool) -> Figures:
    """Both parsers and the reader of reasoning on one stream, made as a session does; the blocks are counted."""
    from agentd.turn.parser_stack import ParserStack
    from agentd.turn.reading import reasoning_parsers
    from agentd_parser_fence.plugin import agentd_create_parser as fence
    from agentd_parser_xml.plugin import agentd_create_parser as xml

    def parse(deltas: list[str], blocks: int) -> None:
        stack = ParserStack([reasoning_parsers(inside=False), fence({}).parser, xml({}).parser])
        found = 0
        for delta in deltas:
            if found or not stack.skim(delta):
                for segment in stack.feed(delta):
                    found += segment.kind == "block"
        for segment in stack.close():
            found += segment.kind == "block"
        assert found == blocks, f"{found} blocks"

    def measure(make: Callable[[int], list[str]], blocks: int) -> tuple[float, float]:
        """Return the time of 100 KB and how many times as long 1 MB takes, each pair measured side by side."""
        small, large = make(100_000), make(1_000_000)
        pairs = []
        for _ in range(3 if quick else 7):
            once = median_ms(lambda: parse(small, blocks), count=5, warm=1)
            pairs.append((once, median_ms(lambda: parse(large, blocks), count=1, warm=0) / once))
        return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)

    prose, prose_growth = measure(_prose, 0)
    block, block_growth = measure(_block, 1)
    return {
        "prose_ms": prose,
        "block_ms": block,
        "prose_growth": prose_growth,
        "block_growth": block_growth,
    }


def theirs(quick: bool) -> Figures:
    """The work of its streaming loop and of `display_events` for each delta."""
    from agentd.ptc import _StreamBuffer, extract_complete_fence, remove_fence_from_buffer  # type: ignore[import-not-found]

    def parse(deltas: list[str], blocks: int) -> None:
        buffer, shown, found = "", _StreamBuffer(), 0
        for delta in deltas:
            buffer += delta
            shown.add(delta)
            while fence := extract_complete_fence(buffer):
                found += 1
                shown.skip_fence()
                buffer = remove_fence_from_buffer(buffer, fence)
        assert found == blocks, f"{found} blocks"

    prose, block = _prose(100_000), _block(100_000)
    return {
        "prose_ms": median_ms(lambda: parse(prose, 0), count=1, warm=0),
        "block_ms": median_ms(lambda: parse(block, 1), count=1, warm=0),
    }


def floor(quick: bool) -> Figures:
    """Keep the text."""

    def join(deltas: list[str]) -> str:
        parts: list[str] = []
        for delta in deltas:
            parts.append(delta)  # noqa: PERF402  (a stream is no list)
        return "".join(parts)

    prose, block = _prose(100_000), _block(100_000)
    return {
        "prose_ms": median_ms(lambda: join(prose), count=20),
        "block_ms": median_ms(lambda: join(block), count=20),
    }
