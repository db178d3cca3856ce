"""The subcommands of `agentd`: entry points of the group `agentd.commands`, each loaded by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # `agentd --version` has no time for them
    from agentd.registry import PluginRecord, Registry

__all__ = ["CommandGroup"]

_DEFAULT_FOR_FILES = "daemon"
"""The command that `agentd FILE.yaml` runs."""


class CommandGroup(click.Group):
    """Knows its subcommands by the metadata of their distributions, and imports one only to run it or to show help.

    A command that cannot be loaded is listed with its error and hurts no other.
    """

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self._registry: Registry | None = None

    def registry(self) -> Registry:
        """Return the registry, made when it is first needed."""
        if self._registry is None:
            from agentd.registry import Registry

            self._registry = Registry()
        return self._registry

    def _records(self) -> dict[str, PluginRecord]:
        """Return the commands by name: official ones in their own order, then the others."""
        from agentd.registry.official import OFFICIAL_PLUGINS

        order = [name for kind, name in OFFICIAL_PLUGINS if kind == "command"]
        records: dict[str, PluginRecord] = {}
        for record in self.registry().records("command"):
            records.setdefault(record.name, record)
        return dict(sorted(records.items(), key=lambda item: (_rank(order, item[0]), item[0])))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, record in self._records().items() if record.state != "blocked"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._records():
            return None
        command = self.registry().load("command", cmd_name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from agentd.errors import suggest
        from agentd.registry.official import OFFICIAL_PLUGINS

        names = self._records()
        if args and args[0] not in names and args[0].lower().endswith((".yaml", ".yml")):
            args = [_DEFAULT_FOR_FILES, *args]
        if args and args[0] not in names and not args[0].startswith("-"):
            if ("command", args[0]) in OFFICIAL_PLUGINS:
                self.registry().load("command", args[0])  # says which distribution brings it
            ctx.fail(f"no such command {args[0]!r}; there are: {', '.join(names)}{suggest(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from agentd.errors import PluginError

        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
                text = "" if command is None else command.get_short_help_str(limit=80)
            except PluginError:
                text = "(cannot be loaded; `agentd plugins --check` says why)"
            rows.append((name, text))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _rank(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
