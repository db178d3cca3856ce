"""Options that several subcommands share, and what completes their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

__all__ = ["EXECUTOR_HELP", "PluginKind", "debug_option", "names_or_files", "plugin_names"]

EXECUTOR_HELP: Final = (
    "Where the code runs (default: AGENTD_EXECUTOR, then auto: the sandbox native where this machine can run it, else "
    "subprocess, which is no sandbox)."
)

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


class PluginKind(click.Choice):  # type: ignore[type-arg]  # it takes an argument from click 8.2 on
    """A kind of plugin, as `agentd plugins` lists it; hyphens and blanks for `_`, capitals and the plural are taken."""

    def __init__(self) -> None:
        from agentd.hookspecs import GROUPS

        super().__init__(list(GROUPS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from agentd.registry.command import kind_of

        return super().convert(kind_of(value), param, ctx)


def plugin_names(kind: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completer for the names of the installed plugins of a kind."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from agentd.registry import Registry

        names = (record.name for record in Registry().records(kind))
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    return complete


def names_or_files(*names: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completer for these names and, where none begins so, for files."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]

    return complete
