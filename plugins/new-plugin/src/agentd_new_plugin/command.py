"""`agentd new-plugin KIND NAME`: the command. Nothing heavy: what writes is imported inside."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
from agentd_cli.options import PluginKind

__all__ = ["new_plugin"]


@click.command("new-plugin")
@click.argument("kind", type=PluginKind())
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="Where the project's folder is made (default: here).",
)
def new_plugin(*, kind: str, name: str, into: Path) -> None:
    """Write the project of a new plugin, with tests that pass.

    NAME is what users will call the plugin: small letters, digits and single hyphens.
    """
    from agentd_new_plugin.project import PluginProject

    project = PluginProject(kind, name)
    folder = into / project.distribution
    for path in project.write(folder):
        click.echo(f"wrote {path}")
    click.echo("\nNext (pip 25.1 or newer):\n")
    for step in (f"cd {shlex.quote(str(folder))}", "pip install -e . --group test", "pytest"):
        click.echo(f"    {step}")
