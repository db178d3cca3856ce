"""What a fence's header means, what goes out when, and the parsing defects of 0.8.6."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from agentd.errors import ConfigError
from agentd.protocols import Parser
from agentd.registry import Registry
from agentd.turn.parser_stack import ParserStack
from agentd.types import Block, Segment
from agentd_parser_fence import plugin
from agentd_parser_fence.header import header_of
from agentd_parser_fence.parser import LONGEST_OPENER, FenceParser


def read(text: str) -> list[Segment]:
    parser = FenceParser()
    return [*parser.feed(text), *parser.close()]


def blocks(text: str) -> list[Block]:
    return [s.block for s in read(text) if s.block is not None]


def the_block(text: str) -> Block:
    (block,) = blocks(text)
    return block


# --- headers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ("bash:execute", ("bash", "execute")),
        ("  bash:EXECUTE  ", ("bash", "execute")),
        ("src/a.py:create", ("src/a.py", "create")),
        ("a:b.csv:create", ("a:b.csv", "create")),
        ("my notes.txt:create", ("my notes.txt", "create")),
        ("my notes.txt : Create", ("my notes.txt", "create")),
        ("'my notes.txt':create", ("my notes.txt", "create")),
        ("python my app.py:create", ("my app.py", "create")),
        ("markdown README.md:create", ("README.md", "create")),
        ("bash:execute title=x", ("bash", "execute")),
        ("bash:", None),
        ("bash", None),
        ("", None),
        (":execute", ("", "execute")),
        ("bash execute", None),
        ("bash: execute", ("bash", "execute")),
        ("ruby:execute", ("ruby", "execute")),
        ("bash:run", ("bash", "run")),
        ("docker:run", ("docker", "run")),
        ("bash:dance", ("bash", "dance")),
        ("bash:job", ("bash", "job")),
        ("sh:JOB Web.1", ("sh", "job web.1")),
        ("bash:job\tweb  title=x", ("bash", "job web")),
        ("bash:job web {.numbered}", ("bash", "job web")),
        ("bash:job web server 1 title=x", ("bash", "job web server 1")),
        ("python:job web", ("python", "job web")),
        ("cron:job web", None),
        ("my job web.txt:create", ("my job web.txt", "create")),
        ("x:excute", ("x", "excute")),
        ("x:creat", ("x", "creat")),
        ("js:src/main.js", None),
        ("yaml:compose", None),
        ("python:3.12", None),
        ("bash:script.sh", None),
        ("python:main.py", None),
        ("http://host:8080", None),
        ("text {file=a:create}", None),
    ],
)
def test_an_info_string_is_a_header_or_not(info: str, expected: tuple[str, str] | None) -> None:
    assert header_of(info) == expected


def test_a_path_with_a_drive_and_blanks_is_taken_whole() -> None:
    assert the_block("```C:\\a dir\\b.txt:create\nx\n```\n").target == "C:\\a dir\\b.txt"


def test_the_plugin_makes_a_parser_and_refuses_options() -> None:
    assert plugin.AGENTD_API == 1
    assert isinstance(plugin.agentd_create_parser(options={}).parser(), Parser)
    with pytest.raises(
        ConfigError, match="unknown option 'colour' of the parser 'fence'; there are: starts_in"
    ):
        plugin.agentd_create_parser(options={"colour": 1})


# --- what 0.8.6 got wrong ----------------------------------------------------------------------


def test_defect_an_action_in_capitals_looped_for_ever() -> None:
    assert the_block("```bash:Execute\nls\n```\n").action == "execute"


def test_defect_sh_ran_as_python() -> None:
    for name in ("sh", "shell", "bash", "SH"):
        assert the_block(f"```{name}:execute\nls\n```\n").language == "bash"
    for name in ("python", "py", "python3", "Python"):
        assert the_block(f"```{name}:execute\nls\n```\n").language == "python"
    assert the_block("```zsh:execute\nls\n```\n").language == "zsh"


def test_defect_a_fence_inside_a_line_cut_the_file_short() -> None:
    code = "fence = '```'\nprint(f'{fence}js')  # ``` \n  x```\n"
    assert the_block(f"```a.py:create\n{code}```\n").source == code


def test_defect_inner_fences_cut_files_short() -> None:
    code = "# Title\n\n```bash:execute\nls\n```\n\n~~~\n~~~\n"
    assert the_block(f"````README.md:create\n{code}````\n").source == code
    assert the_block(f"~~~~README.md:create\n{code}~~~~\n").source == code


README = "# Title\n\n```python\nprint(1)\n```\n\nMore:\n\n  ```sh title=x\n  ls\n  ```\n"


@pytest.mark.parametrize(
    "code",
    [
        README,
        "```js\n```\n",
        "```a\n````b\n```\n````\n```\n",  # an inner fence that is longer has its own end
        "```a\n~~~\n```\n",
        "text ```python\n```python`x`\n",  # no fences
        "```\r\n".join(["```python\r\nx\r\n", "\r\n"]).replace("\r\n", "\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_fence_with_an_info_string_in_a_file_is_a_part_of_it(code: str, size: int) -> None:
    text = f"```README.md:create\n{code}```\n\n```bash:execute\nls\n```\n"
    parser = FenceParser()
    segments = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
    found = [s.block for s in [*segments, *parser.close()] if s.block is not None]
    assert [(block.action, block.source, block.complete) for block in found] == [
        ("create", code, True),
        ("execute", "ls\n", True),
    ]


@pytest.mark.parametrize("end", ["", "\n", "\n\n  \n", "  \n\n"])
def test_an_inner_fence_that_is_never_closed_leaves_the_last_fence_to_the_file(end: str) -> None:
    block = the_block(f"```prompt.txt:create\nAnswer in\n```python\n```{end}")
    assert (block.source, block.complete) == ("Answer in\n```python\n", True)
    assert not the_block("```prompt.txt:create\n```python\n```\nx\n").complete


CUT = "code\n```\nmore\n```\n"


@pytest.mark.parametrize("size", [1, 2, 3, 10_000])
@pytest.mark.parametrize(
    ("path", "behind", "complete"),
    [
        ("README.md", CUT, False),
        ("docs/a b.MDX", CUT.replace("\n", "\r\n"), False),
        ("README", "  <b>code</b>\n   ````  ", False),
        ("a.md", "x" * 4000 + "\n```\n", False),
        ("a.md", "x" * 5000 + "\n```\n", True),
        ("a.md", "", True),
        ("a.md", "  ", True),
        ("a.md", " \n" + CUT, True),
        ("a.md", "Look:\n```bash:execute\nls\n```\n", True),
        ("a.md", "Look:\n```js\nx\n```\n", True),
        ("a.md", "``` `x` ```\n" + CUT, True),
        ("a.md", "code\n``` `x` ```\n~~~\n    ```\n``\n", True),
        ("a.py", CUT, True),
        ("a.md.py", CUT, True),
    ],
)
def test_a_markdown_file_that_seems_to_go_on_behind_a_bare_fence_is_not_complete(
    path: str, behind: str, complete: bool, size: int
) -> None:
    text = f"```{path}:create\n# A\n```\n{behind}"
    parser = FenceParser()
    found = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
    found += parser.close()
    assert "".join(s.text for s in found) == text
    assert found[0].block == Block.of(path, "create", "# A\n", complete=complete)
    assert found[0].text.endswith("# A\n```\n")


@pytest.mark.parametrize("behind", ["\n", "`", "~", "\r\n"])
def test_a_markdown_file_is_there_as_soon_as_it_cannot_go_on(behind: str) -> None:
    parser = FenceParser()
    assert parser.feed("```a.md:create\n# A\n```\n") == []
    assert parser.draft is None
    file, *_ = parser.feed(behind)
    assert file.block == Block.of("a.md", "create", "# A\n")


def test_the_code_of_a_block_that_runs_ends_at_the_first_closing_fence() -> None:
    text = "```bash:execute\ncat <<E\n```python\n```\nE\n"
    assert the_block(text).source == "cat <<E\n```python\n"


def test_defect_example_fences_in_markdown_ran() -> None:
    assert blocks("````markdown\n```bash:execute\nrm -rf x\n```\n````\n") == []
    assert blocks("~~~\n```bash:execute\nrm -rf x\n```\n~~~\n") == []
    assert blocks("> ```bash:execute\n> rm -rf x\n> ```\n") == []
    assert blocks("    ```bash:execute\n    rm -rf x\n    ```\n") == []


def test_defect_windows_line_ends_four_backticks_and_trailing_blanks_were_missed() -> None:
    assert the_block("```bash:execute\r\nls\r\n```\r\n").source == "ls\n"
    assert the_block("````bash:execute\nls\n````\n").source == "ls\n"
    assert the_block("```bash:execute  \nls\n```  \n").source == "ls\n"
    assert the_block("~~~bash:execute\nls\n~~~\n").source == "ls\n"


def test_defect_the_code_lost_its_blank_beginning_and_its_last_line_end() -> None:
    assert the_block("```a.txt:create\n\n  a\n\n```\n").source == "\n  a\n\n"


def test_defect_an_unknown_action_was_passed_over_in_silence() -> None:
    block = the_block("```bash:run\nls\n```\n")
    assert (block.target, block.action) == ("bash", "run")


def test_defect_each_delta_read_the_whole_answer_again() -> None:
    """Counted in function calls, Python's and C's, not by the clock."""

    def calls(size: int) -> int:
        text = "```bash:execute\n" + "echo some words `date`\n" * (size // 23) + "```\n"
        deltas = [text[i : i + 4] for i in range(0, len(text), 4)]
        count = 0

        def tally(frame: FrameType, event: str, argument: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        parser = FenceParser()
        sys.setprofile(tally)
        try:
            for delta in deltas:
                parser.feed(delta)
            parser.close()
        finally:
            sys.setprofile(None)
        return count

    assert calls(100_000) < 10.5 * calls(10_000)


# --- what goes out when ------------------------------------------------------------------------


def test_prose_goes_out_at_once() -> None:
    parser = FenceParser()
    for delta in ("Hel", "lo `wor", "ld` ", "12 ~ ", "x"):
        assert "".join(s.text for s in parser.feed(delta)) == delta


def test_only_the_beginning_of_a_fence_is_held_back() -> None:
    parser = FenceParser()
    assert [s.text for s in parser.feed("a\n``")] == ["a\n"]
    assert [s.text for s in parser.feed("x``")] == ["``x``"]


def test_a_fence_that_is_only_shown_is_shown_as_it_comes() -> None:
    parser = FenceParser()
    assert [(s.kind, s.text) for s in parser.feed("```js\nlet ")] == [
        ("opaque", "```js\n"),
        ("opaque", "let "),
    ]
    assert [(s.kind, s.text) for s in parser.feed("x\n")] == [("opaque", "x\n")]
    assert [(s.kind, s.text) for s in parser.feed("``")] == [("opaque", "``")]
    assert [(s.kind, s.text) for s in parser.feed("`\nb")] == [("opaque", "`\n"), ("prose", "b")]


def test_a_block_waits_for_the_end_of_its_closing_line() -> None:
    parser = FenceParser()
    assert not parser.feed("```bash:execute\nls\n```")
    assert not parser.feed("  ")
    assert [s.kind for s in parser.feed("\n")] == ["block"]


def test_a_line_that_only_looks_like_the_closing_one_is_code() -> None:
    parser = FenceParser()
    assert not parser.feed("```bash:execute\n```")
    assert not parser.feed(" x\n")
    (segment,) = parser.feed("```\n")
    assert segment.block is not None
    assert segment.block.source == "``` x\n"


def test_the_end_of_the_answer_ends_the_closing_line() -> None:
    for ending in ("", " ", "\r", "\n", "\r\n"):
        block = the_block(f"```bash:execute\nls\n```{ending}")
        assert (block.source, block.complete) == ("ls\n", True)


def test_a_carriage_return_waits_for_its_line_feed() -> None:
    parser = FenceParser()
    assert not parser.feed("```bash:execute\r\nls\r\n```\r")
    (segment,) = parser.feed("\n")
    assert segment.text.endswith("```\r\n")


def test_the_line_of_an_opener_is_held_back_only_so_far() -> None:
    parser = FenceParser()
    assert not parser.feed("```" + "x" * (LONGEST_OPENER - 3))
    assert [s.kind for s in parser.feed("x")] == ["prose"]
    assert blocks("```bash:execute " + "x" * LONGEST_OPENER + "\nls\n```\n") == []


def test_an_answer_that_breaks_off_inside_a_block_gives_an_incomplete_one() -> None:
    block = the_block("```python:execute\nprint(1)\nprint(")
    assert block == Block("python", "execute", "print(1)\nprint(", "python", complete=False)


def test_nul_bytes_and_five_megabytes_pass_through() -> None:
    code = "\0\x0b\x0c\u2028" + "x" * 5_000_000 + "\n"
    assert the_block(f"```a.bin:create\n{code}```\n").source == code


# --- raw HTML ------------------------------------------------------------------------------------------

FENCE = "```bash:execute\nls\n```\n"


def count(text: str, size: int) -> int:
    """Count the blocks in a text that comes in pieces of a size, of which nothing may be lost."""
    parser = FenceParser()
    segments = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
    segments += parser.close()
    assert "".join(s.text for s in segments) == text
    return sum(s.block is not None and not s.block.reason for s in segments)


@pytest.mark.parametrize(
    "before",
    [
        *(
            "<pre>\n",
            "<PRE class='x'>\n\n",
            "  <pre>x\n",
            "<!--\n\n",
            "<!-- a\n",
            "<script>\n",
            "<style>\n\n",
        ),
        *("<textarea >\n", "<pre\n", "text\n<pre>\n", "<pre>\n-->\n", "<!--\n</pre>\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_fence_in_raw_html_is_only_shown(before: str, size: int) -> None:
    assert count(before + FENCE, size) == 0
    end = "-->" if before.startswith("<!--") else "</Pre>"
    assert count(f"{before}{FENCE}x{end} y\n{FENCE}", size) == 1


@pytest.mark.parametrize(
    "before",
    [
        *(
            "<pre>x</pre>\n",
            "<pre>\nx\n\n</PRE> y\n",
            "<!-- x -->\n",
            "<!-- x\n\n--> y\n",
            "<!-->\n",
            "<!--->\n",
        ),
        *("    <pre>\n", "- <pre>x</pre>\n\n", "<!--x\n--\n-->\n"),
        *(
            "a <pre>\n",
            "<prefix>\n",
            "<p>\n\n",
            "<\n",
            "<!-\n",
            "> <pre>\n\n",
            "<details>\n\n",
            "<script>x</script>\n",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_fence_behind_anything_else_counts(before: str, size: int) -> None:
    assert count(before + FENCE, size) == 1


@pytest.mark.parametrize(
    ("before", "end"),
    [
        ("<?php\n\n", "x ?> y\n"),
        ("  <?\n", "?>\n"),
        ("<![CDATA[ x\n", "]]> y\n"),
        ("<!DOCTYPE\n", "html>\n"),
        ("<!e\n\n", ">\n"),
        ("<div>\n", "</div>\n\n"),
        ("text\n<DIV class='x'>\ny\n", " \t\r\n"),
        ("<details><summary>x</summary>\r\n", "\r\n"),
        ("</p>\n", "\n"),
        ("<hr/>\n", "\n"),
        ("<h1\n", "  \n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_fence_in_html_of_other_kinds_is_only_shown(before: str, end: str, size: int) -> None:
    assert count(before + FENCE, size) == 0
    assert count(before + FENCE + end + FENCE, size) == 1


@pytest.mark.parametrize(
    "before",
    [
        *("<?x?>\n", "<!DOCTYPE html>\n", "<![CDATA[x]]>\n", "<![CDAT[\n", "<!\n", "<!1\n", "x <?\n"),
        *("<divx>\n", "<blockquotes>\n", "<div\\>\n", "<h7>\n", "a <div>\n", "    <div>\n", "<//div>\n"),
        *("<answer>\n", "</answer>\n", "<b>\n", "<div>\n\n", "<div>\nx\n \n", "<p>\r\r"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_fence_behind_html_that_is_over_or_none_counts(before: str, size: int) -> None:
    assert count(before + FENCE, size) == 1


@pytest.mark.parametrize(
    "before",
    [
        *(
            "- <pre>\n",
            "- a\n\n  <pre>\n\n",
            "1. <!-- x\n\n   y\n",
            "- - <script>\n    x\n",
            "> <!--\n\n",
            "> <pre>\n",
        ),
        *(
            "- <div>\n",
            "* a\n  <details>\n  x\n",
            "-\t<?php\n",
            "- > <pre>\n",
            "- <pre>\n- <!--\n",
            "- <pre>\n # x\n",
        ),
        *("- <!-- a\r\n", "- <pre>\n  x\n \n", "- - <pre>\n  x\n\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_html_in_a_list_item_or_a_block_quote_ends_with_it(before: str, size: int) -> None:
    assert count(before + FENCE, size) == 1


@pytest.mark.parametrize(
    "begin", ["- <pre>\n", "- a\n  <!--\n", "1. a\n   <script>\n\n", "- <div>\n", "- - <?x\n"]
)
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_fence_within_html_in_a_list_item_is_only_shown(begin: str, size: int) -> None:
    inside = "".join(f"    {line}\n" for line in FENCE.splitlines())
    assert count(begin + inside, size) == 0
    assert count(f"{begin}{inside}\t\n{inside}</pre>\n{FENCE}", size) == (2 if "<div>" in begin else 1)


CALL = '<invoke name="bash:execute"><parameter name="code">ls\n</parameter></invoke>\n'


@pytest.mark.parametrize(
    ("before", "begin"),
    [
        *(("<!-- x\n\n", "<!--"), ("<pre>\n", "<pre"), ("<?php\n", "<?")),
        *(("<!-- x -->\n<style>\n", "<style"), ("<![CDATA[\n", "<![CDATA["), ("text\n<script>\n", "<script")),
        *(
            ("<pre>\n```js\n1\n```\n", "<pre"),
            ("- <!--\n\n  ```bash:execute\n  ls\n  ```\nText\n<pre>\n", "<!--"),
        ),
    ],
)
@pytest.mark.parametrize("block", [FENCE, CALL])
@pytest.mark.parametrize("after", ["", "\nDone.\n", "~~~python:execute\n1\n"])
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_block_behind_html_that_is_never_closed_is_told_at_the_end(
    before: str, begin: str, block: str, after: str, size: int
) -> None:
    text = before + block + after
    for parser in (
        FenceParser(),
        ParserStack([n.parser for n in Registry().create_notations(["fence", "xml"])]),
    ):
        segments = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
        assert all(s.block is None for s in segments)
        (last,) = [s for s in parser.close() if s.block is not None]
        assert (last.text, last.start, last.end) == ("", len(text), len(text))
        assert last.block is not None
        assert (last.block.language, last.block.action, last.block.complete) == ("bash", "execute", True)
        assert "ls" in last.block.source
        assert last.block.reason == f"it stands behind {begin!r}, HTML that is never closed"


@pytest.mark.parametrize(
    "text",
    [
        *(f"<!--\n{FENCE}-->\n", f"<pre>\n{FENCE}</pre>\n", f"<details>\n{FENCE}", f"> <!--\n> {FENCE}"),
        *("<!--\n```js\nx\n```\n", f"````\n<!--\n{FENCE}````\n", "<pre>\n", f"a <!--\n    {FENCE}"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_block_that_is_meant_to_be_shown_is_told_of_in_no_way(text: str, size: int) -> None:
    parser = FenceParser()
    segments = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
    assert all(s.block is None or not s.block.reason for s in [*segments, *parser.close()])


def test_a_call_in_xml_counts_behind_html_that_only_hides_fences() -> None:
    text = '<summary>I look.</summary>\n<invoke name="bash:execute"><parameter name="code">ls</parameter></invoke>'
    stack = ParserStack([n.parser for n in Registry().create_notations(["fence", "xml"])])
    found = [*stack.feed(text), *stack.close()]
    assert [s.block.source for s in found if s.block] == ["ls"]
