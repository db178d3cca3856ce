"""Reasoning in an answer is shown as such, and no block in it runs, however the answer is cut."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from agentd.events import CodeStart, ReasoningDelta, TextDelta
from agentd.registry import Registry
from agentd.session.session import Session
from agentd.turn.parser_stack import ParserStack
from agentd.turn.reading import ReasoningParser, reasoning_parsers, starts_inside
from agentd.types import Segment
from hypothesis import given, strategies as st
from script_model import ScriptModel

NOTATIONS = [notation.parser for notation in Registry().create_notations()]
DRAFT = "```bash:execute\ntouch draft\n```\n"
CALL = '<invoke name="bash:execute">\n<parameter name="code">touch draft</parameter>\n</invoke>\n'
BLOCK = "```bash:execute\necho real\n```\n"


def stack(*, inside: bool = False) -> ParserStack:
    return ParserStack([reasoning_parsers(inside=inside), *NOTATIONS])


def read(text: str, cuts: list[int] | None = None, *, inside: bool = False) -> list[tuple[str, str]]:
    made = stack(inside=inside)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts or []), len(text)]
    segments: list[Segment] = []
    for start, end in itertools.pairwise(places):
        segments += made.feed(text[start:end])
    segments += made.close()
    assert "".join(segment.text for segment in segments) == text
    assert [s.start for s in segments] == [0, *[s.end for s in segments][:-1]][: len(segments)]
    return merge(segments)


def merge(segments: list[Segment]) -> list[tuple[str, str]]:
    merged: list[tuple[str, str]] = []
    for segment in segments:
        if merged and merged[-1][0] == segment.kind != "block":
            merged[-1] = segment.kind, merged[-1][1] + segment.text
        else:
            merged.append((segment.kind, segment.text))
    return merged


@pytest.mark.parametrize("draft", [DRAFT, CALL])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_blocks_in_reasoning_are_not_blocks(draft: str, size: int) -> None:
    text = f"<think>\nI could do\n{draft}but no.</think>\n\nI do\n{BLOCK}"
    found = read(text, list(range(0, len(text), size)))
    assert found == [
        ("reasoning", f"<think>\nI could do\n{draft}but no.</think>"),
        ("prose", "\n\nI do\n"),
        ("block", BLOCK),
    ]


TAGS = [
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>", "<channel|>"),
    ("<|channel|>analysis", "<|end|>"),
]


@pytest.mark.parametrize(("opener", "closer"), TAGS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_every_spelling_of_reasoning_is_known(opener: str, closer: str, size: int) -> None:
    thought = f"{opener}\nI could <b> do </think> [x] ◁\n{DRAFT}{CALL}{closer}"
    text = f" {thought}\nI do\n{BLOCK}"
    assert read(text, list(range(0, len(text), size))) == [
        ("prose", " "),
        ("reasoning", thought),
        ("prose", "\nI do\n"),
        ("block", BLOCK),
    ]


@pytest.mark.parametrize(("opener", "closer"), TAGS[:-1])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_every_closing_tag_alone_ends_reasoning_that_is_open_from_the_start(
    opener: str, closer: str, size: int
) -> None:
    text = f"I could\n{DRAFT}{closer}{BLOCK}"
    assert starts_inside(text)
    assert not starts_inside(f"{opener}{text}")
    found = read(text, list(range(0, len(text), size)), inside=True)
    assert found == [("reasoning", f"I could\n{DRAFT}{closer}"), ("block", BLOCK)]


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_reasoning_goes_on_directly_behind_reasoning(size: int) -> None:
    more = "<|start|>assistant<|channel|>analysis<|message|>\n" + DRAFT + "<|end|>"
    thought = f"<|channel|>analysis<|message|>Hm.<|end|>{more}"
    text = f"{thought}\n{BLOCK}"
    assert read(text, list(range(0, len(text), size))) == [
        ("reasoning", thought),
        ("prose", "\n"),
        ("block", BLOCK),
    ]
    assert not starts_inside("Done.<|end|>")


@pytest.mark.parametrize("draft", [DRAFT, CALL])
def test_reasoning_that_is_never_closed_lasts_to_the_end(draft: str) -> None:
    text = f"Well.\n  <think>\n{draft}</thin"
    assert read(text) == [("prose", "Well.\n  "), ("reasoning", f"<think>\n{draft}</thin")]


@pytest.mark.parametrize(
    "text",
    [
        "Use the <think> tag.\n",
        "a </think> b\n",
        "`<think>` is a tag\n",
        "<thinker> is no such tag\n",
        "[THINKER] [THINK](x)\n",
        "a ◁think▷ b\n",
        "```\n<think>\n```\n",
        "<",
        "</",
        "<think",
    ],
)
def test_what_only_names_the_tag_is_prose(text: str) -> None:
    assert ("block", BLOCK) in read(f"{text}\n{BLOCK}")
    assert all(kind != "reasoning" for kind, _ in read(f"{text}\n{BLOCK}"))


def test_a_block_may_write_the_tag() -> None:
    text = "```notes.txt:create\n<think>\n```\n"
    assert read(text) == [("block", text)]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_that_begins_inside_is_reasoning_up_to_the_closing_tag(size: int) -> None:
    text = f"I could\n{DRAFT}or not.\n</think>\n{BLOCK}"
    cuts = list(range(0, len(text), size))
    assert read(text, cuts, inside=True) == [
        ("reasoning", f"I could\n{DRAFT}or not.\n</think>"),
        ("prose", "\n"),
        ("block", BLOCK),
    ]
    assert read(f"No.\n{BLOCK}", cuts, inside=True) == [("prose", "No.\n"), ("block", BLOCK)]


pieces = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<thi",
        "</",
        "<",
        "nk>",
        "\n",
        "\r",
        " ",
        "x",
        "`",
        "```\n",
        DRAFT,
        CALL,
        BLOCK,
        "> ",
        "[THINK]",
        "[/THINK]",
        "[/",
        "<|channel|>analysis",
        "<|end|>",
        "<thinking>",
        "◁",
    ]
)


@given(st.lists(pieces, max_size=12).map("".join), st.lists(st.integers(0, 300), max_size=8), st.booleans())
def test_every_way_of_cutting_gives_the_same(text: str, cuts: list[int], inside: bool) -> None:
    assert read(text, cuts, inside=inside) == read(text, inside=inside)


@given(st.lists(pieces, max_size=12).map("".join), st.lists(st.integers(0, 300), max_size=8))
def test_alone_it_does_the_same(text: str, cuts: list[int]) -> None:
    alone = ReasoningParser()
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found = [s for a, b in itertools.pairwise(places) for s in alone.feed(text[a:b])]
    found += alone.close()
    assert "".join(s.text for s in found) == text
    whole = ReasoningParser()
    assert merge(found) == merge([*whole.feed(text), *whole.close()])


@pytest.mark.parametrize(
    "text", ["```bash:execute\ngrep -c '</think>' t.jinja\n```\n", "The tag `</think>` ends it."]
)
def test_a_tag_within_a_line_says_nothing_of_the_next_answer(text: str) -> None:
    assert not starts_inside(text)


def test_who_closes_what_it_has_not_opened_began_inside() -> None:
    assert starts_inside("so.\n</think>\nYes")
    assert not starts_inside("<think>so.</think>\nYes</think>")
    assert not starts_inside("Yes")


# --- in a session ----------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_reasoning_has_events_of_its_own_and_is_no_part_of_the_answer(tmp_path: Path) -> None:
    model = ScriptModel(f"<think>\nmaybe\n{DRAFT}</think>\nI look.\n{BLOCK}", "<think>hm</think>\n\nDone.")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        events = [event async for event in session.run("go")]
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert thought == f"\nmaybe\n{DRAFT}hm"
    assert [event.code for event in events if isinstance(event, CodeStart)] == ["echo real\n"]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)).split() == ["I", "look.", "Done."]
    assert events[-1].text == "\n\nDone."  # type: ignore[union-attr]
    assert not (tmp_path / "draft").exists()
    assert model.said[0].startswith("<think>")  # the model reads what it has written


@pytest.mark.anyio
async def test_a_model_that_once_closed_unopened_reasoning_is_taken_to_begin_in_it(tmp_path: Path) -> None:
    model = ScriptModel(
        f"I look.\n</think>\n{BLOCK}",
        f"I could\n{DRAFT}but no.\n</think>\n{BLOCK}",
        "Enough.\n</think>\nDone.",
        f"At once:\n{BLOCK}",
        "Done.",
    )
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        end = await session.ask("go")
        assert end.text.strip() == "Done."
        await session.ask("again, without thinking")
    assert [execution.output for execution in session.transcript.executions] == ["real\n"] * 3
    assert not (tmp_path / "draft").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("before", [DRAFT, CALL, f"```\nx\n```\n{DRAFT}\n{CALL}so I\n{DRAFT}"])
async def test_a_whole_answer_that_began_in_reasoning_runs_nothing_of_it(tmp_path: Path, before: str) -> None:
    thought = f"I could\n{before}but no.\n"
    model = ScriptModel(f"{thought}</think>\nI do\n{BLOCK}", f"{thought}</think>Done.", piece=10_000)
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        events = [event async for event in session.run("go")]
    assert [event.code for event in events if isinstance(event, CodeStart)] == ["echo real\n"]
    assert "".join(e.text for e in events if isinstance(e, ReasoningDelta)) == thought * 2
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "\nI do\nDone."
    assert events[-1].text == "Done."  # type: ignore[union-attr]
    assert not (tmp_path / "draft").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("tags", ["<think>hm</think>", "<think>\nhm</think>\n"])
async def test_reasoning_behind_a_block_takes_nothing_back(tmp_path: Path, tags: str) -> None:
    model = ScriptModel(f"{BLOCK}\n{tags}", "Done.", piece=10_000)
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        await session.ask("go")
    assert [execution.output for execution in session.transcript.executions] == ["real\n"]


@pytest.mark.anyio
@pytest.mark.parametrize("notation", ["fence", "xml"])
async def test_a_first_answer_that_begins_in_reasoning_runs_nothing_of_it_if_that_is_said(
    tmp_path: Path, notation: str
) -> None:
    real = BLOCK if notation == "fence" else CALL.replace("touch draft", "echo real")
    model = ScriptModel(f"I could\n{DRAFT}{CALL}but no.\n</think>\nI do\n{real}", "hm</think>Done.")
    option = {"starts_in_reasoning": True}
    async with Session(model, cwd=tmp_path, tools=[], parsers=[(notation, option)]) as session:
        events = [event async for event in session.run("go")]
    assert [event.code for event in events if isinstance(event, CodeStart)] == [
        "echo real\n" if notation == "fence" else "echo real"
    ]
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert thought == f"I could\n{DRAFT}{CALL}but no.\nhm"
    assert events[-1].text == "Done."  # type: ignore[union-attr]
    assert not (tmp_path / "draft").exists()


@pytest.mark.anyio
async def test_reasoning_that_the_token_limit_ends_runs_nothing(tmp_path: Path) -> None:
    model = ScriptModel(f"I could\n{DRAFT}", "</think>Done.", finish="length")
    option = {"starts_in_reasoning": True}
    async with Session(model, cwd=tmp_path, tools=[], parsers=[("fence", option)]) as session:
        await session.ask("go")
    assert [execution.status for execution in session.transcript.executions] == ["rejected"]
    assert not (tmp_path / "draft").exists()
