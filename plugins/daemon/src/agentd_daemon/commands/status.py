"""`agentd status`: how the agents of a running daemon are."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Final

import click
from agentd_cli import exits
from agentd_cli.options import debug_option

from agentd_daemon.commands.folders import chosen_folder, files_argument, state_dir_option

__all__ = ["status"]


@click.command("status")
@files_argument
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")
@debug_option
def status(*, files: tuple[Path, ...], state_dir: Path | None, as_json: bool) -> int:
    """Show the agents of the daemon that was started with FILE..., their servers, queues and errors.

    Exit code 1 if it does not run.
    """
    from agentd_daemon.state import StateFolder
    from agentd_daemon.status import ask_status

    chosen = chosen_folder(files, state_dir)
    if chosen is None:
        raise click.UsageError(
            "name the configuration FILE that the daemon was started with, or its --state-dir"
        )
    folder = StateFolder(chosen)
    found = ask_status(folder.socket)
    if as_json:
        import json

        click.echo(json.dumps(found if found is not None else {"agents": [], "pid": None}, indent=2))
    elif found is None:
        click.echo(f"no daemon runs in {folder.path}; `agentd FILE...` starts one", err=True)
    else:
        _print_table(found)
    return exits.OK if found is not None else exits.UNFINISHED


_COLUMNS: Final = ("agent", "state", "queued", "turns", "cost", "last", "servers", "asks", "result or error")


def _print_table(found: dict[str, Any]) -> None:
    from agentd_sink_console.neutral import one_line
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [tuple(map(one_line, _cells(agent))) for agent in found["agents"]]
    heading = f"daemon, pid {found['pid']}"
    # For programs: a line for each agent, two blanks between what there is, all of it.
    if not sys.stdout.isatty():
        lines = ("  ".join(cell or "-" for cell in row) for row in (_COLUMNS, *rows))
        click.echo("\n".join([heading, *lines]))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for *cells, said in rows:
        table.add_row(*map(Text, cells), Text(said[:200]))
    console = Console()
    console.print(heading, markup=False, highlight=False)
    console.print(table, markup=False)


def _cells(agent: dict[str, Any]) -> tuple[str, ...]:
    return (
        agent["name"],
        _state(agent),
        str(agent["queued"]),
        str(agent["turns"]),
        _cost(agent["usage"]),
        _ago(agent["last_at"]),
        ", ".join(_server(server) for server in agent["servers"]),
        ", ".join(agent["questions"]),
        agent["last_error"] or agent["last_result"] or "",
    )


def _cost(usage: dict[str, Any]) -> str:
    if usage["cost_usd"] is None:
        return "-"
    return f"{'at least ' if usage.get('unpriced_requests') else ''}${usage['cost_usd']:.4f}"


def _state(agent: dict[str, Any]) -> str:
    if agent["next_try_at"] is not None:
        return f"retrying in {max(0.0, agent['next_try_at'] - time.time()):.0f} s"
    return str(agent["state"]) + (f" on {agent['node'][:12]}" if agent.get("node") else "")


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
