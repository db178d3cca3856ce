"""`agentd doctor`: what is installed, which executors can run here, and why the others cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from agentd_cli.checks import Check, run_checks
from agentd_cli.options import debug_option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["doctor", "is_healthy", "print_report"]

_STYLES = {"ok": "green", "missing": "yellow", "failed": "red", "info": "cyan"}
_TITLES = {
    "ready": "What you can use",
    "system": "System",
    "distributions": "Distributions",
    "plugins": "Plugins",
    "executors": "Executors: which can run here",
    "requirements": "What plugins need of this machine",
    "state": "Where agentd keeps things",
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=30.0, metavar="SECONDS", show_default=True,
    help="How long an executor may take to prove that it works, and a plugin to say what it needs.",
)  # fmt: skip
@debug_option
def doctor(*, as_json: bool, timeout: float) -> int:
    """Say what can be used here, what is installed, and what is missing for the rest.

    Loads every plugin and starts every executor once. Exit code 0: nothing that is installed is broken, and at least
    one of `agentd run`, a patched client and the daemon can be used; otherwise 1.
    """
    checks = run_checks(timeout_s=timeout)
    healthy = is_healthy(checks)
    if as_json:
        click.echo(json.dumps(_as_data(checks, healthy=healthy), indent=2))
    else:
        from rich.console import Console

        print_report(checks, Console(), healthy=healthy)
    return 0 if healthy else 1


def is_healthy(checks: Sequence[Check]) -> bool:
    """Tell whether nothing that is installed is broken and at least one use of agentd is possible."""
    return _can_be_used(checks) and not any(check.state == "failed" for check in checks)


def _can_be_used(checks: Sequence[Check]) -> bool:
    return any(check.section == "ready" and check.state == "ok" for check in checks)


def _as_data(checks: Sequence[Check], *, healthy: bool) -> dict[str, Any]:
    sections: dict[str, list[dict[str, str]]] = {name: [] for name in _TITLES}
    for check in checks:
        sections[check.section].append(
            {"name": check.name, "state": check.state, "value": check.value, "detail": check.detail}
        )
    return {"ok": healthy, **sections}


def print_report(checks: Sequence[Check], console: Console, *, healthy: bool) -> None:
    """Print the checks by sections, for a person on a terminal or else for a program."""
    from rich.text import Text

    layout = _columns if console.is_terminal else _plain_line
    for section, title in _TITLES.items():
        rows = [check for check in checks if check.section == section]
        if not rows:
            continue
        console.print(Text(title, style="bold"))
        for line in layout(rows, console.width):
            console.print(line, soft_wrap=True)  # never cut, nor broken by us: commands are to be copied
        console.print()
    verdict = Text(_verdict(checks, healthy=healthy), style="green" if healthy else "red")
    console.print(verdict, soft_wrap=True)


def _cells(check: Check) -> list[Text]:
    """Return state, name, value and detail, each in one line."""
    from agentd_sink_console.neutral import one_line
    from rich.text import Text

    texts = {"state": _STYLES[check.state], "name": "", "value": "", "detail": "dim"}
    return [Text(one_line(getattr(check, name)), style=style) for name, style in texts.items()]


def _plain_line(rows: Sequence[Check], width: int) -> Iterator[Text]:
    """Yield a line for each row, for programs: what there is, two blanks in between."""
    from rich.text import Text

    for check in rows:
        yield Text("  ").join(cell for cell in _cells(check) if cell.plain)


def _columns(rows: Sequence[Check], width: int) -> Iterator[Text]:
    """Yield the rows in columns. What does not fit has a line of its own."""
    from rich.text import Text

    table = [_cells(check) for check in rows]
    first, second = (max(row[column].cell_len for row in table) for column in (0, 1))
    third = max(cell.cell_len if cell.cell_len <= width // 2 else 0 for _, _, cell, _ in table)
    for state, name, value, detail in table:
        padded = [
            _padded(state, first),
            _padded(name, second),
            *([_padded(value, third)] if third or value.plain else []),
            detail,
        ]
        line = Text("  ").join(padded)
        line.rstrip()
        if line.cell_len <= width:
            yield line
            continue
        line = Text("  ").join((padded[0], name))
        for cell in filter(None, (value, detail)):
            if line.cell_len + 2 + cell.cell_len <= width:
                line = Text("  ").join((line, cell))
            else:
                yield line
                line = Text.assemble(" " * (first + 2), cell)
        yield line


def _padded(text: Text, cells: int) -> Text:
    text = text.copy()
    text.pad_right(max(0, cells - text.cell_len))
    return text


def _verdict(checks: Sequence[Check], *, healthy: bool) -> str:
    if not _can_be_used(checks):
        return "nothing can be used yet: see the first lines"
    if not healthy:
        return "something needs attention: see the lines marked failed"
    missing = [check for check in checks if check.state == "missing"]
    lacking = [check.name for check in missing if check.section == "ready"]
    lacking += [f"the executor {check.name}" for check in missing if check.section == "executors"]
    return f"all works but: {', '.join(lacking)}" if lacking else "all that is installed works"
