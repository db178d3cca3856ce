"""`agentd chat`: a conversation at the terminal."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from agentd_cli.asked_person import asked_person
from agentd_cli.options import debug_option
from agentd_cli.session_options import session_options
from agentd_cli.settings.asking import ConfiguredCommand

from agentd_chat.listing import complete_id, forget_named, list_kept

if TYPE_CHECKING:
    from agentd_chat.kept import ConversationFolder, KeptConversation
    from agentd_chat.talk import TalkSettings
    from agentd_chat.views import ChatView, SparseView

__all__ = ["chat"]

_CHOOSE = "?"
_LISTED = 20
_MAX_CHATS = 1_000


@click.command("chat", cls=ConfiguredCommand, epilog="Exit codes: see agentd --help.")
@click.argument("words", nargs=-1, metavar="[MESSAGE]")
@session_options
@click.option(
    "--continue", "-c", "goes_on", is_flag=True, help="Go on with the newest conversation of this folder."
)
@click.option(
    "--resume",
    "resumed",
    metavar="[ID]",
    is_flag=False,
    flag_value=_CHOOSE,
    shell_complete=complete_id,
    help="Go on with the conversation ID of this folder; without ID, choose one.",
)
@click.option("--list", "listed", is_flag=True, help="List the conversations of this folder, and end.")
@click.option(
    "--forget",
    "forgotten",
    metavar="ID",
    multiple=True,
    shell_complete=complete_id,
    help="Remove the conversation ID of this folder, its pictures and its checkpoints, and end; repeatable.",
)
@click.option(
    "--max-chats",
    type=click.IntRange(min=1),
    default=_MAX_CHATS,
    show_default=True,
    help="Conversations of all folders together that are kept; of more, the oldest are forgotten when one ends.",
)
@click.option(
    "--checkpoints/--no-checkpoints",
    default=None,
    help="Keep files and shell as they are around each turn, for /undo and /diff (default: yes, but not for a whole "
    "home folder).",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Carry out MESSAGE alone, and print the events as JSON lines."
)
@click.option("--quiet", "-q", is_flag=True, help="Carry out MESSAGE alone, and print the final answer only.")
@debug_option
def chat(
    *,
    words: tuple[str, ...],
    goes_on: bool,
    resumed: str | None,
    listed: bool,
    forgotten: tuple[str, ...],
    max_chats: int,
    checkpoints: bool | None,
    as_json: bool,
    quiet: bool,
    timeout: float | None,
    wall_time: float,
    max_cost: float | None,
    mode: Literal["ptc", "tools"],
    cwd: Path,
    max_turns: int,
    policy: str | None,
    history: object | None,
    pictures: tuple[Path, ...],
    images: bool,
    full_output: bool,
    no_agents_md: bool,
    **plugins: Any,
) -> int:
    """Talk with an agent in this folder; bare `agentd` does it.

    The agent acts by running the code that it writes. MESSAGE is the first thing that is said. The
    conversation is kept: --continue and --resume go on with it. /help lists the commands, such as /undo, /diff, /cost
    and /model. --max-cost is for the whole conversation, --max-turns and --wall-time for each turn. Piped input is one
    message and one turn, and so is MESSAGE with --quiet or --json.
    """
    if as_json and quiet:
        raise click.UsageError("--json and --quiet exclude each other")
    from agentd_chat.kept import ConversationFolder

    folder = ConversationFolder(cwd)
    if listed or forgotten:
        return _look_after(
            folder, words, plugins["snapshots"], listed=listed, forgotten=forgotten, as_json=as_json
        )
    from agentd_cli.prompt import prompt_possible
    from agentd_cli.run import told_by_project
    from agentd_cli.run_plugins import choose_plugins
    from agentd_sink_console.terminal import FOLD_LINES

    from agentd_chat.attachments import picture_files
    from agentd_chat.forgetting import forget_oldest
    from agentd_chat.talk import TalkSettings, may_keep
    from agentd_chat.views import ChatView, SparseView

    has_prompt = not (as_json or quiet) and prompt_possible(sys.stdin, sys.stdout)
    text, at_terminal = _first_message(words, at_terminal=has_prompt)
    brought = picture_files(pictures)
    kept = _chosen(folder, goes_on=goes_on, resumed=resumed)
    if kept.model and not _is_typed("model"):
        plugins["model"] = kept.model
    session = choose_plugins(has_code=mode == "ptc", timeout_s=timeout, **plugins)
    view: ChatView | SparseView
    if as_json or quiet:
        view = SparseView(sys.stdout, as_json=as_json)
    else:
        view = ChatView(sys.stdout, fold_lines=None if full_output else FOLD_LINES)
    settings = TalkSettings(
        session={**session, "policy": policy},
        mode=mode,
        cwd=cwd,
        history=history,
        images=bool(pictures) or (images if _is_typed("images") else images or kept.images),
        brought=brought,
        instructions="" if no_agents_md else told_by_project(cwd),
        max_turns=max_turns,
        wall_time_s=wall_time,
        max_cost_usd=max_cost,
        checkpoints=may_keep(cwd) if checkpoints is None else checkpoints,
        approver=asked_person(view.apart) if policy is not None and sys.stderr.isatty() else None,
    )
    with folder.held(kept.id):
        kept = folder.current(kept)
        code = _talk(settings, folder, kept, view, text, at_terminal=at_terminal)
        forget_oldest(max_chats, session["registry"])
        return code


def _look_after(
    folder: ConversationFolder,
    words: tuple[str, ...],
    snapshots: str | None,
    *,
    listed: bool,
    forgotten: tuple[str, ...],
    as_json: bool,
) -> int:
    if words or (listed and forgotten):
        raise click.UsageError("--list and --forget exclude each other, and a MESSAGE")
    if listed:
        list_kept(folder, as_json=as_json)
    else:
        forget_named(folder, forgotten, snapshots)
    return 0


def _first_message(words: tuple[str, ...], *, at_terminal: bool) -> tuple[str, bool]:
    if len(words) > 1:
        raise click.UsageError(f"one message, please; put it in quotes: {' '.join(words)!r}")
    text = "".join(words)
    if at_terminal:
        return text, True
    if not text and not sys.stdin.isatty():
        text = sys.stdin.read()
    if not text.strip():
        raise click.UsageError(
            "no message; for one turn, give one or pipe it in; to talk, go to a terminal, without --quiet and --json"
        )
    return text, False


def _is_typed(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


def _chosen(folder: ConversationFolder, *, goes_on: bool, resumed: str | None) -> KeptConversation:
    """Return the conversation to go on with, or a new one."""
    if goes_on and resumed is not None:
        raise click.UsageError("--continue and --resume exclude each other")
    if resumed not in (None, _CHOOSE):
        return folder.load(str(resumed))
    if resumed == _CHOOSE:
        return _choose(folder)
    if not goes_on:
        return folder.new()
    newest = folder.newest()
    if newest is None:
        raise click.UsageError(f"--continue: no conversation was kept of {str(folder.workspace)!r}")
    return newest


def _choose(folder: ConversationFolder) -> KeptConversation:
    from itertools import islice

    from rich.console import Console

    from agentd_chat import views

    found = list(islice(folder.all(), _LISTED))
    if not found:
        raise click.UsageError(f"--resume: no conversation was kept of {str(folder.workspace)!r}")
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(views.conversations(found))
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise click.UsageError("--resume: name one of these: --resume ID")
    number: int = click.prompt("which one?", default=1, type=click.IntRange(1, len(found)), err=True)
    return found[number - 1]


def _talk(
    settings: TalkSettings,
    folder: ConversationFolder,
    kept: KeptConversation,
    view: ChatView | SparseView,
    text: str,
    *,
    at_terminal: bool,
) -> int:
    import anyio
    from agentd_cli import exits
    from agentd_cli.interrupts import leave_terminal

    from agentd_chat import views
    from agentd_chat.kept import chats_dir
    from agentd_chat.loop import ChatLoop, one_turn
    from agentd_chat.talk import Talk
    from agentd_chat.views import ChatView

    def greet(talk: Talk, view: ChatView) -> None:
        place = f", executor {talk.place}" if talk.place else ""
        view.say(views.note(f"model {talk.model}{place}; /help lists the commands, Ctrl-D leaves"))
        view.header = (talk.model, talk.place)
        if kept.turns:
            lost = kept.turns[-1].stop_reason == "lost"
            view.say(views.note(f"going on with {kept.id}, {views.turns_of(kept)}: {kept.title}"))
            if kept.transcript.last_answer.strip():
                view.say(views.last_said(kept))
            if lost:
                told = "its last turn was lost with its process; what it did to files is there: /undo takes it back"
                view.say(views.note(told, "yellow"))
        if not settings.checkpoints:
            view.say(
                views.note(
                    "no checkpoints are kept here: /undo takes back what was said, and no files", "yellow"
                )
            )

    async def talk() -> int:
        async with Talk(settings, folder, kept) as talk:
            if not at_terminal or not isinstance(view, ChatView):
                return await one_turn(talk, view, text)
            greet(talk, view)
            return await ChatLoop(talk, view, chats_dir() / "typed").run(text)

    try:
        code = anyio.run(talk)
        if at_terminal and kept.turns:
            view.say(views.note(f"kept as {kept.id}; agentd chat --continue goes on"))
    except OSError as error:
        if not at_terminal or error.errno != errno.EIO:
            raise
        leave_terminal()
        return exits.HUNG_UP
    return code
