"""Options and arguments that several subcommands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = ["debug_option", "key_values", "plugin_names"]

F = TypeVar("F", bound=Callable[..., Any])


def _set_debug(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and ctx.obj is not None:
        ctx.obj.debug = True


def debug_option(function: F) -> F:
    """Let `--debug` stand behind the subcommand, too."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )(function)


def key_values(pairs: Iterable[str], option: str) -> dict[str, object]:
    """Read `K=V` pairs. A value that is JSON (a number, true, null, a list, ...) becomes that, all else text.

    Raises `click.BadParameter` for a pair without a key.
    """
    import json

    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"must look like KEY=VALUE, got {pair!r}", param_hint=option)
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values


def plugin_names(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completer for the names of the installed plugins of a kind."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from agentd.registry import Registry

        names = (record.name for record in Registry().records(kind))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete
