"""`agentd approvals`: the questions of the daemon's agents, and their answers; it works without the daemon, too."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from agentd_cli import exits
from agentd_cli.options import debug_option

from agentd_daemon.commands.folders import chosen_folder, files_argument, state_dir_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from agentd_daemon.answering import GivenAnswer
    from agentd_daemon.journal import JournalledQuestion
    from agentd_daemon.state import StateFolder

__all__ = ["approvals"]


class _ApprovalsGroup(click.Group):
    """Lists what waits where no subcommand is named: `agentd approvals FILE --json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = args and args[0] in ctx.help_option_names
        if not ctx.resilient_parsing and not asks_for_help and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("approvals", cls=_ApprovalsGroup)
def approvals() -> None:
    """List and answer what agents of the daemon ask.

    Without a subcommand: list. FILE or --state-dir says whose questions; without them, those of all daemons in your
    state folder. The daemon need not run: it takes the answers when it starts.

    Exit code 1 if a question takes no answer any more, 2 if there is none of that ID.
    """


@approvals.command("list")
@files_argument
@state_dir_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array instead of a table.")
@click.option("--always", is_flag=True, help="List what you have allowed always, in all workspaces.")
@debug_option
def list_questions(*, files: tuple[Path, ...], state_dir: Path | None, as_json: bool, always: bool) -> int:
    """List the questions that nobody has answered."""
    if always:
        return _list_always(as_json=as_json)
    rows = [
        (_entry(question, folder), question) for folder, question in _questions(_folders(files, state_dir))
    ]
    if as_json:
        _print_json([entry for entry, _ in rows])
    elif rows:
        _print_table(_COLUMNS, [_cells(entry) for entry, _ in rows])
    else:
        click.echo("no questions", err=True)
    return exits.OK


def _complete_id(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from agentd.errors import AgentdError
    from click.shell_completion import CompletionItem

    try:
        folders = _folders(tuple(ctx.params.get("files") or ()), ctx.params.get("state_dir"))
        found = [question for _, question in _questions(folders)]
    except (AgentdError, OSError, click.ClickException):
        return []
    return [CompletionItem(q.id, help=f"{q.agent}: {q.name}") for q in found if q.id.startswith(incomplete)]


_id_argument = click.argument("id", metavar="ID", shell_complete=_complete_id)
_reason_option = click.option("--reason", default="", metavar="TEXT", help="Why; the record has it.")


@approvals.command("allow")
@_id_argument
@files_argument
@state_dir_option
@click.option(
    "--for",
    "scope",
    type=click.Choice(["once", "session", "always"]),
    default="once",
    show_default=True,
    help="This call alone; all of this name and source as long as the agent lives; or always, in its workspace.",
)
@_reason_option
@debug_option
def allow(*, id: str, files: tuple[Path, ...], state_dir: Path | None, scope: Any, reason: str) -> int:
    """Let the call that the question ID is about be made."""
    return _answer(id, files, state_dir, allowed=True, scope=scope, reason=reason)


@approvals.command("deny")
@_id_argument
@files_argument
@state_dir_option
@click.option("--reason", default="", metavar="TEXT", help="Why; the agent reads it.")
@debug_option
def deny(*, id: str, files: tuple[Path, ...], state_dir: Path | None, reason: str) -> int:
    """Deny the call that the question ID is about."""
    return _answer(id, files, state_dir, allowed=False, scope="once", reason=reason)


@approvals.command("forget")
@click.argument("name", metavar="NAME")
@click.option(
    "--workspace", type=click.Path(path_type=Path), metavar="DIR", help="Only what was allowed there."
)
@click.option("--source", metavar="NAME", help="Only tools of this source.")
@debug_option
def forget(*, name: str, workspace: Path | None, source: str | None) -> int:
    """Have NAME asked about again that was allowed always; also by agents that run."""
    from agentd.errors import ConfigError, suggest
    from agentd_policy.remembered import RememberedAnswers, always_allowed

    known = always_allowed()
    place = None if workspace is None else str(workspace.expanduser().absolute())
    found = [
        entry for entry in known
        if entry.name == name and place in (None, entry.workspace) and source in (None, entry.source)
    ]  # fmt: skip
    if not found:
        hint = suggest(name, [entry.name for entry in known])
        raise ConfigError(
            f"{name!r} was not allowed always; `agentd approvals list --always` says what was{hint}"
        )
    good = True
    for entry in found:
        done = RememberedAnswers(Path(entry.workspace)).forget(entry)
        good = good and done
        if done:
            click.echo(_neutral(f"forgotten: {entry.kind} {entry.name} in {entry.workspace}"))
    return exits.OK if good else exits.SANDBOX


# --- answers -----------------------------------------------------------------------------------


def _answer(
    id: str, files: tuple[Path, ...], state_dir: Path | None, *, allowed: bool, scope: Any, reason: str
) -> int:
    from agentd_daemon.answering import give_answer
    from agentd_daemon.journal import Journal, JournalError, LateAnswerError, UnknownQuestionError

    folders = _folders(files, state_dir)
    for folder in folders:
        if not folder.journal.exists():
            continue
        try:
            with Journal.open(folder.journal, guest=True) as journal:
                given = give_answer(
                    journal, id, allowed=allowed, scope=scope, reason=reason, by="agentd approvals"
                )
        except UnknownQuestionError:
            continue
        except LateAnswerError as error:
            click.echo(f"agentd: {_neutral(str(error))}", err=True)
            return exits.UNFINISHED
        except JournalError as error:
            _pass_over(error, folders)
            continue
        return _tell(folder, given)
    places = ", ".join(str(folder.path) for folder in folders) or "your state folder"
    raise UnknownQuestionError(id, places)


def _tell(folder: StateFolder, given: GivenAnswer) -> int:
    """Tell the daemon that there is an answer, and the person what follows from it."""
    from agentd_daemon.status import StatusError, have_it_look

    try:
        runs = have_it_look(folder.socket)
    except StatusError as error:
        click.echo(_neutral(f"the answer is noted, but {error}"), err=True)
        runs = True
    click.echo(_neutral(given.what_follows(runs=runs)))
    return exits.OK


# --- questions ---------------------------------------------------------------------------------


def _folders(files: tuple[Path, ...], state_dir: Path | None) -> list[StateFolder]:
    from agentd.statedir import user_state_dir

    from agentd_daemon.state import StateFolder

    chosen = chosen_folder(files, state_dir)
    if chosen is not None:
        return [StateFolder(chosen)]
    return [
        StateFolder(journal.parent) for journal in sorted((user_state_dir() / "daemon").glob("*/journal.db"))
    ]


def _questions(folders: Sequence[StateFolder]) -> Iterator[tuple[StateFolder, JournalledQuestion]]:
    import attrs

    from agentd_daemon.journal import Journal, JournalError

    for folder in folders:
        if folder.journal.exists():
            try:
                with Journal.open(folder.journal, readonly=True) as journal:
                    found = journal.questions()
            except JournalError as error:
                _pass_over(error, folders)
                continue
            if any(question.state == "open" for question in found) and not _runs(folder):
                found = [attrs.evolve(q, state="lost") if q.state == "open" else q for q in found]
            yield from ((folder, question) for question in found)


def _pass_over(error: Exception, folders: Sequence[StateFolder]) -> None:
    """Tell of a journal among others that cannot be used, of an older version say; of the only one, raise the error."""
    if len(folders) == 1:
        raise error
    click.echo(f"agentd: {_neutral(str(error))}", err=True)


def _runs(folder: StateFolder) -> bool:
    from agentd_daemon.status import StatusError, ask_status

    try:
        return ask_status(folder.socket) is not None
    except StatusError:  # one that does not answer
        return True


def _entry(question: JournalledQuestion, folder: StateFolder) -> dict[str, Any]:
    """Return what a program is told of a question."""
    return {
        "id": question.id,
        "agent": question.agent,
        "task": question.trigger_id,
        "state": question.state,
        "kind": question.kind,
        "name": question.name,
        "source": question.source,
        "arguments": question.arguments,
        "why": question.why,
        "workspace": question.workspace,
        "asked_at": question.asked_at,
        "until": question.until,
        "state_dir": str(folder.path),
    }


_COLUMNS: Final = ("id", "agent", "waits", "what", "asked", "until", "arguments")
_WAITS: Final = {"open": "a call", "parked": "its task", "lost": "nothing"}


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["id"],
        entry["agent"],
        _WAITS[entry["state"]],
        f"{entry['kind']} {entry['name']}",
        _time(entry["asked_at"]),
        _time(entry["until"]),
        entry["arguments"],
    )


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _list_always(*, as_json: bool) -> int:
    import attrs
    from agentd_policy.remembered import always_allowed

    found = always_allowed()
    if as_json:
        _print_json([attrs.asdict(entry) for entry in found])
    elif found:
        rows = [(entry.kind, entry.name, entry.source, entry.workspace) for entry in found]
        _print_table(("kind", "name", "source", "workspace"), rows)
    else:
        click.echo("nothing was allowed always", err=True)
    return exits.OK


# --- printing ----------------------------------------------------------------------------------


def _print_json(entries: list[dict[str, Any]]) -> None:
    import json

    click.echo(json.dumps(entries, indent=2))


def _print_table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    from agentd_sink_console.neutral import one_line

    plain = [tuple(map(one_line, row)) for row in rows]
    if not sys.stdout.isatty():  # for programs: a line for each, two blanks between what there is, all of it
        lines = ("  ".join(cell or "-" for cell in row) for row in (tuple(columns), *plain))
        click.echo("\n".join(lines))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in plain:
        table.add_row(*(Text(cell[:300]) for cell in row))
    Console().print(table, markup=False)


def _neutral(text: str) -> str:
    from agentd_sink_console.neutral import one_line

    return one_line(text)
