"""`agentd checkpoints`: what a store holds."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from agentd_cli.options import debug_option

__all__ = ["checkpoints"]


@click.command()
@click.option(
    "--store", "url", required=True, metavar="URL", help="Such as s3://bucket/agents or file:///srv/agents."
)
@click.argument("conversation", required=False)
@click.option(
    "--delete",
    "deleted",
    metavar="ID",
    multiple=True,
    help="Remove a checkpoint of CONVERSATION (id or label).",
)
@click.option(
    "--forget",
    is_flag=True,
    help="Remove all of CONVERSATION, and then what no other checkpoint needs. It cannot be had back.",
)
@click.option("--collect", is_flag=True, help="Remove what no checkpoint needs any more.")
@click.option(
    "--verify",
    is_flag=True,
    help="Read everything, and say what is lost or damaged; exit code 1 if anything is.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@debug_option
def checkpoints(
    *,
    url: str,
    conversation: str | None,
    deleted: tuple[str, ...],
    forget: bool,
    collect: bool,
    verify: bool,
    as_json: bool,
) -> None:
    """List the conversations of a store of checkpoints, or the checkpoints of one of them.

    The key of an encrypted store is read from AGENTD_STORE_KEY, credentials as the provider's own tools read them.
    """
    from agentd_store.collecting import collect_garbage
    from agentd_store.listing import (
        conversation_rows,
        delete_checkpoints,
        find_damage,
        forget_conversation,
        store_rows,
    )
    from agentd_store.opened import open_store

    store = open_store(url, make=False)
    if deleted:
        if conversation is None:
            raise click.UsageError("--delete: name the conversation, too")
        delete_checkpoints(store, conversation, deleted)
    if forget:
        if conversation is None:
            raise click.UsageError("--forget: name the conversation, too")
        forget_conversation(store, conversation)
        conversation, collect = None, True  # what is left to be told is of the others
    damage = find_damage(store, _progress("objects read")) if verify else []
    rows = store_rows(store) if conversation is None else conversation_rows(store, conversation)
    told: dict[str, Any] = {"store": url, "checkpoints" if conversation else "conversations": rows}
    if verify:
        told["damaged"] = damage
    if collect:
        done = collect_garbage(store)
        told["collected"] = {"objects": done.objects, "log_entries": done.entries, "dead_holds": done.holds}
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _show(rows)
        for sentence in damage:
            click.echo(sentence, err=True)
        if verify and not damage:
            click.echo("nothing is lost or damaged")
        if collect:
            click.echo(
                f"removed {done.objects} objects and {done.entries} entries of logs that nothing needs"
            )
    if damage:
        raise click.exceptions.Exit(1)


def _progress(what: str) -> Any:
    last = 0.0

    def show(done: int, of: int) -> None:
        nonlocal last
        if sys.stderr.isatty() and (time.monotonic() - last > 0.2 or done == of):
            last = time.monotonic()
            click.echo(f"\r{done} of {of} {what}", err=True, nl=done == of)

    return show


def _show(rows: list[dict[str, Any]]) -> None:
    if not rows:
        click.echo("there are none yet")
        return
    table = [list(rows[0]), *([_text(name, row[name]) for name in row] for row in rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _text(name: str, value: Any) -> str:
    if name == "at":
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value)) if value else "-"
    return "-" if value in (None, "") else str(value)
