"""Code on a page has colours, within bounds, and stays the text that it is; prose is what Markdown makes of it."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from itertools import count

import pytest
from agentd_sink_html import texts
from agentd_sink_html.page import page
from agentd_sink_html.trace import Traces
from hypothesis import given, strategies as st
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.token import Token

CODE = "import json\n\n\ndef f(x: int) -> str:\n    '''doc\n    <more>'''\n    return f'{x!r} a' # end\n"
BASH = "for i in 1 2; do\n  echo \"$i\" | grep '<b>' && cat <<EOF\n$i\nEOF\ndone\n"


def _text(shown: object) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", str(shown)))


@pytest.mark.parametrize(
    ("language", "code"), [("python", CODE), ("bash", BASH), ("json", '{"a": [1, null]}')]
)
def test_the_names_are_those_of_the_style_sheet(language: str, code: str) -> None:
    shown = texts.Texts().code(code, language)
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    theirs = highlight(code, lexer, HtmlFormatter(nowrap=True))
    names = set(re.findall(r'class="([^"]*)"', theirs)) - {"w"}
    assert set(re.findall(r'class="([^"]*)"', str(shown))) == names
    assert _text(shown) == code


@given(st.text(max_size=200), st.sampled_from(["python", "bash", "md", "diff", "f.yml", "nothing"]))
def test_the_text_stays(text: str, target: str) -> None:
    assert _text(texts.Texts().code(text, target)) == texts.plain(text)


def test_a_page_has_colours_for_its_first_code_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_COLOURED_IN_ALL", 2 * len(CODE) + 1)
    colours = texts.Texts()
    shown = [str(colours.code(CODE, "python")) for _ in range(3)]
    assert ["<span" in one for one in shown] == [True, True, False]
    assert _text(shown[2]) == CODE
    assert "<span" in str(texts.Texts().code(CODE, "python"))


@given(st.text(alphabet="aZ é1_-*()'.:/%,;!? \n`#>|", max_size=30))
def test_a_plain_line_is_what_markdown_makes_of_it(text: str) -> None:
    assert str(texts.Texts().prose(text)) == texts._parser().render(texts.plain(text))


def test_a_text_with_a_long_line_has_no_colours() -> None:
    assert "<span" in str(texts.Texts().code("x = 1\n" * 1000, "python"))
    shown = texts.Texts().code("x = 1\n" + "1 + " * 1000 + "1\n", "python")
    assert "<span" not in str(shown)


class _SlowLexer:
    """Each word takes its time, of the processor."""

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, object, str]]:
        for found in re.finditer(r"\S+\s*", text):
            end = time.thread_time() + 0.005
            while time.thread_time() < end:
                pass
            yield found.start(), Token.Keyword, found[0]


def test_code_whose_lexer_takes_long_is_plain_from_there_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_TEXT_S", 0.05)
    monkeypatch.setattr(texts, "_lexer", lambda _: _SlowLexer())
    code = "".join(f"<word{number}>\n" for number in range(1000))
    shown = str(texts.Texts().code(code, "python"))
    assert shown.startswith('<span class="k">&lt;word0&gt;')
    assert "</span>" not in shown[-1000:]
    assert _text(shown) == code


def test_all_texts_of_a_page_share_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_TEXT_S", 0.02)
    monkeypatch.setattr(texts, "_PAGE_S", 0.1)
    monkeypatch.setattr(texts, "_lexer", lambda _: _SlowLexer())
    shown, one_page = "word " * 100, texts.Texts()
    coloured = ["<span" in str(one_page.code(shown, "python")) for _ in range(40)]
    assert coloured[0]
    assert not coloured[-1]
    assert one_page.prose("**word**") == "<pre><code>**word**</code></pre>\n"


MARKDOWN = "# A\n\n- **b** <i>\n  > `c`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 20, 100, 300])
def test_markdown_that_takes_long_is_plain_from_there_on(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(texts.time, "thread_time", lambda: next(ticks) / steps if steps else next(ticks))
    shown = str(texts.Texts().prose(MARKDOWN * 50))
    assert ("<h1>" in shown) == (steps > 1)
    assert shown.count("1") >= 50  # nothing is lost
    assert "<i>" not in shown
    assert "**b**" in shown.split("\n\n")[-1] or "</code></pre>" in shown


def test_a_page_shows_prose_by_markdown_and_code_with_colours() -> None:
    traces = Traces()
    traces.add({"type": "text_delta", "text": "**Look:**"}, 1.0)
    traces.add({"type": "code_start", "id": "1", "code": CODE, "target": "python"}, 2.0)
    traces.add({"type": "run_end", "text": "# Done"}, 3.0)
    text = page(traces.runs)
    assert "<strong>Look:</strong>" in text
    assert '<span class="kn">import' in text
    assert "<h1>Done</h1>" in text
