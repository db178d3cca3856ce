"""`agentd status`: how the agents of a running daemon are."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click
from agentd_cli import exits
from agentd_cli.options import debug_option

__all__ = ["status"]


@click.command("status")
@click.argument("files", nargs=-1, metavar="[FILE...]", type=click.Path(path_type=Path))
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="The daemon's state folder, instead of the FILEs that it was started with.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")
@debug_option
def status(*, files: tuple[Path, ...], state_dir: Path | None, as_json: bool) -> int:
    """Show the agents of the daemon that was started with FILE..., their servers, queues and errors.

    Exit code 1 if it does not run.
    """
    from agentd_daemon.state import StateFolder
    from agentd_daemon.status import ask_status

    folder = StateFolder(_folder(files, state_dir))
    found = ask_status(folder.socket)
    if as_json:
        import json

        click.echo(json.dumps(found if found is not None else {"agents": [], "pid": None}, indent=2))
    elif found is None:
        click.echo(f"no daemon runs in {folder.path}", err=True)
    else:
        _print_table(found)
    return exits.OK if found is not None else exits.UNFINISHED


def _folder(files: tuple[Path, ...], state_dir: Path | None) -> str | Path:
    if state_dir is not None:
        return state_dir
    if not files:
        raise click.UsageError(
            "name the configuration FILE that the daemon was started with, or its --state-dir"
        )
    from agentd_daemon.config.loading import examine
    from agentd_daemon.state import default_state_dir

    config = examine(files).config  # a broken configuration does not keep one from looking
    return (config.state_dir if config is not None else None) or default_state_dir(files)


def _print_table(found: dict[str, Any]) -> None:
    from agentd_sink_console.neutral import one_line
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("agent", "state", "queued", "turns", "last", "servers", "result or error"):
        table.add_column(column, overflow="fold")
    for agent in found["agents"]:
        said = agent["last_error"] or agent["last_result"]
        cells = (
            agent["name"],
            _state(agent),
            str(agent["queued"]),
            str(agent["turns"]),
            _ago(agent["last_at"]),
            ", ".join(_server(server) for server in agent["servers"]),
            one_line(said)[:200],
        )
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    console = Console() if sys.stdout.isatty() else Console(width=1000)  # a line for each agent, for `grep`
    console.print(f"daemon, pid {found['pid']}", markup=False, highlight=False)
    console.print(table, markup=False)


def _state(agent: dict[str, Any]) -> str:
    if agent["next_try_at"] is not None:
        return f"retrying in {max(0.0, agent['next_try_at'] - time.time()):.0f} s"
    return str(agent["state"])


def _server(server: dict[str, Any]) -> str:
    return f"{server['name']} {server['state']}" + (f" ({server['error']})" if server["error"] else "")


def _ago(at: float | None) -> str:
    if at is None:
        return "-"
    seconds = max(0, int(time.time() - at))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
