"""`agentd acp`: the command. What is heavy is imported inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from agentd_cli.options import debug_option
from agentd_cli.session_options import session_options
from agentd_cli.settings.asking import ConfiguredCommand

if TYPE_CHECKING:
    from agentd_cli.interrupts import Interrupts

    from agentd_acp.agent import SessionChoice, SessionMaker

__all__ = ["acp"]

_ARGUMENTS: Final = "agentd_acp.arguments"
_GRACE_S: Final = 5.0
"""What is still to be written when the editor has closed its end may take so long."""


class EditorCommand(ConfiguredCommand):
    """Remembers its arguments: they are read anew for each session, with the `agentd.toml` of its folder."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)


@click.command("acp", cls=EditorCommand, epilog="Exit codes: see agentd --help.")
@session_options
@click.option(
    "--checkpoints/--no-checkpoints",
    default=None,
    help="Keep files and shell as they are around each turn, for /undo, /diff and the differences that an editor shows "
    "(default: yes, but not for a whole home folder).",
)
@click.option(
    "--offer-model",
    "offered_models",
    multiple=True,
    metavar="NAME",
    help="A model that the editor's menu has beside --model; repeatable.",
)
@debug_option
@click.pass_context
def acp(ctx: click.Context, /, **_: Any) -> int:
    """Be the agent of an editor that speaks the Agent Client Protocol, over standard input and output.

    The editor starts it, and says in which folder each conversation is; agentd.toml is read there. --policy is what a
    conversation begins with (default: ask-writes). Conversations are kept, and are those of agentd chat.
    """
    import anyio
    from agentd_cli import exits
    from agentd_cli.interrupts import Interrupts
    from agentd_cli.standard_streams import claimed

    settings = _settings(ctx)
    if sys.stdin.isatty():
        click.echo(
            "agentd: this serves an editor over standard input, and waits for it; editors start it by themselves with "
            "this command in their settings. To talk here: agentd chat. Ctrl-C ends it",
            err=True,
        )
    with claimed() as (source, target), Interrupts() as interrupts:
        _check(ctx, settings)  # here, as a file of tools may print
        anyio.run(_serve, settings, source, target, interrupts)
    return interrupts.exit_code or exits.OK


def _settings(ctx: click.Context) -> SessionMaker:
    """Return what makes the settings of a session: the command's arguments, and the files of its folder."""
    command, arguments, parent = ctx.command, ctx.meta[_ARGUMENTS], ctx.parent

    def settings(cwd: Path, model: str) -> SessionChoice:
        made = command.make_context("acp", [*arguments, "--cwd", str(cwd)], parent=parent)
        sources = click.core.ParameterSource
        if model and made.get_parameter_source("model") is not sources.COMMANDLINE:
            made.params["model"] = model
        if made.get_parameter_source("wall_time") is sources.DEFAULT:
            made.params["wall_time"] = None  # a question may wait for long, and the person can stop a turn
        return _choice(**made.params)

    return settings


def _check(ctx: click.Context, settings: SessionMaker) -> None:
    """Raise now what a session in this folder would raise for the command line."""
    from agentd_acp.starting import check_choice

    named = ctx.params["model"] or os.environ.get("AGENTD_MODEL") or os.environ.get("OPENAI_MODEL")
    if not named and any(text.startswith("model.") for text in ctx.params["plugin_options"]):
        return  # they are for a model that the agentd.toml of a session's folder names
    folder = ctx.params["cwd"].absolute()
    is_typed = ctx.get_parameter_source("model") is click.core.ParameterSource.COMMANDLINE
    check_choice(settings(folder, named or "of-a-session"), folder, is_model_named=is_typed)


def _choice(
    *,
    cwd: Path,
    checkpoints: bool | None,
    timeout: float | None,
    wall_time: float | None,
    max_cost: float | None,
    mode: str,
    max_turns: int,
    policy: str | None,
    full_output: bool,
    no_agents_md: bool,
    images: bool,
    history: object | None,
    pictures: tuple[Path, ...],
    offered_models: tuple[str, ...],
    **plugins: Any,
) -> SessionChoice:
    from agentd_chat.talk import TalkSettings, may_keep
    from agentd_cli.run import told_by_project
    from agentd_cli.run_plugins import choose_plugins

    from agentd_acp.agent import SessionChoice

    talk = TalkSettings(
        session=choose_plugins(has_code=mode == "ptc", timeout_s=timeout, **plugins),
        history=history,
        images=images or bool(pictures),
        mode=mode,
        cwd=cwd,
        instructions="" if no_agents_md else told_by_project(cwd),
        max_turns=max_turns,
        wall_time_s=wall_time,
        max_cost_usd=max_cost,
        checkpoints=may_keep(cwd) if checkpoints is None else checkpoints,
    )
    return SessionChoice(talk=talk, policy=policy, models=offered_models)


async def _serve(settings: SessionMaker, source: Any, target: Any, interrupts: Interrupts) -> None:
    """Serve one editor, until it goes away or a signal comes."""
    import asyncio

    import agentd
    import anyio
    from acp.core import (
        AgentSideConnection,
    )  # run_agent would cancel what is under way at once when the input ends

    from agentd_acp.agent import EditorAgent
    from agentd_acp.wire import MessageWire

    loop = asyncio.get_running_loop()
    wire = MessageWire(source, target)
    agent = EditorAgent(settings, wire, getattr(agentd, "__version__", ""))
    connection = AgentSideConnection(agent, wire, listening=False, use_unstable_protocol=True)
    async with anyio.create_task_group() as group:
        group.start_soon(wire.write_all)
        with anyio.CancelScope() as scope:

            def end() -> None:
                loop.call_soon_threadsafe(scope.cancel)

            interrupts.on_first = end
            if interrupts.exit_code is not None:
                scope.cancel()
            async with anyio.create_task_group() as listening:

                async def until_gone() -> None:
                    await wire.is_gone.wait()
                    listening.cancel_scope.cancel()

                listening.start_soon(until_gone)
                await connection.listen()
                listening.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            giving_up = loop.call_later(_GRACE_S, wire.give_up)  # nobody may read what is still to be said
            await agent.aclose()
            await wire.finish(_GRACE_S)
            giving_up.cancel()
            await connection.close()
        group.cancel_scope.cancel()
