"""CommonMark 0.31, section 4.5, rule by rule, and markdown-it-py as a second opinion."""

from __future__ import annotations

import pytest
from agentd.types import Segment
from agentd_parser_fence.parser import FenceParser
from hypothesis import given, settings, strategies as st
from markdown_it import MarkdownIt

RUN = "bash:execute"

# What the rule is, the answer, and the code of each block in it. `RUN` stands for a header.
CASES: list[tuple[str, str, list[str]]] = [
    ("backticks", "```RUN\n<\n >\n```\n", ["<\n >\n"]),
    ("tildes", "~~~RUN\n<\n >\n~~~\n", ["<\n >\n"]),
    ("two are not enough", "``RUN\nx\n``\n", []),
    ("the closing fence is of the same kind, tilde", "```RUN\na\n~~~\n```\n", ["a\n~~~\n"]),
    ("the closing fence is of the same kind, backtick", "~~~RUN\na\n```\n~~~\n", ["a\n```\n"]),
    ("the closing fence is at least as long", "````RUN\na\n```\n``````\n", ["a\n```\n"]),
    ("so with tildes", "~~~~RUN\na\n~~~\n~~~~\n", ["a\n~~~\n"]),
    ("a block may be blank", "```RUN\n\n  \n```\n", ["\n  \n"]),
    ("a block may be empty", "```RUN\n```\n", [""]),
    ("the opener may be indented: 1", " ```RUN\n a\na\n```\n", ["a\na\n"]),
    ("the opener may be indented: 2", "  ```RUN\na\n  a\na\n  ```\n", ["a\na\na\n"]),
    ("the opener may be indented: 3", "   ```RUN\n   a\n    a\n  a\n   ```\n", ["a\n a\na\n"]),
    ("four are too many", "    ```RUN\n    a\n    ```\n", []),
    ("a tab is too much", "\t```RUN\n\ta\n\t```\n", []),
    ("the closing fence may be indented", "```RUN\na\n  ```\n", ["a\n"]),
    ("independently of the opener", "   ```RUN\na\n  ```\n", ["a\n"]),
    ("but not by four", "```RUN\na\n    ```\n```\n", ["a\n    ```\n"]),
    ("a closing fence has no info string", "```RUN\na\n``` b\n```\n", ["a\n``` b\n"]),
    ("a closing fence is in one piece", "```RUN\na\n``` ```\n```\n", ["a\n``` ```\n"]),
    ("a closing fence may be followed by blanks", "```RUN\na\n``` \t \nb\n", ["a\n"]),
    ("no blanks inside an opening fence", "`` `RUN\na\n", []),
    ("no backtick in a backtick fence's info", "```RUN `x`\na\n```\n", []),
    ("a backtick in a tilde fence's info", "~~~RUN `x` ~~~\na\n~~~\n", ["a\n"]),
    ("code spans are no fences", "``` ```\naaa\n", []),
    ("a fence interrupts a paragraph", "foo\n```RUN\na\n```\nbaz\n", ["a\n"]),
    ("blanks around the info string", "~~~~    RUN startline=3 $%@#$   \na\n~~~~~~~\n", ["a\n"]),
    ("a longer fence quotes a shorter one", "````\n```RUN\na\n```\n````\n", []),
    ("a block quote quotes", "> ```RUN\n> a\n> ```\n\nb\n", []),
    ("CRLF", "```RUN\r\na\r\n\r\nb\r\n```\r\n", ["a\n\nb\n"]),
    ("CR", "```RUN\ra\rb\r```\r", ["a\nb\n"]),
    ("a tab in the code stays", " ```RUN\n \ta\n\tb\n ```\n", ["\ta\n   b\n"]),
    ("in a list item", "- a\n\n  ```RUN\n  b\n  ```\n", ["b\n"]),
    ("at a list item's marker", "* ```RUN\n  b\n  ```\n", ["b\n"]),
    ("in a nested list item", "1. a\n   - b\n\n     ```RUN\n     c\n     ```\n", ["c\n"]),
    ("behind a list, four are too many again", "- a\n\nb\n\n    ```RUN\n    c\n    ```\n", []),
    ("indented code in a list item", "- a\n\n      ```RUN\n      c\n      ```\n", []),
    ("a thematic break is no list", "* * *\n\n    ```RUN\n    c\n    ```\n", []),
    ("an ordered list with a parenthesis", "12) a\n\n    ```RUN\n    c\n    ```\n", ["c\n"]),
    ("a number alone is no list", "12 a\n\n    ```RUN\n    c\n    ```\n", []),
]


def read(text: str) -> list[Segment]:
    parser = FenceParser()
    return [*parser.feed(text), *parser.close()]


def codes(segments: list[Segment]) -> list[str]:
    return [s.block.source for s in segments if s.block is not None and s.block.complete]


@pytest.mark.parametrize(("text", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_fence_is_what_commonmark_says(text: str, expected: list[str]) -> None:
    assert codes(read(text.replace("RUN", RUN))) == expected


@pytest.mark.parametrize("text", ["```RUN\n", "`````RUN\n\n```\naaa\n", "```RUN", "```RUN\n\n  "])
def test_a_fence_that_is_never_closed_is_a_block_that_is_not_complete(text: str) -> None:
    block = read(text.replace("RUN", RUN))[-1].block
    assert block is not None
    assert not block.complete


def test_a_list_item_does_not_end_a_fence_whose_code_is_not_indented() -> None:
    """The one wanted difference: CommonMark would end the list item, and with it the fence, at `ls`."""
    assert codes(read(f"1. Run it:\n   ```{RUN}\nls\n   ```\n")) == ["ls\n"]


LINES = st.sampled_from(
    [
        "",
        "text",
        "  text",
        "     text",
        f"```{RUN}",
        f"~~~{RUN}",
        f"````{RUN} more",
        f"  ```{RUN}",
        f"    ```{RUN}",
        f"```{RUN} `",
        f"> ```{RUN}",
        "```",
        "~~~",
        "````",
        "~~~~  ",
        "   ```",
        "    ```",
        "``",
        "``` ```",
        "> text",
        "# title",
        "```js",
    ]
)
HTML_LINES = st.sampled_from(
    [
        "<div>",
        "</DIV >",
        "  <details open><summary>x</summary>",
        "<p>x",
        "<hr/>",
        "<td/ x",
        "a <div>",
        "    <div>",
        "<divx>y",
        "<!-- x",
        "<!-->",
        "-->",
        "<?php",
        "<?x?> y",
        "?>",
        "<!DOCTYPE html",
        "<!",
        ">",
        "<![CDATA[",
        "]]>",
        "<pre>",
        "</pre> x",
        "<script>x</script>",
        "  \t ",
    ]
)


# Without paragraphs: of their lazy continuations, the parser knows nothing.
ITEM_LINES = st.sampled_from(
    [
        *(
            "",
            "  ",
            "         ",
            "# x",
            "  # x",
            "     # x",
            "# x --> </pre>",
            "  # x --> </pre>",
            "   # ?> ]]>",
        ),
        *(
            "-",
            "  - -",
            "---",
            "        -",
            "- # x",
            "1. # x",
            "  - # x",
            "- - # x",
            "\t# x",
            "> # x",
            "> <!--",
            "- > <pre>",
        ),
        *("<pre>", "- <pre>", "  <pre>", "1. <pre>", "   <pre>", "    <pre>", "- 2) <pre>", "\t<pre>"),
        *("- <!-- x", "  <!-- x", "- <!-- x -->", "-\t<!--", "* <?php", "- <![CDATA[", "- <!X"),
        *("<div>", "- <div>", "  <div>", "3. <details>", "-     <div>"),
        *(f"{blanks}```{RUN}\n{blanks}{blanks}x\n{blanks}```" for blanks in ("", "  ", "   ", "    ", "\t")),
    ]
)


@settings(max_examples=400)
@given(st.lists(LINES, max_size=14) | st.lists(LINES | HTML_LINES, max_size=14))
def test_markdown_it_finds_the_same_blocks(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert ours(text) == theirs(text)


@settings(max_examples=600)
@given(st.lists(ITEM_LINES, max_size=9))
def test_markdown_it_finds_the_same_blocks_behind_html_in_list_items(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    assert ours(text) == theirs(text)


def ours(text: str) -> list[str]:
    return [s.block.source for s in read(text) if s.block is not None and not s.block.reason]


def theirs(text: str) -> list[str]:
    """Return the code of the blocks that markdown-it finds, but in block quotes."""
    found, quotes = [], 0
    for token in MarkdownIt("commonmark").parse(text):
        quotes += token.nesting if token.type.startswith("blockquote") else 0
        if token.type == "fence" and not quotes and token.info.strip().startswith(RUN):
            found.append(token.content)
    return found
