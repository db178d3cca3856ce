"""`agentd daemon`, or `agentd FILE.yaml`: run the agents of a configuration."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from agentd_cli import exits
from agentd_cli.options import debug_option

from agentd_daemon.commands.fleet import check_usage, fleet_options, make_fleet
from agentd_daemon.commands.signals import Signals

if TYPE_CHECKING:
    from agentd_daemon.config.values import DaemonConfig
    from agentd_daemon.daemon import Daemon
    from agentd_daemon.places import AgentPlace
    from agentd_daemon.state import StateFolder

__all__ = ["daemon"]

log = logging.getLogger("agentd.daemon")


@click.command("daemon")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where journal, workspaces and checkpoints are kept (default: `state_dir` of the configuration, then a "
    "folder of these files in your state folder).",
)
@fleet_options
@click.option(
    "--once", is_flag=True, help="Handle what there is to do now, then end; exit code 1 if something failed."
)
@click.option("--no-repl", is_flag=True, help="No prompt, although there is a terminal.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the events of all agents as JSON lines; no prompt."
)
@click.option("--quiet", "-q", is_flag=True, help="Log warnings and errors only.")
@debug_option
def daemon(
    *,
    files: tuple[Path, ...],
    state_dir: Path | None,
    address: str | None,
    store: str | None,
    once: bool,
    no_repl: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run the agents that the configuration FILEs set up, until Ctrl-C or SIGTERM.

    Agents wake when a resource that they subscribe to changes. In a terminal there is a prompt to talk with them.
    SIGHUP reads the configuration again. `agentd check FILE...` says what is wrong with one. Files named `.env` are not
    read.

    Exit code 0 after SIGTERM, SIGINT and the prompt's end; 2 if the configuration cannot be used or another daemon has
    the state folder. With --once, 1 if something failed, 130 or 143 if SIGINT or SIGTERM ended it before its time.
    A second signal, or an end that takes longer than 30 s, ends it at once (130 or 143). With --json, 141 if the reader
    of the output went away.
    """
    from agentd_daemon.commands.log import log_written
    from agentd_daemon.config.problems import InvalidConfigError
    from agentd_daemon.state import default_state_dir

    check_usage(address, store)
    with log_written(logging.WARNING if quiet else logging.INFO):
        read = partial(_read, files, placed=address is not None)
        try:
            config = read()
        except InvalidConfigError as error:
            return _print_problems(error)
        place = None if address is None else make_fleet(config, address, store)
        chosen = state_dir or config.state_dir or default_state_dir(files)
        return _run(config, read, chosen, place, once=once, no_repl=no_repl, as_json=as_json)


def _run(
    config: DaemonConfig,
    read: Callable[[], DaemonConfig],
    chosen: str | Path,
    place: AgentPlace | None,
    *,
    once: bool,
    no_repl: bool,
    as_json: bool,
) -> int:
    import anyio

    from agentd_daemon.daemon import Daemon
    from agentd_daemon.state import StateFolder

    with Signals() as signals, StateFolder(chosen) as folder:
        made = Daemon(config, folder, reload=read, place=place)
        with _events_printed(made, signals) if as_json else nullcontext():
            repl = not (no_repl or once or as_json)
            work = partial(_serve, made, folder, signals, once=once, repl=repl)
            anyio.run(work, backend="asyncio")
    # An orderly end is a success, however it was asked for; with --once it has cut work off.
    if signals.exit_code is not None and (once or signals.exit_code == exits.BROKEN_PIPE):
        return signals.exit_code
    return exits.UNFINISHED if made.failures else exits.OK


@contextmanager
def _events_printed(made: Daemon, signals: Signals) -> Iterator[None]:
    from agentd.events import as_dict

    from agentd_daemon.commands.outlet import Outlet, write_whole

    def line(item: dict[str, Any]) -> bytes:
        return json.dumps(item).encode()

    with Outlet(
        partial(write_whole, 1),
        dropped=lambda count: line({"type": "dropped", "count": count}),
        on_broken=lambda: signals.end(exits.BROKEN_PIPE),
    ) as outlet:
        made.listen(lambda agent, event: outlet.put(line({"agent": agent, **as_dict(event)})))
        yield


def _read(files: tuple[Path, ...], *, placed: bool) -> DaemonConfig:
    """Read the configuration; what `agentd check` would object to, plugins included, is an error here, too.

    :param placed: the agents are to be at a place: what goes with this machine alone is an error.
    """
    from agentd_daemon.commands.check import unfit_plugins
    from agentd_daemon.config.loading import examine, unfit_for_places
    from agentd_daemon.config.problems import InvalidConfigError

    found = examine(files)
    for warning in found.warnings:
        log.warning("%s", warning)
    unfit = [*unfit_plugins(found, broken=False), *(unfit_for_places(found) if placed else ())]
    problems = found.with_problems(unfit)
    if problems or found.config is None:
        raise InvalidConfigError(problems)
    return found.config


def _print_problems(error: Exception) -> int:
    from agentd_sink_console.neutral import one_line

    for problem in getattr(error, "problems", (error,)):
        click.echo(one_line(str(problem)), err=True)
    click.echo("agentd: the configuration cannot be used", err=True)
    return exits.USAGE


async def _serve(made: Daemon, folder: StateFolder, signals: Signals, *, once: bool, repl: bool) -> None:
    import asyncio

    import anyio

    loop = asyncio.get_running_loop()
    reload_due = asyncio.Event()

    def stop() -> None:
        log.info("stopping; a second signal ends it at once")
        made.stop()

    async def reload_when_due() -> None:
        while await reload_due.wait():
            reload_due.clear()  # signals that come from now on lead to one more
            await made.reload()

    async with anyio.create_task_group() as group:
        with signals.obeyed_by(
            stop=lambda: loop.call_soon_threadsafe(stop),
            reload=lambda: loop.call_soon_threadsafe(reload_due.set),
        ):
            group.start_soon(reload_when_due)
            if repl:
                group.start_soon(_talk, made, folder, signals)
            await made.run(once=once)
        group.cancel_scope.cancel()


async def _talk(made: Daemon, folder: StateFolder, signals: Signals) -> None:
    """Offer a prompt, if a person is there; without one the daemon just works."""
    from agentd.errors import MissingPluginError
    from agentd_cli.prompt import prompt_possible

    from agentd_daemon.repl import run_repl

    if not prompt_possible(sys.stdin, sys.stdout):
        return
    await made.started.wait()
    try:
        await run_repl(made, history_file=folder.repl_history)
        signals.limit()  # the person has quit
    except MissingPluginError as error:
        log.warning("no prompt: %s", error)
    except Exception:  # the prompt is a convenience: the agents go on without it
        log.exception("the prompt failed; the agents go on")
