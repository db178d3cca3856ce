"""`agentd daemon`, or `agentd FILE.yaml`: run the agents of a configuration."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from agentd.cli import exits
from agentd.cli.interrupts import end_now
from agentd.cli.options import debug_option

if TYPE_CHECKING:
    from agentd.daemon.config import DaemonConfig
    from agentd.daemon.daemon import Daemon
    from agentd.daemon.state import StateFolder
    from agentd.events import Event

__all__ = ["daemon"]

STOP_S: Final = 30.0
"""How long an orderly end may take: running code, servers that ignore TERM."""


@click.command("daemon")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where journal, workspaces and checkpoints are kept (default: `state_dir` of the configuration, then a "
    "folder of these files in your state folder).",
)
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
    *, files: tuple[Path, ...], state_dir: Path | None, once: bool, no_repl: bool, as_json: bool, quiet: bool
) -> int:
    """Run the agents that the configuration FILEs set up, until Ctrl-C or SIGTERM.

    Agents wake when a resource that they subscribe to changes. In a terminal there is a prompt to talk with them.
    SIGHUP reads the configuration again. `agentd check FILE...` says what is wrong with one.
    """
    import asyncio

    from agentd.daemon.loading import load
    from agentd.daemon.problems import InvalidConfigError
    from agentd.daemon.state import StateFolder, default_state_dir

    _set_up_log(logging.WARNING if quiet else logging.INFO)
    try:
        config = load(files)
    except InvalidConfigError as error:
        return _print_problems(error)
    chosen = state_dir or config.state_dir or default_state_dir(files)
    with StateFolder(chosen) as folder:
        return asyncio.run(
            _serve(config, folder, files, once=once, as_json=as_json, repl=not (no_repl or once or as_json))
        )


def _print_problems(error: Exception) -> int:
    for problem in getattr(error, "problems", (error,)):
        click.echo(str(problem), err=True)
    click.echo("agentd: the configuration cannot be used", err=True)
    return exits.USAGE


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to what `sys.stderr` is now: the prompt diverts it while it is there."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> object:
        return sys.stderr


def _set_up_log(level: int) -> None:
    handler = _Stderr()
    # Where systemd reads it, the journal has the time itself.
    time = "" if os.environ.get("JOURNAL_STREAM") else "%(asctime)s "
    handler.setFormatter(logging.Formatter(f"{time}%(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("agentd")
    log.handlers = [handler]
    log.setLevel(level)
    log.propagate = False


async def _serve(
    config: DaemonConfig,
    folder: StateFolder,
    files: tuple[Path, ...],
    *,
    once: bool,
    as_json: bool,
    repl: bool,
) -> int:
    import anyio

    from agentd.daemon.daemon import Daemon
    from agentd.daemon.loading import load

    made = Daemon(config, folder, reload=lambda: load(files))
    if as_json:
        made.listen(_print_event)
    stops = _Stops()
    async with anyio.create_task_group() as group:

        async def work() -> None:
            try:
                await made.run(once=once)
            finally:
                group.cancel_scope.cancel()

        group.start_soon(work)
        group.start_soon(_obey, made, stops)
        if repl:
            group.start_soon(_talk, made, folder)
    stops.over()
    if stops.code is not None and once:
        return stops.code
    return exits.UNFINISHED if made.failures else exits.OK


def _print_event(agent: str, event: Event) -> None:
    import json

    from agentd.events import as_dict

    sys.stdout.write(json.dumps({"agent": agent, **as_dict(event)}) + "\n")
    sys.stdout.flush()


class _Stops:
    """The way down: an orderly stop first, an end at once if that takes too long or is asked for again."""

    def __init__(self) -> None:
        self.code: int | None = None
        self._timer: threading.Timer | None = None

    def begin(self, number: int) -> None:
        """Take a signal that ends the daemon."""
        code = exits.INTERRUPTED if number == signal.SIGINT else exits.TERMINATED
        if self.code is not None:
            end_now(code)
        self.code = code
        self._timer = threading.Timer(STOP_S, self._too_long, (code,))
        self._timer.daemon = True
        self._timer.start()

    def _too_long(self, code: int) -> None:
        os.write(
            2, b"agentd: the orderly end took too long; ending now, what was accepted is in the journal\n"
        )
        end_now(code)

    def over(self) -> None:
        """The orderly end has come."""
        if self._timer is not None:
            self._timer.cancel()


async def _obey(made: Daemon, stops: _Stops) -> None:
    """Act on signals: TERM and INT end the daemon, HUP reads the configuration again."""
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                await made.reload()
            else:
                stops.begin(number)
                made.stop()


async def _talk(made: Daemon, folder: StateFolder) -> None:
    """Offer a prompt, if a person is there; without one the daemon just works."""
    from agentd.daemon.repl import repl_possible, run_repl
    from agentd.errors import MissingPluginError

    if not repl_possible(sys.stdin, sys.stdout):
        return
    await made.started.wait()
    try:
        await run_repl(made, history_file=folder.repl_history)
    except MissingPluginError as error:
        logging.getLogger("agentd.daemon").warning("no prompt: %s", error)
    except Exception:  # the prompt is a convenience: the agents go on without it
        logging.getLogger("agentd.daemon").exception("the prompt failed; the agents go on")
