"""`agentd plugins`: what is installed, in which state, and why something does not load."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import attrs
import click
from agentd.registry import PluginRecord, Registry
from agentd.registry.command import COLUMNS, is_broken, plain_table

from agentd_cli.options import PluginKind
from agentd_cli.plugin_trials import check_apart

__all__ = ["plugins"]

_STYLES = {
    "loaded": "green",
    "available": "cyan",
    "blocked": "yellow",
    "failed": "red",
    "incompatible": "red",
}


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object for each plugin.")
@click.option("--check", is_flag=True, help="Load every plugin in a process of its own; exit 1 if one fails.")
@click.option("--kind", type=PluginKind(), help="List only plugins of this kind.")
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=30.0, metavar="SECONDS", show_default=True,
    help="How long the import of a plugin may take, with --check.",
)  # fmt: skip
def plugins(*, as_json: bool, check: bool, kind: str | None, timeout: float) -> None:
    """List the installed plugins.

    Reads metadata only, unless --check is given. Plugins that AGENTD_PLUGINS_BLOCK or
    AGENTD_PLUGINS_ALLOW keep out are listed as blocked and never imported.
    """
    registry = Registry()
    records = check_apart(registry, kind, timeout_s=timeout) if check else registry.records(kind)
    if as_json:
        click.echo(json.dumps([attrs.asdict(record) for record in records], indent=2))
    elif sys.stdout.isatty():
        _print_table(records)
    else:
        from agentd_sink_console.neutral import neutral

        click.echo(neutral("\n".join(plain_table(records))))
    if check and any(map(is_broken, records)):
        raise SystemExit(1)


def _cells(record: PluginRecord) -> tuple[str, ...]:
    return tuple(str(getattr(record, column)) for column in COLUMNS)


def _print_table(records: Sequence[PluginRecord]) -> None:
    from agentd_sink_console.neutral import neutral, one_line
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in COLUMNS:
        table.add_column(column)
    for record in records:
        *cells, state = map(one_line, _cells(record))
        table.add_row(*map(Text, cells), Text(state, style=_STYLES[state]))
    console.print(table if records else "no plugins installed")
    # below the table, where a long message is not squeezed into a column
    for record in records:
        if record.error:
            label = one_line(f"{record.kind} {record.name} ({record.distribution}):")
            error = Text(" " + neutral(record.error), style="default")
            console.print(Text(label, style=_STYLES[record.state]) + error)
