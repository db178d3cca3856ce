"""`agentd schema`: the JSON Schema of the daemon's configuration, for editors."""

from __future__ import annotations

import click

__all__ = ["schema"]


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of the daemon's configuration.

    Editors complete and check a file that begins with `# yaml-language-server: $schema=agents.schema.json`.
    """
    import json

    from agentd_daemon.config.schema import make_schema

    click.echo(json.dumps(make_schema(), indent=2))
