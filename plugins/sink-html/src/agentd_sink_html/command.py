"""`agentd trace`: the JSON lines of a run as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from agentd.errors import ConfigError
from agentd_cli.options import debug_option

if TYPE_CHECKING:
    from agentd_sink_html.trace import Traces

__all__ = ["trace"]


@click.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path), metavar="FILE.jsonl|DIR")
@click.option(
    "--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="The page (default: beside it)."
)
@click.option("--open", "and_open", is_flag=True, help="Open the page in the browser.")
@debug_option
def trace(*, source: Path, output: Path | None, and_open: bool) -> None:
    """Show a run as one HTML page: what ran when, the answer, code and output, tool calls, files.

    FILE.jsonl is what `agentd run --log` or the sink jsonl keeps: the page has all runs in it. Of a folder, the newest
    file is taken. The page needs no other file and no network.
    """
    from agentd_sink_html.page_file import is_stream, write_page
    from agentd_sink_html.trace import Traces

    path = _newest(source) if source.is_dir() else source
    to = _page_path(output, path)
    traces = Traces()
    try:
        notes = [f"{path.name}: {problem}" for problem in _read(path, traces)]
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if not traces.runs:
        raise ConfigError(
            f"{path} has no event of a run; it should be a file of JSON lines as `agentd run --log DIR` keeps them"
        )
    try:
        keeps_page = not is_stream(to)
        if and_open and not keeps_page:
            raise ConfigError(f"--open needs a page in a file, and {to} is not a file")
        write_page(to, traces.runs, notes=notes)
    except BrokenPipeError:
        raise  # the reader of a FIFO has gone
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror}; name another file with --output") from error
    for note in notes:
        click.echo(f"agentd: warning: {note}", err=True)
    if keeps_page:
        click.echo(str(to))
    if and_open:
        click.launch(to.absolute().as_uri())


def _page_path(output: Path | None, log: Path) -> Path:
    """Return where the page is written. The log is never overwritten, by whichever name of it."""
    if output == Path():  # what click makes of ""
        raise ConfigError("--output is empty; name a file for the page, or leave the option out")
    to = output or log.with_suffix(".html")
    with suppress(OSError):  # it is not there yet
        if log.is_file() and to.samefile(log):
            raise ConfigError(f"{to} is the log itself; name another file for the page with --output")
    return to


def _newest(folder: Path) -> Path:
    files = [(file.stat().st_mtime, file) for file in folder.glob("*.jsonl") if file.is_file()]
    if not files:
        raise ConfigError(f"no .jsonl file in {folder}; `agentd run --log {folder}` keeps them there")
    return max(files)[1]


def _read(path: Path, traces: Traces) -> Iterator[str]:
    """Take the lines of a file, and yield what is wrong. One that is still written may have half a line at its end."""
    broken: list[int] = []
    at = 0.0
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            event = _event(line)
            if event is None:
                broken.append(number)
                continue
            at = _seconds(event.get("ts")) or at
            traces.add(event, at)
    if broken:
        are, left = ("line is", "is left") if len(broken) == 1 else ("lines are", "are left")
        yield f"{len(broken)} {are} no JSON object and {left} out ({_numbered('line', broken)})"
    headless = [number for number, run in enumerate(traces.runs, 1) if not run.has_start]
    if headless:
        yield (
            f"the start of {_numbered('run', headless)} is missing: lines are lost, or mixed up, as where an older "
            "agentd has written them or one sink object had several sessions"
        )


def _numbered(noun: str, numbers: list[int]) -> str:
    some = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"{noun} {some}" if len(numbers) == 1 else f"{noun}s {some}"


def _event(line: str) -> dict[str, Any] | None:
    try:
        # A byte order mark stands before the first line, and before others where files were put together.
        event = json.loads(line.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) else None


def _seconds(stamp: object) -> float:
    if not isinstance(stamp, str):
        return 0.0
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except (ValueError, OverflowError):
        return 0.0
