"""What counts as a call, what its code is, and what goes out when."""

from __future__ import annotations

import pytest
from agentd.errors import ConfigError
from agentd.protocols import Parser
from agentd.turn.parser_stack import ParserStack
from agentd.types import Block, Segment
from agentd_parser_xml import plugin
from agentd_parser_xml.parser import LONGEST_OPENER, XmlParser


def read(text: str) -> list[Segment]:
    parser = XmlParser()
    return [*parser.feed(text), *parser.close()]


def blocks(text: str) -> list[Block]:
    return [s.block for s in read(text) if s.block is not None and not s.block.reason]


def the_block(text: str) -> Block:
    (block,) = blocks(text)
    return block


def call(value: str, name: str = "bash:execute", parameter: str = "command") -> str:
    return f'<invoke name="{name}">\n<parameter name="{parameter}">{value}</parameter>\n</invoke>'


def source(value: str) -> str:
    block = the_block(call(value))
    assert block.complete
    return block.source


# --- calls -------------------------------------------------------------------------------------


def test_the_call_of_the_old_manual_is_found() -> None:
    text = '<invoke name="bash:execute">\n  <parameter name="command">ls -la</parameter>\n</invoke>'
    assert the_block(text) == Block("bash", "execute", "ls -la", "bash")


@pytest.mark.parametrize(
    "tag",
    [
        '<invoke name="sh:Execute">',
        "<invoke name='sh:execute'>",
        "<invoke name=sh:execute>",
        '<invoke  id="1"\n  name = "sh:execute" >',
        '<ns:invoke name="sh:execute">',
        '<a.b-c_1:invoke data-name="x" name=" sh:execute ">',
    ],
)
def test_attributes_quotes_blanks_and_namespaces_may_vary(tag: str) -> None:
    block = the_block(f"{tag}<parameter name='command'>ls</parameter></ns:invoke >")
    assert (block.language, block.action, block.source) == ("bash", "execute", "ls")


@pytest.mark.parametrize("name", ["get_weather", "fs:read_file", "x", "", "http://a:8080"])
def test_a_call_of_another_tool_is_prose(name: str) -> None:
    assert {s.kind for s in read(call("x", name))} == {"prose"}


def test_a_call_without_a_name_or_without_an_inside_is_prose() -> None:
    assert blocks("<invoke ><parameter>x</parameter></invoke>") == []
    assert blocks('<invoke name="bash:execute"/> and more </invoke>') == []
    assert blocks('<invoked name="bash:execute"></invoked>') == []


def test_an_unknown_action_is_a_block_so_that_the_model_can_be_told() -> None:
    assert the_block(call("ls", "bash:run")).action == "run"


def test_a_job_s_name_is_a_part_of_its_action() -> None:
    assert the_block(call("ls", "bash:job Web")) == Block("bash", "job web", "ls", "bash")
    assert the_block(call("ls", "bash:job")).action == "job"


def test_a_path_may_hold_blanks_and_entities() -> None:
    assert the_block(call("x", "a &amp; b.txt:create", "content")).target == "a & b.txt"


@pytest.mark.parametrize(
    ("action", "names", "expected"),
    [
        ("bash:execute", ["timeout", "command"], "1"),
        ("python:execute", ["code", "command"], "1"),
        ("python:execute", ["timeout", "Code"], "1"),
        ("python:execute", ["anything", "else"], "0"),
        ("a.py:create", ["path", "content"], "1"),
        ("a.py:create", ["file_text", "mode"], "0"),
        ("a.py:create", ["filename", "anything"], "1"),
        ("a.py:create", ["path"], "0"),
    ],
)
def test_the_parameter_with_the_code_is_known_by_its_name(
    action: str, names: list[str], expected: str
) -> None:
    inside = "".join(f'<parameter name="{name}">{i}</parameter>' for i, name in enumerate(names))
    assert the_block(f'<invoke name="{action}">{inside}</invoke>').source == expected


def test_a_call_without_parameters_is_its_text() -> None:
    assert the_block('<invoke name="bash:execute">\nls\n</invoke>').source == "ls"


# --- code --------------------------------------------------------------------------------------


def test_code_is_taken_as_it_is_written() -> None:
    code = "[ 1 -lt 2 ] && cat <<EOF > a.html\n<p>&amp; </p>\nEOF\n"
    assert source(code) == code


def test_escaped_code_is_decoded_if_nothing_in_it_is_bare() -> None:
    assert source("a &amp;&amp; b &lt; c &gt; d &quot;&apos;") == "a && b < c > d \"'"
    assert source("a && echo '&lt;'") == "a && echo '&lt;'"
    assert source("echo '&amp;lt;'") == "echo '&lt;'"
    assert source("echo <a> &amp;") == "echo <a> &amp;"


def test_cdata_is_unwrapped_and_taken_as_it_is() -> None:
    assert source("<![CDATA[a && b &lt; </parameter></invoke> c]]>") == "a && b &lt; </parameter></invoke> c"
    assert source("\n<![CDATA[a]]]]><![CDATA[>b]]>\n") == "a]]>b"


def test_cdata_in_the_middle_of_code_is_code() -> None:
    code = "<a><![CDATA[x]]></a>"
    assert source(code) == code


def test_one_line_end_behind_the_tag_is_dropped_and_crlf_becomes_lf() -> None:
    assert source("\n#!/bin/sh\nls\n") == "#!/bin/sh\nls\n"
    assert source("\r\n\r\nls\r\n") == "\nls\n"


def test_a_closing_tag_in_the_code_does_not_end_it() -> None:
    code = "echo '</parameter>' '</invoke>' '</parameter> </invoke' '</parameter>x</invoke>'"
    assert source(code) == code


def test_a_whole_call_in_the_code_is_code() -> None:
    inner = call("ls")
    assert source(f"cat <<'EOF'\n{inner}\nEOF") == f"cat <<'EOF'\n{inner}\nEOF"


def test_a_fence_in_the_code_is_code() -> None:
    code = "# T\n\n```bash:execute\nls\n```\n"
    assert the_block(call(code, "a.md:create", "content")).source == code


# --- what only looks like a call ---------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        *("write `", "``x`` and `a ", "> ", "  > so: ", "    ", "\t", "text\n    ", "    x "),
        # a code span that began a line before, or with more backticks
        *("`\n", "write `this\n", "`` ` ", "``a`b ", "``\r\n", "a ``` b\nc ", "\\\\`"),
        # block quotes in lists, and lines that go on with their paragraph (lazy continuation)
        *("- > ", "1. > x ", "* - >", "> x\n", "> x\ny\n", "- > x\n  y\n", "> x\r"),
        # raw HTML
        *("<!-- ", "<!--\n\n", "text <!-- x\n", "<pre>\n", "<PRE class='x'>\n\n", "<script>", "<style>\n"),
        *("<textarea >", "<!-- a --> <!-- ", "<pre>\n</script>\n"),
        *("<?php\n\n", "a <? -->\n", "<![CDATA[\n\n", "<![CDATA[ ?> ", "<!DOCTYPE\n\n"),
        # in list items, too, as far as these go
        *(
            "- <pre>\n\n  ",
            "1. <!--\n\n   x\n\n     ",
            "- a\n\n      ",
            "- - <?x\n    ",
            "- a\n\n  <script>\n  ",
        ),
        # fences, of which another parser may know nothing
        *("```\n\n", "~~~ js\n\n", "  ```` js\n```\n\n", "```js ", "```\n    ```\n\n", "- ~~~\n\n  "),
    ],
)
def test_a_call_that_markdown_only_shows_is_prose(before: str) -> None:
    assert blocks(before + call("reboot")) == []


@pytest.mark.parametrize(
    "before",
    [
        *("", "Now: ", "   ", "a `b` ", "a < b <c> <d:e> <"),
        *("`\n\n", "it`s\n \t\r\n", "``a`b`` ", "`a\nb` ", "\\` ", "`` ` ``\n"),
        *("> x\n\n", "- > x\n\n", "> x\r\n\r\n", "a > b ", "-> "),
        *("<!-- x --> ", "<!-- x\n\ny -->\n", "<pre>\nx</pre>\n", "<prefix>", "`<!--` ", "<style>a</STYLE >"),
        *("<?x?> ", "<?\n\n?>\n", "<![CDATA[x]]>\n", "`<?` ", "a ?> ]]> ", "<div>\n", "<!X> ", "<!-->\n"),
        # HTML that is never closed ends with the list item or the block quote, and within a line with the paragraph
        *("- <pre>\n", "- a\n\n  <!--\n\n", "1. <!-- x\n\n   y\n", "- - <script>\n    x\n\n  ", "-\t<?php\n"),
        *("> <!--\n\n", "> <pre>\n\n", "- > <pre>\n\n", "- <pre>\n- <!--\n", "- <!-- a\r\n", "a <!-- b\n\n"),
        *(
            "10. a\n\n    ",
            "- a\n\n    ",
            "- <pre>\n\n  </pre>\n\n  ",
            "- ```\n",
            "```\n\n```\n",
            "~~~\n`\n\n~~~~ \n",
        ),
        "a <pre>\n\n",
    ],
)
def test_a_call_behind_anything_else_counts(before: str) -> None:
    assert len(blocks(before + call("ls"))) == 1


@pytest.mark.parametrize(
    ("before", "begin"),
    [
        *(
            ("<!-- x\n\n", "<!--"),
            ("Now: <pre>\n", "<pre"),
            ("<?php\n", "<?"),
            ("- <script>\n\n  ", "<script"),
        ),
        *(("<!-- x -->\n<style>\n", "<style"), ("<![CDATA[\n", "<![CDATA["), ("<pre>\n<!-- -->\n", "<pre")),
    ],
)
@pytest.mark.parametrize("after", ["", "\n", "\n\nDone.\n", "\n" + call("ls", "x")])
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_call_behind_html_that_is_never_closed_is_told_at_the_end(
    before: str, begin: str, after: str, size: int
) -> None:
    text = before + call("reboot") + after
    for parser in (XmlParser(), ParserStack([XmlParser])):
        segments = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
        assert all(s.block is None for s in segments)
        (last,) = [s for s in parser.close() if s.block is not None]
        assert (last.kind, last.text, last.start, last.end) == ("block", "", len(text), len(text))
        reason = f"it stands behind {begin!r}, HTML that is never closed"
        assert last.block == Block.of("bash", "execute", "", reason=reason)


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"<!-- {call('x')} -->",
            f"<pre>\n{call('x')}\n</pre>\n",
            f"`<!-- {call('x')}`",
            f"> <!-- {call('x')}",
        ),
        *(
            f"```\n<!--\n{call('x')}\n```\n",
            f"<!-- {call('x', 'other')}",
            "<pre>\n",
            f"<!--\n{call('x')}\n{'a ' * 99}-->",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_a_call_that_is_meant_to_be_shown_is_told_of_in_no_way(text: str, size: int) -> None:
    for parser in (XmlParser(), ParserStack([XmlParser])):
        segments = [s for at in range(0, len(text), size) for s in parser.feed(text[at : at + size])]
        assert all(s.block is None for s in [*segments, *parser.close()])


# --- wrappers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["function_calls", "ns:function_calls", "tool_calls"])
def test_between_the_calls_of_a_wrapper_are_only_blanks(name: str) -> None:
    text = f"<{name}>\n{call('a')}\n    {call('b')}\n</{name}>"
    segments = read(f"{text}\nEnd")
    assert [s.kind for s in segments] == ["block", "prose", "block", "prose"]
    assert segments[1].text.strip() == ""
    assert [s.block.source for s in segments if s.block] == ["a", "b"]
    assert segments[3].text == "\nEnd"


def test_two_wrappers_one_behind_the_other_have_only_blanks_between() -> None:
    text = f"<function_calls>\n{call('a')}\n</function_calls>\n"
    assert [s.text.strip() for s in read(text * 2) if s.kind == "prose"] == ["", ""]


def test_a_wrapper_around_something_else_is_prose() -> None:
    text = f"<function_calls>\n{call('x', 'get_weather')}\n</function_calls>"
    assert [s.text for s in read(text)] == [text]


def test_a_wrapper_that_is_never_closed_loses_nothing() -> None:
    segments = read(f"<function_calls>{call('a')} ")
    assert [(s.kind, s.text) for s in segments][1:] == [("prose", " ")]
    assert segments[0].block is not None
    assert segments[0].block.complete


# --- what goes out when ------------------------------------------------------------------------


def test_prose_goes_out_as_soon_as_it_cannot_be_a_tag() -> None:
    parser = XmlParser()
    for delta in ("if a ", "< b: ", "x<1 ", "</p>"):
        assert "".join(s.text for s in parser.feed(delta)) == delta
    assert not parser.feed("<in")
    assert "".join(s.text for s in parser.feed("put>")) == "<input>"


def test_a_call_goes_out_with_its_last_character() -> None:
    parser = XmlParser()
    text = call("ls")
    for char in text[:-1]:
        assert not parser.feed(char)
    assert [s.kind for s in parser.feed(">")] == ["block"]


def test_a_call_in_a_wrapper_waits_for_the_next_tag_only() -> None:
    parser = XmlParser()
    assert not parser.feed(f"<function_calls>{call('a')}\n")
    assert [s.kind for s in parser.feed("<invoke ")] == ["block", "prose"]


def test_an_opening_tag_is_held_back_only_so_far() -> None:
    parser = XmlParser()
    assert not parser.feed("<invoke " + "x" * (LONGEST_OPENER - 8))
    assert "".join(s.text for s in parser.feed("x")) == "<invoke " + "x" * (LONGEST_OPENER - 7)


def test_an_answer_that_breaks_off_inside_a_call_gives_an_incomplete_block() -> None:
    assert the_block(call("ls -l")[:-16]) == Block("bash", "execute", "ls -l</para", "bash", complete=False)
    assert the_block('<invoke name="bash:execute"> <para').complete is False


def test_a_parameter_without_its_closing_tag_is_never_run() -> None:
    block = the_block('<invoke name="bash:execute"><parameter name="command">rm -rf build</invoke>\nDone.')
    assert not block.complete


def test_five_megabytes_in_one_call_pass_through() -> None:
    code = "x > y < z\n" * 500_000
    assert source(code) == code


def test_the_plugin_makes_a_parser_and_refuses_options() -> None:
    assert plugin.AGENTD_API == 1
    assert isinstance(plugin.agentd_create_parser(options={}).parser(), Parser)
    with pytest.raises(
        ConfigError, match="unknown option 'colour' of the parser 'xml'; there are: starts_in"
    ):
        plugin.agentd_create_parser(options={"colour": 1})
