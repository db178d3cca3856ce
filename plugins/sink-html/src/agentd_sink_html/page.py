"""Runs as one HTML page that needs nothing else: no other file, no network, and no JavaScript to be read."""

from __future__ import annotations

import base64
import difflib
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from agentd_sink_html import timeline
from agentd_sink_html.texts import SHOWN, Texts, plain
from agentd_sink_html.trace import BlockTrace, RunTrace

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["page"]

_MOST: Final = 1e15  # of a count that is shown with all of its digits
_PICTURE_BYTES: Final = 2_000_000  # of one that the page shows
_MAGIC: Final = {
    "image/png": b"\x89PNG",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}


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
            texts=Texts(),
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
    lines = before[:SHOWN].splitlines(keepends=True), now[:SHOWN].splitlines(keepends=True)
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
    for each in (plain, _picture, _duration, _thousands, _money):
        environment.filters[each.__name__.removeprefix("_")] = each
    return environment


@cache
def _asset(name: str) -> str:
    return (files("agentd_sink_html") / "templates" / name).read_text(encoding="utf-8")


@cache
def _code_colours() -> str:
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style="default").get_style_defs("pre")
    dark = HtmlFormatter(style="github-dark").get_style_defs("pre")
    box = "pre { background: var(--box) !important }"
    return f"\n{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n{box}\n"


def _picture(path: str, mime_type: str) -> str:
    """Return a picture's file as an address that holds it, or nothing: for what is no such file of agentd's."""
    file = Path(path)
    if file.parent.name != "pictures" or file.parent.parent.name != ".agentd" or mime_type not in _MAGIC:
        return ""
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            data = opened.read(_PICTURE_BYTES + 1)
    except (OSError, ValueError):  # a path that no file can have: a NUL, half a character
        return ""
    if len(data) > _PICTURE_BYTES or not data.startswith(_MAGIC[mime_type]):
        return ""
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def _duration(seconds: float) -> str:
    seconds = max(seconds, 0.0)  # the clock was set back
    if seconds >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def _thousands(number: Any) -> str:
    if not isinstance(number, int):
        return "0"
    return f"{number:,}" if abs(number) < _MOST else _rounded(number)


def _money(amount: Any) -> str:
    if not isinstance(amount, int | float):
        return ""
    return f"${amount:.4f}" if abs(amount) < _MOST else f"${_rounded(amount)}"


def _rounded(number: float) -> str:
    """Return a number that is no real count in few characters: of hundreds of digits, infinite, or none (NaN)."""
    return f"{Decimal(number):.3E}"
