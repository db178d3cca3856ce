"""The subcommands of `agentd`: entry points of the group `agentd.commands`, each loaded by itself."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:  # `agentd --version` has no time for them
    from agentd.registry import Registry
    from click.shell_completion import CompletionItem

__all__ = ["CommandGroup"]

_DEFAULT_FOR_FILES = "daemon"
"""The command that `agentd FILE.yaml` runs."""
_DEFAULT_FOR_A_PERSON = "chat"
"""The command that bare `agentd` runs on a terminal."""


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

    def _names(self) -> list[str]:
        """Return the commands that may be loaded: official ones in their own order, then the others."""
        from agentd.registry.official import OFFICIAL_PLUGINS

        order = [name for kind, name in OFFICIAL_PLUGINS if kind == "command"]
        # of two with one name, one may be blocked and the other not
        names = {record.name for record in self.registry().records("command") if record.state != "blocked"}
        return sorted(names, key=lambda name: (_rank(order, name), name))

    def _is_installed(self, name: str) -> bool:
        return any(record.name == name for record in self.registry().records("command"))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing and self._may_talk():
            args = [_DEFAULT_FOR_A_PERSON]
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not ctx.resilient_parsing and self._talks_with(ctx, error.option_name):
                ctx.fail(
                    f"no such option {error.option_name}; for a conversation: agentd chat {shlex.join(given)}"
                )
            raise

    def _talks_with(self, ctx: click.Context, option: str) -> bool:
        """Tell whether an option is one of the command that `agentd` alone stands for."""
        if _DEFAULT_FOR_A_PERSON not in self._names():
            return False
        command = self.get_command(ctx, _DEFAULT_FOR_A_PERSON)
        return command is not None and any(option in parameter.opts for parameter in command.params)

    def _may_talk(self) -> bool:
        """Tell whether a person is at both ends, and there is a command to talk with."""
        from agentd_cli.prompt import prompt_possible

        return prompt_possible(sys.stdin, sys.stdout) and _DEFAULT_FOR_A_PERSON in self._names()

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported. Raises `PluginError` if it cannot be used; a completion passes it over."""
        from agentd.errors import PluginError

        if not self._is_installed(cmd_name):
            return None
        try:
            command = self.registry().load("command", cmd_name)
        except PluginError:
            if ctx.resilient_parsing:  # a shell completes words: an error would stand in the person's line
                return None
            raise
        assert isinstance(command, click.Command)  # the registry has seen to it
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return what completes a word: commands, and files, which may be a daemon's configuration."""
        found = super().shell_complete(ctx, incomplete)
        if found or not incomplete or incomplete.startswith("-"):
            return found
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from agentd.errors import suggest
        from agentd.registry.official import OFFICIAL_PLUGINS

        if args and not self._is_installed(args[0]) and args[0].lower().endswith((".yaml", ".yml")):
            args = [_DEFAULT_FOR_FILES, *args]
        unknown = bool(args) and not self._is_installed(args[0]) and not args[0].startswith("-")
        if unknown and not ctx.resilient_parsing:
            if ("command", args[0]) in OFFICIAL_PLUGINS:
                self.registry().load("command", args[0])  # says which distribution brings it
            names = self._names()
            ctx.fail(f"no such command {args[0]!r}; there are: {', '.join(names)}{suggest(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from agentd.errors import PluginError

        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
            except PluginError:
                rows.append((name, "(cannot be loaded; `agentd plugins --check --kind command` says why)"))
            else:
                if command is not None and not command.hidden:
                    rows.append((name, command.get_short_help_str(limit=80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _rank(order: list[str], name: str) -> int:
    return order.index(name) if name in order else len(order)
