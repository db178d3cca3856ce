"""`agentd doctor`: what is installed, which executors can run here, and why the others cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from agentd_cli.checks import Check, run_checks
from agentd_cli.options import debug_option

__all__ = ["doctor"]

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
        _print(checks, healthy=healthy)
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


def _print(checks: Sequence[Check], *, healthy: bool) -> None:
    from agentd_sink_console.neutral import one_line
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # in a pipe nothing may be wrapped: rows are read line by line
    console = Console() if sys.stdout.isatty() else Console(width=400)
    text: Callable[..., Text] = lambda words, **style: Text(one_line(words), **style)  # noqa: E731
    for section, title in _TITLES.items():
        rows = [check for check in checks if check.section == section]
        if not rows:
            continue
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False
        )
        for _ in range(4):
            table.add_column()
        for check in rows:
            state = Text(check.state, style=_STYLES[check.state])
            table.add_row(state, text(check.name), text(check.value), text(check.detail, style="dim"))
        console.print(table)
        console.print()
    console.print(Text(_verdict(checks, healthy=healthy), style="green" if healthy else "red"))


def _verdict(checks: Sequence[Check], *, healthy: bool) -> str:
    if not _can_be_used(checks):
        return "nothing can be used yet: see the first lines"
    if not healthy:
        return "something needs attention: see the lines marked failed"
    lacking = [check.name for check in checks if check.section == "ready" and check.state == "missing"]
    return f"all works but: {', '.join(lacking)}" if lacking else "all that is installed works"
