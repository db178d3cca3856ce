"""`agentd run`: give an agent a task and watch it work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from agentd_cli import exits
from agentd_cli.options import debug_option, key_values, plugin_names

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
    model: str | None
    base_url: str | None
    api: Literal["chat", "responses"]
    mode: Literal["ptc", "tools"]
    executor: str
    executor_options: dict[str, object]
    cwd: Path
    max_turns: int
    wall_time_s: float
    tools: list[object]
    mcp_servers: list[str | Path]
    sinks: list[EventSink]
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
    default="subprocess",
    show_default=True,
    shell_complete=plugin_names("executor"),
    help="Where the code runs; `agentd plugins --kind executor` lists them. subprocess is no sandbox.",
)
@click.option(
    "--executor-option", "-o", multiple=True, metavar="KEY=VALUE", help="For the executor; repeatable."
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
    "tool_files",
    multiple=True,
    metavar="FILE.py",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Offer the @tool functions of this file; repeatable.",
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
@debug_option
def run(
    *,
    words: tuple[str, ...],
    executor_option: tuple[str, ...],
    timeout: float | None,
    wall_time: float,
    tool_files: tuple[Path, ...],
    mcp_targets: tuple[str, ...],
    mcp_files: tuple[Path, ...],
    log_dir: Path | None,
    sink_names: tuple[str, ...],
    as_json: bool,
    quiet: bool,
    **rest: Any,
) -> int:
    """Let an agent work on TASK; it acts by running the code that it writes.

    TASK is a text. With `-`, standard input is added to it: git diff | agentd run "Say what changed." -
    Without TASK and with piped input, that is the task.
    Needs a model: OPENAI_API_KEY, or a server of your own with --base-url.
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    options = key_values(executor_option, "--executor-option")
    if timeout is not None:
        options.setdefault("timeout", timeout)
    order = _Order(
        task=_read_task(words),
        executor_options=options,
        wall_time_s=wall_time,
        tools=[f"python:{file}" for file in tool_files],
        mcp_servers=[*mcp_targets, *mcp_files],
        sinks=_make_sinks(log_dir, sink_names),
        **rest,
    )
    return _carry_out(order, as_json=as_json, quiet=quiet)


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


def _make_sinks(log_dir: Path | None, names: tuple[str, ...]) -> list[EventSink]:
    from agentd.registry import Registry

    registry = Registry()
    sinks = [registry.create_event_sink(name) for name in names]
    if log_dir is not None:
        sinks.append(registry.create_event_sink("jsonl", path=log_dir))
    return sinks


def _model_settings(order: _Order) -> dict[str, Any]:
    """Return what `Session` is told about the model. Raises `ConfigError` that names what is missing."""
    from agentd.errors import ConfigError

    name = order.model or os.environ.get("AGENTD_MODEL") or os.environ.get("OPENAI_MODEL")
    if not name:
        raise ConfigError(
            "no model: name one with --model NAME or set AGENTD_MODEL; `agentd demo` works without one"
        )
    return {"model": name, "base_url": order.base_url, "api": order.api}


def _carry_out(order: _Order, *, as_json: bool, quiet: bool) -> int:
    import anyio

    from agentd_cli.interrupts import Interrupts
    from agentd_cli.views import Progress, make_view

    progress = Progress(make_view(sys.stdout, as_json=as_json, quiet=quiet))
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
    from agentd.turn.budgets import Budgets

    loop = asyncio.get_running_loop()
    async with Session(
        **_model_settings(order),
        mode=order.mode,
        cwd=order.cwd,
        executor=order.executor,
        executor_options=order.executor_options,
        tools=order.tools,
        mcp_servers=order.mcp_servers,
        sinks=order.sinks,
        budgets=Budgets(max_turns=order.max_turns, wall_time_s=order.wall_time_s),
        checkpoint_every_turn=order.checkpoints,
    ) as session:
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
