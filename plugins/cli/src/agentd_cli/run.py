"""`agentd run`: give an agent a task and watch it work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import attrs
import click

from agentd_cli import exits
from agentd_cli.asked_person import asked_person
from agentd_cli.options import debug_option
from agentd_cli.session_options import session_options
from agentd_cli.settings.asking import ConfiguredCommand

if TYPE_CHECKING:
    from agentd.protocols import EventSink
    from agentd.session.session import Session

    from agentd_cli.interrupts import Interrupts
    from agentd_cli.views import Progress

__all__ = ["run", "told_by_project"]


@attrs.frozen(kw_only=True)
class _Order:
    """What the command line asked for."""

    task: str
    session: dict[str, Any]  # what plugins and model it is to have
    mode: Literal["ptc", "tools"]
    cwd: Path
    max_turns: int
    wall_time_s: float
    max_cost_usd: float | None
    checkpoints: bool
    rewind: str | None
    store: dict[str, Any]
    policy: dict[str, Any]
    history: object | None
    output: dict[str, Any] | None
    pictures: tuple[Path, ...]
    images: bool
    instructions: str


@click.command(cls=ConfiguredCommand, epilog="Exit codes: see agentd --help.")
@click.argument("words", nargs=-1, metavar="[TASK] [-]")
@session_options
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A JSON Schema: the last answer is JSON that fits it, or the command fails. --quiet prints nothing else.",
)
@click.option(
    "--checkpoints", is_flag=True, help="Keep a checkpoint of workspace, conversation and shell each turn."
)
@click.option(
    "--rewind",
    metavar="CHECKPOINT",
    help="First go back to this checkpoint of the workspace: an id, a label, a turn, or `last`.",
)
@click.option(
    "--store",
    metavar="URL",
    help="Keep all turns there (s3://bucket/agents; agentd-store), and go on from what is there of --conversation.",
)
@click.option("--conversation", metavar="NAME", help="Which conversation of --store.")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON lines.")
@click.option("--quiet", "-q", is_flag=True, help="Print the final answer only.")
@debug_option
def run(
    *,
    words: tuple[str, ...],
    timeout: float | None,
    wall_time: float,
    max_cost: float | None,
    schema: Path | None,
    mode: Literal["ptc", "tools"],
    cwd: Path,
    max_turns: int,
    checkpoints: bool,
    rewind: str | None,
    store: str | None,
    conversation: str | None,
    policy: str | None,
    history: object | None,
    pictures: tuple[Path, ...],
    images: bool,
    as_json: bool,
    quiet: bool,
    full_output: bool,
    no_agents_md: bool,
    **plugins: Any,
) -> int:
    """Let an agent work on TASK; it acts by running the code that it writes.

    TASK is a text. With `-`, standard input is added to it: git diff | agentd run "Say what changed." -
    Without TASK and with piped input, that is the task.
    Needs a model: OPENAI_API_KEY, or a server of your own with --base-url.
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    if (store is None) != (conversation is None):
        raise click.UsageError("--store URL and --conversation NAME go together: give both")
    if store is not None and plugins["snapshots"] is not None:
        raise click.UsageError(
            "--store and --snapshots exclude each other: both say where checkpoints are kept"
        )
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
        max_cost_usd=max_cost,
        checkpoints=checkpoints,
        rewind=rewind,
        store={} if store is None else {"store": store, "conversation_id": str(conversation)},
        policy={} if policy is None else {"policy": policy},
        history=history,
        output=None if schema is None else _read_schema(schema),
        pictures=pictures,
        images=images or bool(pictures),
        instructions="" if no_agents_md else told_by_project(cwd),
    )
    view = make_view(sys.stdout, as_json=as_json, quiet=quiet, full_output=full_output)
    return _carry_out(order, view, quiet=quiet)


def told_by_project(cwd: Path) -> str:
    """Return what AGENTS.md files tell the model; what of them it is not told is said on standard error."""
    from agentd_sink_console.neutral import one_line

    from agentd_cli.agents_md import agents_instructions

    told, notes = agents_instructions(cwd)
    for note in notes:
        click.echo(f"agentd: {one_line(note)}", err=True)
    return told


def _read_schema(file: Path) -> dict[str, Any]:
    import json

    try:
        schema = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise click.UsageError(f"--schema {str(file)!r}: cannot be read: {error}") from None
    if not isinstance(schema, dict):
        raise click.UsageError(f"--schema {str(file)!r}: must be a JSON object, got {type(schema).__name__}")
    _check_schema(schema, str(file))
    return schema


def _check_schema(schema: dict[str, Any], file: str) -> None:
    from agentd.errors import ConfigError

    try:
        from agentd_tools.answer_form import form_of
    except ImportError:  # the session says what has to be installed
        return
    try:
        form_of(schema)
    except ConfigError as error:
        raise click.UsageError(f"--schema {file!r}: {str(error).removeprefix('output: ')}") from None


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
            wrong = anyio.run(_work, order, progress, interrupts)
        finally:
            progress.view.close()
    if interrupts.exit_code is not None:
        return interrupts.exit_code
    if wrong:
        click.echo(f"agentd: {wrong}", err=True)
        return exits.UNFINISHED
    answered = progress.end is not None and progress.end.stop_reason == "answer"
    if not answered and quiet and progress.end is not None:
        click.echo(f"agentd: the run ended without an answer: {progress.end.stop_reason}", err=True)
    return exits.OK if answered else exits.UNFINISHED


async def _rewind(session: Session, wanted: str) -> None:
    from agentd.errors import ConfigError, UnknownSnapshotError

    try:
        await session.rewind(None if wanted == "last" else wanted)
    except UnknownSnapshotError as error:
        if error.known:
            raise ConfigError(f"--rewind: {error}") from error
        raise ConfigError(
            f"--rewind {wanted}: no checkpoint is kept of {session.workspace}; `agentd run --checkpoints` keeps one "
            "after each turn"
        ) from error


async def _work(order: _Order, progress: Progress, interrupts: Interrupts) -> str:
    """Run the session until its end; an interrupt ends the run in order, its last events included. Return what is wrong
    with an answer that does not fit its schema."""
    import asyncio

    import anyio
    from agentd.errors import AnswerError
    from agentd.session.session import Session
    from agentd.types import Budgets

    loop = asyncio.get_running_loop()
    session = Session(
        **order.session,
        **order.policy,
        **order.store,
        approver=asked_person(progress.apart) if order.policy and sys.stderr.isatty() else None,
        history=order.history,
        mode=order.mode,
        cwd=order.cwd,
        budgets=Budgets(
            max_turns=order.max_turns, wall_time_s=order.wall_time_s, max_cost_usd=order.max_cost_usd
        ),
        checkpoint_every_turn=order.checkpoints,
        images=order.images,
        instructions=order.instructions,
    )
    if order.mode == "ptc":
        _ = session.executor  # a wrong option of it ends the command before anything starts
    async with session:
        if order.rewind is not None:
            await _rewind(session, order.rewind)
        task = [order.task, *order.pictures] if order.pictures else order.task
        run = session.run(task, output=order.output)
        async with anyio.create_task_group() as group:

            def end_the_run() -> None:
                loop.call_soon_threadsafe(group.start_soon, run.aclose)

            interrupts.on_first = end_the_run
            if interrupts.exit_code is None:
                try:
                    async for event in run:
                        progress.emit(event)
                except AnswerError as error:
                    return str(error)
    return ""
