"""The command `agentd`: the group, the version, how errors end it; subcommands are imported when needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

from agentd_cli import exits
from agentd_cli.command_plugins import CommandGroup

__all__ = ["cli", "run_command_line"]


class Settings:
    """What holds for every subcommand. (No attrs: `agentd --version` has no time for its import.)"""

    def __init__(self) -> None:
        self.debug = False


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"agentd {version('agentd-core')}")
        ctx.exit()


@click.group(
    cls=CommandGroup,
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
    import logging

    from agentd_sink_console.neutral import NeutralFormatter

    # What prints warnings where nobody has set up a log: theirs quote servers and plugins.
    assert logging.lastResort is not None
    logging.lastResort.setFormatter(NeutralFormatter())


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
    from agentd_sink_console.neutral import neutral

    if isinstance(
        error, getattr(click.exceptions, "NoArgsIsHelpError", ())
    ):  # click 8.2 and newer raise the help
        click.echo(neutral(error.format_message()), err=True)
        return exits.USAGE
    click.echo(f"agentd: error: {neutral(error.format_message())}", err=True)
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"try: {context.command_path} --help", err=True)
    return error.exit_code if error.exit_code != 1 else exits.USAGE


def _report(error: BaseException, settings: Settings) -> int:
    if isinstance(error, BrokenPipeError):
        return _quiet_pipe()
    if settings.debug:
        import traceback

        from agentd_sink_console.neutral import neutral

        click.echo(neutral("".join(traceback.format_exception(error))), err=True, nl=False)
    click.echo(f"agentd: error: {exits.lines_of(error)}", err=True)
    if not settings.debug and not exits.is_expected(error):
        click.echo("this is a defect in agentd; `agentd --debug ...` shows where", err=True)
    return exits.exit_code(error)
