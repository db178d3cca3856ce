"""What code, models and tools said, as HTML within a time: code with its colours, prose by Markdown, all of it escaped.

Lexers and Markdown take the square of the length for some texts. Each text has a time, and a page has one for all of
its texts; what does not fit into it is shown as it is.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

__all__ = ["SHOWN", "Texts", "plain"]

SHOWN: Final = 200_000  # characters of one text that are shown
_COLOURED: Final = 50_000  # characters of one text that gets colours
_COLOURED_IN_ALL: Final = 100_000  # of one page: the first ones
_LONGEST_LINE: Final = 2_000  # characters, of a text that gets colours
_TEXT_S: Final = 0.5  # for one text, of the processor's time: a busy machine takes nobody's colours
_PAGE_S: Final = 5.0  # for all texts of a page
_LANGUAGES: Final = (
    "bash c css diff go html ini javascript:js json markdown:md python python:py rust:rs sh sql toml typescript:ts "
    "yaml:yml yaml"
)
"""What pygments names languages, and how blocks and files name them where that is something else."""
_PROSE: Final = re.compile(r"[A-Za-z](?:[^\W_]|[ ,.;:!?'()/%-])*")
"""A line in which Markdown has nothing to do. Most of what models say between blocks is one."""
_CONTROLS: Final = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}
_DIRECTIONS: Final = {
    ord(mark): "\ufffd" for mark in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
}
"""What turns the direction of text, and so can show code as other code."""


def plain(text: str) -> str:
    """Cut to what a page can show, and with no character that acts on what stands around it."""
    if len(text) > SHOWN:
        half, left_out = SHOWN // 2, len(text) - SHOWN
        told = "1 character is" if left_out == 1 else f"{left_out:,} characters are"
        text = f"{text[:half]}\n[... {told} not shown ...]\n{text[-half:]}"
    return text.translate(_CONTROLS).translate(_DIRECTIONS)


class Texts:
    """Makes HTML of the texts of one page, as long as the page has time and colours left: lexers and Markdown take
    most of the time in which a page is made."""

    def __init__(self) -> None:
        self._characters = _COLOURED_IN_ALL
        self._seconds = _PAGE_S

    def code(self, text: str, target: str) -> Any:
        """Return code with the colours of its language, or of its file's name; escaped where it gets none."""
        from markupsafe import Markup, escape

        language = _languages().get(target.rpartition(".")[2].lower())
        text = plain(text)
        if language is None or len(text) > min(_COLOURED, self._characters) or _has_a_long_line(text):
            return escape(text)
        self._characters -= len(text)
        with self._deadline() as until:
            return Markup(_coloured(text, language, until))

    def prose(self, text: str) -> Any:
        """Return what Markdown makes of a text."""
        from markupsafe import Markup

        text = plain(text)
        line = text.strip("\n").rstrip()
        if _PROSE.fullmatch(line):
            return Markup(f"<p>{line}</p>\n")
        with self._deadline() as until:
            return Markup(
                _parser().render(text, {"until": until})
            )  # HTML is off: what looks like it is escaped

    @contextmanager
    def _deadline(self) -> Iterator[float]:
        """Yield the time of this thread's processor until which a text may be worked at."""
        began = time.thread_time()
        yield began + min(_TEXT_S, self._seconds)
        self._seconds -= time.thread_time() - began


# --- code ------------------------------------------------------------------------------------------


@cache
def _languages() -> dict[str, str]:
    pairs = [word.partition(":") for word in _LANGUAGES.split()]
    return {language: language for language, *_ in pairs} | {
        short or language: language for language, _, short in pairs
    }


def _has_a_long_line(text: str) -> bool:
    """Tell whether one step of a lexer, which nothing can end, could take long: its patterns go on to a line's end."""
    return max(map(len, text.split("\n"))) > _LONGEST_LINE


def _coloured(text: str, language: str, until: float) -> str:
    # pygments' own formatter takes as long as the lexer: it looks each token's style up anew, and goes by lines
    parts: list[str] = []
    words: list[str] = []
    said, done = "", 0
    for _, kind, word in _lexer(language).get_tokens_unprocessed(text):
        if time.thread_time() > until:
            break
        done += len(word)
        name = said if word.isspace() else _class_name(kind)
        if name != said:
            parts.append(_span(said, words))
            words, said = [], name
        words.append(word)
    parts += _span(said, words), _span("", [text[done:]])
    return "".join(parts)


def _span(name: str, words: list[str]) -> str:
    text = html.escape("".join(words), quote=False)
    return f'<span class="{name}">{text}</span>' if name and words else text


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name

    # Code inside of Markdown would bring lexers of all languages there are.
    return get_lexer_by_name(language, stripnl=False, ensurenl=False, handlecodeblocks=False)


@cache
def _class_name(kind: Any) -> str:
    """Return the name that the style sheet has for tokens of this kind."""
    from pygments.token import STANDARD_TYPES

    names = []
    while kind not in STANDARD_TYPES:
        names.append(f"-{kind[-1]}")
        kind = kind.parent
    name = STANDARD_TYPES[kind]
    return f"{name} {name}{''.join(reversed(names))}" if names else name


# --- Markdown --------------------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    parser.block.ruler.before("table", "deadline", _end_blocks)
    parser.inline.ruler.before("text", "deadline", _end_inline)
    return parser


def _end_blocks(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """When the time is over, take all lines that are left as they are."""
    if time.thread_time() <= state.env.get("until", float("inf")):
        return False
    if not silent:
        state.line = end
        token = state.push("code_block", "code", 0)
        token.content = state.getLines(start, end, state.blkIndent, True)
    return True


def _end_inline(state: StateInline, silent: bool) -> bool:
    """When the time is over, take what is left of a paragraph as it is."""
    if time.thread_time() <= state.env.get("until", float("inf")):
        return False
    if not silent:
        state.pending += state.src[state.pos : state.posMax]
    state.pos = state.posMax
    return True
