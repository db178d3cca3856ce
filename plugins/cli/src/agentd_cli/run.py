"""`agentd run`: give an agent a task and watch it work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from agentd_cli import exits
from agentd_cli.options import EXECUTOR_HELP, debug_option, plugin_names

if TYPE_CHECKING:
    from agentd.protocols import EventSink

    from agentd_cli.interrupts import Interrupts
    from agentd_cli.views import Progress

__all__ = ["run"]

_ABOVE_ZERO = click.FloatRange(min=0, min_open=True)


@attrs.frozen(kw_only=True)
class _Order:
    """What the command line asked for."""

    task: str
    session: dict[str, Any]  # what plugins and model it is to have
    mode: Literal["ptc", "tools"]
    cwd: Path
    max_turns: int
    wall_time_s: float
    checkpoints: bool
    rewind: str | None


@click.command(epilog="Exit codes: see agentd --help.")
@click.argument("words", nargs=-1, metavar="[TASK] [-]")
@click.option("--model", "-m", help="The model's name (default: AGENTD_MODEL, then OPENAI_MODEL).")
@click.option("--base-url", help="An OpenAI-compatible server (default: OPENAI_BASE_URL, then OpenAI).")
@click.option("--api", type=click.Choice(["chat", "responses"]), default="chat", show_default=True)
@click.option(
    "--mode",
    type=click.Choice(["ptc", "tools"]),
    default="ptc",
    show_default=True,
    help="ptc: the model acts by writing code; tools: it calls the tools one by one, as JSON.",
)
@click.option(
    "--executor",
    "-e",
    metavar="NAME",
    shell_complete=plugin_names("executor"),
    help=f"{EXECUTOR_HELP} `agentd plugins --kind executor` lists them.",
)
@click.option(
    "--parser",
    "parsers",
    multiple=True,
    metavar="NAME",
    shell_complete=plugin_names("parser"),
    help="A notation in which the model may write blocks; repeatable. It is taught the first (default: fence).",
)
@click.option(
    "--renderer",
    metavar="NAME",
    shell_complete=plugin_names("skill_renderer"),
    help="What writes the tools as files for the code (default: agentskills).",
)
@click.option(
    "--skills",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A skill's folder, or a folder of skills, that the code may read; repeatable.",
)
@click.option(
    "--snapshots",
    metavar="NAME",
    shell_complete=plugin_names("snapshot_store"),
    help="Where checkpoints are kept (default: packs).",
)
@click.option(
    "-o",
    "--option",
    "--executor-option",
    "plugin_options",
    multiple=True,
    metavar="[KIND.NAME.]KEY=VALUE",
    help="An option of the executor, or of another plugin of this run, such as sink.jsonl.path=runs or "
    "model.request.temperature=0; a value that is JSON is read as such; repeatable.",
)
@click.option(
    "--cwd",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The workspace (default: here).",
)
@click.option(
    "--max-turns", type=click.IntRange(min=1), default=20, show_default=True, help="Requests to the model."
)
@click.option("--timeout", type=_ABOVE_ZERO, metavar="SECONDS", help="For one block of code (default: 60).")
@click.option(
    "--wall-time",
    type=_ABOVE_ZERO,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="For the whole run.",
)
@click.option(
    "--tool",
    "--tools",
    "tools",
    multiple=True,
    metavar="FILE.py|NAME:...",
    type=click.Path(),  # completes names of files
    help="Offer the @tool functions of this file, or what the tool source NAME makes of the text; repeatable.",
)
@click.option(
    "--mcp",
    "mcp_targets",
    multiple=True,
    metavar="TARGET",
    help="Offer the tools of this MCP server, a URL or a command line in quotes; repeatable.",
)
@click.option(
    "--mcp-config",
    "mcp_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Offer those of the MCP servers in this JSON file (mcpServers, or VS Code's servers); repeatable.",
)
@click.option(
    "--log",
    "log_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the events as JSON lines in a new file in DIR (or in DIR itself if it ends in .jsonl).",
)
@click.option(
    "--sink",
    "sink_names",
    multiple=True,
    metavar="NAME",
    shell_complete=plugin_names("event_sink"),
    help="Send the events to this plugin, too; repeatable.",
)
@click.option(
    "--checkpoints", is_flag=True, help="Keep a checkpoint of workspace, conversation and shell each turn."
)
@click.option(
    "--rewind",
    metavar="CHECKPOINT",
    help="First go back to this checkpoint of the workspace: an id, a label, a turn, or `last`.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON lines.")
@click.option("--quiet", "-q", is_flag=True, help="Print the final answer only.")
@click.option(
    "--full-output",
    is_flag=True,
    help="On a terminal, show all lines that code prints, not only the first and last ones.",
)
@debug_option
def run(
    *,
    words: tuple[str, ...],
    timeout: float | None,
    wall_time: float,
    mode: Literal["ptc", "tools"],
    cwd: Path,
    max_turns: int,
    checkpoints: bool,
    rewind: str | None,
    as_json: bool,
    quiet: bool,
    full_output: bool,
    **plugins: Any,
) -> int:
    """Let an agent work on TASK; it acts by running the code that it writes.

    TASK is a text. With `-`, standard input is added to it: git diff | agentd run "Say what changed." -
    Without TASK and with piped input, that is the task.
    Needs a model: OPENAI_API_KEY, or a server of your own with --base-url.
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    task = _read_task(words)
    from agentd_cli.run_plugins import choose_plugins
    from agentd_cli.views import make_view

    order = _Order(
        task=task,
        session=choose_plugins(has_code=mode == "ptc", timeout_s=timeout, **plugins),
        mode=mode,
        cwd=cwd,
        max_turns=max_turns,
        wall_time_s=wall_time,
        checkpoints=checkpoints,
        rewind=rewind,
    )
    view = make_view(sys.stdout, as_json=as_json, quiet=quiet, full_output=full_output)
    return _carry_out(order, view, quiet=quiet)


def _read_task(words: tuple[str, ...]) -> str:
    texts = [word for word in words if word != "-"]
    if len(texts) > 1:
        raise click.UsageError(f"one task, please; put it in quotes: {' '.join(texts)!r}")
    # Never unasked beside a text: `while read x; do agentd run "..."; done` would lose its input.
    if "-" in words or (not texts and not sys.stdin.isatty()):
        texts.append(sys.stdin.read())
    if not texts:
        raise click.UsageError('no task; for example: agentd run "how many Python files are here?"')
    task = "\n\n".join(text for text in texts if text.strip())
    if not task:
        raise click.UsageError("the task is empty")
    return task


def _carry_out(order: _Order, view: EventSink, *, quiet: bool) -> int:
    import anyio

    from agentd_cli.interrupts import Interrupts
    from agentd_cli.views import Progress

    progress = Progress(view)
    with Interrupts() as interrupts:
        try:
            anyio.run(_work, order, progress, interrupts)
        finally:
            progress.view.close()
    if interrupts.exit_code is not None:
        return interrupts.exit_code
    answered = progress.end is not None and progress.end.stop_reason == "answer"
    if not answered and quiet and progress.end is not None:
        click.echo(f"agentd: the run ended without an answer: {progress.end.stop_reason}", err=True)
    return exits.OK if answered else exits.UNFINISHED


async def _work(order: _Order, progress: Progress, interrupts: Interrupts) -> None:
    """Run the session until its end; an interrupt ends the run in order, its last events included."""
    import asyncio

    import anyio
    from agentd.session.session import Session
    from agentd.types import Budgets

    loop = asyncio.get_running_loop()
    session = Session(
        **order.session,
        mode=order.mode,
        cwd=order.cwd,
        budgets=Budgets(max_turns=order.max_turns, wall_time_s=order.wall_time_s),
        checkpoint_every_turn=order.checkpoints,
    )
    if order.mode == "ptc":
        _ = session.executor  # a wrong option of it ends the command before anything starts
    async with session:
        if order.rewind is not None:
            await session.rewind(None if order.rewind == "last" else order.rewind)
        run = session.run(order.task)
        async with anyio.create_task_group() as group:

            def end_the_run() -> None:
                loop.call_soon_threadsafe(group.start_soon, run.aclose)

            interrupts.on_first = end_the_run
            if interrupts.exit_code is None:
                async for event in run:
                    progress.emit(event)
