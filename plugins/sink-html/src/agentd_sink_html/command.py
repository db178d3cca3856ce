"""`agentd trace`: the JSON lines of a run as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
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

    FILE.jsonl is what `agentd run --log` or the sink jsonl keeps; of a folder, the newest is taken. The page needs no
    other file and no network.
    """
    from agentd_sink_html.sink import write_page
    from agentd_sink_html.trace import Traces

    path = _newest(source) if source.is_dir() else source
    traces = Traces()
    notes = [f"{path.name}: {problem}" for problem in _read(path, traces)]
    if not traces.runs:
        raise ConfigError(
            f"{path} has no event of a run; it should be a file of JSON lines as `agentd run --log DIR` keeps them"
        )
    to = output or path.with_suffix(".html")
    try:
        write_page(to, traces.runs, notes=notes)
    except OSError as error:
        raise ConfigError(f"cannot write {to}: {error.strerror}; name another file with --output") from error
    for note in notes:
        click.echo(f"agentd: warning: {note}", err=True)
    click.echo(str(to))
    if and_open:
        click.launch(to.absolute().as_uri())


def _newest(folder: Path) -> Path:
    files = [(file.stat().st_mtime, file) for file in folder.glob("*.jsonl") if file.is_file()]
    if not files:
        raise ConfigError(f"no .jsonl file in {folder}; `agentd run --log {folder}` keeps them there")
    return max(files)[1]


def _read(path: Path, traces: Traces) -> Iterator[str]:
    """Take the lines of a file, and say what was wrong. One that is still written may have half a line at its end."""
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
        which = ", ".join(map(str, broken[:5])) + (", ..." if len(broken) > 5 else "")
        yield f"{len(broken)} lines are no JSON object and are left out (line {which})"


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
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
