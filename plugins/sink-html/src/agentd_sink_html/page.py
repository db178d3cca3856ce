"""Runs as one HTML page that needs nothing else: no other file, no network, and no JavaScript to be read."""

from __future__ import annotations

import base64
import difflib
import hashlib
import html
import os
import re
import time
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentd_sink_html import timeline
from agentd_sink_html.trace import BlockTrace, RunTrace

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

_COLOURED: Final = 50_000  # characters of one text that gets colours
_COLOURED_IN_ALL: Final = 100_000  # of one page: the first ones
_SHOWN: Final = 200_000  # characters of one text that are shown
_PICTURE_BYTES: Final = 2_000_000  # of one that the page shows
_MAGIC: Final = {
    "image/png": b"\x89PNG",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
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


@attrs.frozen(kw_only=True)
class _File:
    """A file that blocks wrote: how often, and what the last writing changed, as a unified diff or the whole."""

    path: str
    writes: int
    is_diff: bool
    text: str
    anchor: str


def page(runs: Sequence[RunTrace], *, title: str = "", notes: Iterable[str] = ()) -> str:
    """Return the page. What code, models and tools said is escaped, whatever it is; `notes` are shown on top."""
    script, style = _asset("page.js"), _asset("page.css") + _code_colours()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=title or (runs[0].task[:80] if runs else "") or "agentd",
            notes=list(notes),
            runs=[_RunView(run, number) for number, run in enumerate(runs, 1)],
            script=script,
            style=style,
            script_digest=digest,
            colours=_Colours(),
        )
    )


class _RunView:
    """What the template asks of a run."""

    def __init__(self, run: RunTrace, number: int) -> None:
        self.run = run
        self.id = f"run{number}"
        self.anchors: dict[int, str] = {}
        for turn in run.turns:
            self.anchors[id(turn)] = f"{self.id}-turn{turn.number}"
            for index, part in enumerate(turn.parts, 1):
                self.anchors[id(part)] = place = f"{self.anchors[id(turn)]}-{index}"
                for inner, call in enumerate(part.inside if isinstance(part, BlockTrace) else (), 1):
                    self.anchors[id(call)] = f"{place}-{inner}"
        self.rows = timeline.rows(run, self.anchors)
        self.shares = timeline.shares(run)
        self.ticks = timeline.ticks(run)
        self.began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.start))
        self.seconds = run.end - run.start
        self.blocks, self.calls, self.questions = run.blocks(), run.calls(), run.questions()
        self.failed_blocks = sum(block.status != "completed" for block in self.blocks)
        self.failed_calls = sum(call.status != "completed" for call in self.calls)
        self.ended_well = run.stop_reason == "answer" and not run.error
        self.files = list(self._files())

    def anchor(self, part: object) -> str:
        return self.anchors.get(id(part), "")

    def _files(self) -> Iterable[_File]:
        writes: dict[str, list[BlockTrace]] = {}
        for block in self.blocks:
            if block.action == "create" and block.status == "completed":
                writes.setdefault(block.target, []).append(block)
        for path, blocks in sorted(writes.items()):
            now = blocks[-1].code
            text = now if len(blocks) == 1 else _difference(blocks[-2].code, now, path)
            yield _File(
                path=path,
                writes=len(blocks),
                is_diff=len(blocks) > 1,
                text=text,
                anchor=self.anchor(blocks[-1]),
            )


def _difference(before: str, now: str, path: str) -> str:
    lines = before[:_SHOWN].splitlines(keepends=True), now[:_SHOWN].splitlines(keepends=True)
    if max(map(len, lines)) > 5_000:  # difflib takes the square of it
        return now
    difference = difflib.unified_diff(*lines, f"before/{path}", path)
    return "".join(line if line.endswith("\n") else line + "\n" for line in difference)


# --- the template's means --------------------------------------------------------------------------


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("agentd_sink_html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for each in (_plain, _markdown, _picture, _duration, _thousands, _money):
        environment.filters[each.__name__.removeprefix("_")] = each
    return environment


@cache
def _asset(name: str) -> str:
    return (files("agentd_sink_html") / "templates" / name).read_text(encoding="utf-8")


def _plain(text: str) -> str:
    """Cut to what a page can show, and with no character that acts on what stands around it."""
    if len(text) > _SHOWN:
        half = _SHOWN // 2
        text = f"{text[:half]}\n[... {len(text) - _SHOWN:,} characters are not shown ...]\n{text[-half:]}"
    return text.translate(_CONTROLS).translate(_DIRECTIONS)


@cache
def _languages() -> dict[str, str]:
    pairs = [word.partition(":") for word in _LANGUAGES.split()]
    return {language: language for language, *_ in pairs} | {
        short or language: language for language, _, short in pairs
    }


class _Colours:
    """Colours the code of one page by its language, or by its file's name, as long as the page has colours left: the
    lexers take most of the time in which a page is made."""

    def __init__(self) -> None:
        self.left = _COLOURED_IN_ALL

    def code(self, text: str, target: str) -> Any:
        """Return code with its colours, or escaped."""
        from markupsafe import Markup, escape

        language = _languages().get(target.rpartition(".")[2].lower())
        text = _plain(text)
        if language is None or len(text) > min(_COLOURED, self.left):
            return escape(text)
        self.left -= len(text)
        # pygments' own formatter takes as long as the lexer: it looks each token's style up anew, and goes by lines
        parts: list[str] = []
        words: list[str] = []
        said = ""
        for kind, word in _lexer(language).get_tokens(text):
            name = said if word.isspace() else _class_name(kind)
            if name != said:
                parts.append(_span(said, words))
                words, said = [], name
            words.append(word)
        parts.append(_span(said, words))
        return Markup("".join(parts))


def _span(name: str, words: list[str]) -> str:
    text = html.escape("".join(words), quote=False)
    return f'<span class="{name}">{text}</span>' if name and words else text


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(language, stripnl=False, ensurenl=False)


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


@cache
def _code_colours() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs("pre")
    dark = HtmlFormatter(style="github-dark").get_style_defs("pre")
    box = "pre { background: var(--box) !important }"
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{box}\n"


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


def _markdown(text: str) -> Any:
    from markupsafe import Markup

    text = _plain(text)
    line = text.strip("\n").rstrip()
    if _PROSE.fullmatch(line):
        return Markup(f"<p>{line}</p>\n")
    return Markup(_parser().render(text))  # HTML is off: what looks like it is escaped


def _picture(path: str, mime_type: str) -> str:
    """Return a picture's file as an address that holds it, or nothing: for what is no such file of agentd's."""
    file = Path(path)
    if file.parent.name != "pictures" or file.parent.parent.name != ".agentd" or mime_type not in _MAGIC:
        return ""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            data = opened.read(_PICTURE_BYTES + 1)
    except OSError:
        return ""
    if len(data) > _PICTURE_BYTES or not data.startswith(_MAGIC[mime_type]):
        return ""
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def _duration(seconds: float) -> str:
    if seconds >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _thousands(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else "0"


def _money(amount: Any) -> str:
    return f"${amount:.4f}" if isinstance(amount, int | float) else ""
