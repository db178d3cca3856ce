"""`agentd config`: which file says what, what of it counts, and the word that a project's file may need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from agentd_sink_console.neutral import one_line

from agentd_cli import exits
from agentd_cli.options import debug_option
from agentd_cli.settings.asking import check_settings, wish
from agentd_cli.settings.file import user_file
from agentd_cli.settings.resolved import ResolvedSettings, Setting, read_settings
from agentd_cli.settings.trust import forget_word, keep_word

__all__ = ["config"]


@click.command("config")
@click.option(
    "--cwd",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder whose project is meant (default: here).",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Let the project's agentd.toml have its way, as it and what it names are now.",
)
@click.option("--forget", is_flag=True, help="Forget what you have said of the project's agentd.toml.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@debug_option
def config(*, cwd: Path, trust: bool, forget: bool, as_json: bool) -> int:
    """Say what agentd.toml sets, yours and the project's.

    That is for `agentd run` and `agentd chat`. A project's file may make things stricter and name a model; what else
    it wants needs your word, once.
    """
    if trust and forget:
        raise click.UsageError("--trust and --forget exclude each other")
    settings = read_settings(cwd)
    if not as_json:
        check_settings(settings, click.get_current_context())
    if settings.project is not None and (trust or forget) and not settings.problems:
        if forget:
            forget_word(settings.project.path)
        elif settings.digest:
            keep_word(settings.project.path, settings.digest, "yes")
        settings = read_settings(cwd)
    if as_json:
        click.echo(json.dumps(_as_data(settings), indent=2, ensure_ascii=False))
    else:
        for line in _lines(settings):
            click.echo(line)
    return exits.USAGE if settings.problems else exits.OK


def _as_data(settings: ResolvedSettings) -> dict[str, Any]:
    project = settings.project
    return {
        "ok": not settings.problems,
        "user_file": str(user_file()),
        "project_file": None if project is None else str(project.path),
        "word": settings.word,
        "settings": [
            {
                "key": one.said.key.name,
                "value": one.said.value,
                "file": str(one.file),
                "line": one.said.line,
                "state": one.state,
                "why": one.why,
            }
            for one in settings.settings
        ],
        "problems": settings.problems,
    }


def _lines(settings: ResolvedSettings) -> list[str]:
    if not settings.files:
        return [f"no agentd.toml: none in this project, and no {one_line(str(user_file()))}"]
    lines = []
    for file in settings.files:
        whose = "the project's" if file is settings.project else "yours"
        lines.append(f"{one_line(str(file.path))} ({whose})")
        lines += [f"  {_line(one)}" for one in settings.settings if one.file == file.path] or ["  nothing"]
    if settings.left_out:
        lines.append("what needs your word is left out; to give it: agentd config --trust")
    return lines


def _line(one: Setting) -> str:
    why = f" ({one.why})" if one.why else ""
    state = "" if one.state == "counts" else f"  -- {one.state}{why}"
    return f"{one.said.line}: {wish(one.said.key.name, one.said.value)}{state}"
