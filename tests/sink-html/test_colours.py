"""Code on a page has colours, within bounds, and stays the text that it is; prose is what Markdown makes of it."""

from __future__ import annotations

import html
import re

import pytest
from agentd_sink_html import page
from hypothesis import given, strategies as st
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

CODE = "import json\n\n\ndef f(x: int) -> str:\n    '''doc\n    <more>'''\n    return f'{x!r} a' # end\n"
BASH = "for i in 1 2; do\n  echo \"$i\" | grep '<b>' && cat <<EOF\n$i\nEOF\ndone\n"


def _text(shown: object) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", str(shown)))


@pytest.mark.parametrize(
    ("language", "code"), [("python", CODE), ("bash", BASH), ("json", '{"a": [1, null]}')]
)
def test_the_names_are_those_of_the_style_sheet(language: str, code: str) -> None:
    shown = page._Colours().code(code, language)
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    theirs = highlight(code, lexer, HtmlFormatter(nowrap=True))
    names = set(re.findall(r'class="([^"]*)"', theirs)) - {"w"}
    assert set(re.findall(r'class="([^"]*)"', str(shown))) == names
    assert _text(shown) == code


@given(st.text(max_size=200), st.sampled_from(["python", "bash", "md", "diff", "f.yml", "nothing"]))
def test_the_text_stays(text: str, target: str) -> None:
    assert _text(page._Colours().code(text, target)) == page._plain(text)


def test_a_page_has_colours_for_its_first_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_COLOURED_IN_ALL", 2 * len(CODE) + 1)
    colours = page._Colours()
    shown = [str(colours.code(CODE, "python")) for _ in range(3)]
    assert ["<span" in one for one in shown] == [True, True, False]
    assert _text(shown[2]) == CODE
    assert "<span" in str(page._Colours().code(CODE, "python"))


@given(st.text(alphabet="aZ é1_-*()'.:/%,;!? \n`#>|", max_size=30))
def test_a_plain_line_is_what_markdown_makes_of_it(text: str) -> None:
    assert str(page._markdown(text)) == page._parser().render(page._plain(text))
