"""The command `agentd`: the group, the version, how errors end it; subcommands are imported when needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, TextIO

import click

from agentd.cli import exits

__all__ = ["cli", "run_command_line"]

_COMMANDS: Final = {
    "run": ("agentd.cli.run", "run", "Give an agent a task and watch it work."),
    "demo": ("agentd.cli.demo", "demo", "Watch an agent work on agentd's own code: no key, no network."),
    "daemon": (
        "agentd.cli.daemon",
        "daemon",
        "Run the agents that a configuration sets up; also: agentd FILE.yaml.",
    ),
    "status": ("agentd.cli.status", "status", "Show the agents of a running daemon."),
    "check": ("agentd.cli.check", "check", "Say what is wrong with a daemon's configuration."),
    "schema": ("agentd.cli.schema", "schema", "Print the JSON Schema of a daemon's configuration."),
    "plugins": ("agentd.cli.plugins_command", "plugins", "List the installed plugins."),
    "doctor": ("agentd.cli.doctor", "doctor", "Say what is installed and what can run here."),
    "escape-test": ("agentd.cli.escape_test", "escape_test", "Try to break out of an executor."),
    "completion": ("agentd.cli.completion", "completion", "Print the completion script for a shell."),
}


class Settings:
    """What holds for every subcommand. (No attrs: `agentd --version` has no time for its import.)"""

    def __init__(self) -> None:
        self.debug = False


class _LazyGroup(click.Group):
    """Knows its subcommands by name and short help, and imports one only to run it or show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name, _ = _COMMANDS[cmd_name]
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and args[0].lower().endswith((".yaml", ".yml")):
            args = ["daemon", *args]
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            from agentd.errors import suggest

            known = ", ".join(_COMMANDS)
            ctx.fail(f"no such command {args[0]!r}; there are: {known}{suggest(args[0], _COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"agentd {version('agentd-core')}")
        ctx.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=exits.exit_code_help(),
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def cli(settings: Settings, debug: bool) -> None:
    """The runtime in which a language model acts by writing code."""
    settings.debug = settings.debug or debug


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run `agentd` with `arguments` (default: the process's own) and return the exit code."""
    _tame_streams()
    settings = Settings()
    try:
        result: Any = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="agentd",
            standalone_mode=False,
            obj=settings,
        )
        sys.stdout.flush()  # here a closed pipe can still be told apart; at exit it is only noise
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _report_usage(error)
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except BrokenPipeError:
        return _quiet_pipe()
    except Exception as error:
        return _report(exits.unwrapped(error), settings)
    return result if isinstance(result, int) else exits.OK


def _tame_streams() -> None:
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us: the next file opened must not get its number
            setattr(sys, name, stream := _opened_on(number))
        if number and hasattr(stream, "reconfigure"):
            # A character that the terminal's encoding lacks must not end a run.
            stream.reconfigure(errors="backslashreplace")


def _opened_on(number: int) -> TextIO:
    """Open /dev/null as a standard stream."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.set_inheritable(number, True)
    return open(number, "r" if number == 0 else "w", closefd=False)


def _quiet_pipe() -> int:
    """Whoever read our output has gone (`| head`): end like any program does, without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.BROKEN_PIPE


def _report_usage(error: click.ClickException) -> int:
    click.echo(f"agentd: error: {error.format_message()}", err=True)
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"try: {context.command_path} --help", err=True)
    return error.exit_code if error.exit_code != 1 else exits.USAGE


def _report(error: BaseException, settings: Settings) -> int:
    if isinstance(error, BrokenPipeError):
        return _quiet_pipe()
    if settings.debug:
        import traceback

        traceback.print_exception(error)
    click.echo(f"agentd: error: {exits.message_of(error)}", err=True)
    if not settings.debug and not exits.is_expected(error):
        click.echo("this is a defect in agentd; `agentd --debug ...` shows where", err=True)
    return exits.exit_code(error)
