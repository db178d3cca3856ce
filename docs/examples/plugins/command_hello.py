"""A command plugin: `agentd hello [NAME]`.

[project.entry-points."agentd.commands"]
hello = "command_hello:hello"
"""

from __future__ import annotations

import click

# What is heavy is imported in the function: `agentd --help` imports every command.


@click.command(short_help="Say hello, and how many plugins there are.")
@click.argument("name", default="world")
@click.option("--loud", is_flag=True, help="In capital letters.")
def hello(name: str, *, loud: bool) -> None:
    """Say hello to NAME, and how many plugins are installed."""
    from agentd.registry import Registry

    text = f"Hello, {name}! Plugins installed here: {len(Registry().records())}."
    click.echo(text.upper() if loud else text)
