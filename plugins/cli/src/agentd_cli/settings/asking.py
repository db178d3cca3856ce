"""A command whose options come from `agentd.toml`, too; and the question whether a project's file may have its way."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import click
from agentd_sink_console.neutral import one_line

from agentd_cli.settings.resolved import ResolvedSettings, read_settings
from agentd_cli.settings.trust import Word, keep_word

__all__ = ["ConfiguredCommand", "check_settings", "wish"]

_MAX_WISH = 200


class ConfiguredCommand(click.Command):
    """A command with `session_options`: what the command line leaves open, the files say.

    The person is asked for their word where a project's file needs it; off a terminal, a line on standard error says
    what was left out.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            given = self.make_parser(ctx).parse_args(list(args))[0]
            if not given.get("help") and given.get("config", True):
                values = self.read_files(ctx, str(given.get("cwd") or "."))
                known = {parameter.name for parameter in self.params}
                values = {name: value for name, value in values.items() if name in known}
                ctx.default_map = {**(ctx.default_map or {}), **values}
        return super().parse_args(ctx, args)

    def read_files(self, ctx: click.Context, folder: str) -> Mapping[str, Any]:
        """Return what the files of a folder say that counts, by the parameters of commands.

        :raises click.UsageError: with everything that is wrong with them.
        """
        from pathlib import Path

        settings = read_settings(Path(folder))
        check_settings(settings, ctx)
        if settings.left_out and settings.word is None and _is_person_there():
            if word := _ask(settings):
                settings = read_settings(Path(folder), word=word)
        elif settings.left_out and settings.word is None:
            click.echo(f"agentd: {_told(settings)}", err=True)
        return settings.values()


def check_settings(settings: ResolvedSettings, ctx: click.Context) -> None:
    """Raise `click.UsageError` that names everything that is wrong with the files."""
    if settings.problems:
        raise click.UsageError("\n".join(settings.problems), ctx)


def wish(name: str, value: Any) -> str:
    """Return a key and its value as a harmless line."""
    text = one_line(f"{name} = {json.dumps(value, ensure_ascii=False, default=str)}")
    return text if len(text) <= _MAX_WISH else f"{text[: _MAX_WISH - 1]}…"


def _is_person_there() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _told(settings: ResolvedSettings) -> str:
    assert settings.project is not None
    keys = ", ".join(f"{one.said.key.name} (line {one.said.line})" for one in settings.left_out)
    file = one_line(str(settings.project.path))
    return f"{file}: left out, for they need your word: {keys}; to give it: agentd config --trust"


def _ask(settings: ResolvedSettings) -> Word | None:
    """Ask the person about the project's file, and remember the answer."""
    assert settings.project is not None
    file = settings.project.path
    click.echo(f"{one_line(str(file))} is new here, or has changed, and wants:", err=True)
    for one in settings.left_out:
        click.echo(f"    {wish(one.said.key.name, one.said.value)}", err=True)
    click.echo(
        "Whoever wrote it can so run programs with your rights, reach servers and spend your money.", err=True
    )
    prompt = "let it? [y]es, as it is now  [n]o  [Enter] not this time"
    answer: str = click.prompt(prompt, default="", show_default=False, err=True)
    word: Word | None = {"y": "yes", "yes": "yes", "n": "no", "no": "no"}.get(answer.strip().lower())  # type: ignore[assignment]
    if word is not None:
        keep_word(file, settings.digest, word)
    return word
