"""`agentd fleet`: the fleets of a cluster as a table, as JSON, as a page; and the simulation of larger ones."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from agentd.errors import ConfigError
from agentd_cli.options import debug_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agentd_ray.status import FleetStatus

__all__ = ["fleet"]


@click.group(invoke_without_command=True)
@click.option("--address", default="auto", show_default=True, help="Of the Ray cluster, such as HOST:6379.")
@click.option("--sessions", "with_sessions", is_flag=True, help="A row for each session, too.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.2),
    is_flag=False,
    flag_value=2.0,
    metavar="SECONDS",
    help="Again and again.",
)
@click.option(
    "--html", "page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write one page."
)
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=5.0, show_default=True, metavar="SECONDS",
    help="How long hosts may take to answer.",
)  # fmt: skip
@debug_option
@click.pass_context
def fleet(
    context: click.Context,
    *,
    address: str,
    with_sessions: bool,
    as_json: bool,
    watch: float | None,
    page: Path | None,
    timeout_s: float,
) -> None:
    """Show the fleets of a Ray cluster: hosts, sessions by state, memory, queue, what was moved and lost.

    The hosts themselves are asked, so it works from any machine of the cluster, whichever program has opened the fleet.
    """
    if context.invoked_subcommand is not None:
        return
    from agentd_ray.looking import look_at_fleets

    with _connected(address):
        if watch is not None:
            _watch(
                lambda: look_at_fleets(timeout_s),
                watch,
                as_json=as_json,
                with_sessions=with_sessions,
                page=page,
            )
            return
        found = look_at_fleets(timeout_s)
        if page is not None:
            write_page(page, found, with_sessions=with_sessions)
        if as_json:
            click.echo(json.dumps([one.as_dict() for one in found], indent=2))
        elif page is None:
            _print(found, with_sessions)
        else:
            click.echo(str(page))


@fleet.command()
@click.option("--nodes", default="10,100,1000", show_default=True, metavar="N,N,...", help="How many nodes.")
@click.option("--cores", default=16, show_default=True, help="Of a node.")
@click.option("--memory-gib", default=64.0, show_default=True, help="Of a node.")
@click.option("--per-host", default=400, show_default=True, help="Sessions on a node, at most.")
@click.option("--turns", default=8, show_default=True, help="Rounds of a task.")
@click.option("--model-s", default=8.0, show_default=True, help="Seconds of the model in a round.")
@click.option("--block-cpu-s", default=0.2, show_default=True, help="CPU seconds of the code in a round.")
@click.option("--tokens", default=8000, show_default=True, help="Of a round.")
@click.option("--requests-per-minute", type=float, help="Limit of the model's provider.")
@click.option("--tokens-per-minute", type=float, help="Limit of the model's provider.")
@click.option("--events", default=0, show_default=True, help="Of a round that the driver reads; 0 for a map.")
@click.option("--prefixes", default=1, show_default=True, help="Partitions that S3 has made of the store.")
@click.option("--lease-s", default=3.0, show_default=True, help="Of the hosts.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@debug_option
def simulate(*, nodes: str, as_json: bool, **shape: Any) -> None:
    """Calculate what larger fleets hold, and where they saturate. Needs no cluster.

    The constants are measured; docs/scale.md says how.
    """
    from agentd_ray.scale import FleetShape, as_data, report, rows_of

    try:
        numbers = [int(word) for word in nodes.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"must be whole numbers with commas, got {nodes!r}", param_hint="--nodes"
        ) from None
    if min(numbers) < 1:
        raise click.BadParameter("must be 1 or more", param_hint="--nodes")
    rows = rows_of(FleetShape(**shape), numbers)
    click.echo(json.dumps(as_data(rows), indent=2) if as_json else report(rows))


@contextmanager
def _connected(address: str) -> Iterator[None]:
    import logging

    from agentd_ray.connecting import connect, import_ray

    is_ours = connect(address, {"logging_level": logging.ERROR})
    try:
        yield
    finally:
        if is_ours:
            import_ray().shutdown()


def _watch(look: Any, pause_s: float, *, as_json: bool, with_sessions: bool, page: Path | None) -> None:
    """Show it until somebody ends it: JSON as a line each time."""
    from rich.live import Live

    try:
        if as_json or page is not None:
            while True:
                found = look()
                if page is not None:
                    write_page(page, found, with_sessions=with_sessions, refresh_s=pause_s)
                if as_json:
                    click.echo(json.dumps([one.as_dict() for one in found]))
                time.sleep(pause_s)
        with Live(_table(look(), with_sessions), auto_refresh=False, screen=False) as live:
            while True:
                time.sleep(pause_s)
                live.update(_table(look(), with_sessions), refresh=True)
    except KeyboardInterrupt:
        pass


def write_page(
    page: Path, found: list[FleetStatus], *, with_sessions: bool, refresh_s: float | None = None
) -> None:
    """Write the page whole or not at all. :raises ConfigError: if it cannot be written, or something else is there."""
    from agentd_ray.status_page import status_page

    text = status_page(found, refresh_s=refresh_s, with_sessions=with_sessions)
    to = Path(os.path.realpath(page))  # the file that a link names is replaced, not the link
    if to.exists() and not to.is_file():
        raise ConfigError(
            f"cannot write {page}: it is not a file, and a page is replaced as a whole; name a file"
        )
    new = to.with_name(f".agentd-{os.urandom(8).hex()}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(to)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {page}: {error.strerror}; name another file with --html") from error


def _print(found: list[FleetStatus], with_sessions: bool) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a table in a file or pipe is not cut
    console.print(_table(found, with_sessions))


def _table(found: list[FleetStatus], with_sessions: bool) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from agentd_ray.status_rows import HOST_COLUMNS, SESSION_COLUMNS, headline, host_row, session_rows

    if not found:
        return Text("there is no fleet on this cluster; `async with agentd_ray.Fleet(...)` opens one")
    parts: list[RenderableType] = []
    for one in found:
        parts.append(Text(headline(one), style="bold"))
        hosts = Table(*HOST_COLUMNS, box=None, pad_edge=False)
        for host in one.hosts:
            hosts.add_row(*map(Text, host_row(host)), style="red" if host.error else None)
        parts.append(hosts)
        if with_sessions:
            rows = Table(*SESSION_COLUMNS, box=None, pad_edge=False)
            for row in session_rows(one):
                rows.add_row(*map(Text, row))
            parts.append(rows)
    return Group(*parts)
