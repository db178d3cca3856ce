"""`agentd chat --list` and `--forget`: the conversations of a folder, shown and removed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentd_chat.kept import ConversationFolder, KeptConversation

__all__ = ["complete_id", "forget_named", "list_kept"]


def complete_id(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the id of a conversation of the folder."""
    from pathlib import Path

    from agentd_chat.kept import ConversationFolder

    folder = ConversationFolder(Path(ctx.params.get("cwd") or "."))
    return [
        CompletionItem(one.id, help=one.title or None)
        for one in folder.all()
        if one.id.startswith(incomplete)
    ]


def list_kept(folder: ConversationFolder, *, as_json: bool) -> None:
    """Print the conversations of a folder, the newest first, a line each."""
    from agentd_sink_console.neutral import one_line

    from agentd_chat.views import turns_of

    found = list(folder.all())
    if as_json:
        click.echo(json.dumps([_as_data(one) for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        at = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.updated_at))
        click.echo("  ".join((one.id, at, turns_of(one), one_line(one.title) or "-")))
    if not found:
        click.echo(f"no conversation was kept of {one_line(str(folder.workspace))}", err=True)


def _as_data(one: KeptConversation) -> dict[str, Any]:
    return {
        "id": one.id,
        "title": one.title,
        "turns": len(one.turns),
        "model": one.model,
        "cost_usd": one.spent.cost_usd,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    }


def forget_named(folder: ConversationFolder, named: Sequence[str], snapshots: str | None) -> None:
    """Remove conversations with all that is kept of them, and say which. Raises `AgentdError`."""
    from agentd.registry import Registry
    from agentd_sink_console.neutral import one_line

    from agentd_chat.forgetting import forget

    registry = Registry()
    ids = dict.fromkeys(folder.id_of(one, "--forget") for one in named)
    for id in ids:
        gone = forget(folder, id, registry, snapshots or "packs")
        click.echo(f"forgotten: {id}  {one_line(gone.title)}".rstrip())
